"""Outcome of a training -> its metrics, its curve, its manifest, and a version in the registry."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiflow.config.sections import Config
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.outputs import Output, list_result
from sentiflow.errors import UnavailableError
from sentiflow.progress import say
from sentiflow.storage.uris import join
from sentiflow.training.results import CHECKPOINTS, MODEL, TrainReport

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

CURVE = "plots/training_curve.png"
_STAGE = "train"


def locate_checkpoints(output: Output) -> str:
    """Name the directory of the checkpoints of this training, which no other training shares."""
    return join(output.spec.uri, CHECKPOINTS, output.spec.fingerprint)


def register(
    config: Config, output: Output, recorder: "Recorder", note: str
) -> dict[str, Any] | None:
    """Register the package as candidate, if there is a run to register it from.

    Where the store is unavailable, that is done later from the manifest.

    Args:
        config: Its ``name`` is that of the registered model.
        output: The output of the training.
        recorder: Its run.
        note: Description of a model that no evaluation will describe.
    """
    if note:
        recorder.set_note(note)
    if not recorder.registers_model or not recorder.run_id or not recorder.flush():
        return None
    from sentiflow.tracking import registry

    try:
        version = registry.register(
            join(output.uri, MODEL),
            name=config.name,
            tracking_uri=recorder.tracking_uri,
            run_id=recorder.run_id,
        )
        if note:
            registry.describe(
                version,
                text=note,
                tags={"sentiflow.refit_of": output.spec.inputs["refit"]["fingerprint"]},
                tracking_uri=recorder.tracking_uri,
            )
    except UnavailableError as error:
        recorder.note_unavailable(error)
        return None
    say(_STAGE, f"registered: {version} ({registry.CANDIDATE})")
    return {"name": version.name, "version": version.number}


def publish(
    output: Output,
    report: TrainReport,
    recorder: "Recorder",
    *,
    num_rows: int,
    seconds: float,
    further_files: Sequence[FileEntry],
    **more: Any,
) -> Manifest:
    """Record the metrics of the whole training, draw its curve, and write the manifest.

    Args:
        output: The output.
        report: The outcome of the training.
        recorder: Its run in MLflow.
        num_rows: Rows of an epoch.
        seconds: Duration of the stage.
        further_files: The answers of teachers and of folds, in the output.
        more: Further keys of the manifest.
    """
    from sentiflow import plotting  # a second to import: not before the training has succeeded
    from sentiflow.training import checkpoints

    package = report.package
    history = [asdict(epoch) for epoch in report.history]
    rate = float(np.median([epoch.tweets_per_second for epoch in report.history]))
    metrics = {"train/seconds": seconds, "train/tweets_per_second": rate}
    if calibration := package["calibration"]:
        metrics["train/temperature"] = calibration["temperature"]
        if bias := calibration["bias"].values():
            say(
                _STAGE,
                f"calibrated on {calibration['num_rows']:,} validation rows: temperature "
                f"{calibration['temperature']}, a bias of {min(bias):+.2f} to {max(bias):+.2f} for "
                "each class, which the model's predictions include",
            )
    if refit := more.get("refit"):
        metrics |= {f"refit_of/{name}": value for name, value in refit["metrics"].items()}
    recorder.log_metrics(metrics)
    curve = plotting.render_training_curve(history)
    recorder.log_files({CURVE: curve})
    made = locate_checkpoints(output)
    return output.publish(
        counts={
            "rows": num_rows,
            "rows_without_token": report.rows_without_token,
            "epochs": len(history),
            "parameters": package["counts"]["parameters"],
        },
        files=[
            output.write(CURVE, curve),
            *list_result(join(output.uri, MODEL), package, path=MODEL),
            *checkpoints.list_files(made, path=made.removeprefix(f"{output.spec.uri}/")),
            *further_files,
        ],
        seconds=seconds,
        run=recorder.describe(),
        pretraining=[asdict(epoch) for epoch in report.pretraining],
        history=history,
        chosen_epoch=report.chosen_epoch,
        model_fingerprint=package["fingerprint"],
        mlflow_run_id=recorder.run_id,
        device=report.device,
        precision=report.precision,
        **more,
    )  # fmt: skip
