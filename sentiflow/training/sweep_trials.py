"""Trial of a sweep -> its training in a process of Ray Tune; its epochs -> log lines and MLflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from sentiflow.cluster.connection import Capacity
from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.outputs import Output, find_status
from sentiflow.errors import (
    JobError,
    StorageError,
    UnavailableError,
    UserError,
    WorkerError,
    shorten,
)
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking.recording import Recorder
from sentiflow.tracking.runs import TRIAL_TAG
from sentiflow.training import search_space, sweep_seeds
from sentiflow.training import train as training
from sentiflow.training.results import MODEL, Taught, read_epochs

# isort: split
import ray.tune

TRIALS = "trials"
Curve = list[dict[str, float | None]]
"""The metrics of each epoch, named as in MLflow."""

Status = Literal["finished", "stopped", "failed"]
ENDS: dict[Status, Literal["FINISHED", "KILLED", "FAILED"]] = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
"""MLflow's status for each; the order is that of the table."""

MAX_REASON = 160
"""Characters of a failure that are shown; the manifest has all."""


@dataclass(frozen=True)
class Trial:
    """One combination of values, and where it is trained; it is sent to other machines."""

    number: int
    """Counted from 1."""
    name: str
    """Name of its folder and MLflow run; the same values have the same name."""
    values: search_space.Values
    config: Config
    """Settings of the trial's training."""
    stopped_uri: str
    """File with the curve of a stopped trial."""
    claim: str
    """The claim of the sweep to its directory."""
    taught: Taught | None = None
    """The answers of the teachers, which all trials share."""

    @property
    def lost_uri(self) -> str:
        """File that says that an earlier run of the sweep has lost the trial."""
        return f"{self.stopped_uri}.lost"

    def open_output(self) -> Output:
        """Look at the output of the training, which the sweep holds."""
        spec = training.describe_output(self.config)
        return Output(spec, find_status(spec), overwrite=True, claim=self.claim)

    def known_curve(self) -> tuple[Status | None, Curve]:
        """Read how a trial ended, and its curve; None and [] if it is still to be trained."""
        output = self.open_output()
        record = output.status.record
        if output.is_complete and record is not None:
            curve = [epoch.to_metrics() for epoch in read_epochs(record["history"])]
            curve[0]["pretrain/seconds"] = sum(epoch["seconds"] for epoch in record["pretraining"])
            return "finished", curve
        if filesystem.exists(self.stopped_uri):
            return "stopped", json.loads(filesystem.read_bytes(self.stopped_uri))
        return None, []


def plan(config: Config, output: Output, *, taught: Taught | None = None) -> list[Trial]:
    """Place the trials of a sweep in its output, each in a directory that no other sweep shares.

    Raises:
        UserError: As :func:`search_space.expand`.
    """
    trials = []
    for number, (values, applied) in enumerate(search_space.expand(config), start=1):
        name = f"{number:04d}-{manifest.fingerprint([output.spec.fingerprint, values])[:8]}"
        uri, stopped_uri = join(output.spec.uri, TRIALS, name), join(output.uri, f"{name}.json")
        train = applied.train.model_copy(update={"output_uri": uri, "folds": 0})
        own = applied.model_copy(update={"train": train})
        trials.append(Trial(number, name, values, own, stopped_uri, output.claim, taught))
    return trials


def train(trial: Trial, *, metric: str, share: Resources) -> None:
    """Train or resume a trial; of a finished or stopped one only report the curve again.

    An error of the settings is reported as ``reason``: if it were raised, Tune would start the
    trial again.

    Args:
        trial: The trial.
        metric: The metric by which Tune compares trials.
        share: The trial's share of the cluster.
    """
    reporter = _Reporter(metric=metric, num_epochs=trial.config.train.num_epochs)
    status, curve = trial.known_curve()
    if status is not None:
        for epoch, metrics in enumerate(curve, start=1):
            reporter.log_metrics(metrics, step=epoch)
    else:
        # Elastic training is off, as living and dead trainings of one job cannot be told apart.
        most = trial.config.train.batching.num_shards
        fixed = trial.config.train.model_copy(update={"min_workers": most})
        config = trial.config.model_copy(update={"train": fixed})
        try:
            training.run(
                config, trial.open_output(), reporter, resources=share, taught=trial.taught
            )
        except (WorkerError, StorageError, UnavailableError):
            raise
        except (UserError, JobError) as error:
            ray.tune.report({"reason": str(error)})
            return
    if status != "stopped" and sweep_seeds.SEED in trial.values:
        model_uri = join(trial.config.train.output_uri, MODEL)
        accuracy = sweep_seeds.measure_test_accuracy(model_uri, trial.config.train)
        ray.tune.report({"test_accuracy": accuracy})
    if reporter.last is not None:
        ray.tune.report(reporter.last)


