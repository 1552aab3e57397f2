"""Network + slices of global batches -> trained weights and the metrics of each epoch.

Batches, learning rate and dropout masks follow from the seed and the step alone. Several workers
take slices of the same global batches. So any number of workers makes the same optimizer steps, and
a training resumed from a checkpoint makes the steps that remain.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import nn

from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import JobError, UserError
from sentiflow.metrics.predicted import macro_f1
from sentiflow.models import batching
from sentiflow.training import checkpoints, collectives
from sentiflow.training.objectives import (
    VALIDATION_STEP,
    ClassificationObjective,
    LanguageModeling,
    Losses,
)
from sentiflow.training.reports import EpochResult
from sentiflow.training.virtual_shards import ShardSlice, TrainInput

_SUMS = ("loss", "correct", "rows", "tokens", "cells", "gradient_norm", "steps", "seconds")
"""What is added up over rows, steps and workers. ``cells`` are those of the padded batches, with or
without a token."""

_WARM_UP_FRACTION = 0.3
"""Share of the steps in which the learning rate of ``one_cycle`` rises."""
_FIRST_RATE, _LAST_RATE = 1 / 25, 1e-5
"""Factors on the learning rate where ``one_cycle`` begins, and after the last step."""
_REMEDY = "lower train.learning_rate or train.clip_norm"
_STEPS_AHEAD = 32
"""On a GPU, the metrics of this many steps are read at once: reading them waits for the GPU."""


class Trainer:
    """The optimizer of one network and its state between steps.

    Each worker process has one; all of them make the same steps together.
    """

    def __init__(
        self,
        *,
        settings: TrainSettings,
        objective: ClassificationObjective | LanguageModeling,
        train: TrainInput,
        validation: Iterable[batching.EncodedRows],
        device: torch.device,
    ) -> None:
        """Make the optimizer.

        Args:
            settings: The section ``train``.
            objective: On ``device``, with the same weights in each worker. Its parameters that
                require a gradient are trained.
            train: This worker's slices of the global batches.
            validation: This worker's share of the validation rows.
            device: Device of this worker.

        Raises:
            UserError: The training rows do not fill one batch.
        """
        self.settings, self.objective, self.device = settings, objective, device
        self.train, self.validation = train, validation
        self.tuned = {
            name: parameter
            for name, parameter in objective.named_parameters()
            if parameter.requires_grad and name.startswith(objective.trained_parameters)
        }
        self.optimizer = torch.optim.AdamW(self.tuned.values(), weight_decay=0.0, fused=True)
        self.num_steps = sum(map(train.num_steps, range(settings.num_epochs)))
        if self.num_steps == 0:
            raise UserError(
                f"no full batch in the {train.num_rows:,} training rows",
                hint="lower train.batching.global_batch_size, or drop_last=false",
            )
        model = settings.model
        self._dropout_rates = objective.network.dropout_rates(
            inputs=model.dropout,
            output=model.dropout if model.output_dropout is None else model.output_dropout,
        )
        self.step = self.epoch = self.step_in_epoch = 0
        self._epoch_sums, self._recent_sums = np.zeros(len(_SUMS)), np.zeros(len(_SUMS))
        self._pending: list[tuple[int, torch.Tensor]] = []
        self._problem = ""
        self._collected_at = time.monotonic()

    @property
    def uses_bf16(self) -> bool:
        """Whether matrices are multiplied in bf16."""
        on_gpu = self.device.type == "cuda"
        return self.settings.precision == "bf16" or (self.settings.precision == "auto" and on_gpu)

    @property
    def rows_done(self) -> int:
        """Rows trained on so far; a row counts once in each epoch."""
        return self.epoch * self.train.num_rows + int(self._epoch_sums[_SUMS.index("rows")])

    def train_epoch(self, after_step: Callable[[], None] = lambda: None) -> EpochResult:
        """Make the remaining steps of the current epoch, and evaluate.

        Args:
            after_step: Called after each optimizer step.

        Raises:
            JobError: A loss or a gradient is not finite.
        """
        self.objective.train()
        self._collected_at = time.monotonic()
        for batch_slice in self.train.slices(self.epoch, first_step=self.step_in_epoch):
            self._make_step(batch_slice)
            after_step()
        self._check_finite()
        loss, count, confusion = self._evaluate()
        if not math.isfinite(loss):
            raise JobError(
                f"the validation loss after epoch {self.epoch + 1} is not finite; {_REMEDY}"
            )
        means = _means(self._epoch_sums)
        result = EpochResult(
            epoch=self.epoch + 1,
            train_loss=means["loss"],
            train_accuracy=means["accuracy"],
            validation_loss=loss / count if count else None,
            validation_accuracy=int(np.trace(confusion)) / count if confusion.any() else None,
            learning_rate=self.learning_rate,
            gradient_norm=means["gradient_norm"],
            padding_fraction=means["padding_fraction"],
            seconds=float(self._epoch_sums[_SUMS.index("seconds")]),
            tweets_per_second=means["tweets_per_second"],
            step=self.step,
            ended=datetime.now(UTC).isoformat(timespec="seconds"),
            validation_f1_macro=macro_f1(confusion),
        )
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self._epoch_sums = np.zeros(len(_SUMS))
        return result

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step."""
        factor = rate_factor(self.settings.schedule, max(0, self.step - 1), self.num_steps)
        return self.settings.learning_rate * factor

    @property
    def is_finite(self) -> bool:
        """Whether losses and gradients of all steps are finite, so that the weights are usable."""
        self._collect_metrics()
        return not self._problem

    def take_step_metrics(self) -> dict[str, float]:
        """Return the mean metrics since the last call, named as below ``step/`` in MLflow."""
        self._collect_metrics()
        means = _means(self._recent_sums) | {"learning_rate": self.learning_rate}
        self._recent_sums = np.zeros(len(_SUMS))
        return means

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a checkpoint needs; :meth:`position` has the rest."""
        weights = {f"weights/{n}": tensor for n, tensor in self.objective.state_dict().items()}
        return weights | {
            f"optimizer/{name}/{key}": tensor
            for name, parameter in self.tuned.items()
            for key, tensor in self.optimizer.state[parameter].items()
        }

    def position(self) -> dict[str, Any]:
        """Return the position in the phase, for a checkpoint: counts of steps and epochs in it.

        ``sums`` are those of the epoch, by the names of ``_SUMS``.
        """
        self._collect_metrics()
        return {
            "step": self.step,
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "sums": dict(zip(_SUMS, self._epoch_sums.tolist(), strict=True)),
        }

    def resume(self, tensors: dict[str, torch.Tensor], position: Mapping[str, Any]) -> None:
        """Resume from :meth:`tensors` and :meth:`position`, with any number of workers."""
        self.objective.load_state_dict(checkpoints.find_below(tensors, "weights/"))
        for name, parameter in self.tuned.items():
            if state := checkpoints.find_below(tensors, f"optimizer/{name}/"):
                self.optimizer.state[parameter] = {k: t.to(self.device) for k, t in state.items()}
        self.step, self.epoch = position["step"], position["epoch"]
        self.step_in_epoch = position["step_in_epoch"]
        self._epoch_sums = np.array([position["sums"][name] for name in _SUMS])

    def _make_step(self, batch_slice: ShardSlice) -> None:
        """Make one optimizer step on a global batch; a single worker never waits for its GPU."""
        factor = rate_factor(self.settings.schedule, self.step, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        batch, sums = None, torch.zeros(5, device=self.device)
        if len(batch_slice.chosen):
            host = batching.collate(batch_slice.rows, batch_slice.chosen)
            batch = host.to(self.device)
            losses = self._losses(batch, self._draw_mask(batch_slice.shard_sizes), self.step)
            (losses.trained.sum() / batch_slice.shard_sizes.sum()).backward()
            sizes = len(host.lengths), int(host.lengths.sum()), host.token_ids.numel()
            counts = batching.copy_to(torch.tensor(sizes, dtype=torch.float32), self.device)
            sums = torch.cat([losses.reported.sum()[None], losses.correct.float()[None], counts])
        if collectives.world_size() > 1:
            used = None if batch is None else self.objective.used_rows(batch, self.step)
            sums = collectives.sum_gradients(self.tuned, used, sums)
        norm = nn.utils.clip_grad_norm_(self.tuned.values(), self.settings.clip_norm or math.inf)
        self.optimizer.step()
        self.step, self.step_in_epoch = self.step + 1, self.step_in_epoch + 1
        self._pending.append((self.step, torch.cat([sums, norm[None]])))
        if self.device.type == "cpu" or self.step % _STEPS_AHEAD == 0:
            self._check_finite()

    def _draw_mask(self, shard_sizes: np.ndarray) -> torch.Tensor | None:
        """Draw the dropout mask of this worker's slice; None without dropout."""
        if not self._dropout_rates.any():
            return None
        owned = self.train.rows.own
        mask = draw_dropout_mask(
            shard_sizes[owned.start : owned.stop].tolist(),
            dropout=self._dropout_rates,
            seed=self.settings.seed,
            step=self.step,
            first_shard=owned.start,
        )
        return batching.copy_to(mask, self.device)

    def _losses(self, batch: batching.Batch, mask: torch.Tensor | None, step: int) -> Losses:
        """Compute the losses of a batch; without a mask there is no dropout."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bf16):
            return self.objective(batch, mask, step)

    def _collect_metrics(self) -> None:
        """Add up the metrics of the steps made since the last call; waits for a GPU."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        now = time.monotonic()
        rows = torch.stack([metrics for _, metrics in pending]).tolist()
        for (step, _), values in zip(pending, rows, strict=True):
            if not math.isfinite(values[0] + values[-1]):
                what = "gradient" if math.isfinite(values[0]) else "loss"
                where = f"the {what} of step {step} (epoch {self.epoch + 1})"
                self._problem = self._problem or f"{where} is not finite; {_REMEDY}"
            sums = np.array([*values, 1, (now - self._collected_at) / len(pending)])
            self._epoch_sums += sums
            self._recent_sums += sums
        self._collected_at = now

    def _check_finite(self) -> None:
        """Make sure that all losses and gradients so far are finite.

        All workers call this together.

        Raises:
            JobError: One is not finite.
        """
        if not self.is_finite:
            raise JobError(self._problem)

    def _evaluate(self) -> tuple[float, int, np.ndarray]:
        """Sum the loss over the validation rows of all workers, and count rows.

        Rows without a token are left out.

        Returns:
            The sum of the losses; the number of rows; and the rows by label and prediction, (C, C)
            float64, all 0 while pretraining.
        """
        self.objective.eval()
        num_classes = self.objective.network.num_classes
        sums = torch.zeros(2 + num_classes**2, dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for rows in self.validation:
                batches = batching.order_by_length(rows.lengths, batch_size=1024)
                for chosen in batches:
                    batch = batching.collate(rows, chosen).to(self.device)
                    losses = self._losses(batch, None, VALIDATION_STEP)
                    sums[0] += losses.reported.double().sum()
                    sums[1] += len(chosen)
                    if losses.predictions is not None:
                        pairs = batch.labels * num_classes + losses.predictions
                        sums[2:].index_add_(0, pairs, torch.ones_like(pairs, dtype=torch.float64))
        loss, count, *counts = collectives.all_reduce(sums).tolist()
        return loss, int(count), np.array(counts).reshape(num_classes, num_classes)


def _means(sums: np.ndarray) -> dict[str, float]:
    """Compute the means over rows, steps and seconds."""
    loss, correct, rows, tokens, cells, gradient_norm, steps, seconds = sums.tolist()
    return {
        "loss": loss / max(1, rows),
        "accuracy": correct / max(1, rows),
        "gradient_norm": gradient_norm / max(1, steps),
        "padding_fraction": 1 - tokens / max(1, cells),
        "tweets_per_second": rows / max(1e-9, seconds),
    }


def rate_factor(schedule: str, step: int, num_steps: int) -> float:
    """Compute the factor on the learning rate of a step, counted from 0.

    ``constant``: 1. ``cosine``: along half a cosine from 1 down to 1e-5 (Loshchilov and Hutter
    2017, without restarts). ``one_cycle``: along a cosine from 1/25 up to 1 in the first 30 % of
    the steps, then down to 1e-5 (Smith 2018, with the defaults of PyTorch's OneCycleLR except for
    the last step).
    """
    if schedule == "constant":
        return 1.0
    peak = max(1.0, _WARM_UP_FRACTION * num_steps) if schedule == "one_cycle" else 0.0
    if step < peak:
        return _interpolate(_FIRST_RATE, step / peak)
    return _interpolate(_LAST_RATE, max(0.0, (num_steps - step) / max(1.0, num_steps - peak)))


def _interpolate(low: float, fraction: float) -> float:
    """Interpolate from ``low`` to 1 along half a cosine."""
    return low + (1 - low) * (1 - math.cos(math.pi * fraction)) / 2


def draw_dropout_mask(
    shape: Sequence[int],
    *,
    dropout: np.ndarray,
    seed: int,
    step: int,
    first_shard: int,
) -> torch.Tensor:
    """Draw the dropout mask of a slice, the same in any worker.

    Each value is 0 or 1 / (1 - dropout). Each row has one mask for all of its tokens (variational
    dropout, Gal and Ghahramani 2016). It costs less than a mask for each token and trains a
    recurrent network as well.

    Args:
        shape: Rows of each shard of the slice, in order.
        dropout: Dropout rate of each feature, ``(F,)`` float32.
        seed: Seed of the training.
        step: Optimizer step of the training.
        first_shard: Number of the first shard in ``shape``.

    Returns:
        ``(B, F)`` float32 on the CPU, B the sum of ``shape``.
    """
    masks = [
        np.random.Generator(np.random.Philox(key=[seed, step * 256 + shard])).random(
            (num_rows, len(dropout)), np.float32
        )
        >= dropout
        for shard, num_rows in enumerate(shape, first_shard)
    ]
    kept = np.concatenate([*masks, np.zeros((0, len(dropout)), bool)])
    return torch.from_numpy(kept / (1 - dropout))
