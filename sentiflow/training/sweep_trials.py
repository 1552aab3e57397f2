"""Trial of a sweep -> its training in a process of Ray Tune; its epochs -> log lines and MLflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sentiflow.cluster.capacity import Capacity
from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import find_status
from sentiflow.data.outputs import Output
from sentiflow.errors import (
    JobError,
    StorageError,
    UnavailableError,
    UserError,
    WorkerError,
    shorten,
)
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking.recorder import Recorder
from sentiflow.tracking.runs import AT_A_GLANCE, TRIAL_TAG
from sentiflow.training import search_space, train_plan
from sentiflow.training import train as training
from sentiflow.training.reports import Event, History, Taught, read_epochs

# isort: split
import ray.tune

TRIALS = "trials"
"""Folder of the trials in the output of a sweep."""
Curve = Mapping[str, list[dict[str, Any]]]
"""The epochs of ``pretraining`` and ``history``, as the manifest of a training has them."""

Status = Literal["finished", "stopped", "failed"]
MLFLOW_STATUS: dict[Status, Literal["FINISHED", "KILLED", "FAILED"]] = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
"""The status of a trial in MLflow. The keys are in the order of :func:`sweep.rank`."""

METRICS = ("validation_accuracy", "validation_loss", "validation_f1_macro")
"""Metrics of a trial."""
MAX_REASON = 160
"""Characters of a failure that are shown. The manifest has the whole text."""


@dataclass(frozen=True)
class Trial:
    """One combination of values, and where it is trained. It is sent to other machines."""

    name: str
    """Name of its folder. The same values have the same name."""
    values: search_space.Values
    config: Config
    """Settings of the trial's training."""
    outcome_uri: str
    """File with the last report of the trial, once it has finished or was stopped."""
    claim: str
    """The sweep's claim to its directory."""
    taught: Taught | None = None
    """The answers of the teachers, which all trials share."""

    def open_output(self, spec: OutputSpec) -> Output:
        """Open the output of the trial's training, below the directory that the sweep claims."""
        return Output(spec, find_status(spec), overwrite=True, claim=self.claim)


def plan(
    combinations: Sequence[search_space.Combination],
    output: Output,
    *,
    taught: Taught | None = None,
) -> list[Trial]:
    """Plan the trials of a sweep, each with a directory that no other sweep shares.

    A trial has one worker, because several workers would make the same model, and trials already
    run side by side. It has no folds.
    """
    trials = []
    for number, combination in enumerate(combinations, start=1):
        values = combination.values
        name = f"{number:04d}-{manifest.fingerprint([output.spec.fingerprint, values])[:8]}"
        settings = combination.config.train.model_copy(
            update={
                "output_uri": join(output.spec.uri, TRIALS, name),
                "folds": 0,
                "num_workers": 1,
                "min_workers": 1,
            }
        )
        trial = Trial(
            name=name,
            values=values,
            config=combination.config.model_copy(update={"train": settings}),
            outcome_uri=join(output.uri, f"{name}.json"),
            claim=output.claim,
            taught=taught,
        )
        trials.append(trial)
    return trials


def train(trial: Trial, *, share: Resources) -> None:
    """Train or resume a trial.

    An error that would occur again, such as wrong settings, is reported as ``reason``: if it were
    raised, Tune would start the trial again.

    Args:
        trial: The trial.
        share: The trial's share of the cluster.
    """
    training_plan = train_plan.resolve(trial.config)
    output = trial.open_output(training_plan.spec)
    settings = trial.config.train
    name = settings.selection.metric_name
    curves = list[Curve]()

    def report(event: Event) -> None:
        """Report new epochs. The last epoch is reported at the end: it makes Tune end the trial."""
        num_reported = len(curves)
        for result in event.history[num_reported:]:
            value = getattr(result, f"validation_{name}")
            if value is None:
                raise JobError(
                    "no validation row has a known word, so the trials cannot be compared"
                )
            curve = {
                "pretraining": [asdict(each) for each in event.pretraining],
                "history": [asdict(each) for each in event.history[: result.epoch]],
            }
            curves.append(curve)
            if result.epoch < settings.num_epochs:
                ray.tune.report({"epoch": result.epoch, name: value, "curve": curve})

    # The output is complete if an earlier process died before it had reported the last epoch.
    record = output.status.record if output.is_complete else None
    try:
        if record is None:
            record = training.run(
                training_plan,
                output,
                Recorder(),
                resources=share,
                taught=trial.taught,
                watch=report,
            )
    except (WorkerError, StorageError, UnavailableError):
        raise
    except (UserError, JobError) as error:
        ray.tune.report({"reason": str(error), "curve": curves[-1] if curves else None})
        return
    last = record["history"][-1]
    ray.tune.report(
        {
            "epoch": last["epoch"],
            name: last[f"validation_{name}"],
            "curve": {"pretraining": record["pretraining"], "history": record["history"]},
        }
    )


def _describe_settings(config: Config) -> dict[str, Any]:
    """Return the settings of a trial for MLflow; unresolved ones if they cannot be trained with."""
    try:
        return train_plan.describe_settings(train_plan.resolve(config))
    except (UserError, JobError):
        return config.model_dump(mode="json", include={"train"})


