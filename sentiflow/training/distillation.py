"""Teachers + prepared rows -> the rows that a distilled network learns: the directory ``taught``.

Every file of rows that are learned, or that the evaluation measures, is a part. One task reads its
rows, asks the teachers and writes the answers (``teaching_tasks``). A finished part leaves a
completion marker, and a finished directory a manifest, so a training that is run again after a
crash asks only about the parts that are missing.
"""

import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.resources import Resources
from sentiflow.config.class_names import UNLABELLED
from sentiflow.data import manifest, schema
from sentiflow.data.answers import TEACHERS, Answers
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import find_status
from sentiflow.data.outputs import Output, list_result
from sentiflow.errors import UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import parquet
from sentiflow.storage.uris import join
from sentiflow.training import excerpts, own_paths, reports, teachers, teaching_tasks
from sentiflow.training.excerpts import EXCERPTS
from sentiflow.training.reports import Taught
from sentiflow.training.teachers import Teachers
from sentiflow.training.teaching_tasks import LEARNED, TextFile, list_parts
from sentiflow.training.train_plan import TrainPlan

STAGE = "teach"
_FOLDER_SPLITS = (*schema.SPLITS, UNLABELLED, EXCERPTS)
"""Splits of the written rows; texts without a split count as splits of their own."""
ANSWERS = "answers"
"""Folder of the out-of-fold answers: about each fold, by teachers that have not seen its rows."""


def teach(plan: TrainPlan, output: Output, *, resources: Resources) -> Taught:
    """Ask the teachers of a distillation, unless that was done before.

    Args:
        plan: The training.
        output: Its output, or that of the sweep whose trainings share the answers.
        resources: The cluster.

    Raises:
        UserError: A teacher's answers cannot be used, or no row is answered; an output that was
            just begun is removed.
        JobError: A task failed; finished parts are kept for the next run.
    """
    settings = {
        "classes": list(plan.learned.names),
        "splits": [schema.TRAIN],  # always the same: earlier fingerprints include it
        "columns": schema.TAUGHT.names,
        "folds": plan.settings.folds,
    }
    if plan.num_folds_trained < plan.settings.folds:
        settings["num_folds_trained"] = plan.num_folds_trained
    inputs = {"prepared": plan.spec.inputs["prepared"], **plan.teachers}
    # the name identifies the teachers, so other teachers get another directory
    path = join(reports.TAUGHT, manifest.identify(STAGE, settings, inputs))
    uri = join(output.spec.uri, path)
    spec = OutputSpec(STAGE, uri, settings, inputs, owns=own_paths.OF_TEACHERS)
    taught_output = Output(spec, find_status(spec), overwrite=True, claim=output.claim)
    record = taught_output.status.record if taught_output.is_complete else None
    if record is None:
        with output.rolled_back_if_refused(), Progress(STAGE, what="asking the teachers"):
            record = _ask(plan, taught_output, resources)
    entries = list_result(spec.uri, record, path=path)
    learned_folders = [f"split={split}" for split in LEARNED]
    return Taught(
        files=manifest.rows_by_file(record, spec.uri, learned_folders),
        entries=entries,
        uri=spec.uri,
        fingerprint=record["fingerprint"],
        counts=record["counts"],
        of_folds=list(manifest.rows_by_file(record, spec.uri, [ANSWERS])),
    )


