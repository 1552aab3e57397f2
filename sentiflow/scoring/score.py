"""Corpus + model package -> predictions Parquet.

Each part of the corpus is read, scored and written by one task of Ray Data, or scored by an actor
on a GPU (:mod:`tasks` has the steps). A finished part leaves a completion marker that names
the model, the settings and the rows. So a killed scoring resumes with the parts that have no
marker; and if files were added to the corpus, only these are scored, by an alias with the version
that it names now. Ray Data's own checkpoints would not do: they know neither model nor settings, so
that a rerun could keep predictions of another model.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config, ScoreSettings
from sentiflow.data import input_files, manifest, parts, row_checks, schema
from sentiflow.data.arrays import hash_strings
from sentiflow.data.corpus import Corpus, Plan, check_columns, cut
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import FileEntry, InputFile, Manifest, ModelInput, Scoring
from sentiflow.data.outputs import Output, OutputSpec, list_result
from sentiflow.data.table_plans import TablePlan
from sentiflow.errors import UserError
from sentiflow.metrics.classification import compare_unseen
from sentiflow.models import drift, package_files
from sentiflow.progress import say
from sentiflow.scoring import score_inputs, tasks
from sentiflow.scoring.tasks import RowCounts, ScoreJob, check_compatible, kept_types
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import display_uri, join
from sentiflow.tracking import model_sources

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

STAGE = "score"
OWNS = ("predictions", "rejected", MODEL)

_NOT_DECISIVE = {
    *("corpus", "prepared_uri", "model_uri", "output_uri"),
    *("num_workers", "gpus_per_worker"),
}


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of scoring; files of a corpus are read only if they have changed.

    Raises:
        UserError: The corpus or the model does not exist, or several models have no average.
        JobError: MLflow cannot be reached.
    """
    settings = config.score
    assert settings.model_uri, "settings are resolved"
    model = model_sources.describe(
        settings.model_uri, tracking=config.tracking.uri, to=join(settings.output_uri, MODEL)
    )
    inputs = {"model": model, "corpus": score_inputs.describe_corpus(settings)}
    decisive = settings.model_dump(exclude=_NOT_DECISIVE) | {
        "keep_raw": config.prepare.keep_raw,
        "corpus": score_inputs.PREPARED if settings.corpus == (score_inputs.PREPARED,) else "files",
        "predictions_version": schema.PREDICTIONS_VERSION,
    }
    return OutputSpec(
        *(STAGE, settings.output_uri, decisive, inputs),
        owns=OWNS,
        grows="corpus",
        follows=score_inputs.follow(settings, model),
    )


