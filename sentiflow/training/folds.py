"""Labelled rows -> folds, a training for each, and answers to rows that it has not seen.

Every labelled row is in one fold. For each fold a model is trained on the others, with words that
are counted in these rows, and it answers the rows of the fold. A finished fold leaves the file of
its answers, so that a killed training resumes.
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
    """From 0 to the number of folds, see :meth:`Folds.place`."""
    tokens: tokenizer.Tokens
    """The tokens of all texts."""
    choice: VocabularySettings
    """How the words are chosen."""
    vectors: word_vectors.WordVectors
    """The vectors of the prepared data."""

    @property
    def is_labelled(self) -> np.ndarray:
        """Whether each row has a label."""
        return np.asarray(self.table["label"].is_valid())


@dataclass(frozen=True)
class FoldResults:
    """What the models of all folds have answered."""

    files: Sequence[FileEntry]
    """The answers, see :func:`_tabulate`; none where given test rows measure the model."""
    calibration: dict[str, Any]
    """A ``manifest_types.Calibration`` by the answers of all folds."""
    profile: Profile
    """Profile of the answered texts."""


def train(
    job: TrainJob,
    learned: learned_classes.LearnedClasses,
    *,
    root: str,
    folder: str,
    run: Callable[[TrainJob, int], object],
    taught: Sequence[str] = (),
) -> FoldResults:
    """Train a model for each fold that is not finished, and let it answer the rows of the fold.

    The answers of all folds calibrate the model of the training itself. The answers of a fold are
    calibrated by the other folds.

    Args:
        job: The training itself.
        learned: Its classes.
        root: Directory of the output.
        folder: The folder of the folds of this training in it.
        run: Runs the training of a fold, given its number from 0 on.
        taught: For each fold the file with the answers of its teachers, if there are any.
    """
    logits = _answer_all(job, learned, join(root, folder), run, taught)
    files = list[FileEntry]()
    scores = list[Scores]()
    for number, table in enumerate(logits):
        others = pa.concat_tables(each for each in logits if each is not table)
        scores.append(_score(table, learned, _calibrate(others, learned)))
        answers = _tabulate(table, number, scores[-1])
        _say_accuracy(
            f"fold {number + 1} of {job.settings.folds}", scores[-1], answers["label"].to_numpy()
        )
        path = f"{folder}/fold-{number + 1}.parquet"
        content = parquet.to_bytes(answers)
        files.append(filesystem.write_file(root, path, content, rows=len(answers)))
    whole = pa.concat_tables(logits)
    label = whole["label"].to_numpy()
    answered = Scores.join(scores)
    _say_accuracy("all folds", answered, label)
    calibration = _calibrate(whole, learned)
    unsure = job.settings.unsure
    if unsure:
        calibration["unsure"] = trained_package.choose_unsure(answered, label, unsure.max_error)
    has_given_test = schema.SPLITS[2] in job.prepared.get("fixed_splits", ())
    return FoldResults(
        files=[] if has_given_test else files,
        calibration=calibration,
        profile=answered.profile(label, learned.names),
    )


def _answer_all(
    job: TrainJob,
    learned: learned_classes.LearnedClasses,
    root: str,
    run: Callable[[TrainJob, int], object],
    taught: Sequence[str],
) -> list[pa.Table]:
    """Train the model of each fold that is not finished; return the logits of all folds.

    The rows are read only if a fold is left.

    Args:
        job: The training itself.
        learned: Its classes.
        root: Directory of the folds of this training.
        run: As :func:`train` takes it.
        taught: Likewise.
    """
    rows = None
    logits = list[pa.Table]()
    for number in range(job.settings.folds):
        fold_uri = join(root, str(number + 1))
        logits_uri = join(fold_uri, "logits.parquet")
        if not filesystem.exists(logits_uri):
            rows = rows or _read(job, learned)
            fold_job = _write(job, rows, number, learned, fold_uri)
            if taught:
                num_excerpts = excerpts.count(job.prepared, learned)
                fold_job = _teach(fold_job, rows, learned, taught[number], num_excerpts)
            run(fold_job, number)
            parquet.write(logits_uri, _compute_logits(fold_job, rows, number, learned))
        logits.append(parquet.read(logits_uri).combine_chunks())
    return logits


def _say_accuracy(what: str, scores: Scores, label: np.ndarray) -> None:
    """Say how many rows of a fold, or of all folds, are answered right."""
    accuracy = np.mean(scores.prediction == label)
    say("train", f"{what}: accuracy {accuracy:.4f} on {len(label):,} rows")


def _read(job: TrainJob, learned: learned_classes.LearnedClasses) -> _Rows:
    """Read and tokenize all rows, and load the word vectors of the prepared data.

    Given test rows are left out, and unlabelled texts that are also those of labelled rows.

    Raises:
        UserError: Too few different texts leave nothing to learn outside a fold.
    """
    prepared = job.prepared
    folds = Folds.of(prepared, job.settings.folds)
    table, num_labelled = _read_texts(job, folds.splits)
    to_learn = learned_classes.relabel(table.slice(0, num_labelled), learned.positions)
    to_learn = to_learn.combine_chunks()
    folds.check(to_learn["text"].combine_chunks(), to_learn["label"].to_numpy())

    position = folds.place(table["text"].combine_chunks())
    is_new = ~np.isin(position, position[:num_labelled])
    is_new[:num_labelled] = True
    table = table.filter(pa.array(is_new)).combine_chunks()
    choice = _choose_words(prepared)
    max_words = choice.max_size if choice.kind == "pretrained" else None
    return _Rows(
        table=table,
        position=position[is_new],
        tokens=tokenizer.tokenize(
            table["text"].combine_chunks(), name=prepared["settings"]["tokenizer"]
        ),
        choice=choice,
        vectors=word_vectors.load(choice.vectors, max_words=max_words),
    )


def _read_texts(job: TrainJob, splits: Sequence[str]) -> tuple[pa.Table, int]:
    """Read the labelled rows of some splits, then the unlabelled texts.

    Returns:
        The table of :class:`_Rows`, and the number of labelled rows.
    """
    columns = ["row_id", "text", "label"]
    uris = job.list_files("tweets", splits)
    labelled = pa.concat_tables(parquet.read(uri, columns=columns) for uri in uris)
    num_classes = len(manifest.find_learnable(job.prepared))
    labelled = labelled.filter(pc.less(labelled["label"], num_classes))
    uris = manifest.list_tables(job.prepared, job.settings.prepared_uri, ["unlabelled"])
    further = [parquet.read(uri, columns=["row_id", "text"]) for uri in uris]
    table = pa.concat_tables([labelled, *further], promote_options="default")
    return table.combine_chunks(), len(labelled)


def _choose_words(prepared: Manifest) -> VocabularySettings:
    """Return how the words of the prepared data were chosen, with the file of their vectors."""
    fitted = prepared["settings"]["vocabulary"]
    source = fitted.get("vectors")
    if not source:
        described = prepared["inputs"].get("vectors", {})
        source = (described.get("files") or [described])[0]["uri"]
    return VocabularySettings.model_validate(fitted | {"vectors": source})


def _write(
    job: TrainJob, rows: _Rows, number: int, learned: learned_classes.LearnedClasses, uri: str
) -> TrainJob:
    """Prepare the rows of all folds but one; describe the training on them."""
    chosen = _choose_rows(job, rows, number)
    words = _fit(rows, chosen["train"])
    encoded = words.encode(rows.tokens, max_length=job.prepared["settings"]["max_length"])
    lengths = pc.list_value_length(encoded.token_ids).cast(pa.int32())
    table = rows.table.append_column("token_ids", encoded.token_ids)
    table = table.append_column("length", lengths)

    files = _write_tables(table, rows, chosen, uri)
    content = parquet.to_bytes(words.to_table())
    files.append(filesystem.write_file(uri, "vocabulary.parquet", content, rows=len(words)))
    counts = _count_labels(job.prepared, table, chosen)
    prepared = {
        **job.prepared,
        "files": files,
        "counts": job.prepared["counts"] | {"labels": counts},
    }
    settings = job.settings.model_copy(
        update={
            "prepared_uri": uri,
            "classes": tuple(name for name in learned.names if counts["train"][name]),
            "unsure": None,
        }
    )
    return replace(
        job,
        settings=settings,
        prepared=cast(Manifest, prepared),
        checkpoints_uri=join(uri, "checkpoints"),
        model_uri=join(uri, "model"),
        linear_uri=join(uri, "linear"),
        calibration={"linear_weight": 1.0, "linear_strength": STRENGTHS[0]},
    )


def _choose_rows(job: TrainJob, rows: _Rows, number: int) -> dict[str, np.ndarray]:
    """Choose the train rows and the validation rows of a fold, as masks."""
    folds = Folds.of(job.prepared, job.settings.folds)
    is_train, is_validation = folds.choose(rows.position, number)
    return {
        "train": rows.is_labelled & is_train,
        "validation": rows.is_labelled & is_validation,
    }


def _write_tables(
    table: pa.Table, rows: _Rows, chosen: Mapping[str, np.ndarray], uri: str
) -> list[FileEntry]:
    """Write the encoded rows and the tweets of each split, and the unlabelled texts.

    Args:
        table: All rows, with ``token_ids`` and ``length``.
        rows: All rows.
        chosen: Which rows each split has.
        uri: The directory.
    """
    files = list[FileEntry]()
    for kind, names in (
        ("encoded", schema.ENCODED.names),
        ("tweets", rows.table.schema.names),
    ):
        for split, is_chosen in chosen.items():
            part = table.filter(is_chosen).select(names)
            files += parquet.write_part(uri, f"{kind}/split={split}/rows.parquet", part)
    unlabelled = table.filter(~rows.is_labelled).select(schema.UNLABELLED.names)
    files += parquet.write_part(uri, "unlabelled/rows.parquet", unlabelled)
    return files


def _count_labels(
    prepared: Manifest, table: pa.Table, chosen: Mapping[str, np.ndarray]
) -> dict[str, dict[str, int]]:
    """Count the rows of each class, by split."""
    names = manifest.find_classes(prepared)
    counts = dict[str, dict[str, int]]()
    for split, is_chosen in chosen.items():
        labels = table.filter(is_chosen)["label"].to_numpy()
        numbers = np.bincount(labels, minlength=len(names))
        counts[split] = dict(zip(names, numbers.tolist(), strict=True))
    return counts


def _teach(
    job: TrainJob,
    rows: _Rows,
    learned: learned_classes.LearnedClasses,
    answers_uri: str,
    num_excerpts: int,
) -> TrainJob:
    """Write what a fold learns from its teachers; describe the training on that.

    Args:
        job: The training of the fold, see :func:`_write`.
        rows: All rows.
        learned: The classes of the training itself.
        answers_uri: File with the answers of teachers that have not seen the rows of the fold.
        num_excerpts: Excerpts of each text.
    """
    uri = job.settings.prepared_uri
    of_fold = learned_classes.choose(job.prepared, job.settings)
    table = _read_to_teach(job, of_fold, num_excerpts)
    keys = hash_texts(table["text"].combine_chunks())
    labelled_texts = rows.table["text"].filter(rows.is_labelled).combine_chunks()
    is_new = ~np.isin(keys, hash_texts(labelled_texts))
    given = label_files.Answers.from_table(parquet.read(answers_uri))
    is_answered, answers = given.find(keys)
    answers = answers[:, [learned.names.index(name) for name in of_fold.names]]
    answers /= answers.sum(axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
    is_answered &= is_new | (table["label"].to_numpy() >= 0)
    taught = label_files.add_answers(table, is_answered, answers).cast(schema.TAUGHT)
    taught_uri = join(uri, "taught.parquet")
    parquet.write(taught_uri, taught)
    return replace(job, taught={taught_uri: len(taught)})


def _read_to_teach(
    job: TrainJob, of_fold: learned_classes.LearnedClasses, num_excerpts: int
) -> pa.Table:
    """Read the rows that a fold may learn from teachers; make excerpts of its train rows.

    Columns:
        returned: As ``schema.TAUGHT``, without ``teacher``.
    """
    uri = job.settings.prepared_uri
    (tweets,) = job.list_files("tweets", ["train"])
    (encoded,) = job.list_files("encoded", ["train"])
    labelled = parquet.read(encoded).append_column("text", parquet.read(tweets)["text"])
    labelled = learned_classes.relabel(labelled, of_fold.positions)
    made = excerpts.write(
        join(uri, "excerpts.parquet"),
        labelled["text"].combine_chunks(),
        num_excerpts,
        prepared=job.prepared,
        prepared_uri=uri,
    )
    tables = [labelled]
    for each in manifest.list_tables(job.prepared, uri, ["unlabelled"]) | made:
        tables.append(learned_classes.relabel(parquet.read(each), of_fold.positions))
    form = schema.TAUGHT.remove(schema.TAUGHT.get_field_index("teacher"))
    return pa.concat_tables(each.select(form.names).cast(form) for each in tables).combine_chunks()


def _fit(rows: _Rows, is_train: np.ndarray) -> vocabulary.Vocabulary:
    """Choose the words of train rows, and find their vectors."""
    choice = rows.choice
    if choice.kind == "pretrained":
        words = vocabulary.from_words(rows.vectors.words)
    else:
        numbers = pa.array(rows.tokens.count(is_train))
        counts = pa.table({"word": rows.tokens.words, "count": numbers})
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
    is_of_fold = rows.is_labelled & (rows.position.astype(int) == number)
    table = learned_classes.relabel(rows.table.filter(is_of_fold), learned.positions)
    text = table["text"].combine_chunks()
    package = ModelPackage.load(job.model_uri)
    places = [learned.names.index(name) for name in package.settings.classes]
    models = dict[float, LinearModel]()
    if package.linear:
        for strength in STRENGTHS:
            content = filesystem.read_bytes(join(job.linear_uri, f"{strength:g}"))
            tensors = safetensors.torch.load(content)
            models[strength] = LinearModel.of(tensors, num_classes=len(places))
    components = package.component_logits(text, models)
    scores = package.score(text)

    columns = {"row_id": table["row_id"], "label": table["label"]}
    columns |= {name: getattr(scores, name) for name in _COUNTS}
    names = ["network", *map(_name_column, models)]
    for name, of_classes in zip(names, components, strict=True):
        logits = np.full((len(table), len(learned.names)), _NEVER, np.float32)
        logits[:, places] = of_classes
        columns[name] = pa.FixedSizeListArray.from_arrays(logits.ravel(), logits.shape[1])
    return pa.table(columns)


def _name_column(strength: float) -> str:
    return f"linear_{strength:g}"


def _mix(
    table: pa.Table, learned: learned_classes.LearnedClasses, calibration: Mapping[str, Any]
) -> Scores:
    """Compute probabilities that are not calibrated from the logits of :func:`_compute_logits`."""
    logits = _to_matrix(table, "network")
    weight = calibration.get("linear_weight")
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
    label = table["label"].to_numpy()
    of_models = dict[float, np.ndarray]()
    for strength in STRENGTHS:
        name = _name_column(strength)
        if name in table.column_names:
            of_models[strength] = _to_matrix(table, name)
    decided = dict[str, Any]()
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
    columns = {
        "row_id": table["row_id"],
        "fold": np.full(len(table), number + 1, np.int8),
        "label": table["label"],
        "prediction": scores.prediction,
    }
    for name, probabilities in zip(scores.classes, scores.probabilities.T, strict=True):
        columns[f"probability_{name}"] = probabilities
    return pa.table(columns)
