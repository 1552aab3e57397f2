"""What the workers of a training tell each other. A single worker needs no process group."""

from typing import TypeVar

import torch
import torch.distributed

T = TypeVar("T")


def find_rank() -> tuple[int, int]:
    """Find this worker's rank and the number of workers."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    """Add up the workers' tensors in place, and return the sum. All workers call this together."""
    if find_rank()[1] > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def gather(value: T) -> list[T]:
    """Collect a picklable value from each worker, by rank. All workers call this together."""
    _, world_size = find_rank()
    values = [value] * world_size
    if world_size > 1:
        torch.distributed.all_gather_object(values, value)
    return values
