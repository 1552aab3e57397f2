"""Network + slices of global batches -> trained weights, and each epoch's figures.

The batches, the learning rate and the dropout follow from the seed and the step alone; with several
workers each takes its slices, so that the same optimizer steps are made whatever their number, and
a training that goes on from a checkpoint makes those that were left.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed
from torch import nn

from sentiflow.config.sections import TrainSettings
from sentiflow.errors import JobError, UserError
from sentiflow.models import batching
from sentiflow.models.batching import Batch, EncodedRows
from sentiflow.training import dropout_masks, schedules
from sentiflow.training.objectives import (
    NGRAMS,
    VECTORS,
    ClassificationObjective,
    LanguageModeling,
    Losses,
)
from sentiflow.training.virtual_shards import Slice, TrainInput, own_shards

_NGRAMS_EPS = 1e-3
"""Adam's epsilon for the n-grams' weights: with so large a one, rare n-grams stay small."""
LARGE_TABLES = (VECTORS, NGRAMS)

_EVALUATION_BATCH_SIZE = 1024
_STEPS_AHEAD = 32
"""On a GPU, so many steps may be under way before their figures are looked at."""


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
    gradient_norm: float
    """Mean over the steps, before clipping."""
    padding_fraction: float
    """Share of the cells of the padded batches that hold no token."""
    seconds: float
    """Of training alone."""
    tweets_per_second: float
    step: int
    """Optimizer steps made until then."""


@dataclass
class Sums:
    """Figures added up over rows, steps and workers."""

    loss: float = 0.0
    correct: float = 0.0
    rows: float = 0.0
    tokens: float = 0.0
    cells: float = 0.0
    """Of the padded batches."""
    gradient_norm: float = 0.0
    steps: float = 0.0
    seconds: float = 0.0

    def add(self, other: "Sums") -> None:
        """Add what came later."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def means(self) -> dict[str, float]:
        """Say what they come to for a row, a step and a second."""
        return {
            "loss": self.loss / max(1, self.rows),
            "accuracy": self.correct / max(1, self.rows),
            "gradient_norm": self.gradient_norm / max(1, self.steps),
            "padding_fraction": 1 - self.tokens / max(1, self.cells),
            "tweets_per_second": self.rows / max(1e-9, self.seconds),
        }


