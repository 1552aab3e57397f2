"""What a training tells of itself, line by line."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sentiflow.config.class_names import BINARY
from sentiflow.config.settings import list_own
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data.manifest_types import Unsure
from sentiflow.metrics import confidence
from sentiflow.tracking import refits
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.reports import EpochResult

_FALLS = 0.97
"""Ratio of the last two validation losses below which more epochs are suggested."""
_FEW_STEPS = 100
"""``init`` writes epochs and batches for 265 or more: benchmarks/LOG.md."""


def describe_refit(refit: refits.Refit, settings: TrainSettings, learned: LearnedClasses) -> str:
    """Say which run is repeated, and on how many rows."""
    epochs = f"{refit.num_epochs} of {settings.num_epochs} epochs"
    return f"{refits.describe(refit.record)} ({epochs}, {int(learned.counts.sum()):,} rows)"


def describe_choices(settings: TrainSettings, learned: LearnedClasses) -> Iterator[str]:
    """Say what the config has instead of the preset's values, and which classes are learned."""
    if own := ", ".join(list_own(settings)):
        yield f"not as in preset {settings.preset}, since the config has its own: {own}"
    if learned.names != BINARY:
        yield f"classes: {learned.describe()}"


def describe_losses(history: Sequence[EpochResult]) -> Iterator[str]:
    """Suggest more epochs if the validation loss still falls or if few steps were made."""
    if history[-1].step < _FEW_STEPS:
        yield (
            f"the network has made {history[-1].step} optimizer steps only: lower "
            "train.batching.global_batch_size, or use the settings that sentiflow init writes for "
            "so few rows"
        )
    losses = [epoch.validation_loss for epoch in history[-2:] if epoch.validation_loss]
    if len(losses) == 2 and losses[1] < _FALLS * losses[0]:
        yield (
            f"the validation loss still falls ({losses[0]:.3f} to {losses[1]:.3f}): more epochs "
            f"may help, train.num_epochs={2 * len(history)}"
        )


def describe_calibration(calibration: Mapping[str, Any], *, is_refit: bool) -> Iterator[str]:
    """Say what was decided by rows that the model has not seen."""
    if (weight := calibration.get("linear_weight")) is not None:
        yield f"share in the logits: network {1 - weight:.0%}, linear model {weight:.0%}"
    if unsure := calibration.get("unsure"):
        yield _describe_unsure(unsure, ", by the run that is repeated" if is_refit else "")
    if bias := calibration.get("bias", {}).values():
        yield (
            f"calibrated on {calibration['num_rows']:,} rows that the model has not seen: "
            f"temperature {calibration['temperature']}, a bias of {min(bias):+.2f} to "
            f"{max(bias):+.2f} for each class, which the model's predictions include"
        )


def _describe_unsure(unsure: Unsure, origin: str) -> str:
    """Say how many texts are answered; if none is, why, and how many labels are needed at least."""
    promise, num_rows = f"an error of at most {unsure['max_error']:.1%}", unsure["num_rows"]
    if unsure["threshold"] < 1:
        return (
            f"texts with a confidence up to {unsure['threshold']:.4f} are unsure; of {num_rows:,} "
            f"rows that the model has not seen {unsure['answered_fraction']:.1%} are answered, and "
            f"{promise} is shown for others like them (95 % certainty){origin}"
        )
    least = confidence.count_least(unsure["max_error"])
    needs = "label more texts, or set a larger train.unsure.max_error"
    if num_rows < least:
        needs = f"it takes {least:,} or more, so label {least / max(num_rows, 1):.1f} times as many"
    return (
        f"all texts are unsure, as no confidence shows {promise} on {num_rows:,} rows that the "
        f"model has not seen: {needs}"
    )