@dataclass
class _Reporter(Recorder):
    """A recorder without a run that sends epochs to Ray Tune.

    The last epoch is kept until the model is published, because Tune ends the trial with it.
    """

    metric: str = ""
    num_epochs: int = 0
    last: dict[str, object] | None = None
    pretraining_seconds: float = 0.0

    def log_metrics(self, metrics: Mapping[str, float | None], *, step: int = 0) -> None:
        """Report an epoch, or keep it if it is the last one; other metrics are left out."""
        self.pretraining_seconds += metrics.get("pretrain/epoch_seconds") or 0.0
        if "validation/loss" not in metrics:
            return
        value, named = metrics[f"validation/{self.metric}"], dict(metrics)
        if value is None:
            raise JobError("no validation row has a known word, so the trials cannot be compared")
        if step == 1:
            named.setdefault("pretrain/seconds", self.pretraining_seconds)
        result = {"epoch": step, self.metric: value, "metrics": named}
        if step < self.num_epochs:
            ray.tune.report(result)
        else:
            self.last = result


class TrialRecord(TypedDict):
    """A trial in the sweep's manifest and in ``trials.csv``."""

    trial: int
    """Number of the trial, counted from 1."""
    name: str
    mlflow_run_id: str
    status: Status
    values: dict[str, Any]
    """The trial's settings, by dotted name."""
    validation_accuracy: float | None
    """Accuracy of the chosen epoch; None if the trial failed before its first epoch ended."""
    validation_loss: float | None
    validation_f1_macro: float | None
    chosen_epoch: int
    """0 if the trial failed before its first epoch ended."""
    epochs: int
    seconds: float
    """Time of pretraining and of the epochs."""
    reason: str
    """Why the trial failed."""
    test_accuracy: float | None
    """Accuracy on the test rows; None unless ``train.seed`` is swept. Trials are not compared by
    it."""


@dataclass
class _Result:
    """The state of a trial so far."""

    trial: Trial
    recorder: Recorder
    """Recorder of the trial's own MLflow run."""
    curve: Curve = field(default_factory=list)
    status: Status | None = None
    """None while the trial is trained."""
    reason: str = ""
    test_accuracy: float | None = None

    def add(self, epoch: int, metrics: dict[str, float | None]) -> None:
        """Add an epoch; one that a restarted trial repeats is ignored."""
        if epoch > len(self.curve):
            self.curve.append(metrics)
            self.recorder.log_metrics(metrics, step=epoch)

    def chosen(self) -> tuple[int, dict[str, float | None]]:
        """Choose the epoch for the trial's model as its training does; 0 before the first."""
        if not self.curve:
            return 0, {}
        selection = self.trial.config.train.selection
        name = f"validation/{selection.metric_name}"
        chosen = self.curve[-1]
        if selection.keep == "best":
            chosen = min(self.curve, key=lambda metrics: selection.order(metrics.get(name)))
        return self.curve.index(chosen) + 1, chosen

    @property
    def value(self) -> float | None:
        """The metric by which trials are compared, of the chosen epoch."""
        _, metrics = self.chosen()
        return metrics.get(f"validation/{self.trial.config.train.selection.metric_name}")

    def rank(self) -> tuple[int, float, int]:
        """Order trials: finished, stopped, failed, the best of each first."""
        assert self.status is not None, "Tune has ended every trial"
        order = self.trial.config.train.selection.order
        return [*ENDS].index(self.status), order(self.value), self.trial.number

    def record(self) -> TrialRecord:
        """Describe the trial for the manifest."""
        assert self.status is not None, "Tune has ended every trial"
        epoch, metrics = self.chosen()
        times = ("pretrain/seconds", "train/epoch_seconds")
        seconds = sum(each.get(name) or 0.0 for each in self.curve for name in times)
        return {
            "trial": self.trial.number,
            "name": self.trial.name,
            "mlflow_run_id": self.recorder.run_id,
            "status": self.status,
            "values": self.trial.values,
            "validation_accuracy": metrics.get("validation/accuracy"),
            "validation_loss": metrics.get("validation/loss"),
            "validation_f1_macro": metrics.get("validation/f1_macro"),
            "chosen_epoch": epoch,
            "epochs": len(self.curve),
            "seconds": round(seconds, 1),
            "reason": self.reason,
            "test_accuracy": self.test_accuracy,
        }


