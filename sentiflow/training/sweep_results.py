"""Reports of trials to Ray Tune -> log lines, an MLflow run each, and the table of trials."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from sentiflow.config.sections import SelectionSettings
from sentiflow.progress import say
from sentiflow.training import search_space, train
from sentiflow.training.sweep_trials import Curve, Task

# isort: split
import ray.tune

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

Status = Literal["finished", "stopped", "failed"]
ENDS: dict[Status, Literal["FINISHED", "KILLED", "FAILED"]] = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
"""MLflow's status for each; the order is that of the table."""

_MAX_REASON = 160
"""Shown characters of a failure; the manifest has all of them."""


def brief(reason: str) -> str:
    """Cut a reason to the length of a line."""
    return textwrap.shorten(reason, _MAX_REASON, placeholder=" ...")


class TrialRecord(TypedDict):
    """A trial in the sweep's manifest and in ``trials.csv``."""

    trial: int
    """Its number, counted from 1."""
    name: str
    mlflow_run_id: str
    status: Status
    values: dict[str, Any]
    """The trial's settings, by dotted name."""
    validation_accuracy: float | None
    """Of the chosen epoch; None if the trial failed before."""
    validation_loss: float | None
    chosen_epoch: int
    """0 if the trial failed before its first epoch ended."""
    epochs: int
    seconds: float
    """Time of pretraining and of the epochs."""
    reason: str
    """Why the trial failed."""


@dataclass
class _Result:
    """The state of a trial so far."""

    recorder: "Recorder"
    """Recorder of the trial's own MLflow run."""
    curve: Curve = field(default_factory=dict)
    status: Status | None = None
    """None while the trial is trained."""
    reason: str = ""

    def add(self, epoch: int, metrics: dict[str, float | None]) -> None:
        """Add an epoch; one that a restarted trial repeats is ignored."""
        if epoch not in self.curve:
            self.curve[epoch] = metrics
            self.recorder.log_metrics(metrics, step=epoch)

    @property
    def seconds(self) -> float:
        """Time of pretraining and of all epochs, in whichever process each was trained."""
        names = ("pretrain/seconds", "train/epoch_seconds")
        return sum(metrics.get(name) or 0.0 for metrics in self.curve.values() for name in names)

    def chosen(self, selection: SelectionSettings) -> tuple[int, dict[str, float | None]]:
        """Choose the epoch for the trial's model as a training does; 0 before the first."""
        if not self.curve:
            return 0, {}
        name = f"validation/{selection.metric}"
        epoch = max(self.curve)
        if selection.keep == "best":
            epoch = min(self.curve, key=lambda epoch: selection.order(self.curve[epoch][name]))
        return epoch, self.curve[epoch]


class TrialCallback(ray.tune.Callback):
    """Called by Ray Tune: shows the trials, and keeps an MLflow run of each."""

    def __init__(
        self,
        tasks: Sequence[Task],
        recorder: "Recorder",
        selection: SelectionSettings,
    ) -> None:
        """Expect the trials.

        Args:
            tasks: All trials, in their order.
            recorder: Recorder of the sweep's own run.
            selection: How the best epoch is chosen.
        """
        self.tasks, self.recorder, self.selection = tasks, recorder, selection
        self.results: dict[int, _Result] = {}
        self.short = search_space.short_names(list(tasks[0].trial.values))

    def __enter__(self) -> "TrialCallback":
        """Start."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the MLflow runs of trials that an interrupt has cut off."""
        for result in self.results.values():
            if result.status is None:
                result.recorder.end("KILLED", reason="the sweep was ended")

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Begin the trial's MLflow run, unless the trial is restarted after a crash."""
        index = trial.config["index"]
        if index in self.results:
            return
        task = self.tasks[index]
        tags = {"sentiflow.trial": task.name}
        recorder = self.recorder.begin_nested(task.name, stage=train.STAGE, tags=tags)
        recorder.log_settings(task.config.model_dump(mode="json", include={"train"}))
        self.results[index] = _Result(recorder)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Take an epoch, or the reason of a failure."""
        known = self.results[trial.config["index"]]
        known.reason = result.get("reason", known.reason)
        if "metrics" in result:
            known.add(result["epoch"], result["metrics"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Find out whether a trial finished, was stopped or failed."""
        index = trial.config["index"]
        known, task = self.results[index], self.tasks[index]
        if known.reason:
            return self._end(index, "failed")
        finished = task.finished_curve()
        curve = finished or task.stopped_curve()
        if curve is None:
            task.keep_stopped(known.curve)
        for epoch, metrics in (curve or {}).items():
            known.add(epoch, metrics)
        return self._end(index, "finished" if finished else "stopped")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take a failure outside the training, such as a lost machine."""
        index = trial.config["index"]
        text = str(trial.get_error() or "").strip()
        self.results[index].reason = text.splitlines()[-1] if text else "its process died"
        self._end(index, "failed")

    def records(self) -> list[TrialRecord]:
        """List the trials for the manifest: finished, stopped, failed, the best of each first."""
        order = list(ENDS)
        return sorted(
            map(self._record, sorted(self.results)),
            key=lambda r: (order.index(r["status"]), self.selection.order(self._measure(r))),
        )

    def _measure(self, record: TrialRecord) -> float | None:
        """Return the metric by which trials are compared."""
        is_loss = self.selection.metric == "loss"
        return record["validation_loss" if is_loss else "validation_accuracy"]

    def _record(self, index: int) -> TrialRecord:
        known, task = self.results[index], self.tasks[index]
        epoch, metrics = known.chosen(self.selection)
        assert known.status is not None, "Tune has ended every trial"
        return {
            "trial": task.trial.number,
            "name": task.name,
            "mlflow_run_id": known.recorder.run_id,
            "status": known.status,
            "values": task.trial.values,
            "validation_accuracy": metrics.get("validation/accuracy"),
            "validation_loss": metrics.get("validation/loss"),
            "chosen_epoch": epoch,
            "epochs": len(known.curve),
            "seconds": round(known.seconds, 1),
            "reason": known.reason,
        }

    def _end(self, index: int, status: Status) -> None:
        known = self.results[index]
        known.status = status
        known.recorder.end(ENDS[status], reason=known.reason)
        record = self._record(index)
        values = ", ".join(f"{self.short[key]} {item}" for key, item in record["values"].items())
        if status == "failed":
            outcome = f"failed: {brief(known.reason)}"
        else:
            outcome = f"validation {self.selection.metric} {self._measure(record):.4f}"
        epochs = f"{record['epochs']} epoch{'' if record['epochs'] == 1 else 's'}"
        note = (
            f"{'stopped after ' if status == 'stopped' else ''}{epochs}, {record['seconds']:.1f} s"
        )
        say("sweep", f"trial {record['trial']} of {len(self.tasks)}: {values}: {outcome} ({note})")