class Trainer:
    """The optimization of one network, with what it carries from step to step.

    One stands in each worker process, and they step in time with each other.
    """

    def __init__(
        self,
        *,
        settings: TrainSettings,
        objective: ClassificationObjective | LanguageModeling,
        train: TrainInput,
        validation: Iterable[EncodedRows],
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        """Make the optimizer.

        Args:
            settings: Of the stage.
            objective: On ``device``, the same weights in each worker; its parameters that require
                a gradient are trained.
            train: This worker's slices of the global batches.
            validation: This worker's share of the validation rows.
            rank: Of this worker.
            world_size: Number of workers.
            device: Of this worker.

        Raises:
            UserError: There is not one batch to train on.
        """
        self.settings, self.objective, self.device = settings, objective, device
        self.train, self.validation = train, validation
        self.rank, self.world_size = rank, world_size
        self.tuned = {
            name: parameter
            for name, parameter in objective.named_parameters()
            if parameter.requires_grad and objective.trains(name)
        }
        ngrams = {n: p for n, p in self.tuned.items() if n.startswith("network.ngrams.")}
        self.clipped = [p for n, p in self.tuned.items() if n not in ngrams]
        groups: list[dict[str, Any]] = [
            {"params": self.clipped, "peak": settings.learning_rate},
            {"params": list(ngrams.values()), "peak": settings.ngram_learning_rate}
            | {"eps": _NGRAMS_EPS, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.num_steps = sum(map(train.num_steps, range(settings.num_epochs)))
        if self.num_steps == 0:
            raise UserError(
                f"no full batch in the {train.num_rows:,} training rows",
                hint="lower train.batching.global_batch_size, or drop_last=false",
            )
        model = settings.model
        self._dropout = objective.network.dropout_of_features(
            inputs=model.dropout,
            output=model.dropout if model.output_dropout is None else model.output_dropout,
        )
        self.step = self.epoch = self.step_in_epoch = 0
        self.sums, self.recent = Sums(), Sums()
        self._pending: list[tuple[int, Slice, torch.Tensor]] = []
        self._not_finite: tuple[int, Slice] | None = None
        self._looked = time.monotonic()

    @property
    def uses_bf16(self) -> bool:
        """Say whether matrices are multiplied in bf16."""
        on_gpu = self.device.type == "cuda"
        return self.settings.precision == "bf16" or (self.settings.precision == "auto" and on_gpu)

    @property
    def rows_done(self) -> int:
        """Rows trained on so far, those of earlier epochs as often as there were epochs."""
        return self.epoch * self.train.num_rows + int(self.sums.rows)

    def train_epoch(self, after_step: Callable[[], None] = lambda: None) -> EpochResult:
        """Make the steps that are left of the present epoch, and evaluate.

        Args:
            after_step: Called after each optimizer step.

        Raises:
            JobError: A loss is not finite.
        """
        self.objective.train()
        self._freeze(self.epoch < self.settings.frozen_epochs)
        self._looked = time.monotonic()
        for part in self.train.slices(self.epoch, first_step=self.step_in_epoch):
            self._make_step(part)
            after_step()
        self._check_finite()
        loss, correct, count = self._evaluate()
        if not math.isfinite(loss):
            raise JobError(
                f"the validation loss after epoch {self.epoch + 1} is not finite; {self._remedy}"
            )
        means = self.sums.means()
        result = EpochResult(
            epoch=self.epoch + 1,
            train_loss=means.pop("loss"),
            train_accuracy=means.pop("accuracy"),
            validation_loss=loss / count if count else None,
            validation_accuracy=correct / count if count else None,
            learning_rate=self.learning_rate,
            seconds=self.sums.seconds,
            step=self.step,
            **means,
        )
        self.epoch, self.step_in_epoch, self.sums = self.epoch + 1, 0, Sums()
        return result

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return self.settings.learning_rate * self._rate_factor(max(0, self.step - 1))

    def _rate_factor(self, step: int) -> float:
        return schedules.factor(self.settings.schedule, step, self.num_steps)

    @property
    def is_sound(self) -> bool:
        """Say whether the losses of all steps made are finite, so that the weights are of use."""
        self._settle()
        return self._not_finite is None

    def take_recent(self) -> dict[str, float]:
        """Give the mean figures since the last time."""
        self._settle()
        recent, self.recent = self.recent, Sums()
        return recent.means() | {"learning_rate": self.learning_rate}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give all that must be saved to go on, with :meth:`position`."""
        found = {f"weights/{n}": tensor for n, tensor in self.objective.state_dict().items()}
        for name, parameter in self.tuned.items():
            for key, tensor in self.optimizer.state[parameter].items():
                found[f"optimizer/{name}/{key}"] = tensor
        return found

    def position(self) -> dict[str, Any]:
        """Say where the training stands, in what JSON can hold."""
        self._settle()
        names = ("step", "epoch", "step_in_epoch")
        return {name: getattr(self, name) for name in names} | {"sums": asdict(self.sums)}

    def resume(self, tensors: dict[str, torch.Tensor], position: dict[str, Any]) -> None:
        """Go on from what :meth:`tensors` and :meth:`position` gave, with any number of workers."""
        prefix = "weights/"
        weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        self.objective.load_state_dict(weights)
        for name, parameter in self.tuned.items():
            prefix = f"optimizer/{name}/"
            state = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if state:
                self.optimizer.state[parameter] = {k: t.to(self.device) for k, t in state.items()}
        self.step, self.epoch = position["step"], position["epoch"]
        self.step_in_epoch, self.sums = position["step_in_epoch"], Sums(**position["sums"])

    def _freeze(self, frozen: bool) -> None:
        """Let the word vectors rest, or learn if they may."""
        for name, parameter in self.tuned.items():
            if name == VECTORS:
                parameter.requires_grad_(not frozen)

    def _make_step(self, part: Slice) -> None:
        """Make one optimizer step on a global batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self._rate_factor(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(5, device=self.device)
        batch = None
        if len(part.chosen):
            batch = batching.collate(part.rows, part.chosen)
            sizes = (len(part.chosen), int(batch.lengths.sum()), batch.token_ids.numel())
            counts = torch.tensor(sizes, dtype=torch.float32).to(self.device, non_blocking=True)
            batch = batch.to(self.device)
            losses = self._losses(batch, self._draw_noise(part))
            (losses.trained.sum() / part.global_size).backward()
            shown = torch.stack([losses.shown.sum(), losses.correct.float()])
            sums = torch.cat([shown, counts])
        sums = self._add_up(sums, batch)
        limit = self.settings.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.clipped, limit)
        self.optimizer.step()
        self.step, self.step_in_epoch = self.step + 1, self.step_in_epoch + 1
        self._pending.append((self.step, part, torch.cat([sums, norm[None]])))
        if self.device.type == "cpu" or self.step % _STEPS_AHEAD == 0:
            self._check_finite()

    def _draw_noise(self, part: Slice) -> torch.Tensor | None:
        if not self._dropout.any():
            return None
        own = own_shards(self.rank, self.world_size)
        drawn = dropout_masks.draw(
            part.lane_sizes[own.start : own.stop].tolist(),
            dropout=self._dropout,
            seed=self.settings.seed,
            step=self.step,
            first_lane=own.start,
        )
        return drawn.to(self.device, non_blocking=True)

    def _losses(self, batch: Batch, drawn: torch.Tensor | None = None) -> Losses:
        """Compute the losses of a batch on the device."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bf16):
            return self.objective(batch, drawn, self.step)

    def _add_up(self, sums: torch.Tensor, batch: Batch | None) -> torch.Tensor:
        """Add up the workers' gradients and figures in one message; returns the figures.

        Each gradient is already divided by the batch. Of the large tables only the rows travel
        that a worker has used: they are a small part, and the tables most of the network.
        """
        if self.world_size == 1:
            return sums
        rows = self._used_rows(batch)
        gradients = []
        for name, parameter in self.tuned.items():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                whole = parameter.grad
                gradients.append((whole, rows.get(name)))
        sent = [whole if used is None else whole[used] for whole, used in gradients]
        flat = torch.cat([sums, *(tensor.flatten() for tensor in sent)])
        torch.distributed.all_reduce(flat)
        received = flat[len(sums) :].split([tensor.numel() for tensor in sent])
        for (whole, used), tensor, summed in zip(gradients, sent, received, strict=True):
            whole[slice(None) if used is None else used] = summed.view_as(tensor)
        return flat[: len(sums)]

    def _used_rows(self, batch: Batch | None) -> dict[str, torch.Tensor]:
        """Number the rows of the large tables of which any worker has a gradient."""
        tables = [n for n in LARGE_TABLES if n in self.tuned and self.tuned[n].requires_grad]
        if not tables:
            return {}
        sizes = [len(self.tuned[name]) for name in tables]
        used = torch.zeros(sum(sizes), dtype=torch.uint8, device=self.device)
        own = {} if batch is None else self.objective.used_rows(batch, self.step)
        for name, marks in zip(tables, used.split(sizes), strict=True):
            if name in own:
                marks[own[name]] = 1
        torch.distributed.all_reduce(used, torch.distributed.ReduceOp.MAX)
        marked = used.split(sizes)
        return {n: m.nonzero().squeeze(1) for n, m in zip(tables, marked, strict=True)}

    def _settle(self) -> None:
        """Look at the figures of the steps made; this waits for a GPU."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        now = time.monotonic()
        found = torch.stack([figures for *_, figures in pending]).tolist()
        for (step, part, _), figures in zip(pending, found, strict=True):
            if not math.isfinite(figures[0]):
                self._not_finite = self._not_finite or (step, part)
            sums = Sums(*figures)
            sums.steps, sums.seconds = 1, (now - self._looked) / len(pending)
            self.sums.add(sums)
            self.recent.add(sums)
        self._looked = now

    def _check_finite(self) -> None:
        """Make sure that all losses so far are finite; the workers come here together.

        Raises:
            JobError: One is not.
        """
        self._settle()
        if self._not_finite is None:
            return
        step, part = self._not_finite
        first_lane = own_shards(self.rank, self.world_size).start
        start = int(part.lane_sizes[:first_lane].sum())
        row_ids = torch.zeros(part.global_size, dtype=torch.int64)
        row_ids[start : start + len(part.chosen)] = torch.from_numpy(part.rows.row_ids[part.chosen])
        row_ids = row_ids.to(self.device)
        if self.world_size > 1:
            torch.distributed.all_reduce(row_ids)
        raise JobError(
            f"the loss of step {step} (epoch {self.epoch + 1}) is not finite; {self._remedy}, "
            f"or look at the batch's rows: {', '.join(map(str, row_ids.tolist()))}"
        )

    @property
    def _remedy(self) -> str:
        rate, norm = self.settings.learning_rate, self.settings.clip_norm
        return f"lower train.learning_rate ({rate}) or train.clip_norm ({norm})"

    def _evaluate(self) -> tuple[float, float, float]:
        """Sum loss, correct answers and count over all rows with a token, over all workers."""
        self.objective.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for rows in self.validation:
                batches = batching.order_by_length(rows.lengths, batch_size=_EVALUATION_BATCH_SIZE)
                for chosen in batches:
                    batch = batching.collate(rows, chosen).to(self.device)
                    losses = self._losses(batch)
                    shown = losses.shown.double().sum()
                    count = torch.tensor(len(chosen), device=self.device).double()
                    sums += torch.stack([shown, losses.correct.double(), count])
        if self.world_size > 1:
            torch.distributed.all_reduce(sums)
        loss, correct, count = sums.tolist()
        return loss, correct, count