class TrialCallback(ray.tune.Callback):
    """Shows trials, and makes an MLflow run for each that has ended. Ray Tune calls it."""

    def __init__(
        self,
        trials: Sequence[Trial],
        recorder: Recorder,
        capacity: Capacity,
        progress: Progress,
    ) -> None:
        """Prepare to show and record the trials.

        Args:
            trials: All trials, in their order.
            recorder: Recorder of the sweep's own run.
            capacity: What a trial needs of the cluster.
            progress: Counts the trials that have ended.
        """
        self.trials = trials
        self.recorder = recorder
        self.capacity = capacity
        self.progress = progress
        self.records: list[dict[str, Any]] = []
        """Trials that have ended, as in the manifest and in ``trials.csv``, see :meth:`end`."""
        self.short = search_space.short_names(list(trials[0].values))

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """End the sweep when the cluster has no room for any trial."""
        self.capacity.check()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Show a trial that begins, or begins again."""
        say("sweep", f"{self._name(trial.config['index'])}: begins")

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
    ) -> None:
        """Show an epoch, except the last one: after it, :meth:`end` shows the trial."""
        index = trial.config["index"]
        settings = self.trials[index].config.train
        if "epoch" not in result or result["epoch"] == settings.num_epochs:
            return  # it has failed or finished
        value = result[settings.selection.metric_name]
        done = f"epoch {result['epoch']} of {settings.num_epochs}"
        shown = f"validation {settings.selection.metric} {value:.4f}"
        say("sweep", f"trial {index + 1}: {done}, {shown}")

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record a trial that has finished, was stopped, or has reported why it failed."""
        self.end(trial.config["index"], trial.last_result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record a trial that failed outside the training, such as by a lost machine.

        Ray Tune calls this after all restarts.
        """
        text = str(trial.get_error() or "").strip() or "its process died"
        reported = trial.last_result or {}
        self.end(trial.config["index"], {**reported, "reason": text.splitlines()[-1]})

    def end(self, index: int, reported: Mapping[str, Any]) -> None:
        """Record and show a trial that has ended, now or in an earlier run of the sweep.

        Unless it has failed, its file is written, so that no later run trains it again.

        Args:
            index: Its place among the trials.
            reported: Its last report: ``curve``, and the ``reason`` if it has failed.
        """
        trial = self.trials[index]
        curve: Curve = reported.get("curve") or {"pretraining": [], "history": []}
        reason = reported.get("reason", "")
        history = History(trial.config.train.selection, read_epochs(curve["history"]))
        status: Status = "stopped"
        if reason:
            status = "failed"
        elif len(history.epochs) == trial.config.train.num_epochs:
            status = "finished"
        if status != "failed":
            filesystem.write_bytes(trial.outcome_uri, json.dumps({"curve": curve}).encode())
        run_id = self._record(index, history, status, reason)
        chosen = history.chosen if history.epochs else None
        seconds = sum(epoch["seconds"] for epochs in curve.values() for epoch in epochs)
        record = {
            "trial": index + 1,
            "name": trial.name,
            "mlflow_run_id": run_id,
            "status": status,
            "values": trial.values,
            # a trial that fails in its first epoch has no metrics, and the chosen epoch 0
            **{name: getattr(chosen, name, None) for name in METRICS},
            "chosen_epoch": chosen.epoch if chosen else 0,
            "epochs": len(history.epochs),
            "seconds": round(seconds, 1),  # of pretraining and of the epochs
            "reason": reason,
        }
        self.records.append(record)
        self.progress.advance(1)
        self._say_end(index, record, seconds)

    def _say_end(self, index: int, record: Mapping[str, Any], seconds: float) -> None:
        """Say how a trial has ended."""
        selection = self.trials[index].config.train.selection
        if record["reason"]:
            result = f"failed: {shorten(record['reason'], MAX_REASON)}"
        else:
            value = record[f"validation_{selection.metric_name}"]
            result = f"validation {selection.metric} {value:.4f}"
        epochs = "1 epoch" if record["epochs"] == 1 else f"{record['epochs']} epochs"
        if record["status"] == "stopped":
            epochs = f"stopped after {epochs}"
        say("sweep", f"{self._name(index)}: {result} ({epochs}, {seconds:.1f} s)")

    def _record(self, index: int, history: History, status: Status, reason: str) -> str:
        """Make the MLflow run of a trial, a child of the sweep's run, and return its id."""
        trial = self.trials[index]
        values = ", ".join(f"{self.short[key]}={item}" for key, item in trial.values.items())
        run = self.recorder.begin_nested(
            f"trial {index + 1}: {values}",
            stage=train_plan.STAGE,
            tags={TRIAL_TAG: trial.name},
            changes={**trial.values, "train.folds": 0},
        )
        run.log_settings(_describe_settings(trial.config))
        if history.epochs:
            chosen = history.chosen
            figures = {
                f"{AT_A_GLANCE}/validation_accuracy": chosen.validation_accuracy,
                f"{AT_A_GLANCE}/validation_f1_macro": chosen.validation_f1_macro,
            }
            run.log_metrics(figures)
        for epoch in history.epochs:
            run.log_metrics(epoch.to_metrics(), step=epoch.epoch)
        run.end(MLFLOW_STATUS[status], reason=reason)
        return run.run_id

    def _name(self, index: int) -> str:
        """Name a trial by its number and its values."""
        values = self.trials[index].values
        shown = ", ".join(f"{self.short[key]} {value}" for key, value in values.items())
        return f"trial {index + 1} of {len(self.trials)}: {shown}"
