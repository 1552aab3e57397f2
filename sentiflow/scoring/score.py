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
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sentiflow.cluster.map_stages import MapStages, Pass
from sentiflow.cluster.resources import Resources
from sentiflow.data import corpus, input_files, manifest, parts, row_checks
from sentiflow.data.corpus import Corpus
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.data.outputs import Output
from sentiflow.data.prediction_files import PredictionFile
from sentiflow.data.table_plans import TablePlan
from sentiflow.models import package_files
from sentiflow.progress import Progress, say
from sentiflow.scoring import (
    corpus_files,
    given_predictions,
    id_checks,
    score_inputs,
    score_results,
    tasks,
)
from sentiflow.scoring.corpus_files import CorpusFiles
from sentiflow.scoring.earlier_jobs import EarlierJobs
from sentiflow.scoring.given_predictions import Given
from sentiflow.scoring.score_inputs import Inspected
from sentiflow.scoring.score_plan import STAGE, ScorePlan
from sentiflow.scoring.score_plan import resolve as resolve  # the stage is planned by it
from sentiflow.scoring.score_results import ScoredParts
from sentiflow.scoring.tasks import ScoreJob, check_compatible
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
    scored = ScoredParts(
        job=job,
        source=source,
        files=files,
        earlier=earlier,
        given=file,
        results=results,
        fresh=maps.fresh,
    )
    return score_results.finish(plan, output, recorder, scored, began=began)


def _inspect(plan: ScorePlan, files: CorpusFiles, output: Output) -> Inspected:
    """Inspect the new files of the corpus."""
    inspect = functools.partial(
        score_inputs.inspect, plan, files, unpack_to=join(output.uri, "unpacked")
    )
    return retries.repeat_after_io_errors(inspect, place="score.corpus")


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