def run(config: Config, output: Output, recorder: Recorder, *, resources: Resources) -> Manifest:
    """Score a corpus; resume a killed scoring, or add files that are new since the last one.

    Returns:
        The manifest.

    Raises:
        UserError: Corpus or model cannot be used, or the directory belongs to other settings.
        JobError: A part failed; finished parts are kept for the next run.
    """
    began = time.monotonic()
    settings, spec, previous = config.score, output.spec, output.previous
    model, files = spec.inputs["model"], spec.inputs["corpus"].get("files", [])
    before = RowCounts.of(previous, model) if previous else RowCounts()
    num_old = len(previous["inputs"]["corpus"]["files"]) if previous else 0
    copies = score_inputs.find_copies(files)
    for uri, (_, first) in copies.items():
        say(STAGE, f"{display_uri(uri)} is a copy of {display_uri(first)}: it is scored once")
    distinct = [item for item in files if item["uri"] not in copies]
    num_previous = sum(item["uri"] not in copies for item in files[:num_old])
    if previous and len(distinct) == num_previous:
        return previous
    learned = package_files.classes_of(model)
    plan, labels = score_inputs.plan(
        settings,
        distinct,
        classes=learned,
        num_previous=num_previous,
        unpack_to=join(output.uri, "unpacked"),
    )
    check_columns(plan.columns, settings.keep_columns, classes=learned)
    precision = _choose_precision(previous, settings, resources)
    if previous and isinstance(plan, TablePlan):
        check_compatible(previous, plan)
    output.begin()
    maps = MapStages(
        output,
        num_workers=settings.num_workers,
        max_wait_minutes=config.cluster.max_wait_minutes,
    )
    with output.rolled_back_if_refused():
        source = plan if isinstance(plan, Corpus) else _cut(plan, settings, maps, before)
        model_uri = score_inputs.fetch_model(config, output)
    for line in (f"{score_inputs.name_model(spec)} on {source.num_rows:,} rows", *source.notes):
        say(STAGE, line)
    if any(each.get("unsure") for each in (model["settings"] or {}).get("members", ())):
        say(STAGE, "an average of models leaves no text unsure: their promises do not hold for it")
    num_gpus = resources.gpus_per_score_task(settings.gpus_per_worker)
    classes = tuple(dict.fromkeys([*learned, *labels]))
    job = ScoreJob(
        keep_columns=settings.keep_columns,
        classes=classes,
        labels=tuple(map(classes.index, labels)),
        precision=precision,
        on_gpu=num_gpus > 0,
        model_uri=model_uri,
        model_fingerprint=model["fingerprint"],
        model_version=score_inputs.name_version(model, previous["models"] if previous else {}),
        first_part=previous["num_parts"] if previous else 0,
        root=output.parts_uri,
    )
    of_parts = _score_parts(config, spec, source, maps, job, num_gpus)
    has_own_ids = isinstance(plan, TablePlan) and plan.table_format.has_row_ids
    new = _sum_up(
        *(output, source, before, of_parts), may_repeat=len(distinct) > 1 and not has_own_ids
    )
    total = RowCounts.sum([before, new])
    _check(output, source, new, total)
    num_scored = sum(of_parts[number].accepted for number in maps.fresh)
    seconds = time.monotonic() - began
    differences = _report(new, total, model, num_scored, seconds, spec.uri, recorder)
    scoring: Scoring = {
        "model_version": job.model_version,
        "first_part": job.first_part,
        "first_file": num_old,
        "num_files": len(files) - num_old,
        "rows": new.accepted,
    }
    return _publish(
        *(output, source, total, job),
        copies=[item for item, _ in copies.values()],
        scoring=scoring,
        drift=differences,
        seconds=seconds,
        run=recorder.describe(),
    )


def _cut(plan: Plan, settings: ScoreSettings, maps: MapStages, before: RowCounts) -> Corpus:
    """Cut new files into parts, whose rows are numbered after those that were scored before."""
    return cut(
        plan,
        rows_per_part=settings.rows_per_file,
        map_files=functools.partial(maps.map, "read_files", key=manifest.fingerprint(plan.files)),
        first_row=before.rows_read,
    )


def _score_parts(
    config: Config,
    spec: OutputSpec,
    source: Corpus,
    maps: MapStages,
    job: ScoreJob,
    num_gpus: float,
) -> list[RowCounts]:
    """Score the parts that have no completion marker; return the results of all."""
    kept = tuple(tasks.list_kept(job.keep_columns))
    rules = row_checks.RowRules(keep=kept, keep_raw=config.prepare.keep_raw)
    run_key = manifest.fingerprint(
        [spec.settings, job.model_fingerprint, job.model_version, job.precision]
    )
    results = maps.run(
        STAGE,
        source.parts,
        functools.partial(parts.read, rules=rules),
        write=functools.partial(tasks.score, job=job),
        sizes=[part.num_rows for part in source.parts],
        keys=[score_inputs.name_part(part, run_key) for part in source.parts],
        num_gpus=num_gpus,
    )
    return [RowCounts.from_json(result) for result in results]


