"""Trial of a sweep -> its training in a process of Ray Tune, each epoch told to Tune."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.manifest import State
from sentiflow.data.schema import NUM_VIRTUAL_SHARDS
from sentiflow.errors import JobError, StorageError, UserError, WorkerError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.training import train as training
from sentiflow.training.search_space import Trial

# isort: split
import ray.tune

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

TRIALS = "trials"
STOPPED = "stopped"
"""Where the curves of trials that were stopped stay until the sweep is complete."""

Curve = dict[int, dict[str, float | None]]
"""By epoch: its figures, named as in MLflow."""


@dataclass(frozen=True)
class Task:
    """A trial, and where it is trained; it travels to other machines."""

    trial: Trial
    name: str
    config: Config
    """Of the training that the trial is."""
    stopped_uri: str

    @classmethod
    def plan(cls, trial: Trial, uri: str) -> "Task":
        """Give a trial its place below that of the sweep, the same for the same values."""
        name = f"{trial.number:04d}-{manifest.fingerprint(trial.values)[:8]}"
        train = trial.config.train.model_copy(update={"output_uri": join(uri, TRIALS, name)})
        config = trial.config.model_copy(update={"train": train})
        return cls(trial, name, config, join(uri, STOPPED, f"{name}.json"))

    @property
    def uri(self) -> str:
        """The directory of the training."""
        return self.config.train.output_uri

    def finished_curve(self) -> Curve | None:
        """Read the curve of a trial that was trained to its end, and tidy up; None for another."""
        target = training.describe_output(self.config)
        record = manifest.read(self.uri)
        if record is None or manifest.find_status(target).state is not State.COMPLETE:
            return None
        manifest.clean_up(target)
        curve = {epoch["epoch"]: training.name_figures(epoch) for epoch in record["history"]}
        curve[1]["pretrain/seconds"] = sum(epoch["seconds"] for epoch in record["pretraining"])
        return curve

    def stopped_curve(self) -> Curve | None:
        """Read the curve of a trial that Tune has stopped; None for another."""
        if not filesystem.exists(self.stopped_uri):
            return None
        curve = json.loads(filesystem.read_bytes(self.stopped_uri))
        return {int(epoch): figures for epoch, figures in curve.items()}

    def keep_stopped(self, curve: Curve) -> None:
        """Note that Tune has stopped the trial, so that no later run goes on with it."""
        filesystem.write_bytes(self.stopped_uri, json.dumps(curve).encode())

    def settled_curve(self) -> Curve | None:
        """Read the curve of a trial with nothing left to train; None before."""
        curve = self.finished_curve()
        return self.stopped_curve() if curve is None else curve


def train(task: Task, *, metric: str, share: Resources) -> None:
    """Train one trial where it was left, or only repeat its curve if it is settled.

    What the settings are to blame for is reported as ``reason``, not raised, as Tune would start
    the trial again.

    Args:
        task: The trial.
        metric: By which Tune compares.
        share: What the trial may use of the cluster.
    """
    reporter = _Reporter(metric, task.config.train.num_epochs)
    curve = task.settled_curve()
    if curve is not None:
        for epoch, figures in curve.items():
            reporter.log_metrics(figures, step=epoch)
    else:
        try:
            recorder = cast("Recorder", reporter)
            training.run(_steady(task.config), recorder, resources=share, overwrite=False)
        except (WorkerError, StorageError):
            raise
        except (UserError, JobError) as error:
            ray.tune.report({"reason": str(error)})
            return
    reporter.report_last()


def _steady(config: Config) -> Config:
    """Give a training as many workers as it asks for, always: others share the cluster with it."""
    train = config.train.model_copy(update={"min_workers": NUM_VIRTUAL_SHARDS})
    return config.model_copy(update={"train": train})


@dataclass
class _Reporter:
    """Takes the place of a training's recorder, without MLflow: epochs go to Ray Tune.

    The last one waits until the model is published, as Tune ends a trial that has no epoch left.
    """

    metric: str
    num_epochs: int
    last: dict[str, Any] | None = None
    pretraining_seconds: float = 0.0
    run_id: str = ""

    def log_metrics(self, metrics: Mapping[str, float | None], *, step: int = 0) -> None:
        """Report an epoch, or keep it if it is the last one; other figures are left out."""
        self.pretraining_seconds += metrics.get("pretrain/epoch_seconds") or 0.0
        if "validation/loss" not in metrics:
            return
        value, figures = metrics[f"validation/{self.metric}"], dict(metrics)
        if value is None:
            raise JobError("no validation row has a known word, and by them trials are compared")
        if step == 1:
            figures.setdefault("pretrain/seconds", self.pretraining_seconds)
        result = {"epoch": step, self.metric: value, "figures": figures}
        if step < self.num_epochs:
            ray.tune.report(result)
        else:
            self.last = result

    def report_last(self) -> None:
        """Report the epoch that was kept."""
        if self.last is not None:
            ray.tune.report(self.last)

    def log_series(self, series: Sequence[Any]) -> None:
        """Leave single steps out."""

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Leave the plot in the trial's directory."""

    @contextlib.contextmanager
    def watching_system(self) -> Iterator[None]:
        """Leave the machine's figures out."""
        yield
