"""Network + encoded rows -> trained weights, and each epoch's figures.

The batches of an epoch follow from the seed and the epoch alone; with several workers each takes
its slice of every batch, so that the same optimizer steps are made whatever their number.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import nn

from sentiflow import batching
from sentiflow.batching import EncodedRows
from sentiflow.errors import JobError, UserError
from sentiflow.sections import TrainSettings

_EVALUATION_BATCH_SIZE = 1024
_WARM_UP_FRACTION = 0.3
_PROGRESS_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class EpochResult:
    """One epoch's figures, over all workers."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the epoch's rows, each under the weights of its step."""
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    """At the end of the epoch."""
    seconds: float
    """Of training alone."""
    tweets_per_second: float


class Trainer:
    """The optimization of one network, with what it carries from step to step.

    One stands in each worker process, and they step in time with each other.
    """

    def __init__(
        self,
        *,
        settings: TrainSettings,
        network: nn.Module,
        train: EncodedRows,
        validation: EncodedRows,
        rank: int,
        world_size: int,
        device: torch.device,
        on_progress: Callable[[dict[str, Any]], None] = lambda progress: None,
    ) -> None:
        """Make the optimizer.

        Args:
            settings: Of the stage.
            network: On ``device``; its parameters that require a gradient are trained.
            train: All rows of the split; each worker uses its share.
            validation: Likewise.
            rank: Of this worker.
            world_size: Number of workers.
            device: Of this worker.
            on_progress: Told every second how many ``rows`` were done since the last time, and
                the mean ``loss`` of the epoch so far.

        Raises:
            UserError: There is not one batch to train on.
        """
        self.settings, self.network = settings, network
        self.train, self.validation = train, validation
        self.rank, self.world_size, self.device = rank, world_size, device
        self.on_progress = on_progress
        parameters = [p for p in network.parameters() if p.requires_grad]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        num_steps = len(self._order(epoch=0)) * settings.num_epochs
        if num_steps == 0:
            raise UserError(
                f"no full batch in the {int((train.lengths > 0).sum()):,} training rows",
                hint="lower train.batching.global_batch_size, or drop_last=false",
            )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, learning_rate_factor(settings.schedule, num_steps)
        )

    @property
    def uses_bf16(self) -> bool:
        """Say whether matrices are multiplied in bf16."""
        on_gpu = self.device.type == "cuda"
        return self.settings.precision == "bf16" or (self.settings.precision == "auto" and on_gpu)

    def epochs(self) -> Iterator[EpochResult]:
        """Train epoch by epoch.

        Raises:
            JobError: The loss is not finite.
        """
        for epoch in range(self.settings.num_epochs):
            yield self._train_epoch(epoch)

    def _order(self, epoch: int) -> list[np.ndarray]:
        batching_settings = self.settings.batching
        return batching.order_batches(
            self.train.lengths,
            batch_size=batching_settings.global_batch_size,
            bucketing=batching_settings.bucketing,
            drop_last=batching_settings.drop_last,
            seed=self.settings.seed,
            epoch=epoch,
        )

    def _train_epoch(self, epoch: int) -> EpochResult:
        began = time.monotonic()
        self.network.train()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        done, told = 0, began
        for rows in self._order(epoch):
            sums += self._step(rows)
            done += len(rows)
            if time.monotonic() - told > _PROGRESS_EVERY_SECONDS:
                self.on_progress({"rows": done, "loss": float(sums[0] / sums[2])})
                done, told = 0, time.monotonic()
        self.on_progress({"rows": done, "loss": float(sums[0] / sums[2])})
        loss, correct, count = self._reduce(sums)
        if not math.isfinite(loss):
            raise JobError(
                f"the loss of epoch {epoch + 1} is not finite; lower train.learning_rate "
                f"({self.settings.learning_rate}) or train.clip_norm ({self.settings.clip_norm})"
            )
        seconds = time.monotonic() - began
        validation_loss, validation_correct, validation_count = self._evaluate(self.validation)
        return EpochResult(
            epoch=epoch + 1,
            train_loss=loss / count,
            train_accuracy=correct / count,
            validation_loss=validation_loss / validation_count if validation_count else None,
            validation_accuracy=validation_correct / validation_count if validation_count else None,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=seconds,
            tweets_per_second=count / seconds,
        )

    def _step(self, rows: np.ndarray) -> torch.Tensor:
        """Make one optimizer step on a global batch; returns this worker's sums."""
        own = rows[self.rank :: self.world_size]
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        if len(own):
            loss, sums = self._losses(self.train, own)
            (loss / len(rows)).backward()
        self._add_up_gradients()
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return sums

    def _losses(self, rows: EncodedRows, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the summed loss of some rows; and loss, correct and count as numbers."""
        batch = batching.collate(rows, chosen)
        labels = batch.labels.to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bf16):
            logits = self.network(batch.token_ids.to(self.device), batch.lengths.to(self.device))
        loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        correct = (logits.argmax(dim=1) == labels).sum()
        count = torch.tensor(len(chosen), device=self.device)
        return loss, torch.stack([loss.detach().double(), correct.double(), count.double()])

    def _evaluate(self, rows: EncodedRows) -> tuple[float, float, float]:
        """Sum loss, correct answers and count over all rows with a token, over all workers."""
        self.network.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        batches = batching.order_by_length(rows.lengths, batch_size=_EVALUATION_BATCH_SIZE)
        with torch.inference_mode():
            for chosen in batches[self.rank :: self.world_size]:
                sums += self._losses(rows, chosen)[1]
        return self._reduce(sums)

    def _add_up_gradients(self) -> None:
        """Sum the workers' gradients, in one message; each is already divided by the batch."""
        if self.world_size == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        start = 0
        for parameter in self.parameters:
            stop = start + parameter.numel()
            parameter.grad = flat[start:stop].view_as(parameter)
            start = stop

    def _reduce(self, sums: torch.Tensor) -> tuple[float, float, float]:
        if self.world_size > 1:
            torch.distributed.all_reduce(sums)
        loss, correct, count = sums.tolist()
        return loss, correct, count


def learning_rate_factor(schedule: str, num_steps: int) -> Callable[[int], float]:
    """Give the factor on the learning rate for each step.

    ``one_cycle``: along a cosine from 1/25 up to 1 in the first 30 % of the steps, then down to
    1e-5 (Smith 2018, with the defaults of PyTorch's OneCycleLR, the last step apart).
    """
    if schedule == "constant":
        return lambda step: 1.0
    peak = max(1.0, _WARM_UP_FRACTION * num_steps)

    def factor(step: int) -> float:
        low, part = (1 / 25, step / peak) if step < peak else (1e-5, _falling(step))
        return low + (1 - low) * (1 - math.cos(math.pi * part)) / 2

    def _falling(step: int) -> float:
        return max(0.0, (num_steps - step) / max(1.0, num_steps - peak))

    return factor
