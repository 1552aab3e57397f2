"""What a training reports while it runs, and what it returns.

Workers send these to the driver, and the queue between them imports this module. So it must not
import torch.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from sentiflow.config.train_sections import SelectionSettings
from sentiflow.data.manifest_types import (
    EPOCH_METRICS,
    PRETRAINING_METRICS,
    Counts,
    FileEntry,
    Manifest,
)

Phase = Literal["pretrain", "train"]
PRETRAIN: Phase = "pretrain"
TRAIN: Phase = "train"

MODEL, CHECKPOINTS, TAUGHT, FOLDS = "model", "checkpoints", "taught", "folds"
"""Folders in the output of a training."""


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
    ended: str = ""
    """ISO 8601 in UTC, to the second; empty if an earlier version trained the epoch."""
    validation_f1_macro: float | None = None
    """Mean of the F1 of the classes that labels or predictions have; None without validation rows
    or if an earlier version trained the epoch."""

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
        """The best epoch, the first of equals; None before the first, or without validation."""
        name = f"validation_{self.selection.metric_name}"
        known = [epoch for epoch in self.epochs if getattr(epoch, name) is not None]
        order = self.selection.order
        return min(known, key=lambda epoch: order(getattr(epoch, name)), default=None)

    @property
    def chosen(self) -> EpochResult:
        """The epoch whose weights are used: for the model, or for the phase that follows."""
        return (self.best if self.selection.keep == "best" else None) or self.epochs[-1]

    @property
    def should_stop(self) -> bool:
        """Whether ``patience`` epochs have brought no better one."""
        patience = self.selection.patience
        if patience is None or self.best is None:
            return False
        return self.epochs[-1].epoch - self.best.epoch >= patience


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
    """Finished epochs of training, likewise."""
    is_start: bool = False
    """Whether the workers have just begun, for the first time or after the loss of a worker."""
    metrics: dict[str, float] | None = None
    """Means over the steps since the last report, named as below ``step/`` in MLflow."""


@dataclass(frozen=True)
class Taught:
    """The rows that a distilled network learns, with the answers of its teachers."""

    files: dict[str, int]
    """Files in their order, with the rows of each."""
    entries: list[FileEntry]
    """All files of the answers, for the manifest of their output; none where a sweep has them."""
    uri: str
    """Their directory."""
    fingerprint: str
    counts: Counts
    """By split: rows, rows with an answer, rows that are left out."""

    def describe(self) -> dict[str, Any]:
        """Describe the rows for the manifest of the training."""
        return {"uri": self.uri, "fingerprint": self.fingerprint, "counts": self.counts}


@dataclass(frozen=True)
class TrainReport:
    """What the training's first worker returns to the driver."""

    pretraining: list[EpochResult]
    history: list[EpochResult]
    chosen_epoch: int
    """The epoch whose weights became the model."""
    package: Manifest
    """Manifest of the model package."""
    rows_without_token: int
    """Training rows without a known word."""
    device: str
    precision: str


def read_epochs(values: list[dict[str, Any]]) -> list[EpochResult]:
    """Read the epochs of a manifest or a checkpoint."""
    return [EpochResult(**value) for value in values]
