"""Reports of the training workers -> a progress bar, log lines, metrics in MLflow.

The queue between workers and driver imports this module, so it must not import torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sentiflow.config.train_sections import SelectionSettings, TrainSettings
from sentiflow.data.manifest_types import (
    EPOCH_METRICS,
    PRETRAINING_METRICS,
    Counts,
    FileEntry,
    Manifest,
)
from sentiflow.progress import Progress, say

if TYPE_CHECKING:
    from sentiflow.tracking.recorder import Recorder

Phase = Literal["pretrain", "train"]
PRETRAIN: Phase = "pretrain"
TRAIN: Phase = "train"

_PREFIX: dict[Phase, str] = {PRETRAIN: "pretraining ", TRAIN: ""}
"""What the name of an epoch begins with."""

MODEL = "model"
"""Folder of the model package in the output of a training."""
CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints."""
TAUGHT = "taught"
"""Folder of the answers of teachers."""
FOLDS = "folds"
"""Folder of the folds."""


@dataclass(frozen=True)
class EpochResult:
    """The metrics of one epoch, over all workers."""

    epoch: int
    """Counted from 1 in each phase."""
    train_loss: float
    """Mean over the epoch's rows, each with the weights of its step."""
    train_accuracy: float
    validation_loss: float | None
    """None without validation rows."""
    validation_accuracy: float | None
    learning_rate: float
    """At the end of the epoch."""
    gradient_norm: float
    """Mean over the steps, before clipping."""
    padding_fraction: float
    """Share of the cells in the padded batches that hold no token."""
    seconds: float
    """Time of the training steps; validation is not included."""
    tweets_per_second: float
    step: int
    """Optimizer steps since the beginning of the first phase."""
    ended: str
    """ISO 8601 in UTC, to the second."""
    validation_f1_macro: float | None
    """Mean of the F1 of the classes that labels or predictions have; None without validation rows.
    """

    def to_metrics(self, phase: Phase = TRAIN) -> dict[str, float | None]:
        """Name the metrics as in MLflow."""
        names = PRETRAINING_METRICS if phase == PRETRAIN else EPOCH_METRICS
        return {name: getattr(self, key) for name, key in names.items()}


@dataclass
class History:
    """The finished epochs of a phase, and the best of them."""

    selection: SelectionSettings
    epochs: list[EpochResult] = field(default_factory=list)

    @property
    def best(self) -> EpochResult | None:
        """The best epoch, the first on ties; None before the first, or without validation."""
        name = f"validation_{self.selection.metric_name}"
        measured = [epoch for epoch in self.epochs if getattr(epoch, name) is not None]
        order = self.selection.order
        return min(measured, key=lambda epoch: order(getattr(epoch, name)), default=None)

    @property
    def chosen(self) -> EpochResult:
        """The epoch whose weights are used: for the model, or for the phase that follows."""
        best = self.best if self.selection.keep == "best" else None
        return best or self.epochs[-1]


@dataclass(frozen=True)
class Failure:
    """Workers of Ray Train have failed by a fault of the storage; others may follow."""

    cause: str
    """The fault, in a few words."""


@dataclass(frozen=True)
class Event:
    """How far a training has come. Steps and rows are counted from the first phase on."""

    phase: Phase
    epoch: int
    """Finished epochs of the phase."""
    step: int
    num_steps: int
    """Steps at the end of the phase."""
    rows_done: int
    num_workers: int
    pretraining: tuple[EpochResult, ...] = ()
    """Finished epochs of pretraining. The checkpoint of each is written."""
    history: tuple[EpochResult, ...] = ()
    """Finished epochs of training. The checkpoint of each is written."""
    is_start: bool = False
    """Whether the workers have just begun, for the first time or after the loss of a worker."""
    cause: str = ""
    """If the workers replace others that a fault of the storage has ended: the fault."""
    metrics: dict[str, float] | None = None
    """Means over the steps since the last report, by their names below ``step/`` in MLflow."""


@dataclass(frozen=True)
class Taught:
    """The rows that a distilled network learns, with the answers of its teachers."""

    files: dict[str, int]
    """Files in their order, with the rows of each."""
    entries: list[FileEntry]
    """All files of the answers, for the manifest of the output. Empty in a trial: the manifest of
    the sweep has them."""
    uri: str
    """Directory of the files."""
    fingerprint: str
    counts: Counts
    """By split: rows, rows with an answer, rows that are left out."""
    of_folds: list[str]
    """For each trained fold the file with the answers of encoders that have not seen its rows."""

    def describe(self) -> dict[str, Any]:
        """Describe the answers for the manifest of a training."""
        return {"uri": self.uri, "fingerprint": self.fingerprint, "counts": self.counts}


@dataclass(frozen=True)
class TrainingCosts:
    """What the two parts of a model have cost."""

    num_networks: int = 0
    """Networks that were trained: of the model, and of folds."""
    network_seconds: float = 0.0
    """Time of the training steps of these networks, in all phases."""
    linear_seconds: float = 0.0
    """Time to fit the linear models."""
    num_folds_trained: int = 0
    """Folds whose models were trained."""

    def __add__(self, other: "TrainingCosts") -> "TrainingCosts":
        """Add the costs of another training."""
        return TrainingCosts(
            num_networks=self.num_networks + other.num_networks,
            network_seconds=self.network_seconds + other.network_seconds,
            linear_seconds=self.linear_seconds + other.linear_seconds,
            num_folds_trained=self.num_folds_trained + other.num_folds_trained,
        )


