"""Network + slices of global batches -> trained weights and the metrics of each epoch.

Batches, learning rate and dropout masks follow from the seed and the step alone. Several workers
take slices of the same global batches. So any number of workers makes the same optimizer steps, and
a training resumed from a checkpoint makes the steps that remain.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import JobError, UserError
from sentiflow.metrics.macro_f1 import macro_f1
from sentiflow.models import batching, encoded_rows
from sentiflow.training import checkpoints, collectives
from sentiflow.training.dropout_masks import draw_dropout_mask
from sentiflow.training.objectives import (
    VALIDATION_STEP,
    ClassificationObjective,
    LanguageModeling,
    Losses,
)
from sentiflow.training.reports import EpochResult
from sentiflow.training.schedules import rate_factor
from sentiflow.training.virtual_shards import ShardSlice, TrainInput

_SUMS = ("loss", "correct", "rows", "tokens", "cells", "gradient_norm", "steps", "seconds")
"""Numbers that are added up over rows, steps and workers. ``cells`` counts the cells of padded
batches, with or without a token."""
_NUM_BATCH_SUMS = _SUMS.index("gradient_norm")
"""The first sums, from ``loss`` to ``cells``: each worker computes them from its rows."""

_REMEDY = "lower train.learning_rate or train.clip_norm"
"""What to do about a value that is not finite."""
_STEPS_AHEAD = 32
"""On a GPU, the metrics of this many steps are read at once: reading them waits for the GPU."""
_VALIDATION_BATCH_SIZE = 1024
"""Validation rows of a batch of one worker."""


class _StepMetrics(NamedTuple):
    """The sums of an optimizer step, which may not be computed yet."""

    step: int
    sums: torch.Tensor
    """``_SUMS`` from ``loss`` to ``gradient_norm``."""


class _Evaluation(NamedTuple):
    """Sums over the validation rows of all workers, without rows that have no token."""

    loss: float
    num_rows: int
    confusion: np.ndarray
    """Rows by label and prediction, (C, C) float64; all 0 while pretraining."""


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
        validation: Iterable[encoded_rows.EncodedRows],
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
        self.settings = settings
        self.objective = objective
        self.train = train
        self.validation = validation
        self.device = device
        # The parameters that are trained, by name.
        self.tuned = {
            name: parameter
            for name, parameter in objective.named_parameters()
            if parameter.requires_grad and name.startswith(objective.trained_parameters)
        }
        self.optimizer = torch.optim.AdamW(self.tuned.values(), weight_decay=0.0, fused=True)
        self.num_steps = sum(train.num_steps(epoch) for epoch in range(settings.num_epochs))
        if self.num_steps == 0:
            raise UserError(
                f"no full batch in the {train.num_rows:,} training rows",
                hint="lower train.batching.global_batch_size, or drop_last=false",
            )
        dropout = settings.model.dropout
        output_dropout = settings.model.output_dropout
        if output_dropout is None:
            output_dropout = dropout
        self._dropout_rates = objective.network.dropout_rates(inputs=dropout, output=output_dropout)
        # Steps made, epochs finished, and steps made in the current epoch.
        self.step = 0
        self.epoch = 0
        self.step_in_epoch = 0
        # ``_SUMS`` of the current epoch, and since the last call of ``take_step_metrics``.
        self._epoch_sums = np.zeros(len(_SUMS))
        self._recent_sums = np.zeros(len(_SUMS))
        self._pending: list[_StepMetrics] = []  # steps whose metrics are not in the sums yet
        self._problem = ""
        self._collected_at = time.monotonic()

    @property
    def uses_bf16(self) -> bool:
        """Whether matrices are multiplied in bf16."""
        if self.settings.precision == "auto":
            return self.device.type == "cuda"
        return self.settings.precision == "bf16"

    @property
    def rows_done(self) -> int:
        """Rows trained on so far; a row counts once in each epoch."""
        in_epoch = int(_name_sums(self._epoch_sums)["rows"])
        return self.epoch * self.train.num_rows + in_epoch

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
        evaluation = self._evaluate()
        if not math.isfinite(evaluation.loss):
            raise JobError(
                f"the validation loss after epoch {self.epoch + 1} is not finite; {_REMEDY}"
            )
        result = self._describe_epoch(evaluation)
        self.epoch += 1
        self.step_in_epoch = 0
        self._epoch_sums = np.zeros(len(_SUMS))
        return result

    def _describe_epoch(self, evaluation: _Evaluation) -> EpochResult:
        """Put the metrics of the current epoch together."""
        means = _means(self._epoch_sums)
        validation_loss = None
        validation_accuracy = None
        if evaluation.num_rows:
            validation_loss = evaluation.loss / evaluation.num_rows
        if evaluation.confusion.any():
            validation_accuracy = int(np.trace(evaluation.confusion)) / evaluation.num_rows
        return EpochResult(
            epoch=self.epoch + 1,
            train_loss=means["loss"],
            train_accuracy=means["accuracy"],
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            learning_rate=self.learning_rate,
            gradient_norm=means["gradient_norm"],
            padding_fraction=means["padding_fraction"],
            seconds=_name_sums(self._epoch_sums)["seconds"],
            tweets_per_second=means["tweets_per_second"],
            step=self.step,
            ended=datetime.now(UTC).isoformat(timespec="seconds"),
            validation_f1_macro=macro_f1(evaluation.confusion),
        )

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
        tensors = {}
        for name, tensor in self.objective.state_dict().items():
            tensors[f"weights/{name}"] = tensor
        for name, parameter in self.tuned.items():
            for key, tensor in self.optimizer.state[parameter].items():
                tensors[f"optimizer/{name}/{key}"] = tensor
        return tensors

    def position(self) -> dict[str, Any]:
        """Return the position in the phase, for a checkpoint: counts of steps and epochs in it.

        ``sums`` has the sums over the epoch, by the names of ``_SUMS``.
        """
        self._collect_metrics()
        return {
            "step": self.step,
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "sums": _name_sums(self._epoch_sums),
        }

    def resume(self, tensors: dict[str, torch.Tensor], position: Mapping[str, Any]) -> None:
        """Resume from :meth:`tensors` and :meth:`position`, with any number of workers."""
        self.objective.load_state_dict(checkpoints.find_below(tensors, "weights/"))
        for name, parameter in self.tuned.items():
            state = checkpoints.find_below(tensors, f"optimizer/{name}/")
            if state:
                self.optimizer.state[parameter] = {
                    key: tensor.to(self.device) for key, tensor in state.items()
                }
        self.step = position["step"]
        self.epoch = position["epoch"]
        self.step_in_epoch = position["step_in_epoch"]
        self._epoch_sums = np.array([position["sums"][name] for name in _SUMS])

    def _make_step(self, batch_slice: ShardSlice) -> None:
        """Make one optimizer step on a global batch.

        On a GPU the metrics are read here only in every ``_STEPS_AHEAD``-th step, so that a single
        worker rarely waits for its GPU.
        """
        factor = rate_factor(self.settings.schedule, self.step, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * factor
        sums = self._compute_gradients(batch_slice)
        norm = nn.utils.clip_grad_norm_(self.tuned.values(), self.settings.clip_norm or math.inf)
        self.optimizer.step()
        self.step += 1
        self.step_in_epoch += 1
        self._pending.append(_StepMetrics(self.step, torch.cat([sums, norm[None]])))
        if self.device.type == "cpu" or self.step % _STEPS_AHEAD == 0:
            self._check_finite()

    def _compute_gradients(self, batch_slice: ShardSlice) -> torch.Tensor:
        """Compute the gradients of a global batch over all workers.

        Returns:
            The sums over all workers: ``_SUMS`` from ``loss`` to ``cells``.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(_NUM_BATCH_SUMS, device=self.device)
        used = None
        if len(batch_slice.chosen):
            host = batching.collate(batch_slice.rows, batch_slice.chosen)
            batch = host.to(self.device)
            losses = self._losses(batch, self._draw_mask(batch_slice.shard_sizes), self.step)
            (losses.trained.sum() / batch_slice.shard_sizes.sum()).backward()
            # The numbers of rows, tokens and cells.
            sizes = [len(host.lengths), int(host.lengths.sum()), host.token_ids.numel()]
            counts = batching.copy_to(torch.tensor(sizes, dtype=torch.float32), self.device)
            sums = torch.cat([losses.reported.sum()[None], losses.correct.float()[None], counts])
            if collectives.world_size() > 1:
                used = self.objective.used_rows(batch, self.step)
        if collectives.world_size() > 1:
            sums = collectives.sum_gradients(self.tuned, used, sums)
        return sums

    def _draw_mask(self, shard_sizes: np.ndarray) -> torch.Tensor | None:
        """Draw the dropout mask of this worker's slice; None without dropout."""
        if not self._dropout_rates.any():
            return None
        own = self.train.rows.own
        mask = draw_dropout_mask(
            shard_sizes[own.start : own.stop].tolist(),
            dropout=self._dropout_rates,
            seed=self.settings.seed,
            step=self.step,
            first_shard=own.start,
        )
        return batching.copy_to(mask, self.device)

    def _losses(self, batch: batching.Batch, mask: torch.Tensor | None, step: int) -> Losses:
        """Compute the losses of a batch; without a mask there is no dropout."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bf16):
            return self.objective(batch, mask, step)

    def _collect_metrics(self) -> None:
        """Add up the metrics of the steps made since the last call; waits for a GPU."""
        pending = self._pending
        self._pending = []
        if not pending:
            return
        now = time.monotonic()
        seconds = (now - self._collected_at) / len(pending)
        rows = torch.stack([each.sums for each in pending]).tolist()
        for each, values in zip(pending, rows, strict=True):
            self._note_problem(each.step, loss=values[0], gradient_norm=values[-1])
            sums = np.array([*values, 1, seconds])  # in the order of ``_SUMS``
            self._epoch_sums += sums
            self._recent_sums += sums
        self._collected_at = now

    def _note_problem(self, step: int, *, loss: float, gradient_norm: float) -> None:
        """Note the first loss or gradient that is not finite."""
        if self._problem or math.isfinite(loss + gradient_norm):
            return
        what = "gradient" if math.isfinite(loss) else "loss"
        where = f"the {what} of step {step} (epoch {self.epoch + 1})"
        self._problem = f"{where} is not finite; {_REMEDY}"

    def _check_finite(self) -> None:
        """Make sure that all losses and gradients so far are finite.

        All workers call this together.

        Raises:
            JobError: A loss or a gradient is not finite.
        """
        if not self.is_finite:
            raise JobError(self._problem)

    def _evaluate(self) -> _Evaluation:
        """Evaluate the validation rows of all workers."""
        self.objective.eval()
        num_classes = self.objective.network.num_classes
        # The loss, the number of rows, and the C * C cells of the confusion matrix.
        sums = torch.zeros(2 + num_classes**2, dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for rows in self.validation:
                for chosen in encoded_rows.order_by_length(
                    rows.lengths, batch_size=_VALIDATION_BATCH_SIZE
                ):
                    batch = batching.collate(rows, chosen).to(self.device)
                    losses = self._losses(batch, None, VALIDATION_STEP)
                    sums[0] += losses.reported.double().sum()
                    sums[1] += len(chosen)
                    if losses.predictions is not None:
                        cells = batch.labels * num_classes + losses.predictions
                        sums[2:].index_add_(0, cells, torch.ones_like(cells, dtype=torch.float64))
        loss, num_rows, *counts = collectives.all_reduce(sums).tolist()
        return _Evaluation(
            loss=loss,
            num_rows=int(num_rows),
            confusion=np.array(counts).reshape(num_classes, num_classes),
        )


def _name_sums(sums: np.ndarray) -> dict[str, float]:
    """Name the sums as in ``_SUMS``."""
    return dict(zip(_SUMS, sums.tolist(), strict=True))


def _means(sums: np.ndarray) -> dict[str, float]:
    """Compute means from the sums over some steps, of which there may be none."""
    named = _name_sums(sums)
    num_rows = max(1, named["rows"])
    return {
        "loss": named["loss"] / num_rows,
        "accuracy": named["correct"] / num_rows,
        "gradient_norm": named["gradient_norm"] / max(1, named["steps"]),
        "padding_fraction": 1 - named["tokens"] / max(1, named["cells"]),
        "tweets_per_second": named["rows"] / max(1e-9, named["seconds"]),
    }
