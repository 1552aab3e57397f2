"""Teachers + prepared rows -> the rows that a distilled network learns: the directory ``taught``.

Every file of rows that are learned, or that the evaluation measures, is a part: its
rows are read, the teachers are asked, and the answers are written, in one task of Ray Data as in
scoring. A finished part leaves a completion marker, and a finished directory a manifest, so that a
killed training asks the teachers once.
"""

import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster.map_stages import Label, MapStages
from sentiflow.cluster.resources import Resources
from sentiflow.config.class_names import UNLABELLED
from sentiflow.config.sections import Config
from sentiflow.data import input_files, label_files, manifest, schema
from sentiflow.data.arrays import hash_texts
from sentiflow.data.label_files import Answers
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.outputs import Output, OutputSpec, find_status, list_result
from sentiflow.errors import UserError
from sentiflow.progress import say
from sentiflow.storage import parquet
from sentiflow.storage.uris import join, names_encoder
from sentiflow.tracking import model_sources
from sentiflow.training import encoder_teacher, excerpts
from sentiflow.training.excerpts import EXCERPTS
from sentiflow.training.fold_rows import Folds
from sentiflow.training.learned_classes import LearnedClasses, choose, relabel
from sentiflow.training.reports import TAUGHT, Taught

if TYPE_CHECKING:
    from sentiflow.models.package import ModelPackage

STAGE = "teach"
_SPLITS = (*schema.SPLITS, UNLABELLED, EXCERPTS)
_LEARNED = (schema.SPLITS[0], UNLABELLED, EXCERPTS)
"""Rows that the network learns; those of the other splits are for the evaluation."""
ANSWERS = "answers"
"""Folder of the answers of the teachers that have not seen the rows of a fold."""


@dataclass(frozen=True)
class TextFile:
    """A file of the prepared data, or of excerpts."""

    split: str
    uri: str
    """File of the encoded rows, of unlabelled ones, or of the tweets of a held-out split."""
    num_rows: int
    texts_uri: str = ""
    """File of the tweets, for encoded rows."""


def teach(
    config: Config, output: Output, *, inputs: Mapping[str, Any], resources: Resources
) -> Taught:
    """Ask the teachers of a distillation, unless that was done before.

    Args:
        config: The experiment.
        output: The output of the training, or of the sweep whose trainings share the answers.
        inputs: Those of the training.
        resources: The cluster.

    Raises:
        UserError: A teacher's answers cannot be used, or no row is answered; an output that was
            just begun is removed.
        JobError: A task failed; finished parts are kept for the next run.
    """
    prepared = manifest.require(
        config.train.prepared_uri, stage="prepare", setting="train.prepared_uri"
    )
    learned = choose(prepared, config.train)
    sources = {
        k: v for k, v in inputs.items() if k == "prepared" or k.startswith(model_sources.TEACHER)
    }
    settings = {
        "classes": list(learned.names),
        "splits": [*schema.SPLITS[:1]],
        "columns": schema.TAUGHT.names,
        "folds": config.train.folds,
    }
    # answers of other teachers are never in the same directory
    path = f"{TAUGHT}/{manifest.identify(STAGE, settings, sources)}"
    uri = join(output.spec.uri, path)
    owns = (*(f"split={split}" for split in _SPLITS), ANSWERS, encoder_teacher.VECTORS)
    spec = OutputSpec(STAGE, uri, settings, sources, owns=owns)
    taught = Output(spec, find_status(spec), overwrite=True, claim=output.claim)
    record = taught.status.record if taught.is_complete else None
    with output.rolled_back_if_refused():
        record = record or _ask(config, taught, prepared, learned, resources)
    files = manifest.list_tables(record, uri, [f"split={split}" for split in _LEARNED])
    entries = list_result(uri, record, path=path)
    of_folds = list(manifest.list_tables(record, uri, [ANSWERS]))
    return Taught(files, entries, uri, record["fingerprint"], record["counts"], of_folds)


