"""What the workers of a training tell each other. A single worker needs no process group."""

from typing import TypeVar

import torch
import torch.distributed

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


def gather(value: T) -> list[T]:
    """Collect a picklable value from each worker, by rank. All workers call this together."""
    values = [value] * world_size()
    if len(values) > 1:
        torch.distributed.all_gather_object(values, value)
    return values