@dataclass(frozen=True)
class TrainReport:
    """What the training's first worker returns to the driver."""

    pretraining: list[EpochResult]
    history: list[EpochResult]
    chosen_epoch: int
    """The epoch whose weights became the model; 0 if the network was not trained."""
    package: Manifest
    """Manifest of the model package."""
    rows_without_token: int
    """Training rows without a known word."""
    device: str
    """``cpu`` or ``cuda``."""
    precision: str
    """``fp32`` or ``bf16``."""
    linear_seconds: float = 0.0
    """Time to fit the linear models, 0 without them."""

    @property
    def costs(self) -> TrainingCosts:
        """What the training has cost."""
        epochs = [*self.pretraining, *self.history]
        return TrainingCosts(
            num_networks=1 if epochs else 0,
            network_seconds=sum(epoch.seconds for epoch in epochs),
            linear_seconds=self.linear_seconds,
        )


def read_epochs(values: list[dict[str, Any]]) -> list[EpochResult]:
    """Read the epochs of a manifest or a checkpoint."""
    return [EpochResult(**value) for value in values]


class TrainCallback:
    """Shows and records each step and epoch once, also if a restart repeats it."""

    def __init__(
        self,
        progress: Progress,
        recorder: "Recorder",
        settings: TrainSettings,
        expected_workers: int,
        *,
        num_texts: int,
        num_epochs: Mapping[Phase, int],
        num_classes: int = 2,
    ) -> None:
        """Expect the events of a training that asks for ``expected_workers`` workers.

        ``num_texts`` is the number of texts of all epochs, see :class:`Amount`.
        """
        self.progress = progress
        self.recorder = recorder
        self.num_texts = num_texts
        self.num_epochs = num_epochs
        self.has_linear = settings.linear is True
        self.shows_f1 = num_classes > 2 or settings.selection.metric == "macro_f1"
        self.expected_workers = expected_workers
        self.num_workers = 0
        self.phase: Phase = PRETRAIN if num_epochs[PRETRAIN] else TRAIN
        self.last_step = 0
        self.seen_epochs: set[tuple[Phase, int]] = set()

    def __call__(self, event: Event) -> None:
        """Show and record an event."""
        if event.is_start:
            self._start(event)
        elif event.phase != self.phase:
            self.progress.start_at(event.rows_done)  # training has another rate than pretraining
        self.phase = event.phase
        if event.metrics and event.step > self.last_step:
            self._show_steps(event, event.metrics)
        for result in event.pretraining:
            self._record_epoch(PRETRAIN, result, is_new=not event.is_start)
        for result in event.history:
            self._record_epoch(TRAIN, result, is_new=not event.is_start)
        self.last_step = max(self.last_step, event.step)
        if len(event.history) == self.num_epochs[TRAIN]:
            self.progress.turn_to("saving the model")

    def _start(self, event: Event) -> None:
        """Say with how many workers the training begins, and where it resumes."""
        before = self.num_workers
        self.num_workers = event.num_workers
        workers = count_workers(self.num_workers)
        where = (
            f"step {event.step:,} of {event.num_steps:,}, "
            f"in {_PREFIX[event.phase]}epoch {event.epoch + 1}"
        )
        if before:
            if event.cause:
                why = f"workers have failed: {event.cause}"
            elif self.num_workers > before:
                why = "more workers have room"
            else:
                why = "workers were lost"
            say(TRAIN, f"{why}; resuming at {where}, {workers}")
            return
        if self.num_workers < self.expected_workers:
            say(TRAIN, f"starting with {workers}: the cluster has no room for more now")
        self.progress.what = ""  # the linear model is fitted
        self.progress.count(self.num_texts, "texts")
        self.progress.start_at(event.rows_done)
        if event.step:
            say(TRAIN, f"resuming at {where}")

    def _show_steps(self, event: Event, metrics: Mapping[str, float]) -> None:
        """Show and record the means over some steps."""
        prefix = _PREFIX[event.phase]
        note = (
            f"{prefix}epoch {event.epoch + 1} of {self.num_epochs[event.phase]}, "
            f"step {event.step:,} of {event.num_steps:,}, "
            f"loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.3f}"
        )
        self.progress.advance(event.rows_done - self.progress.done, note=note)
        folder = "pretrain/step" if event.phase == PRETRAIN else "step"
        named = {f"{folder}/{name}": metrics[name] for name in sorted(metrics)}  # accuracy first
        self.recorder.log_series([(event.step, named)])

    def _record_epoch(self, phase: Phase, result: EpochResult, *, is_new: bool) -> None:
        """Record an epoch the first time, and show it unless it comes from a checkpoint."""
        if (phase, result.epoch) in self.seen_epochs:
            return
        self.seen_epochs.add((phase, result.epoch))
        if is_new:
            say(
                TRAIN,
                f"{_PREFIX[phase]}epoch {result.epoch}: {self._describe_epoch(phase, result)} "
                f"({result.seconds:.1f} s, {result.tweets_per_second:,.0f} texts/s)",
            )
        self.recorder.log_metrics(result.to_metrics(phase), step=result.epoch)

    def _describe_epoch(self, phase: Phase, result: EpochResult) -> str:
        """Say the losses and metrics of an epoch, and whose they are.

        A linear model is added to the network when all epochs are over, so the figures are those of
        the network alone.
        """
        metrics: dict[str, float | None] = {"loss": result.train_loss}
        if phase == PRETRAIN:
            metrics["validation loss"] = result.validation_loss
        else:
            metrics["validation accuracy"] = result.validation_accuracy
            if self.shows_f1:
                metrics["macro F1"] = result.validation_f1_macro
        shown = [f"{name} {value:.4f}" for name, value in metrics.items() if value is not None]
        text = ", ".join(shown)
        if self.has_linear and phase == TRAIN and result.validation_accuracy is not None:
            text += ", of the network alone"
        return text


def count_workers(number: int) -> str:
    """Write a number of workers in words: ``1 worker``, ``2 workers``."""
    return "1 worker" if number == 1 else f"{number} workers"
