"""Lines that a training writes to the log: its plan, its calibration, advice."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sentiflow.config.class_names import BINARY
from sentiflow.config.settings import list_preset_changes
from sentiflow.config.text_units import find_unit
from sentiflow.data.manifest_types import Unsure
from sentiflow.metrics import abstention
from sentiflow.models import logit_shares
from sentiflow.tracking import refits
from sentiflow.training import rates
from sentiflow.training.reports import (
    EpochResult,
    TrainingCosts,
    TrainReport,
    count_workers,
)
from sentiflow.training.train_plan import TrainPlan

_FALLING_RATIO = 0.97
"""Ratio of the last two validation losses below which more epochs are suggested."""
_FEW_STEPS = 100
"""Optimizer steps below which smaller batches are suggested. The settings that ``sentiflow init``
writes make 265 or more: benchmarks/LOG.md."""


def describe_refit(plan: TrainPlan) -> str:
    """Say which run a refit repeats, and on how many rows; nothing for other trainings."""
    refit = plan.refit
    if refit is None:
        return ""
    num_rows = plan.learned.num_rows
    what = f"{refit.num_epochs} of {plan.settings.num_epochs} epochs"
    if not logit_shares.has_network(refit.package.get("calibration")):
        what = "the linear model alone"
    return f"{refits.describe(refit.record)} ({what}, {num_rows:,} rows)"


def describe_plan(
    plan: TrainPlan, num_rows: int, num_workers: int, note: str, why: str
) -> Iterator[str]:
    """Describe the network, its texts and workers, and what the settings left open.

    Args:
        plan: The training.
        num_rows: Texts of an epoch.
        num_workers: Number of workers.
        note: Description of a refit, see :func:`describe_refit`.
        why: Why there are no more workers, if that needs a reason.
    """
    num_units = plan.prepared["counts"]["vocabulary_size"]
    unit = find_unit(plan.prepared["settings"])
    yield (
        f"{plan.settings.model.summary}; {num_units:,} {unit}, {num_rows:,} texts, "
        f"{count_workers(num_workers)}"
    )
    if note:
        yield note
    if why:
        yield why
    if plan.settings.linear == "auto":
        yield _describe_linear(plan)
    changed = list_preset_changes(plan.settings)
    if changed:
        yield (
            f"the config overrides settings of preset {plan.settings.preset}: {', '.join(changed)}"
        )
    if plan.learned.names != BINARY:
        yield f"classes: {plan.learned.describe()}"


def _describe_linear(plan: TrainPlan) -> str:
    """Say what ``train.linear: auto`` has become."""
    if plan.refit:
        reason = "as in the run that is repeated"
    elif plan.has_linear:
        reason = f"as there are at most {rates.MAX_LINEAR_ROWS:,} train rows"
    else:
        reason = f"as there are more than {rates.MAX_LINEAR_ROWS:,} train rows"
    value = json.dumps(plan.has_linear)
    return f"train.linear=auto is {value}, {reason}"


def describe_report(
    report: TrainReport, costs: TrainingCosts, *, is_refit: bool, has_teacher: bool = False
) -> Iterator[str]:
    """Describe the model and its calibration, and suggest other settings if they may be better.

    Args:
        report: The report of the first worker.
        costs: What the training has cost, with its folds.
        is_refit: Whether the training repeats a run.
        has_teacher: Whether the network learns from teachers.
    """
    calibration = report.package["calibration"] or {}
    yield from describe_calibration(calibration, costs, is_refit=is_refit)
    advice = logit_shares.advise(calibration, has_teacher=has_teacher)
    if advice:
        yield advice
    yield from _describe_model(report)
    if report.history:
        yield from describe_losses(report.history)


def _describe_model(report: TrainReport) -> Iterator[str]:
    """Say the validation metrics of the model, if the figures of its network are others."""
    metrics = report.package.get("metrics", {})
    accuracy = metrics.get("validation/accuracy")
    of_network = None
    if report.history:
        of_network = report.history[report.chosen_epoch - 1].validation_accuracy
    if accuracy is None or accuracy == of_network:
        return
    text = f"the model as a whole: validation accuracy {accuracy:.4f}"
    if "validation/f1_macro" in metrics:
        text += f", macro F1 {metrics['validation/f1_macro']:.4f}"
    yield text


def describe_losses(history: Sequence[EpochResult]) -> Iterator[str]:
    """Suggest more epochs if the validation loss still falls, or other settings for few steps."""
    if history[-1].step < _FEW_STEPS:
        yield (
            f"the network has made only {history[-1].step} optimizer steps: lower "
            "train.batching.global_batch_size, or use the settings that sentiflow init writes for "
            "so few rows"
        )
    losses = [epoch.validation_loss for epoch in history[-2:] if epoch.validation_loss]
    if len(losses) == 2 and losses[1] < _FALLING_RATIO * losses[0]:
        yield (
            f"the validation loss still falls ({losses[0]:.3f} to {losses[1]:.3f}): more epochs "
            f"may help, train.num_epochs={2 * len(history)}"
        )


def describe_calibration(
    calibration: Mapping[str, Any], costs: TrainingCosts | None = None, *, is_refit: bool
) -> Iterator[str]:
    """Describe a calibration: the share of the linear model, the unsure texts, and the bias."""
    shares = logit_shares.describe(calibration, asdict(costs) if costs else None)
    if shares:
        yield f"share in the logits: {shares}"
    unsure = calibration.get("unsure")
    if unsure:
        origin = ", by the run that is repeated" if is_refit else ""
        yield _describe_unsure(unsure, origin)
    bias = calibration.get("bias", {}).values()
    if bias:
        yield (
            f"calibrated on {calibration['num_rows']:,} rows that the model has not seen: "
            f"temperature {calibration['temperature']}, a bias of {min(bias):+.2f} to "
            f"{max(bias):+.2f} for each class, which the model's predictions include"
        )


def _describe_unsure(unsure: Unsure, origin: str) -> str:
    """Say how many texts are answered; if none is, say how many labels are needed."""
    promise = f"an error of at most {unsure['max_error']:.1%}"
    num_rows = unsure["num_rows"]
    if unsure["threshold"] < 1:
        return (
            f"texts with a confidence up to {unsure['threshold']:.4f} are unsure; of {num_rows:,} "
            f"rows that the model has not seen {unsure['answered_fraction']:.1%} are answered, "
            f"with {promise} on other texts of the same kind (95% certainty){origin}"
        )
    least = abstention.count_least(unsure["max_error"])
    if num_rows < least:
        times = least / max(num_rows, 1)
        needs = f"{least:,} or more are needed, so label {times:.1f} times as many"
    else:
        needs = "label more texts, or set a larger train.unsure.max_error"
    return (
        f"all texts are unsure, as {num_rows:,} rows that the model has not seen do not prove "
        f"{promise}: {needs}"
    )
