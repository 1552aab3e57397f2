"""What Ray Tune reports of trials -> lines, an MLflow run of each, the records of all."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

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
"""In the order of the table: what MLflow calls them."""

_MAX_REASON = 160
"""Characters of a failure that are shown; the manifest has all of them."""


def brief(reason: str) -> str:
    """Cut a reason to what a line can hold."""
    return textwrap.shorten(reason, _MAX_REASON, placeholder=" ...")


@dataclass
class _Result:
    """What is known of a trial so far."""

    recorder: "Recorder"
    """Of its own MLflow run."""
    curve: Curve = field(default_factory=dict)
    status: Status | None = None
    """None while it is trained."""
    reason: str = ""

    def take(self, epoch: int, figures: dict[str, float | None]) -> None:
        """Take an epoch; one that comes again, after a death, is known."""
        if epoch not in self.curve:
            self.curve[epoch] = figures
            self.recorder.log_metrics(figures, step=epoch)

    @property
    def seconds(self) -> float:
        """Add up what pretraining and the epochs took, in whichever process each was trained."""
        names = ("pretrain/seconds", "train/epoch_seconds")
        return sum(figures.get(name) or 0.0 for figures in self.curve.values() for name in names)

    def chosen(self, selection: SelectionSettings) -> tuple[int, dict[str, float | None]]:
        """Find the epoch whose weights the trial's model has, or would have; 0 before the first."""
        if not self.curve:
            return 0, {}
        name = f"validation/{selection.metric}"
        epoch = max(self.curve)
        if selection.keep == "best":
            epoch = min(self.curve, key=lambda epoch: selection.order(self.curve[epoch][name]))
        return epoch, self.curve[epoch]


class Audience(ray.tune.Callback):
    """Takes what Ray Tune hears of the trials: shows it, and keeps an MLflow run of each."""

    def __init__(
        self,
        tasks: Sequence[Task],
        recorder: "Recorder",
        selection: SelectionSettings,
    ) -> None:
        """Expect the trials.

        Args:
            tasks: All trials, in their order.
            recorder: Of the sweep's own run.
            selection: By which an epoch is the best.
        """
        self.tasks, self.recorder, self.selection = tasks, recorder, selection
        self.results: dict[int, _Result] = {}
        self.short = search_space.short_names(list(tasks[0].trial.values))

    def __enter__(self) -> "Audience":
        """Take reports until the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the runs of trials that an interrupt has left in their midst."""
        for result in self.results.values():
            if result.status is None:
                result.recorder.end("KILLED", reason="the sweep was ended")

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Begin the trial's run, unless it is started again after a death."""
        index = trial.config["index"]
        if index in self.results:
            return
        task = self.tasks[index]
        tags = {"sentiflow.trial": task.name}
        recorder = self.recorder.begin_nested(task.name, stage=train.STAGE, tags=tags)
        recorder.log_settings(task.config.model_dump(mode="json", include={"train"}))
        self.results[index] = _Result(recorder)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take an epoch, or why the trial failed."""
        known = self.results[trial.config["index"]]
        known.reason = result.get("reason", known.reason)
        if "figures" in result:
            known.take(result["epoch"], result["figures"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Find out what became of a trial with which Tune has done."""
        index = trial.config["index"]
        known, task = self.results[index], self.tasks[index]
        if known.reason:
            return self._end(index, "failed")
        finished = task.finished_curve()
        curve = finished or task.stopped_curve()
        if curve is None:
            task.keep_stopped(known.curve)
        for epoch, figures in (curve or {}).items():
            known.take(epoch, figures)
        return self._end(index, "finished" if finished else "stopped")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take a failure that no trial foresees, such as a lost machine."""
        index = trial.config["index"]
        text = str(trial.get_error() or "").strip()
        self.results[index].reason = text.splitlines()[-1] if text else "its process died"
        self._end(index, "failed")

    def records(self) -> list[dict[str, Any]]:
        """List the trials for the manifest: finished, stopped, failed; in each the best first."""
        name, order = f"validation_{self.selection.metric}", list(ENDS)
        return sorted(
            map(self._record, sorted(self.results)),
            key=lambda r: (order.index(r["status"]), self.selection.order(r[name])),
        )

    def _record(self, index: int) -> dict[str, Any]:
        known, task = self.results[index], self.tasks[index]
        epoch, figures = known.chosen(self.selection)
        assert known.status is not None, "Tune has done with every trial"
        return {
            "trial": task.trial.number,
            "name": task.name,
            "mlflow_run_id": known.recorder.run_id,
            "status": known.status,
            "values": task.trial.values,
            "validation_accuracy": figures.get("validation/accuracy"),
            "validation_loss": figures.get("validation/loss"),
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
            metric = self.selection.metric
            outcome = f"validation {metric} {record[f'validation_{metric}']:.4f}"
        epochs = f"{record['epochs']} epoch{'' if record['epochs'] == 1 else 's'}"
        note = (
            f"{'stopped after ' if status == 'stopped' else ''}{epochs}, {record['seconds']:.1f} s"
        )
        say("sweep", f"trial {record['trial']} of {len(self.tasks)}: {values}: {outcome} ({note})")
