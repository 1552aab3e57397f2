"""An evaluation -> its run in MLflow, and the model in MLflow's registry, described by it."""

import logging
from collections.abc import Mapping
from itertools import groupby
from statistics import fmean
from typing import Any

from sentiflow.data import lineage
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.outputs import OutputSpec
from sentiflow.errors import JobError, UserError
from sentiflow.evaluation import evaluated_rows
from sentiflow.evaluation.measurements import EvaluationResult
from sentiflow.metrics.registry import METRICS
from sentiflow.storage.uris import join
from sentiflow.tracking import runs
from sentiflow.tracking.recording import Recorder

log = logging.getLogger(__name__)

_HEADLINES = (
    *(metric.name for metric in METRICS if not metric.of_two),
    "accuracy_low",
    "accuracy_high",
    "expected_calibration_error",
)


def track(
    result: EvaluationResult,
    files: Mapping[str, bytes],
    recorder: Recorder,
    spec: OutputSpec,
) -> None:
    """Log the metrics to the run of the evaluation, those of the headline first, and the report.

    Args:
        result: The evaluation.
        files: What it has written.
        recorder: The run.
        spec: Names the predictions.
    """
    measured = result.measured
    for split in sorted(measured.figures, key=lambda name: name != measured.split):
        metrics = measured.figures[split].scalars
        recorder.log_metrics({f"{split}/{n}": metrics.get(n) for n in (*_HEADLINES, *metrics)})
    if unsure := measured.unsure:
        recorder.log_metrics(
            {
                f"{measured.split}/unsure_{name}": getattr(unsure, name)
                for name in ("fraction", "error", "error_low", "error_high")
            }
        )
    if folds := result.cross_validated:
        recorder.log_metrics(
            {f"{evaluated_rows.FOLDS}/{k}": value for k, value in folds.metrics.scalars.items()}
        )
    if teacher := result.teacher:
        recorder.log_metrics(
            {
                "teacher/agreement": teacher.agreement,
                "teacher/accuracy": teacher.accuracy,
                "teacher/accuracy_difference": teacher.accuracy_difference.value,
                "teacher/f1_macro": teacher.f1_macro,
            }
        )
    recorder.log_metrics(
        {  # a metric for each test would make thirty charts in MLflow
            f"behavior/{kind.replace(' ', '_')}": fmean(test.pass_rate for test in tests)
            for kind, tests in groupby(result.probed.behavior, lambda test: test.kind)
        }
        | {f"bias/{bias.category}_spread": bias.spread for bias in result.probed.group_bias}
    )
    recorder.log_files(files)
    recorder.set_tags(_tag_predictions(spec))
    recorder.set_note(
        "\n".join(f"- **{each.number}** {each.meaning}" for each in result.highlights)
    )


def register(
    result: EvaluationResult,
    scored: Manifest,
    trained: Manifest,
    recorder: Recorder,
    spec: OutputSpec,
    card: bytes,
) -> dict[str, Any] | None:
    """Log the headline to the run of the training, and register the model if this stage does so.

    That is only done if the corpus is the one that it was trained on: the metrics of another corpus
    would be mistaken for its test metrics. Where the store is unavailable, it is done later from
    the manifest.

    Args:
        result: The evaluation.
        scored: The manifest of the predictions.
        trained: That of the training; of an average, that of the first model.
        recorder: The run of the evaluation, which stands for that of the training of an average.
        spec: Names the predictions.
        card: The model card, for the files of the version.

    Returns:
        Name and version for the manifest, if the model was registered now.
    """
    model, measured = scored["inputs"]["model"], result.measured
    metrics, split = measured.metrics, measured.split
    run_id = recorder.run_id if "members" in model else trained.get("mlflow_run_id", "")
    text = (
        f"{metrics.accuracy:.1%} {split} accuracy "
        f"(95% interval {metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%}), "
        f"macro F1 {metrics.f1_macro:.3f}, {metrics.num_rows:,} texts.\n\n"
        f"- data: {lineage.name_corpus(scored)}, {trained['counts']['rows']:,} texts for training\n"
        f"- classes: {', '.join(lineage.classes_of_model(scored))}\n"
        f"- model: {lineage.describe_model(model['settings'])}\n"
    )
    tags = {
        f"sentiflow.{split}_accuracy": f"{metrics.accuracy:.6f}",
        f"sentiflow.{split}_f1_macro": f"{metrics.f1_macro:.6f}",
        f"sentiflow.{split}_rows": str(metrics.num_rows),
        f"sentiflow.{split}_data": trained["inputs"]["prepared"]["fingerprint"],
    }
    training_run, scalars = recorder.of_run(run_id), metrics.scalars
    training_run.log_metrics({f"{split}/{name}": scalars[name] for name in _HEADLINES})
    training_run.set_tags(_tag_predictions(spec))
    shown = runs.add_report(text, recorder.experiment_id, recorder.run_id)
    training_run.set_note(text, shown=shown)
    package = join(model["training"]["uri"], MODEL) if model["training"] else model["uri"]
    try:
        return recorder.register(
            package, model["fingerprint"], run_id=run_id, text=shown, tags=tags, card=card
        )
    except (JobError, UserError) as error:  # the evaluation is complete without it
        log.warning("%s", error)
        return None


def _tag_predictions(spec: OutputSpec) -> dict[str, str]:
    """Say by tags which predictions were evaluated."""
    scored = spec.inputs["scored"]
    return {runs.SCORED_TAG: scored["uri"], runs.SCORED_FINGERPRINT_TAG: scored["fingerprint"]}
