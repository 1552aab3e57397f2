"""Trial of a sweep -> its training in a process of Ray Tune, with a report of each epoch."""

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
from sentiflow.training.results import read_epochs
from sentiflow.training.search_space import Trial

# isort: split
import ray.tune

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

TRIALS = "trials"
STOPPED = "stopped"
"""Folder for the curves of stopped trials until the sweep is complete."""

Curve = dict[int, dict[str, float | None]]
"""The metrics of each epoch, named as in MLflow."""


@dataclass(frozen=True)
class Task:
    """A trial and the location of its training; it is sent to other machines."""

    trial: Trial
    name: str
    config: Config
    """Settings of the trial's training."""
    stopped_uri: str
    """File with the curve of a stopped trial."""

    @classmethod
    def plan(cls, trial: Trial, uri: str) -> "Task":
        """Place a trial below the sweep's directory; the same values give the same name."""
        name = f"{trial.number:04d}-{manifest.fingerprint(trial.values)[:8]}"
        train = trial.config.train.model_copy(update={"output_uri": join(uri, TRIALS, name)})
        config = trial.config.model_copy(update={"train": train})
        return cls(trial, name, config, join(uri, STOPPED, f"{name}.json"))

    @property
    def uri(self) -> str:
        """The directory of the training."""
        return self.config.train.output_uri

    def finished_curve(self) -> Curve | None:
        """Read the curve of a finished trial, and clean its directory up; None for others."""
        target = training.describe_output(self.config)
        record = manifest.read(self.uri)
        if record is None or manifest.find_status(target).state is not State.COMPLETE:
            return None
        manifest.clean_up(target)
        curve = {epoch.epoch: epoch.to_metrics() for epoch in read_epochs(record["history"])}
        curve[1]["pretrain/seconds"] = sum(epoch["seconds"] for epoch in record["pretraining"])
        return curve

    def stopped_curve(self) -> Curve | None:
        """Read the curve of a trial that Tune has stopped; None for others."""
        if not filesystem.exists(self.stopped_uri):
            return None
        curve = json.loads(filesystem.read_bytes(self.stopped_uri))
        return {int(epoch): metrics for epoch, metrics in curve.items()}

    def keep_stopped(self, curve: Curve) -> None:
        """Note that Tune has stopped the trial, so that a resumed sweep leaves it alone."""
        filesystem.write_bytes(self.stopped_uri, json.dumps(curve).encode())

    def known_curve(self) -> Curve | None:
        """Read the curve of a finished or stopped trial; None for others."""
        curve = self.finished_curve()
        return self.stopped_curve() if curve is None else curve


def train(task: Task, *, metric: str, share: Resources) -> None:
    """Train or resume a trial; of a finished or stopped one only report the curve again.

    An error of the settings is reported as ``reason``: if it were raised, Tune would start the
    trial again.

    Args:
        task: The trial.
        metric: The metric by which Tune compares trials.
        share: The trial's share of the cluster.
    """
    reporter = _Reporter(metric, task.config.train.num_epochs)
    curve = task.known_curve()
    if curve is not None:
        for epoch, metrics in curve.items():
            reporter.log_metrics(metrics, step=epoch)
    else:
        try:
            recorder = cast("Recorder", reporter)
            training.run(_fix_workers(task.config), recorder, resources=share, overwrite=False)
        except (WorkerError, StorageError):
            raise
        except (UserError, JobError) as error:
            ray.tune.report({"reason": str(error)})
            return
    reporter.report_last()


def _fix_workers(config: Config) -> Config:
    """Turn elastic training off: a trial always has the number of workers that it asks for.

    `Reservations` cannot tell living trainings of one job from dead ones.
    """
    train = config.train.model_copy(update={"min_workers": NUM_VIRTUAL_SHARDS})
    return config.model_copy(update={"train": train})


@dataclass
class _Reporter:
    """Stands in for a training's recorder and sends epochs to Ray Tune instead of MLflow.

    The last epoch is sent after the model is published, because Tune ends the trial with it.
    """

    metric: str
    num_epochs: int
    last: dict[str, object] | None = None
    pretraining_seconds: float = 0.0
    run_id: str = ""

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

    def report_last(self) -> None:
        """Report the last epoch."""
        if self.last is not None:
            ray.tune.report(self.last)

    def log_series(self, series: Sequence[Any]) -> None:
        """Leave single steps out."""

    def describe(self) -> None:
        """Leave the run out of the manifest: it is nested in that of the sweep."""

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Leave the plot in the trial's directory."""

    @contextlib.contextmanager
    def watching_system(self) -> Iterator[None]:
        """Leave system metrics out."""
        yield
