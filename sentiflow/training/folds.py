"""Labelled rows -> folds, a training for each, and answers to rows that it has not seen.

Every labelled row is in one fold. For each fold a model is trained on the others as the training
itself is, with words that are counted in these rows, and it answers the rows of the fold. A
finished fold leaves the file of its answers, so that a killed training resumes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors.torch

from sentiflow.config.sections import VocabularySettings
from sentiflow.data import label_files, manifest, schema
from sentiflow.data.arrays import hash_texts
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.metrics import confidence
from sentiflow.models import tokenizer, vocabulary
from sentiflow.models.drift import Profile
from sentiflow.models.linear import LinearModel
from sentiflow.models.package import ModelPackage
from sentiflow.models.scores import Scores
from sentiflow.progress import say
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import join
from sentiflow.training import excerpts, learned_classes, trained_package
from sentiflow.training.fold_rows import Folds
from sentiflow.training.linear_solver import STRENGTHS
from sentiflow.training.train_job import TrainJob
from sentiflow.words import word_vectors

_NEVER = -30.0
"""Logit of a class that a model has not learned."""
_COUNTS = ("num_tokens", "lengths", "num_unknown")


@dataclass(frozen=True)
class _Rows:
    """The labelled rows of all splits, then the unlabelled texts."""

    table: pa.Table
    """``row_id``, ``text``, ``label`` (null for unlabelled texts)."""
    position: np.ndarray
    """From 0 to the number of folds, by the text: the fold, and the place within it."""
    tokens: tokenizer.Tokens
    choice: VocabularySettings
    """How the words are chosen."""
    vectors: word_vectors.WordVectors

    @property
    def is_labelled(self) -> np.ndarray:
        """Whether each row has a label."""
        return np.asarray(self.table["label"].is_valid())


def train(
    job: TrainJob,
    learned: learned_classes.LearnedClasses,
    *,
    root: str,
    folder: str,
    run: Callable[[TrainJob, int], object],
    taught: Sequence[str] = (),
) -> tuple[list[FileEntry], dict[str, Any], Profile]:
    """Train a model for each fold that is not finished, and let it answer the rows of the fold.

    The answers of all folds calibrate the model of the training itself; those of a fold are
    calibrated by the other folds.

    Args:
        job: The training itself.
        learned: Its classes.
        root: Directory of the output.
        folder: The folder of the folds of this training in it.
        run: Runs the training of a fold, given its number from 0 on.
        taught: For each fold the file with the answers of its teachers, if there are any.

    Returns:
        The files of the answers, see :func:`_tabulate`, unless given test rows measure the model;
        the ``manifest_types.Calibration``; and the profile of the answered texts.
    """
    rows, parts = None, list[pa.Table]()
    for number in range(job.settings.folds):
        uri = join(root, folder, f"{number + 1}/logits.parquet")
        if not filesystem.exists(uri):
            rows = rows or _read(job, learned)
            fold_job = _write(job, rows, number, learned, join(root, folder, str(number + 1)))
            if taught:
                num_excerpts = excerpts.count(job.prepared, learned)
                fold_job = _teach(fold_job, rows, learned, taught[number], num_excerpts)
            run(fold_job, number)
            parquet.write(uri, _compute_logits(fold_job, rows, number, learned))
        parts.append(parquet.read(uri).combine_chunks())
    files, scores = list[FileEntry](), list[Scores]()
    for number, part in enumerate(parts):
        others = pa.concat_tables(each for each in parts if each is not part)
        scores.append(_score(part, learned, _calibrate(others, learned)))
        answers = _tabulate(part, number, scores[-1])
        right = np.mean(answers["label"].to_numpy() == answers["prediction"].to_numpy())
        say(
            "train",
            f"fold {number + 1} of {job.settings.folds}: accuracy {right:.4f} on "
            f"{len(answers):,} rows",
        )
        path, content = f"{folder}/fold-{number + 1}.parquet", parquet.to_bytes(answers)
        files.append(filesystem.write_file(root, path, content, rows=len(answers)))
    is_measured = schema.SPLITS[2] not in job.prepared.get("fixed_splits", ())
    whole, answered = pa.concat_tables(parts), Scores.join(scores)
    calibration, label = _calibrate(whole, learned), whole["label"].to_numpy()
    right = np.mean(answered.prediction == label)
    say("train", f"all folds: accuracy {right:.4f} on {len(label):,} rows")
    if unsure := job.settings.unsure:
        calibration["unsure"] = trained_package.choose_unsure(answered, label, unsure.max_error)
    return files if is_measured else [], calibration, answered.profile(label, learned.names)


def _read(job: TrainJob, learned: learned_classes.LearnedClasses) -> _Rows:
    """Read and tokenize all rows, and load the word vectors of the prepared data.

    Given test rows are left out, and unlabelled texts that are also those of labelled rows.

    Raises:
        UserError: Too few different texts leave nothing to learn outside a fold.
    """
    prepared, settings = job.prepared, job.prepared["settings"]
    columns, folds = ["row_id", "text", "label"], Folds.of(prepared, job.settings.folds)
    uris = job.list_files("tweets", folds.splits)
    labelled = pa.concat_tables(parquet.read(uri, columns=columns) for uri in uris)
    labelled = labelled.filter(pc.less(labelled["label"], len(manifest.find_learnable(prepared))))
    uris = manifest.list_tables(prepared, job.settings.prepared_uri, ["unlabelled"])
    further = [parquet.read(uri, columns=columns[:2]) for uri in uris]
    table = pa.concat_tables([labelled, *further], promote_options="default").combine_chunks()
    to_learn = learned_classes.relabel(labelled, learned.positions).combine_chunks()
    folds.check(to_learn["text"].combine_chunks(), to_learn["label"].to_numpy())
    position = folds.place(table["text"].combine_chunks())
    is_new = ~np.isin(position, position[: len(labelled)])
    is_new[: len(labelled)] = True
    table, position = table.filter(pa.array(is_new)).combine_chunks(), position[is_new]
    tokens = tokenizer.tokenize(table["text"].combine_chunks(), name=settings["tokenizer"])
    vector_files, fitted = prepared["inputs"].get("vectors", {}), settings["vocabulary"]
    source = fitted.get("vectors") or (vector_files.get("files") or [vector_files])[0]["uri"]
    choice = VocabularySettings.model_validate(fitted | {"vectors": source})
    max_words = choice.max_size if choice.kind == "pretrained" else None
    return _Rows(table, position, tokens, choice, word_vectors.load(source, max_words=max_words))


def _write(
    job: TrainJob, rows: _Rows, number: int, learned: learned_classes.LearnedClasses, uri: str
) -> TrainJob:
    """Prepare the rows of all folds but one; describe the training on them."""
    settings, folds = job.prepared["settings"], Folds.of(job.prepared, job.settings.folds)
    chosen = (rows.is_labelled & each for each in folds.choose(rows.position, number))
    parts = dict(zip(schema.SPLITS, chosen, strict=False))
    words = _fit(rows, parts["train"])
    encoded = words.encode(rows.tokens, max_length=settings["max_length"])
    lengths = pc.list_value_length(encoded.token_ids).cast(pa.int32())
    table = rows.table.append_column("token_ids", encoded.token_ids).append_column(
        "length", lengths
    )
    files = [
        item
        for kind, columns in (("encoded", schema.ENCODED), ("tweets", rows.table.schema))
        for name, chosen in parts.items()
        for item in parquet.write_part(
            uri, f"{kind}/split={name}/rows.parquet", table.filter(chosen).select(columns.names)
        )
    ]
    files += parquet.write_part(
        uri, "unlabelled/rows.parquet",
        table.filter(~rows.is_labelled).select(schema.UNLABELLED.names),
    )  # fmt: skip
    content = parquet.to_bytes(words.to_table())
    files.append(filesystem.write_file(uri, "vocabulary.parquet", content, rows=len(words)))
    names = manifest.find_classes(job.prepared)
    counts = dict[str, dict[str, int]]()
    for split, chosen in parts.items():
        rows_of = np.bincount(table.filter(chosen)["label"].to_numpy(), minlength=len(names))
        counts[split] = dict(zip(names, rows_of.tolist(), strict=True))
    prepared = cast(
        Manifest,
        {**job.prepared, "files": files, "counts": job.prepared["counts"] | {"labels": counts}},
    )
    names_with_rows = tuple(name for name in learned.names if counts["train"][name])
    settings_of_fold = job.settings.model_copy(
        update={"prepared_uri": uri, "classes": names_with_rows, "unsure": None}
    )
    return replace(
        job, settings=settings_of_fold, prepared=prepared, checkpoints_uri=join(uri, "checkpoints"),
        model_uri=join(uri, "model"), linear_uri=join(uri, "linear"),
        calibration={"linear_weight": 1.0, "linear_strength": STRENGTHS[0]},
    )  # fmt: skip


def _teach(
    job: TrainJob,
    rows: _Rows,
    learned: learned_classes.LearnedClasses,
    answers_uri: str,
    num_excerpts: int,
) -> TrainJob:
    """Write what a fold learns from its teachers; describe the training on that.

    Args:
        job: That of :func:`_write`.
        rows: All rows.
        learned: The classes of the training itself.
        answers_uri: File with the answers of teachers that have not seen the rows of the fold.
        num_excerpts: Of each text.
    """
    uri, of_fold = job.settings.prepared_uri, learned_classes.choose(job.prepared, job.settings)
    (tweets,), (encoded,) = (job.list_files(each, ["train"]) for each in ("tweets", "encoded"))
    labelled = parquet.read(encoded).append_column("text", parquet.read(tweets)["text"])
    labelled = learned_classes.relabel(labelled, of_fold.positions)
    made = excerpts.write(
        join(uri, "excerpts.parquet"), labelled["text"].combine_chunks(), num_excerpts,
        prepared=job.prepared, prepared_uri=uri,
    )  # fmt: skip
    further = manifest.list_tables(job.prepared, uri, ["unlabelled"])
    unlabelled = [
        learned_classes.relabel(parquet.read(each), of_fold.positions) for each in further | made
    ]
    form = schema.TAUGHT.remove(schema.TAUGHT.get_field_index("teacher"))
    table = pa.concat_tables(
        each.select(form.names).cast(form) for each in (labelled, *unlabelled)
    ).combine_chunks()
    keys = hash_texts(table["text"].combine_chunks())
    is_new = ~np.isin(
        keys, hash_texts(rows.table["text"].filter(rows.is_labelled).combine_chunks())
    )
    given = label_files.Answers.from_table(parquet.read(answers_uri))
    is_answered, answers = given.find(keys)
    answers = answers[:, [learned.names.index(name) for name in of_fold.names]]
    answers /= answers.sum(axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
    is_answered &= is_new | (table["label"].to_numpy() >= 0)
    taught = label_files.add_answers(table, is_answered, answers).cast(schema.TAUGHT)
    uri = join(uri, "taught.parquet")
    parquet.write(uri, taught)
    return replace(job, taught={uri: len(taught)})


def _fit(rows: _Rows, is_train: np.ndarray) -> vocabulary.Vocabulary:
    """Choose the words of train rows, and find their vectors."""
    choice, counted = rows.choice, pa.array(rows.tokens.count(is_train))
    if choice.kind == "pretrained":
        words = vocabulary.from_words(rows.vectors.words)
    else:
        counts = pa.table({"word": rows.tokens.words, "count": counted})
        words = vocabulary.fit(counts, min_count=choice.min_count, max_size=choice.max_size)
    places = rows.vectors.find(words.words)
    matrix = np.where((places >= 0)[:, None], rows.vectors.vectors[places], np.nan)
    return replace(words, vectors=matrix.astype(np.float32))


def _compute_logits(
    job: TrainJob, rows: _Rows, number: int, learned: learned_classes.LearnedClasses
) -> pa.Table:
    """Compute the logits of the rows of a fold by its model.

    Columns:
        returned: ``row_id``, ``label`` (a position in the classes of the training), the counts of
            ``Scores``, and the logits of each class: ``network``, and if there are linear models
            ``linear_<strength>``.
    """
    table = learned_classes.relabel(
        rows.table.filter(rows.is_labelled & (rows.position.astype(int) == number)),
        learned.positions,
    )
    text, package = table["text"].combine_chunks(), ModelPackage.load(job.model_uri)
    places = [learned.names.index(name) for name in package.settings.classes]
    models = {
        strength: LinearModel.of(
            safetensors.torch.load(filesystem.read_bytes(join(job.linear_uri, f"{strength:g}"))),
            num_classes=len(places),
        )
        for strength in (STRENGTHS if package.linear else ())
    }
    components, scores = package.component_logits(text, models), package.score(text)
    columns = {name: getattr(scores, name) for name in _COUNTS}
    names = ["network", *map(_name_column, models)]
    for name, of_classes in zip(names, components, strict=True):
        logits = np.full((len(table), len(learned.names)), _NEVER, np.float32)
        logits[:, places] = of_classes
        columns[name] = pa.FixedSizeListArray.from_arrays(logits.ravel(), logits.shape[1])
    return pa.table({name: table[name] for name in ("row_id", "label")} | columns)


def _name_column(strength: float) -> str:
    return f"linear_{strength:g}"


def _mix(
    table: pa.Table, learned: learned_classes.LearnedClasses, calibration: Mapping[str, Any]
) -> Scores:
    """Compute the probabilities of :func:`_compute_logits`, which are not calibrated."""
    logits, weight = _to_matrix(table, "network"), calibration.get("linear_weight")
    if weight is not None:
        of_linear = _to_matrix(table, _name_column(calibration["linear_strength"]))
        logits = (1 - weight) * logits + weight * of_linear
    probabilities = confidence.softmax(logits)
    counts = {name: table[name].to_numpy() for name in _COUNTS}
    probabilities[counts["num_tokens"] == 0] = learned.priors
    return Scores(probabilities.astype(np.float32), learned.names, **counts)


def _to_matrix(table: pa.Table, name: str) -> np.ndarray:
    return table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1)


def _calibrate(table: pa.Table, learned: learned_classes.LearnedClasses) -> dict[str, Any]:
    """Choose the linear model and its share, and calibrate, by the logits of some folds."""
    label, decided = table["label"].to_numpy(), dict[str, Any]()
    of_models = {
        strength: _to_matrix(table, name)
        for strength in STRENGTHS
        if (name := _name_column(strength)) in table.column_names
    }
    if of_models:
        decided |= trained_package.choose_linear(label, _to_matrix(table, "network"), of_models)
    return decided | trained_package.calibrate(_mix(table, learned, decided), label)


def _score(
    table: pa.Table, learned: learned_classes.LearnedClasses, calibration: Mapping[str, Any]
) -> Scores:
    """Turn the logits of a fold into calibrated probabilities.

    A class without a train row in the other folds has the probability 0.
    """
    scores = _mix(table, learned, calibration)
    fitted = confidence.Calibration.read(calibration, learned.names) or confidence.Calibration()
    probabilities = confidence.calibrate(scores.probabilities, fitted).astype(np.float32)
    probabilities[_to_matrix(table, "network") == _NEVER] = 0
    probabilities[scores.num_tokens == 0] = learned.priors
    return replace(scores, probabilities=probabilities)


def _tabulate(table: pa.Table, number: int, scores: Scores) -> pa.Table:
    """Write the answers of a fold.

    Columns:
        returned: ``row_id``, ``fold``, ``label`` and ``prediction`` (positions in the classes of
            the training), and ``probability_<class>``.
    """
    names = [f"probability_{name}" for name in scores.classes]
    return pa.table(
        {
            "row_id": table["row_id"],
            "fold": np.full(len(table), number + 1, np.int8),
            "label": table["label"],
            "prediction": scores.prediction,
            **dict(zip(names, scores.probabilities.T, strict=True)),
        }
    )