def _sum_up(
    output: Output,
    source: Corpus,
    before: RowCounts,
    parts: Sequence[RowCounts],
    *,
    may_repeat: bool,
) -> RowCounts:
    """Add up the new rows, without statistics for drift if the model has learned some of them.

    Args:
        output: The output.
        source: The new rows.
        before: Those that were scored before.
        parts: Results of the new rows.
        may_repeat: Whether a ``tweet_id`` may be that of a row of an earlier file, too.
    """
    new = RowCounts.sum(parts)
    if learned_files := score_inputs.find_learned_files(source.files, output.spec.inputs["model"]):
        say(STAGE, f"drift is not measured: the model was trained on rows of {learned_files[0]}")
        new = replace(new, profile=drift.Profile())
    if may_repeat:
        new = replace(new, repeated_ids=_count_repeated_ids(output, source, before, new))
    return new


def _count_repeated_ids(output: Output, source: Corpus, before: RowCounts, new: RowCounts) -> int:
    """Count the new rows whose ``tweet_id`` a row of an earlier file has, too.

    Their numbers tell the file: files with a ``row_id`` of their own have no such numbers.
    """

    def read(item: FileEntry) -> tuple[np.ndarray, np.ndarray]:
        places = (join(place, item["path"]) for place in (output.parts_uri, output.spec.uri))
        rows = parquet.read(next(filter(filesystem.exists, places)), columns=["row_id", "tweet_id"])
        rows = rows.filter(rows["tweet_id"].is_valid())
        return rows["row_id"].to_numpy(), hash_strings(rows["tweet_id"])

    pieces = [piece for part in source.parts for piece in part.pieces]
    starts = sorted({piece.source: piece.first_row for piece in reversed(pieces)}.values())
    listed = [f for f in (*before.files, *new.files) if f["path"].startswith("predictions/")]
    row_ids, ids = zip(*filesystem.map_files(read, listed), strict=True)
    number = np.searchsorted(starts, np.concatenate(row_ids), side="right")
    _, first, place = np.unique(np.concatenate(ids), return_index=True, return_inverse=True)
    return int((number > number[first[place]]).sum())


def _publish(
    output: Output,
    source: Corpus,
    total: RowCounts,
    job: ScoreJob,
    *,
    copies: Sequence[InputFile],
    scoring: Scoring,
    **more: Any,
) -> Manifest:
    """Complete the output, together with the previous predictions.

    Args:
        output: The output.
        source: The new rows, with a description of their files as they were read.
        total: All rows of the corpus.
        job: Arguments of the tasks.
        copies: Descriptions of the files that were not scored, as they have the rows of others.
        scoring: What this job has added.
        more: Further keys of the manifest.

    Raises:
        UserError: A file of the corpus was changed meanwhile; the new output is removed.
    """
    try:
        input_files.check_unchanged(source.files)
    except UserError:  # it is another corpus now: the same command starts over
        output.roll_back()
        raise
    inputs, previous = output.spec.inputs, output.previous
    files = inputs["corpus"].get("files", [])
    by_uri = {item["uri"]: item for item in (*files, *copies, *source.files.get("files", ()))}
    corpus = input_files.join([by_uri[item["uri"]] for item in files]) if files else source.files
    average = manifest.read(join(output.uri, MODEL))
    members = list_result(join(output.uri, MODEL), average, path=MODEL) if average else []
    return output.publish(
        inputs=inputs | {"corpus": corpus},
        files=[*total.files, *members],
        models=(previous["models"] if previous else {}) | {job.model_version: inputs["model"]},
        scorings=[*(previous["scorings"] if previous else ()), scoring],
        peak_memory_bytes=total.peak_memory_bytes,
        num_parts=job.first_part + len(source.parts),
        has_row_ids=source.table_format.has_row_ids,
        kept_types=kept_types(source.table_format),
        counts=total.counts,
        classes=list(job.classes),
        precision=job.precision,
        profile=vars(total.profile),
        unknown_values=dict(Counter(total.unknown_values).most_common(row_checks.MAX_COUNTED)),
        **more,
    )


