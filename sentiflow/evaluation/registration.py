"""An evaluation -> its run in MLflow, and its model in MLflow's registry with the figures."""

import logging
from collections.abc import Iterator, Mapping
from itertools import groupby
from statistics import fmean
from typing import Any

from sentiflow.data import lineage
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import JobError, UserError
from sentiflow.evaluation import evaluated_rows
from sentiflow.evaluation.measurements import Measurements
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.result import EvaluationResult
from sentiflow.metrics.registry import METRICS
from sentiflow.storage.uris import join
from sentiflow.tracking import model_registration, runs, version_tags
from sentiflow.tracking.recorder import Recorder

log = logging.getLogger(__name__)

_HEADLINES = (
    *(metric.name for metric in METRICS if not metric.of_two and not metric.of_ordered),
    "accuracy_low",
    "accuracy_high",
    "expected_calibration_error",
)
"""Metrics that are logged for every model, whatever its classes, in the order in which MLflow lists
them."""


def log_evaluation(
    result: EvaluationResult,
    files: Mapping[str, bytes],
    recorder: Recorder,
    spec: OutputSpec,
) -> None:
    """Log metrics and report to the run of the evaluation, the metrics of the headline first.

    Args:
        result: The evaluation.
        files: The files that the evaluation has written, by name.
        recorder: The run of the evaluation.
        spec: Names the predictions.
    """
    for metrics in _list_metrics(result):
        recorder.log_metrics(metrics)
    recorder.log_files(files)
    recorder.set_tags(_tag_predictions(spec))
    note = [f"- **{each.number}** {each.meaning}" for each in result.highlights]
    recorder.set_note("\n".join(note))


def _list_metrics(result: EvaluationResult) -> Iterator[dict[str, Any]]:
    """List the metrics by name, in the order in which they are logged."""
    measured = result.measured
    yield _list_figures(measured)
    for split in sorted(measured.figures, key=lambda name: name != measured.split):
        scalars = measured.figures[split].scalars
        names = dict.fromkeys([*_HEADLINES, *scalars])
        yield {f"{split}/{name}": scalars.get(name) for name in names}
    if measured.unsure:
        yield {
            f"{measured.split}/unsure_fraction": measured.unsure.fraction,
            f"{measured.split}/unsure_error": measured.unsure.error,
            f"{measured.split}/unsure_error_low": measured.unsure.error_low,
            f"{measured.split}/unsure_error_high": measured.unsure.error_high,
        }
    if result.cross_validated:
        scalars = result.cross_validated.metrics.scalars
        yield {f"{evaluated_rows.FOLDS}/{name}": value for name, value in scalars.items()}
    teacher = result.teacher
    if teacher:
        yield {
            "teacher/agreement": teacher.agreement,
            "teacher/accuracy": teacher.accuracy,
            "teacher/accuracy_difference": teacher.accuracy_difference.value,
            "teacher/f1_macro": teacher.f1_macro,
        }
    yield _average_checks(result.checks)


def _list_figures(measured: Measurements) -> dict[str, Any]:
    """List the figures by which runs are compared first, of the headline split."""
    split = measured.split
    return {
        f"{runs.AT_A_GLANCE}/{split}_accuracy": measured.metrics.accuracy,
        f"{runs.AT_A_GLANCE}/{split}_f1_macro": measured.metrics.f1_macro,
    }


def _average_checks(checks: ModelChecks) -> dict[str, Any]:
    """Average the pass rates by kind: a metric for each test would make thirty charts in MLflow."""
    metrics = {}
    for kind, tests in groupby(checks.behavior, lambda test: test.kind):
        name = kind.replace(" ", "_")
        metrics[f"behavior/{name}"] = fmean(test.pass_rate for test in tests)
    for bias in checks.group_bias:
        metrics[f"bias/{bias.category}_spread"] = bias.spread
    return metrics


def register(
    result: EvaluationResult,
    scored: Manifest,
    trained: Manifest,
    recorder: Recorder,
    spec: OutputSpec,
    *,
    corpus: str,
    card: bytes,
) -> dict[str, Any] | None:
    """Log the headline to the run of the training, and register the model.

    Call this function only if the evaluated corpus is the corpus of the training: metrics of
    another corpus would be mistaken for test metrics. If the store is unavailable, ``sentiflow
    tracking import`` registers the model later, from the manifest.

    Args:
        result: The evaluation.
        scored: The manifest of the predictions.
        trained: The manifest of the training; for an average, of the first model.
        recorder: The run of the evaluation. For an average, it replaces the run of the training.
        spec: Names the predictions.
        corpus: The evaluated texts, in a line.
        card: The model card, for the files of the version.

    Returns:
        Name and version for the manifest; None if the model was not registered.
    """
    model = scored["inputs"]["model"]
    metrics = result.measured.metrics
    split = result.measured.split
    run_id = recorder.run_id if "members" in model else trained.get("mlflow_run_id", "")
    training_run = recorder.make_training_recorder(run_id)
    scalars = metrics.scalars
    training_run.log_metrics(_list_figures(result.measured))
    training_run.log_metrics({f"{split}/{name}": scalars[name] for name in _HEADLINES})
    training_run.set_tags(_tag_predictions(spec))
    text = _describe_model(result.measured, scored, trained, corpus)
    shown = runs.add_report(text, recorder.experiment_id, recorder.run_id)
    if run_id:
        shown = runs.add_repetition(shown, run_id)
    training_run.set_note(text, shown=shown)
    package = join(model["training"]["uri"], MODEL) if model["training"] else model["uri"]
    tags = version_tags.describe(
        split,
        accuracy=metrics.accuracy,
        f1_macro=metrics.f1_macro,
        num_rows=metrics.num_rows,
        data=trained["inputs"]["prepared"]["fingerprint"],
    )
    try:
        return model_registration.register(
            recorder, package, model["fingerprint"], run_id=run_id, text=shown, tags=tags, card=card
        )
    except (JobError, UserError) as error:  # the evaluation is complete without the registration
        log.warning("%s", error)
        recorder.note_unregistered(str(error))
        return None


def _describe_model(
    measured: Measurements, scored: Manifest, trained: Manifest, corpus: str
) -> str:
    """Write the headline and the origin of a model, for its run and its version in MLflow."""
    metrics = measured.metrics
    return (
        f"{metrics.accuracy:.1%} {measured.split} accuracy "
        f"({metrics.interval}), "
        f"macro F1 {metrics.f1_macro:.3f}, {metrics.num_rows:,} texts.\n\n"
        f"- data: {corpus}, {trained['counts']['rows']:,} texts for training\n"
        f"- classes: {', '.join(lineage.classes_of_model(scored))}\n"
        f"- model: {lineage.describe_model(scored['inputs']['model']['settings'])}\n"
    )


def _tag_predictions(spec: OutputSpec) -> dict[str, str]:
    """Say by tags which predictions were evaluated."""
    scored = spec.inputs["scored"]
    return {runs.SCORED_TAG: scored["uri"], runs.SCORED_FINGERPRINT_TAG: scored["fingerprint"]}
