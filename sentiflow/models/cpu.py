"""Fast linear maps and tanh in float32 on a CPU.

Matrices are multiplied by oneDNN, which uses the full vector width of any processor. PyTorch's own
products use MKL, which uses half of it on AMD. :func:`affine` and :func:`tanh` call PyTorch's
functions on a GPU, for other types, and under autocast.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_SMALL = 1 << 19
"""Below this many multiplications a call of oneDNN costs more than it gains."""
_ROWS = 2048
"""Rows multiplied at a time: they fit the processor's cache."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread: small products gain nothing from several."""
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


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is float32 on the CPU, and autocast will not change that."""
    is_cpu = tensor.device.type == "cpu" and tensor.dtype == torch.float32
    return is_cpu and not torch.is_autocast_enabled("cpu")


def _is_faster(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN can multiply two matrices, and is faster than PyTorch."""
    is_large = len(inputs) * weight.numel() >= _SMALL
    return _LINEAR is not None and is_large and inputs.device.type == "cpu"


def multiply(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute ``inputs @ weight.T + bias`` of float32 matrices, without gradient.

    Shape:
        - inputs: ``(M, K)``.
        - weight: ``(N, K)``.
        - bias: ``(N,)``.
        - returns: ``(M, N)``.
    """
    if not _is_faster(inputs, weight):
        return nn.functional.linear(inputs, weight, bias)
    return _LINEAR(inputs, weight, bias, "none", [], "")


def multiply_add(inputs: torch.Tensor, weight: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Compute ``inputs @ weight.T + other`` of float32 matrices, without gradient."""
    if not _is_faster(inputs, weight):
        return torch.addmm(other, inputs, weight.T)
    return _LINEAR.binary(inputs, other, weight, None, "add")


def multiply_sides(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Compute ``left.T @ right`` of float32 ``(R, M)`` and ``(R, N)``, without gradient."""
    if left.device.type != "cpu":
        return left.T @ right
    pairs = zip(left.split(_ROWS), right.split(_ROWS), strict=True)
    products = (multiply(a.T, b.T) for a, b in pairs)
    return functools.reduce(torch.Tensor.add_, products)


def tanh_(tensor: torch.Tensor) -> torch.Tensor:
    """Replace x by tanh x = 2 sigmoid(2 x) - 1, with an error of at most 2e-7.

    PyTorch's tanh takes ten times as long.
    """
    return tensor.mul_(2).sigmoid_().mul_(2).sub_(1)


def affine(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Compute ``inputs @ weight.T + bias`` for ``(..., K)``."""
    if not is_plain(inputs):
        return nn.functional.linear(inputs, weight, bias)
    flat = inputs.flatten(end_dim=-2)
    return _Affine.apply(flat, weight, bias).unflatten(0, inputs.shape[:-1])


def tanh(tensor: torch.Tensor) -> torch.Tensor:
    """Compute the hyperbolic tangent."""
    return _Tanh.apply(tensor) if is_plain(tensor) else torch.tanh(tensor)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        return multiply(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs = multiply(gradient, weight.T) if ctx.needs_input_grad[0] else None
        return of_inputs, multiply_sides(gradient, inputs), gradient.sum(dim=0)


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        found = tanh_(tensor.clone())
        ctx.save_for_backward(found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (found,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, found)
