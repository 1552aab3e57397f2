"""What the workers of a training send each other: values, and the sums of their gradients.

A single worker needs no process group.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed
from torch import nn

from sentiflow.training.objectives import VECTORS

T = TypeVar("T")


def rank() -> int:
    """Return this worker's rank."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of workers."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    """Add up the workers' tensors in place, and return the sum. All workers call this together."""
    if world_size() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def add_arrays(array: np.ndarray) -> np.ndarray:
    """Add up the workers' arrays, on GPUs if the workers have them, and return the sum.

    The worker's own array may be overwritten. All workers call this together.
    """
    tensor = torch.from_numpy(array)
    if world_size() > 1 and torch.distributed.get_backend() == "nccl":
        tensor = tensor.cuda()
    return all_reduce(tensor).cpu().numpy()


def gather(value: T) -> list[T]:
    """Collect a picklable value from each worker, by rank. All workers call this together."""
    values = [value] * world_size()
    if len(values) > 1:
        torch.distributed.all_gather_object(values, value)
    return values


class _GradientPart(NamedTuple):
    """The rows of a parameter's gradient that are sent."""

    gradient: torch.Tensor
    rows: torch.Tensor | slice


def sum_gradients(
    tuned: Mapping[str, nn.Parameter], used: torch.Tensor | None, sums: torch.Tensor
) -> torch.Tensor:
    """Sum the gradients and metrics of all workers in one message; return the metrics.

    Each gradient is already divided by the global batch size. The word vectors hold most of the
    network's weights, and a batch uses few of them: only used rows are sent. A short message
    before tells all workers which rows these are.

    Args:
        tuned: Parameters of the training by name, with this worker's gradients, which are
            replaced. Those without a gradient are skipped.
        used: Word vectors for which this worker has a gradient; None if there are none.
        sums: This worker's metrics.
    """
    trained = {name: parameter for name, parameter in tuned.items() if parameter.requires_grad}
    parts: list[_GradientPart] = []
    for name, parameter in trained.items():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        rows: torch.Tensor | slice = slice(None)
        if name == VECTORS:
            rows = _join_rows(len(parameter), used, sums.device)
        parts.append(_GradientPart(gradient=parameter.grad, rows=rows))
    sent = [part.gradient[part.rows] for part in parts]
    message = torch.cat([sums, *(tensor.flatten() for tensor in sent)])
    all_reduce(message)
    received = message[len(sums) :].split([tensor.numel() for tensor in sent])
    for part, tensor, summed in zip(parts, sent, received, strict=True):
        part.gradient[part.rows] = summed.view_as(tensor)
    return message[: len(sums)]


def _join_rows(num_rows: int, used: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """Find the word vectors for which any worker has a gradient."""
    marks = torch.zeros(num_rows, dtype=torch.uint8, device=device)
    if used is not None:
        marks[used] = 1
    return all_reduce(marks).nonzero().squeeze(1)