class TrialCallback(ray.tune.Callback):
    """Called by Ray Tune: shows the trials, and keeps an MLflow run of each."""

    def __init__(
        self,
        trials: Sequence[Trial],
        recorder: Recorder,
        capacity: Capacity,
    ) -> None:
        """Expect the trials.

        Args:
            trials: All trials, in their order.
            recorder: Recorder of the sweep's own run.
            capacity: What a trial needs of the cluster.
        """
        self.trials, self.recorder, self.capacity = trials, recorder, capacity
        self.results: dict[int, _Result] = {}
        self.lost: list[str] = []
        """Trials that the next run of the sweep has to resume, each with its reason."""
        self.short = search_space.short_names(list(trials[0].values))

    def end_open_runs(self) -> None:
        """End the MLflow runs of trials that were interrupted."""
        for result in self.results.values():
            if result.status is None:
                result.recorder.end("KILLED", reason="the sweep was ended")

    def on_step_begin(self, **info: Any) -> None:
        """End the sweep when the cluster has no room for any trial."""
        self.capacity.check()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Begin the trial's MLflow run, unless the trial is restarted after a crash."""
        self._begin(trial.config["index"])

    def _begin(self, index: int) -> _Result:
        """Find the state of a trial, which begins here or when its process died before it ran."""
        if index not in self.results:
            planned = self.trials[index]
            tags = {TRIAL_TAG: planned.name}
            recorder = self.recorder.begin_nested(planned.name, stage=training.STAGE, tags=tags)
            recorder.log_settings(planned.config.model_dump(mode="json", include={"train"}))
            self.results[index] = _Result(planned, recorder)
        return self.results[index]

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Take an epoch, or the reason of a failure."""
        known = self.results[trial.config["index"]]
        known.reason = result.get("reason", known.reason)
        known.test_accuracy = result.get("test_accuracy", known.test_accuracy)
        if "metrics" in result:
            known.add(result["epoch"], result["metrics"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Find out whether a trial finished, was stopped or failed."""
        known = self.results[trial.config["index"]]
        if known.reason:
            return self._end(known, "failed")
        status, curve = known.trial.known_curve()
        if status is None:  # a resumed sweep leaves it alone, too
            filesystem.write_bytes(known.trial.stopped_uri, json.dumps(known.curve).encode())
        for epoch, metrics in enumerate(curve, start=1):
            known.add(epoch, metrics)
        return self._end(known, status or "stopped")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take a failure outside the training, such as a lost machine or storage.

        The next run of the sweep resumes the trial. If it is lost then, too, it has failed.
        """
        known = self._begin(trial.config["index"])
        text = str(trial.get_error() or "").strip()
        known.reason = text.splitlines()[-1] if text else "its process died"
        if not filesystem.exists(known.trial.lost_uri):
            self.lost.append(
                f"trial {known.trial.number} was lost ({shorten(known.reason, MAX_REASON)})"
            )
            filesystem.write_bytes(known.trial.lost_uri, known.reason.encode())
        self._end(known, "failed")

    def records(self) -> list[TrialRecord]:
        """List the trials for the manifest: finished, stopped, failed, the best of each first."""
        return [known.record() for known in sorted(self.results.values(), key=_Result.rank)]

    def _end(self, known: _Result, status: Status) -> None:
        known.status = status
        if known.test_accuracy is not None:
            known.recorder.log_metrics({"test/accuracy": known.test_accuracy})
        known.recorder.end(ENDS[status], reason=known.reason)
        record = known.record()
        values = ", ".join(f"{self.short[key]} {item}" for key, item in record["values"].items())
        if status == "failed":
            outcome = f"failed: {shorten(known.reason, MAX_REASON)}"
        else:
            metric = known.trial.config.train.selection.metric
            outcome = f"validation {metric} {known.value:.4f}"
        epochs = f"{record['epochs']} epoch{'' if record['epochs'] == 1 else 's'}"
        note = (
            f"{'stopped after ' if status == 'stopped' else ''}{epochs}, {record['seconds']:.1f} s"
        )
        say("sweep", f"trial {record['trial']} of {len(self.trials)}: {values}: {outcome} ({note})")
