"""Corpus + model package -> predictions Parquet.

One task of Ray Data reads, scores and writes one part of the corpus; with GPUs actors score the
parts (:mod:`tasks` has the steps). A finished part leaves a completion marker that names the
model, the settings and the rows. So a killed scoring resumes with the parts that have no marker.

If files were added to the corpus, only the new files are scored. If an alias names the model, the
version that the alias names now scores them.

Ray Data's own checkpoints are not used, because they know neither model nor settings: a rerun could
keep predictions of another model.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sentiflow.cluster.map_stages import MapStages, Pass
from sentiflow.cluster.resources import Resources
from sentiflow.data import corpus, input_files, lineage, manifest, parts, row_checks, row_sources
from sentiflow.data.corpus import Corpus
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import FileEntry, GivenCounts, Manifest, ModelInput, Scoring
from sentiflow.data.outputs import Output, list_result
from sentiflow.data.prediction_files import PredictionFile
from sentiflow.data.table_plans import TablePlan
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.models.profile import Profile
from sentiflow.progress import Progress, say
from sentiflow.scoring import (
    corpus_files,
    given_predictions,
    id_checks,
    score_inputs,
    summary,
    tasks,
)
from sentiflow.scoring.corpus_files import CorpusFiles
from sentiflow.scoring.earlier_jobs import EarlierJobs
from sentiflow.scoring.given_predictions import Given
from sentiflow.scoring.score_inputs import Inspected
from sentiflow.scoring.score_plan import STAGE, ScorePlan
from sentiflow.scoring.score_plan import resolve as resolve  # the stage is planned by it
from sentiflow.scoring.summary import Summary
from sentiflow.scoring.tasks import RowCounts, ScoreJob, check_compatible, kept_types
from sentiflow.storage import retries
from sentiflow.storage.uris import display_uri, join

if TYPE_CHECKING:
    from sentiflow.tracking.recorder import Recorder


def run(plan: ScorePlan, output: Output, recorder: Recorder, *, resources: Resources) -> Manifest:
    """Score a corpus; resume a killed scoring, or add files that are new since the last one.

    Args:
        plan: The scoring.
        output: Its output.
        recorder: Its run in MLflow.
        resources: The cluster.

    Returns:
        The manifest.

    Raises:
        UserError: Corpus or model cannot be used, or the directory belongs to other settings.
        JobError: A part failed; finished parts are kept for the next run.
    """
    began = time.monotonic()
    settings = plan.settings
    previous = output.previous
    earlier = EarlierJobs.of(previous, plan.model)
    # What a new result replaces does not stay, so files that are gone have no rows in it.
    gone = () if previous else plan.spec.gone
    with Progress(STAGE, what="looking at the corpus"):
        files = corpus_files.find(plan.corpus, num_old=earlier.num_files, gone=gone)
        if previous and not files.new:
            return previous
        unread = input_files.combine(files.new) if files.new else plan.corpus
        with input_files.naming_changes(unread):
            rows, labels = _inspect(plan, files, output)
    file = given_predictions.read(settings, plan.model) if settings.predictions else None
    num_gpus = 0.0 if file else resources.gpus_per_score_task(settings.gpus_per_worker)
    if previous and isinstance(rows, TablePlan):
        check_compatible(previous, rows)

    output.begin()
    maps = MapStages(
        output,
        num_workers=settings.num_workers,
        max_wait_minutes=plan.config.cluster.max_wait_minutes,
        watch=recorder.watch_rows(STAGE),
    )
    with (
        Progress(STAGE, what="reading files and model"),
        output.rolled_back_if_refused(),
        input_files.naming_changes(unread),
    ):
        opened = _open(plan, output, maps, rows, earlier, file)
    source = opened.source
    earlier = opened.earlier
    _announce(plan.model, source)

    job = _describe_job(plan, output, opened, labels=labels, on_gpu=num_gpus > 0)
    results = _score_parts(plan, source, maps, job, num_gpus)
    part_counts = [RowCounts.from_json(result) for result in results]

    new = _sum_up(plan.model, source, part_counts)
    total = RowCounts.sum([earlier.counts, new])
    _check_accepted(output, source, new, total)
    counts_of_given = _count_given(results, file, previous)

    done = Summary(
        new=new,
        total=total,
        num_scored=sum(part_counts[number].accepted for number in maps.fresh),
        seconds=time.monotonic() - began,
        drift=summary.find_drift(total, plan.model),
    )
    summary.tell(done, plan.model, uri=plan.spec.uri)
    summary.log_metrics(done, recorder)
    return _publish(
        plan,
        output,
        recorder,
        job=job,
        source=source,
        files=files,
        earlier=earlier,
        done=done,
        counts_of_given=counts_of_given,
    )


def _inspect(plan: ScorePlan, files: CorpusFiles, output: Output) -> Inspected:
    """Inspect the new files of the corpus."""
    inspect = functools.partial(
        score_inputs.inspect, plan, files, unpack_to=join(output.uri, "unpacked")
    )
    return retries.repeat_after_io_errors(inspect, place="score.corpus")


def _count_given(
    results: Sequence[dict[str, Any]], file: PredictionFile | None, previous: Manifest | None
) -> GivenCounts | None:
    """Count the predictions of another program that were used, if there are any, and say it.

    Args:
        results: Results of all parts that were scored now.
        file: The predictions; None if a model scores.
        previous: Manifest of the result that is extended.
    """
    if file is None:
        return None
    counts = given_predictions.count(results, len(file.keys), previous)
    given_predictions.tell(counts)
    return counts


class _Opened(NamedTuple):
    """New rows and a model, ready to be scored."""

    source: Corpus
    """The new rows, in parts."""
    earlier: EarlierJobs
    """Results of earlier jobs. If the corpus has its own row ids, the files have ranges of them."""
    model_uri: str
    """Directory of the model package, which all nodes can read; empty if there is none."""
    given: Given | None
    """Predictions of another program, in place of the model."""
    writes_id_ranges: bool
    """See :class:`ScoreJob`."""


def _open(
    plan: ScorePlan,
    output: Output,
    maps: MapStages,
    rows: corpus.Plan | Corpus,
    earlier: EarlierJobs,
    file: PredictionFile | None,
) -> _Opened:
    """Check the row ids of new files, cut the files into parts, and fetch the model.

    Args:
        plan: The scoring.
        output: Its output.
        maps: Runs the work on many rows or files.
        rows: New files, or prepared data.
        earlier: Results of earlier jobs.
        file: Predictions of another program, in place of the model.
    """
    if isinstance(rows, TablePlan) and rows.table_format.has_row_ids:
        rows, scored_files = id_checks.check(rows, output.previous, uri=plan.spec.uri, maps=maps)
        earlier = earlier.with_files(scored_files)
    source = score_inputs.cut(rows, plan.settings, maps, first_row=earlier.counts.rows_read)
    return _Opened(
        source=source,
        earlier=earlier,
        model_uri="" if file else score_inputs.fetch_model(plan, output),
        given=_write_given(file, plan, output) if file else None,
        writes_id_ranges=isinstance(rows, TablePlan) and rows.table_format.has_row_ids,
    )


def _write_given(file: PredictionFile, plan: ScorePlan, output: Output) -> given_predictions.Given:
    """Write the predictions of another program where tasks look them up."""
    return given_predictions.write(
        file,
        plan.classes,
        package_files.class_values_of(plan.model),
        folder=output.uri,
    )


def _announce(model: ModelInput, source: Corpus) -> None:
    """Tell the user which model scores how many rows, and what to know about both."""
    uris = [display_uri(member["uri"]) for member in model.get("members", [model])]
    name = uris[0] if len(uris) == 1 else f"the average of {', '.join(uris)}"
    say(STAGE, f"{name} on {source.num_rows:,} rows")
    for note in source.notes:
        say(STAGE, note)
    members = (model["settings"] or {}).get("members", ())
    if any(member.get("unsure") for member in members):
        say(STAGE, "averaged models have no guarantee for unsure texts: no text is left to people")


def _describe_job(
    plan: ScorePlan,
    output: Output,
    opened: _Opened,
    *,
    labels: Sequence[str],
    on_gpu: bool,
) -> ScoreJob:
    """Describe the arguments of all tasks; classes that only the corpus has come last."""
    model = plan.model
    earlier = opened.earlier
    classes = tuple(dict.fromkeys([*plan.classes, *labels]))
    precision = tasks.choose_precision(
        plan.settings.precision, earlier=earlier.precision, on_gpu=on_gpu
    )
    return ScoreJob(
        keep_columns=plan.settings.keep_columns,
        classes=classes,
        labels=tuple(classes.index(name) for name in labels),
        precision=precision,
        on_gpu=on_gpu,
        model_uri=opened.model_uri,
        model_fingerprint=model["fingerprint"],
        model_version=earlier.name_version(model),
        first_part=earlier.num_parts,
        writes_id_ranges=opened.writes_id_ranges,
        root=output.parts_uri,
        given=opened.given,
    )


def _identify_parts(plan: ScorePlan, job: ScoreJob, source: Corpus) -> list[str]:
    """Identify each part by what decides its predictions: model, settings, rows and files."""
    run_key = manifest.fingerprint(
        [plan.spec.settings, job.model_fingerprint, job.model_version, job.precision]
    )
    keys = []
    for part in source.parts:
        contents = [manifest.identify_file(item) for item in part.inputs.get("files", [])]
        content = contents or part.inputs["fingerprint"]
        keys.append(manifest.fingerprint([run_key, str(part), content]))
    return keys


def _score_parts(
    plan: ScorePlan,
    source: Corpus,
    maps: MapStages,
    job: ScoreJob,
    num_gpus: float,
) -> list[dict[str, Any]]:
    """Score the parts that have no completion marker; return the results of all parts as JSON."""
    kept = tuple(tasks.list_kept(job.keep_columns))
    keep_raw = plan.config.prepare.keep_raw
    if plan.prepared:  # its rows have been checked
        rules = row_checks.RowRules(keep=kept, keep_raw=keep_raw)
    else:
        form = plan.settings.format
        assert form is not None, "settings are resolved"
        # A row without a prediction of another program is found later: it needs its offset.
        with_offsets = job.given is not None
        rules = row_checks.RowRules.of_texts(
            form, keep=kept, keep_raw=keep_raw, with_offsets=with_offsets
        )
    return maps.run(
        STAGE,
        source.parts,
        functools.partial(parts.read, rules=rules),
        write=functools.partial(tasks.score, job=job),
        sizes=[part.num_rows for part in source.parts],
        keys=_identify_parts(plan, job, source),
        num_gpus=num_gpus,
        nth=Pass(),
    )


def _sum_up(model: ModelInput, source: Corpus, part_counts: Sequence[RowCounts]) -> RowCounts:
    """Add up the counts of the new rows; without a profile if the model may have learned some."""
    new = RowCounts.sum(part_counts)
    if lineage.is_of_others(model):
        return new
    learned = score_inputs.find_learned_files(source.files, model)
    reason = ""
    if learned.names:
        reason = f"the model was trained on rows of {learned.names[0]}"
    elif learned.unknown:
        reason = f"the files that the model was trained on are not known: {learned.unknown}"
    if reason:
        say(STAGE, f"drift is not measured: {reason}")
        new = replace(new, profile=Profile())
    return new


def _check_accepted(output: Output, source: Corpus, new: RowCounts, total: RowCounts) -> None:
    """Refuse a corpus if all its rows are rejected.

    Raises:
        UserError: All rows are rejected; the output is removed.
    """
    assert source.num_rows == new.rows_read, "each row is in one part"
    if total.rejected and total.rejected == total.rows_read:
        output.roll_back()
        reasons = row_checks.list_reasons(new.rejected_by_reason)
        hint = (
            "correct the corpus, or describe it: Parquet by score.text_column, CSV by "
            "score.format, such as score.format='{kind: csv, columns: {text: NAME}}'"
        )
        if given_predictions.NO_PREDICTION in new.rejected_by_reason:
            hint = "name files of score.predictions with row ids or texts of this corpus"
        raise UserError(f"no row was accepted: {total.rejected:,} rejected ({reasons})", hint=hint)


def _publish(
    plan: ScorePlan,
    output: Output,
    recorder: Recorder,
    *,
    job: ScoreJob,
    source: Corpus,
    files: CorpusFiles,
    earlier: EarlierJobs,
    done: Summary,
    counts_of_given: GivenCounts | None,
) -> Manifest:
    """Publish the new predictions together with the previous ones.

    Args:
        plan: The scoring.
        output: Its output.
        recorder: Its run in MLflow.
        job: Arguments of the tasks.
        source: The new rows, with a description of their files as they were read.
        files: The files of the corpus.
        earlier: Results of earlier jobs.
        done: What was scored.
        counts_of_given: Counts of the predictions of another program, if these were scored.

    Raises:
        UserError: A file of the corpus was changed during the scoring; the new output is removed.
    """
    try:
        input_files.check_unchanged(source.files)
    except UserError:  # the corpus is another one now: the same command starts over
        output.roll_back()
        raise
    scoring: Scoring = {
        "model_version": job.model_version,
        "first_part": job.first_part,
        "first_file": files.num_old,
        "num_files": len(files.listed) - files.num_old,
        "rows": done.new.accepted,
    }
    places = [*earlier.places]
    if files.listed:
        places += row_sources.place_parts(source.parts, files.listed, first_part=job.first_part)
    unknown_values = Counter(done.total.unknown_values).most_common(row_checks.MAX_COUNTED)
    return output.publish(
        inputs=plan.spec.inputs | {"corpus": files.describe(source.files)},
        files=[*done.total.files, *_list_average(output)],
        models={**earlier.models, job.model_version: plan.model},
        scorings=[*earlier.scorings, scoring],
        peak_memory_bytes=done.total.peak_memory_bytes,
        num_parts=job.first_part + len(source.parts),
        parts=places,
        has_row_ids=source.table_format.has_row_ids,
        kept_types=kept_types(source.table_format),
        counts=done.total.counts,
        classes=list(job.classes),
        **score_inputs.find_class_values(plan, job.classes),
        precision=job.precision,
        profile=vars(done.total.profile),
        unknown_values=dict(unknown_values),
        drift=done.drift,
        seconds=done.seconds,
        run=recorder.describe(),
        **({"given": counts_of_given} if counts_of_given else {}),
    )


def _list_average(output: Output) -> list[FileEntry]:
    """List the files of an averaged model, which stays in the output."""
    uri = join(output.uri, MODEL)
    average = manifest.read(uri)
    if average is None:
        return []
    return list_result(uri, average, path=MODEL)