def _choose_precision(
    previous: Manifest | None, settings: ScoreSettings, resources: Resources
) -> str:
    """Choose the precision: that of a previous run, or the best of the cluster.

    The cluster may have lost or gained GPUs since the previous run, whose ``score.precision`` was
    the same.
    """
    best = "bf16" if resources.gpus_per_score_task(settings.gpus_per_worker) else "fp32"
    earlier = previous["precision"] if previous else ""
    return settings.precision if settings.precision != "auto" else earlier or best


def _check(output: Output, source: Corpus, new: RowCounts, total: RowCounts) -> None:
    """Refuse a corpus if all its rows are rejected.

    Raises:
        UserError: All rows are rejected; the output is removed.
    """
    assert source.num_rows == new.rows_read, "each row is in one part"
    if total.rejected and total.rejected == total.rows_read:
        output.roll_back()
        reasons = row_checks.list_reasons(new.rejected_by_reason)
        raise UserError(
            f"no row was accepted: {total.rejected:,} rejected ({reasons})",
            hint="correct the corpus, or describe it by score.text_column (Parquet) or, such as, "
            "score.format='{kind: csv, columns: {text: NAME}}'",
        )


def _report(
    new: RowCounts,
    total: RowCounts,
    model: ModelInput,
    num_scored: int,
    seconds: float,
    uri: str,
    recorder: Recorder,
) -> dict[str, Any]:
    """Tell the user what was done, and log the metrics.

    Args:
        new: The rows of this run, also those of an earlier process.
        total: All rows of the corpus, previous runs included.
        model: The model.
        num_scored: Rows that this process has scored.
        seconds: How long it took.
        uri: The output.
        recorder: Takes the metrics.

    Returns:
        The drift from the validation texts of the model, by :func:`drift.compare`.
    """
    rate = num_scored / seconds
    before = total.accepted - num_scored
    unsure = f"{total.unsure / total.accepted:.1%} unsure, " if total.unsure else ""
    also = f"{before:,} before; of all " if before else ""
    say(
        STAGE,
        f"{num_scored:,} rows scored, {also}{total.brief}{unsure}"
        f"{total.prior_only:,} without a known word ({seconds:.1f} s, {rate:,.0f} rows/s)",
    )
    if new.rejected:
        rejected = f"{new.rejected:,} {'row' if new.rejected == 1 else 'rows'} rejected"
        reasons = row_checks.list_reasons(new.rejected_by_reason)
        say(STAGE, f"{rejected} ({reasons}): see {display_uri(uri)}/rejected")
    if total.unknown_labels:
        number, values = total.unknown_labels, Counter(new.unknown_values).most_common(5)
        line = f"{number:,} unknown {'label becomes' if number == 1 else 'labels become'} null"
        listed = ", ".join(f"{rows:,} {value!r}" for value, rows in values)
        say(STAGE, f"{line}: {listed}" if listed else line)
    if new.repeated_ids:
        repeated = f"{new.repeated_ids:,} {'row has' if new.repeated_ids == 1 else 'rows have'}"
        say(STAGE, f"{repeated} the tweet_id of a row of an earlier file: both are scored")
    differences: dict[str, Any] = {}
    if model["reference"]:
        differences = drift.compare(total.profile, drift.Profile.from_json(model["reference"]))
    for line in differences.get("warnings", []):
        say(STAGE, f"drift from the validation texts: {line}")
    for share, meaning in compare_unseen(total.profile.confusion, model):
        say(STAGE, f"{share} {meaning}")
    fractions = total.fractions
    indexes = {name: value for name, value in differences.items() if name.endswith("_psi")}
    drifted = indexes | differences.get("corpus", {})
    metrics: dict[str, float | None] = {
        **{name: number for name, number in total.counts.items() if name != "predicted"},
        "rows_per_second": rate,
        **{f"predicted_{name}": share for name, share in fractions.items()},
        "positive_fraction": fractions.get(schema.BINARY[schema.POSITIVE]),
        **{f"drift/{name}": value for name, value in drifted.items()},
    }
    recorder.log_metrics({f"score/{name}": value for name, value in metrics.items()})
    return differences
