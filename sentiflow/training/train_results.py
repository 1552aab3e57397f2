"""Finished training -> its metrics and curve, its manifest, a version in the registry."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.outputs import Output, list_result
from sentiflow.storage.uris import join
from sentiflow.tracking import model_registration
from sentiflow.tracking.refits import Refit
from sentiflow.tracking.runs import AT_A_GLANCE
from sentiflow.training.reports import MODEL, Taught, TrainingCosts, TrainReport
from sentiflow.training.train_job import locate_checkpoints
from sentiflow.training.train_plan import TrainPlan

if TYPE_CHECKING:
    from sentiflow.tracking.recorder import Recorder

CURVE = "plots/training_curve.png"


def register(
    plan: TrainPlan, output: Output, recorder: "Recorder", note: str
) -> dict[str, Any] | None:
    """Log the package to the run, and register it as candidate if that is wanted.

    Where the store is unavailable, that is done later from the manifest.

    Args:
        plan: The training.
        output: Its output.
        recorder: Its run in MLflow.
        note: Description of a refit, which no evaluation will describe.

    Returns:
        The version in the registry, if there is one.
    """
    if note:
        recorder.set_note(note)
    package_uri = join(output.uri, MODEL)
    if plan.config.tracking.register_model and recorder.run_id:
        recorder.log_model(package_uri, manifest.require(package_uri, stage="model", setting=MODEL))
        recorder.link_metrics(recorder.run_id, output.spec.inputs["prepared"])
    if not recorder.registers_model:
        return None
    tags = {}
    if plan.refit:
        tags["sentiflow.refit_of"] = plan.refit.input["fingerprint"]
    return model_registration.register(
        recorder, package_uri, "", run_id=recorder.run_id, text=note, tags=tags
    )


def publish(
    output: Output,
    recorder: "Recorder",
    report: TrainReport,
    *,
    refit: Refit | None,
    registered: dict[str, Any] | None,
    seconds: float,
    num_rows: int,
    num_workers: int,
    taught: Taught | None,
    fold_files: Sequence[FileEntry],
    costs: TrainingCosts,
) -> Manifest:
    """Record the metrics, draw the curve, and write the manifest; return it.

    Args:
        output: The output of the training.
        recorder: Its run in MLflow.
        report: The report of the first worker.
        refit: The run that is repeated, if it is a refit.
        registered: The version in the registry, if there is one.
        seconds: Duration of the stage.
        num_rows: Rows of an epoch.
        num_workers: Workers at the end.
        taught: The answers of teachers, if there are any.
        fold_files: The answers of folds, in the output.
        costs: What network and linear model have cost, with the folds.
    """
    _log_metrics(recorder, report, seconds, refit, costs)
    history = [asdict(epoch) for epoch in report.history]
    package = report.package
    files = list[FileEntry]()
    if history:
        curve = _draw_curve(history)
        recorder.log_files({CURVE: curve})
        files.append(output.write(CURVE, curve))
    files += list_result(join(output.uri, MODEL), package, path=MODEL)
    files += _list_checkpoints(output)
    more: dict[str, Any] = {"registered": registered, "num_workers": num_workers}
    if refit:
        more["refit"] = refit.record
    if taught:
        files += taught.entries
        more["taught"] = taught.describe()
    return output.publish(
        counts={
            "rows": num_rows,
            "rows_without_token": report.rows_without_token,
            "epochs": len(history),
            "parameters": package["counts"]["parameters"],
        },
        files=[*files, *fold_files],
        seconds=seconds,
        run=recorder.describe(),
        pretraining=[asdict(epoch) for epoch in report.pretraining],
        history=history,
        chosen_epoch=report.chosen_epoch,
        model_fingerprint=package["fingerprint"],
        mlflow_run_id=recorder.run_id,
        device=report.device,
        precision=report.precision,
        metrics=package.get("metrics", {}),
        costs=asdict(costs),
        **more,
    )


def _log_metrics(
    recorder: "Recorder",
    report: TrainReport,
    seconds: float,
    refit: Refit | None,
    costs: TrainingCosts,
) -> None:
    """Record the metrics of the whole training, and the chosen epoch again.

    Once the package is logged, MLflow ranks models by later metrics, see
    :meth:`Recorder.link_metrics`.
    """
    metrics = _list_metrics(report, seconds, refit, costs)
    recorder.log_metrics(metrics)
    if not report.history:
        return
    chosen = report.history[report.chosen_epoch - 1]
    recorder.log_metrics(chosen.to_metrics(), step=chosen.epoch)


def _list_metrics(
    report: TrainReport, seconds: float, refit: Refit | None, costs: TrainingCosts
) -> dict[str, float | None]:
    """List the metrics of the whole training; in a refit also the metrics of the repeated run."""
    metrics: dict[str, float | None] = {
        "train/seconds": seconds,
        "train/network_seconds": costs.network_seconds,
    }
    if report.history:
        rates = [epoch.tweets_per_second for epoch in report.history]
        metrics["train/tweets_per_second"] = float(np.median(rates))
    if costs.linear_seconds:
        metrics["train/linear_seconds"] = costs.linear_seconds
    of_model = report.package.get("metrics", {})
    for figure in ("accuracy", "f1_macro"):
        metrics[f"{AT_A_GLANCE}/validation_{figure}"] = of_model.get(f"validation/{figure}")
    for title, value in of_model.items():
        metrics[f"model/{title.replace('/', '_')}"] = value
    calibration = report.package["calibration"] or {}
    for name in ("linear_weight", "temperature"):
        if name in calibration:  # no temperature without validation rows
            metrics[f"train/{name}"] = calibration[name]
    unsure = calibration.get("unsure")
    if unsure:
        metrics["train/unsure_threshold"] = unsure["threshold"]
        metrics["train/unsure_fraction"] = 1 - unsure["answered_fraction"]
    if refit:
        for name, value in refit.record["metrics"].items():
            metrics[f"refit_of/{name}"] = value
    return metrics


def _draw_curve(history: list[dict[str, Any]]) -> bytes:
    """Draw the losses and metrics of the epochs as PNG."""
    from sentiflow import plotting  # takes a second: not before the training has succeeded

    return plotting.render_training_curve(history)


def _list_checkpoints(output: Output) -> list[FileEntry]:
    """List the files of the checkpoints for the manifest."""
    from sentiflow.training import checkpoints

    uri = locate_checkpoints(output)
    return checkpoints.list_files(uri, path=uri.removeprefix(f"{output.spec.uri}/"))
