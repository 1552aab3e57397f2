"""Trial of a sweep -> its training in a process of Ray Tune; its epochs -> log lines and MLflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
from sentiflow.training import search_space
from sentiflow.training import train as training
from sentiflow.training.reports import Event, History, Taught, read_epochs

# isort: split
import ray.tune

TRIALS = "trials"
Curve = Mapping[str, list[dict[str, Any]]]
"""The epochs of ``pretraining`` and ``history``, as the manifest of a training has them."""

Status = Literal["finished", "stopped", "failed"]
ENDS: dict[Status, Literal["FINISHED", "KILLED", "FAILED"]] = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
"""MLflow's status for each; the order is that of the table."""

METRICS = ("validation_accuracy", "validation_loss", "validation_f1_macro")
"""Metrics of a trial."""
MAX_REASON = 160
"""Characters of a failure that are shown; the manifest has all."""


@dataclass(frozen=True)
class Trial:
    """One combination of values, and where it is trained; it is sent to other machines."""

    name: str
    """Name of its folder and MLflow run; the same values have the same name."""
    values: search_space.Values
    config: Config
    """Settings of the trial's training."""
    outcome_uri: str
    """File with what the trial has reported last, once it has finished or was stopped."""
    claim: str
    """The claim of the sweep to its directory."""
    taught: Taught | None = None
    """The answers of the teachers, which all trials share."""

    def open_output(self) -> Output:
        """Look at the output of the training, which the sweep holds."""
        spec = training.describe_output(self.config)
        return Output(spec, find_status(spec), overwrite=True, claim=self.claim)


def plan(config: Config, output: Output, *, taught: Taught | None = None) -> list[Trial]:
    """Place the trials of a sweep in its output, each in a directory that no other sweep shares.

    A trial has one worker: another number makes the same model, and trials run side by side.

    Raises:
        UserError: As :func:`search_space.expand`.
    """
    trials = []
    for number, (values, applied) in enumerate(search_space.expand(config), start=1):
        name = f"{number:04d}-{manifest.fingerprint([output.spec.fingerprint, values])[:8]}"
        uri, outcome_uri = join(output.spec.uri, TRIALS, name), join(output.uri, f"{name}.json")
        update = {"output_uri": uri, "folds": 0, "num_workers": 1, "min_workers": 1}
        own = applied.model_copy(update={"train": applied.train.model_copy(update=update)})
        trials.append(Trial(name, values, own, outcome_uri, output.claim, taught))
    return trials


def train(trial: Trial, *, share: Resources) -> None:
    """Train or resume a trial.

    An error of the settings is reported as ``reason``: if it were raised, Tune would start the
    trial again.

    Args:
        trial: The trial.
        share: The trial's share of the cluster.
    """
    output, settings = trial.open_output(), trial.config.train
    name, curves = settings.selection.metric_name, list[Curve]()

    def tell(event: Event) -> None:
        """Report each epoch but the last one, with which Tune would end the trial."""
        for epoch in event.history[len(curves) :]:
            value = getattr(epoch, f"validation_{name}")
            if value is None:
                raise JobError(
                    "no validation row has a known word, so the trials cannot be compared"
                )
            curves.append(
                {
                    "pretraining": [asdict(each) for each in event.pretraining],
                    "history": [asdict(each) for each in event.history[: epoch.epoch]],
                }
            )
            if epoch.epoch < settings.num_epochs:
                ray.tune.report({"epoch": epoch.epoch, name: value, "curve": curves[-1]})

    # it is complete if its process died before it had reported the last epoch
    record = output.status.record if output.is_complete else None
    try:
        record = record or training.run(
            trial.config, output, Recorder(), resources=share, taught=trial.taught, watch=tell
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


class TrialCallback(ray.tune.Callback):
    """Called by Ray Tune: shows trials; makes the run in MLflow of each that has ended."""

    def __init__(self, trials: Sequence[Trial], recorder: Recorder, capacity: Capacity) -> None:
        """Expect the trials.

        Args:
            trials: All trials, in their order.
            recorder: Recorder of the sweep's own run.
            capacity: What a trial needs of the cluster.
        """
        self.trials, self.recorder, self.capacity = trials, recorder, capacity
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
        """Show an epoch; after the last one the trial has ended."""
        index = trial.config["index"]
        settings = self.trials[index].config.train
        if result.get("epoch", settings.num_epochs) < settings.num_epochs:
            value = result[settings.selection.metric_name]
            done = f"epoch {result['epoch']} of {settings.num_epochs}"
            say(
                "sweep",
                f"trial {index + 1}: {done}, validation {settings.selection.metric} {value:.4f}",
            )

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take a trial that has finished, was stopped, or has told why it failed."""
        self.end(trial.config["index"], trial.last_result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take a failure outside the training, such as a lost machine, after all restarts."""
        text = str(trial.get_error() or "").strip() or "its process died"
        self.end(
            trial.config["index"], {**(trial.last_result or {}), "reason": text.splitlines()[-1]}
        )

    def end(self, index: int, told: Mapping[str, Any]) -> None:
        """Note a trial that has ended, now or in an earlier run of the sweep.

        Args:
            index: Its place among the trials.
            told: What it has reported last: ``curve``, and the ``reason`` if it has failed.
        """
        trial, settings = self.trials[index], self.trials[index].config.train
        curve: Curve = told.get("curve") or {"pretraining": [], "history": []}
        reason = told.get("reason", "")
        history = History(settings.selection, read_epochs(curve["history"]))
        is_finished = len(history.epochs) == settings.num_epochs
        status: Status = "failed" if reason else "finished" if is_finished else "stopped"
        if not reason:
            filesystem.write_bytes(trial.outcome_uri, json.dumps({"curve": curve}).encode())
        values = ", ".join(f"{self.short[key]}={item}" for key, item in trial.values.items())
        run = self.recorder.begin_nested(
            f"trial {index + 1}: {values}", stage=training.STAGE, tags={TRIAL_TAG: trial.name}
        )
        run.log_settings(trial.config.model_dump(mode="json", include={"train"}))
        for epoch in history.epochs:
            run.log_metrics(epoch.to_metrics(), step=epoch.epoch)
        run.end(ENDS[status], reason=reason)
        chosen = history.chosen if history.epochs else None
        seconds = sum(epoch["seconds"] for epochs in curve.values() for epoch in epochs)
        record = {
            "trial": index + 1,
            "name": trial.name,
            "mlflow_run_id": run.run_id,
            "status": status,
            "values": trial.values,
            # None, and the epoch 0, if it failed before its first epoch ended
            **{name: getattr(chosen, name, None) for name in METRICS},
            "chosen_epoch": chosen.epoch if chosen else 0,
            "epochs": len(history.epochs),
            "seconds": round(seconds, 1),  # of pretraining and of the epochs
            "reason": reason,
        }
        self.records.append(record)
        shown = f"failed: {shorten(reason, MAX_REASON)}"
        if not reason:
            value = record[f"validation_{settings.selection.metric_name}"]
            shown = f"validation {settings.selection.metric} {value:.4f}"
        epochs = f"{record['epochs']} epoch{'' if record['epochs'] == 1 else 's'}"
        stopped = "stopped after " if status == "stopped" else ""
        say("sweep", f"{self._name(index)}: {shown} ({stopped}{epochs}, {seconds:.1f} s)")

    def _name(self, index: int) -> str:
        values = (f"{self.short[key]} {item}" for key, item in self.trials[index].values.items())
        return f"trial {index + 1} of {len(self.trials)}: {', '.join(values)}"