def _ask(
    config: Config,
    output: Output,
    prepared: Manifest,
    learned: LearnedClasses,
    resources: Resources,
) -> Manifest:
    """Ask the teachers about all rows, or those that an earlier run has not asked them about.

    Returns:
        The manifest of the answers.

    Raises:
        UserError: A teacher's answers cannot be used, or no row is answered.
        JobError: A task failed; finished parts are kept for the next run.
    """
    began = time.monotonic()
    output.begin()
    num_gpus = resources.gpus_per_score_task(0 if config.train.gpus_per_worker == 0 else "auto")
    maps = MapStages(
        output,
        num_workers=config.score.num_workers,
        max_wait_minutes=config.cluster.max_wait_minutes,
    )
    to_learn, to_ask = _write_excerpts(config, output, prepared, learned)
    parts = _list_parts(config.train.prepared_uri, prepared, to_learn)
    models, tables, of_folds = _fetch_teachers(
        *(config, output, prepared, learned), to_learn | to_ask, maps
    )
    taught = maps.run(
        STAGE,
        parts,
        functools.partial(read_rows, positions=learned.positions),
        write=functools.partial(
            teach_rows,
            parts=parts,
            root=output.parts_uri,
            classes=learned.names,
            models=models,
            tables=tables,
            on_gpu=num_gpus > 0,
        ),
        sizes=[part.num_rows for part in parts],
        keys=[manifest.fingerprint([output.spec.fingerprint, part.uri]) for part in parts],
        num_gpus=num_gpus,
    )
    counts = {split: Counter(rows=0, answered=0, left_out=0) for split in _SPLITS}
    for part, result in zip(parts, taught, strict=True):
        counts[part.split].update(result["counts"])
    if not any(counts[split]["answered"] for split in _LEARNED):
        raise UserError(
            f"{label_files.TEACHERS}: no teacher has answered a row to learn",
            hint="their texts are not those of the prepared data",
        )
    files = [item for part in taught for item in part["files"]]
    for number, uris in enumerate(zip(*of_folds, strict=True)):
        loaded = [Answers.load(uri) for uri in uris]
        mean = np.mean([each.probabilities for each in loaded], axis=0)
        answers = Answers(loaded[0].keys, mean).to_table()
        files += parquet.write_part(output.uri, f"{ANSWERS}/fold-{number + 1:02d}.parquet", answers)
    seconds = time.monotonic() - began
    answered = _count_answers(counts[schema.SPLITS[0]], "train rows")
    if any(counts[UNLABELLED].values()):
        answered += f" and {_count_answers(counts[UNLABELLED], 'unlabelled texts')}"
    if number := counts[EXCERPTS]["rows"]:
        answered += f", and {number:,} excerpts"
    say(STAGE, f"the teachers have answered {answered} ({seconds:.1f} s)")
    return output.publish(counts=counts, files=files, seconds=seconds)


def _write_excerpts(
    config: Config, output: Output, prepared: Manifest, learned: LearnedClasses
) -> tuple[dict[str, int], dict[str, int]]:
    """Write excerpts for a sentence encoder, after a check of the folds.

    Returns:
        The files, with the rows of each: of the train rows, which are learned; and of the other
        rows of folds.

    Raises:
        UserError: A fold leaves too few classes to train on.
    """
    uri, split = config.train.prepared_uri, schema.SPLITS[0]
    folds, number = Folds.of(prepared, config.train.folds), excerpts.count(prepared, learned)
    if not any(map(names_encoder, config.train.distill.teachers)) or not (
        number or folds.num_folds
    ):
        return {}, {}
    others = [name for name in folds.splits if name != split] if folds.num_folds else []
    train, further = (_read_texts(uri, prepared, names, learned) for names in ([split], others))
    rows = pa.concat_tables([train, further]).combine_chunks()
    if folds.num_folds:
        folds.check(rows["text"].combine_chunks(), rows["label"].to_numpy())
    to_learn, to_ask = (
        excerpts.write(
            join(output.uri, f"{EXCERPTS}-{name}.parquet"), table["text"].combine_chunks(), number,
            prepared=prepared, prepared_uri=uri,
        )
        for name, table in (("train", train), ("folds", further))
    )  # fmt: skip
    return to_learn, to_ask


def _read_texts(
    uri: str, prepared: Manifest, splits: Sequence[str], learned: LearnedClasses
) -> pa.Table:
    """Read the texts of some splits that have a class to learn, and their labels in the model."""
    files = manifest.list_tables(prepared, uri, [f"tweets/split={name}" for name in splits])
    form = pa.schema([schema.TAUGHT.field(name) for name in ("text", "label")])
    tables = [parquet.read(path, columns=form.names).cast(form) for path in files]
    return relabel(pa.concat_tables([form.empty_table(), *tables]), learned.positions)


def _list_parts(uri: str, prepared: Manifest, excerpts: Mapping[str, int]) -> list[TextFile]:
    """List the files of rows: those of the train split, unlabelled, held-out, and excerpts."""
    train, *held_out = schema.SPLITS
    folders = {
        train: f"encoded/split={train}",
        UNLABELLED: UNLABELLED,
        **{split: f"tweets/split={split}" for split in held_out},
    }
    tables = {k: manifest.list_tables(prepared, uri, [folder]) for k, folder in folders.items()}
    tweets = {
        _number(path): path
        for path in manifest.list_tables(prepared, uri, [f"tweets/split={train}"])
    }
    return [
        TextFile(split, path, num_rows, tweets[_number(path)] if split == train else "")
        for split, files in (tables | {EXCERPTS: excerpts}).items()
        for path, num_rows in files.items()
    ]


def _number(path: str) -> str:
    """Find the number of the part in the name of its file."""
    return path.rpartition("/")[2].split("-")[1]