def _ask(plan: TrainPlan, output: Output, resources: Resources) -> Manifest:
    """Ask the teachers about the rows of all parts that no earlier run has finished.

    Returns:
        The manifest of the answers.

    Raises:
        UserError: A teacher's answers cannot be used, or no row is answered.
        JobError: A task failed; finished parts are kept for the next run.
    """
    began = time.monotonic()
    output.begin()
    maps = MapStages(
        output,
        num_workers=plan.config.score.num_workers,
        max_wait_minutes=plan.config.cluster.max_wait_minutes,
    )
    excerpt_files = excerpts.prepare(plan, output.uri)
    parts = list_parts(plan.files, excerpt_files.to_learn)
    all_excerpts = excerpt_files.to_learn | excerpt_files.to_ask
    fetched = teachers.fetch(plan, output, all_excerpts, maps)
    results = _ask_about_parts(plan, output, resources, parts, fetched, maps)
    counts = _add_counts(parts, results)
    _refuse_unanswered(counts)
    files = [item for result in results for item in result["files"]]
    files += _write_fold_answers(output, fetched.fold_answer_files)
    seconds = time.monotonic() - began
    say(STAGE, f"the teachers have answered {_describe_counts(counts)} ({seconds:.1f} s)")
    return output.publish(counts=counts, files=files, seconds=seconds)


def _ask_about_parts(
    plan: TrainPlan,
    output: Output,
    resources: Resources,
    parts: Sequence[TextFile],
    fetched: Teachers,
    maps: MapStages,
) -> list[dict[str, Any]]:
    """Run the task of each part; return the results of :func:`teaching_tasks.teach_rows`."""
    # a training without GPUs also asks its teachers without them
    setting = 0 if plan.settings.gpus_per_worker == 0 else "auto"
    num_gpus = resources.gpus_per_score_task(setting)
    read = functools.partial(teaching_tasks.read_rows, positions=plan.learned.positions)
    write = functools.partial(
        teaching_tasks.teach_rows,
        parts=parts,
        root=output.parts_uri,
        classes=plan.learned.names,
        models=fetched.models,
        answer_files=fetched.answer_files,
        on_gpu=num_gpus > 0,
    )
    return maps.run(
        STAGE,
        parts,
        read,
        write=write,
        sizes=[part.num_rows for part in parts],
        keys=[manifest.fingerprint([output.spec.fingerprint, part.uri]) for part in parts],
        num_gpus=num_gpus,
    )


def _add_counts(
    parts: Sequence[TextFile], results: Sequence[Mapping[str, Any]]
) -> dict[str, Counter[str]]:
    """Add up the counts of all parts of each split."""
    counts = {split: Counter(rows=0, answered=0, left_out=0) for split in _FOLDER_SPLITS}
    for part, result in zip(parts, results, strict=True):
        counts[part.split].update(result["counts"])
    return counts


def _refuse_unanswered(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Check that the teachers have answered a row to learn.

    Raises:
        UserError: They have answered none.
    """
    if not any(counts[split]["answered"] for split in LEARNED):
        raise UserError(
            f"{TEACHERS}: no teacher has answered a row to learn",
            hint="check that their texts are those of the prepared data",
        )


def _write_fold_answers(output: Output, of_folds: Sequence[Sequence[str]]) -> list[FileEntry]:
    """Write for each trained fold the mean answers of the encoders that have not seen its rows.

    Args:
        output: The output of the answers.
        of_folds: For each encoder a file of answers about each trained fold.
    """
    files = list[FileEntry]()
    for number, uris in enumerate(zip(*of_folds, strict=True), start=1):
        loaded = [Answers.load(uri) for uri in uris]
        mean = np.mean([each.probabilities for each in loaded], axis=0)
        table = Answers(loaded[0].keys, mean).to_table()
        files += parquet.write_part(output.uri, f"{ANSWERS}/fold-{number:02d}.parquet", table)
    return files


def _describe_counts(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Say how many rows have an answer."""
    text = _describe_answered(counts[schema.TRAIN], "train rows")
    if any(counts[UNLABELLED].values()):
        text += f" and {_describe_answered(counts[UNLABELLED], 'unlabelled texts')}"
    num_excerpts = counts[EXCERPTS]["rows"]
    if num_excerpts:
        text += f", and {num_excerpts:,} excerpts"
    return text


def _describe_answered(counts: Mapping[str, int], what: str) -> str:
    """Say how many of some rows have an answer."""
    total = counts["rows"] + counts["left_out"]  # ``rows`` are those written
    return f"{counts['answered']:,} of {total:,} {what}"
