"""Fast linear maps and tanh in float32 on a CPU, for inference.

Matrices are multiplied by oneDNN, which uses the full vector width of any processor. PyTorch's own
products use MKL, which uses half of it on AMD. :func:`affine` and :func:`tanh` call PyTorch's
functions on a GPU, for other types, under autocast, and where a gradient is needed.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""oneDNN's matrix product, a private function of PyTorch; None if this PyTorch does not have it."""
_SMALL = 1 << 19
"""Below this many multiplications a call of oneDNN costs more than it gains."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread: small products gain nothing from several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_kernels(tensor: torch.Tensor) -> bool:
    """Whether a tensor is float32 on the CPU, without autocast, and no gradient is needed."""
    is_plain = tensor.device.type == "cpu" and tensor.dtype == torch.float32
    return is_plain and not torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()


def _is_faster(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN can multiply two matrices, and is faster than PyTorch."""
    is_large = inputs.shape[:-1].numel() * weight.numel() >= _SMALL
    return _LINEAR is not None and is_large and has_kernels(inputs)


def affine(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute ``inputs @ weight.T + bias``.

    Shape:
        - inputs: ``(..., K)``.
        - weight: ``(N, K)``.
        - bias: ``(N,)``.
        - returns: ``(..., N)``.
    """
    if not _is_faster(inputs, weight):
        return nn.functional.linear(inputs, weight, bias)
    rows = inputs.flatten(end_dim=-2)
    return _LINEAR(rows, weight, bias, "none", [], "").unflatten(0, inputs.shape[:-1])


def multiply_add(inputs: torch.Tensor, weight: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Compute ``inputs @ weight.T + other`` of matrices."""
    if not _is_faster(inputs, weight):
        return torch.addmm(other, inputs, weight.T)
    return _LINEAR.binary(inputs, other, weight, None, "add")


def tanh(tensor: torch.Tensor) -> torch.Tensor:
    """Compute tanh x = 2 sigmoid(2 x) - 1, with an error of at most 2e-7.

    PyTorch's tanh takes ten times as long.
    """
    if not has_kernels(tensor):
        return torch.tanh(tensor)
    return tensor.mul(2).sigmoid_().mul_(2).sub_(1)