def _fetch_teachers(
    config: Config,
    output: Output,
    prepared: Manifest,
    learned: LearnedClasses,
    further: Mapping[str, int],
    maps: MapStages,
) -> tuple[list[tuple[str, str]], list[str], list[list[str]]]:
    """Bring the teachers to where all nodes find them.

    Returns:
        Directory and fingerprint of each that is a model package; the file of :meth:`Answers.save`
        of each other one; and of each encoder those for the folds.
    """
    models, tables, of_folds = list[tuple[str, str]](), list[str](), list[list[str]]()
    for name, teacher in output.spec.inputs.items():
        to = join(output.uri, f"{name}_{teacher['fingerprint']}")
        if "files" in teacher:
            label_files.read_answers(
                [item["uri"] for item in teacher["files"]], learned.names
            ).save(to)
            input_files.check_unchanged(teacher)
            tables.append(to)
        elif names_encoder(teacher["uri"]):
            first, *others = encoder_teacher.answer(
                *(name, teacher["uri"], prepared),
                prepared_uri=config.train.prepared_uri,
                learned=learned,
                excerpts=further,
                num_folds=config.train.folds,
                maps=maps,
                output=output,
            )
            tables.append(first)
            of_folds.append(others)
        elif name.startswith(model_sources.TEACHER):
            uri = model_sources.download(teacher, to=to, tracking=config.tracking.uri)
            models.append((uri, teacher["fingerprint"]))
    return models, tables, of_folds


def read_rows(part: TextFile, *, positions: np.ndarray) -> pa.Table:
    """Read the rows of a part that have a class to learn, or no label at all.

    Columns:
        added: ``row_id`` (that of text n of ``prepare.unlabelled`` is -1 - n), ``label`` (int8:
            that of the network, or -1), ``text``; of train rows and unlabelled ones ``token_ids``,
            ``length``.
    """
    encoded = ["row_id", "token_ids", "length"]
    if part.split in (UNLABELLED, EXCERPTS):
        rows = parquet.read(part.uri, columns=[*encoded, "text"])
    elif part.split in _LEARNED:
        rows = parquet.read(part.uri, columns=[*encoded, "label"])
        tweets = parquet.read(part.texts_uri, columns=["row_id", "text"])
        tweets = tweets.combine_chunks()
        place = pc.index_in(rows["row_id"], value_set=tweets["row_id"])
        rows = rows.append_column("text", tweets["text"].take(place))
    else:
        rows = parquet.read(part.uri, columns=["row_id", "text", "label"])
    return relabel(rows, positions)


def teach_rows(
    table: pa.Table,
    label: Label,
    *,
    parts: Sequence[TextFile],
    root: str,
    classes: tuple[str, ...],
    models: Sequence[tuple[str, str]],
    tables: Sequence[str],
    on_gpu: bool,
) -> dict[str, Any]:
    """Ask the teachers, and write the rows of a part: those to learn, or held-out rows.

    They are taught the mean probabilities of the teachers that answer each row. A row to learn that
    nobody answers is taught its label.

    Args:
        table: That of :func:`read_rows`.
        label: What the task knows of the part.
        parts: All parts.
        root: Directory to write to.
        classes: The C classes that the network learns.
        models: Directory and fingerprint of each teacher that is a model package.
        tables: Files of :meth:`Answers.save`, of each other teacher.
        on_gpu: Whether tasks have a share of a GPU.

    Returns:
        The ``files``; and ``counts``: the ``rows`` that were written; those ``answered`` by a
        teacher at least; and those ``left_out``, without an answer and without a label, which
        nothing can be learned from.
    """
    part, text = parts[label.number], table["text"].combine_chunks()
    hashes = hash_texts(text) if tables else np.zeros(0, np.uint64)
    given = [_load_answers(uri).find(hashes) for uri in tables]
    if models:
        from sentiflow.cluster import memory

        packages = memory.load_models(*models, on_gpu=on_gpu, setting=label_files.TEACHERS)
        given += [_ask_model(text, package, classes) for package in packages]
    num_answers, sums = (np.sum(each, axis=0) for each in zip(*given, strict=True))
    mean, is_answered = sums / np.maximum(num_answers, 1)[:, None], num_answers > 0
    is_learned = part.split in _LEARNED
    form = schema.TAUGHT if is_learned else schema.HELD_OUT
    rows = label_files.add_answers(table, is_answered, mean, keep_labels=is_learned)
    rows = rows.select(form.names).cast(form)
    files = parquet.write_part(root, f"split={part.split}/{label.name_file()}", rows)
    answered, left_out = int(is_answered.sum()), len(table) - len(rows)
    return {
        "counts": {"rows": len(rows), "answered": answered, "left_out": left_out},
        "files": files,
    }


def _ask_model(
    text: pa.Array, package: "ModelPackage", classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Score N texts: whether they are answered, N bool; (N, C) float64, 0 where they are not."""
    scores = package.score(text)
    columns = [scores.classes.index(name) for name in classes]
    chosen = scores.probabilities[:, columns].astype(np.float64)
    total = chosen.sum(axis=1)
    is_known = (scores.num_tokens > 0) & (total > 0)
    share = chosen / np.where(is_known, total, 1)[:, None]
    return is_known, np.where(is_known[:, None], share, 0)


_load_answers = functools.lru_cache(maxsize=4)(Answers.load)
"""Loads the answers of a teacher once for each worker process."""


def _count_answers(counts: Mapping[str, int], what: str) -> str:
    """Write how many of some rows have an answer."""
    return f"{counts['answered']:,} of {counts['rows'] + counts['left_out']:,} {what}"
