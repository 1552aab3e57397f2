"""Inputs of each step -> states of a recurrent layer, in either direction.

On a CPU in float32, the tanh layer and the gated layer (Cho et al. 2014) have CPU kernels with
gradients. PyTorch's layers take up to 2 times as long to score and 1.5 times as long to train.
LSTM, GPUs and bf16 use PyTorch's layers.

Shape: (T steps, B tweets, D features of the inputs, H of the states)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sentiflow.models import cpu, inference_kernels


def encode(
    layer: nn.RNNBase, inputs: torch.Tensor, valid: torch.Tensor, *, backward: bool = False
) -> torch.Tensor:
    """Run a unidirectional layer over tweets.

    Args:
        layer: An ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` of one layer, steps before tweets.
        inputs: ``(T, B, D)``.
        valid: ``(T, B)`` bool: the steps that hold a token, which are the first ones of each tweet.
        backward: Run over each tweet from its own last token to its first.

    Returns:
        ``(T, B, H)``, the state after each token; states of padding are undefined.
    """
    kernel = _KERNELS.get(layer.mode)
    if kernel is None or not cpu.is_plain(inputs):
        return _encode_natively(layer, inputs, valid, backward)
    mask = make_mask(valid, backward=backward)
    if inference_kernels.supports(layer, inputs):
        gates = inference_kernels.compute_gates(layer, inputs)
        return inference_kernels.encode(layer, gates, mask, backward=backward)
    return kernel(layer, inputs, mask, backward)


def make_mask(valid: torch.Tensor, *, backward: bool) -> torch.Tensor | None:
    """Make the mask ``(T, B, 1)`` of the steps with a token; None if it would change nothing."""
    return None if not backward or bool(valid.all()) else valid[:, :, None].float()


def _encode_natively(
    layer: nn.RNNBase, inputs: torch.Tensor, valid: torch.Tensor, backward: bool
) -> torch.Tensor:
    """Run PyTorch's layer. For the backward direction each tweet's own steps are reversed.

    Packed sequences would do the same, but on short tweets they are several times slower.
    """
    if not backward:
        return layer(inputs)[0]
    steps = torch.arange(len(valid), device=valid.device)[:, None]
    source = torch.where(valid, valid.sum(dim=0) - 1 - steps, steps)
    return _permute(layer(_permute(inputs, source))[0], source)


def _permute(states: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Reorder states: step t of tweet b is taken from step ``source[t, b]``."""
    return states.gather(0, source[:, :, None].expand(-1, -1, states.shape[2]))


def _of_weight(states: torch.Tensor, gradients: torch.Tensor, backward: bool) -> torch.Tensor:
    """Sum the gradient of the hidden weight over the steps."""
    before, after = (states[1:], gradients[:-1]) if backward else (states[:-1], gradients[1:])
    return cpu.multiply_sides(after.flatten(end_dim=1), before.flatten(end_dim=1))


def _encode_tanh(
    layer: nn.RNNBase, inputs: torch.Tensor, mask: torch.Tensor | None, backward: bool
) -> torch.Tensor:
    gate = cpu.affine(inputs, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    return _TanhKernel.apply(gate, layer.weight_hh_l0, mask, backward)


class _TanhKernel(torch.autograd.Function):
    """h' = tanh(gate + W h)."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: torch.Tensor,
        weight: torch.Tensor,
        mask: torch.Tensor | None,
        backward: bool,
    ) -> torch.Tensor:
        states = torch.empty_like(gate)
        for step, before in inference_kernels.order_steps(len(gate), backward):
            if before is None:
                total = gate[step].clone()
            else:
                total = cpu.multiply_add(states[before], weight, gate[step])
            state = cpu.tanh_(total)
            states[step] = state if mask is None else state.mul_(mask[step])
        ctx.save_for_backward(states, weight, mask)
        ctx.is_backward = backward
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, mask = ctx.saved_tensors
        of_gate, transposed = torch.empty_like(states), weight.T.contiguous()
        after = None
        for step, _ in reversed(inference_kernels.order_steps(len(states), ctx.is_backward)):
            of_state = gradient[step]
            if after is not None:
                of_state = cpu.multiply_add(of_gate[after], transposed, of_state)
            if mask is not None:
                of_state = of_state * mask[step]
            _TANH_GRADIENT(of_state, states[step], grad_input=of_gate[step])
            after = step
        return of_gate, _of_weight(states, of_gate, ctx.is_backward), None, None


def _encode_gru(
    layer: nn.RNNBase, inputs: torch.Tensor, mask: torch.Tensor | None, backward: bool
) -> torch.Tensor:
    of_gates, of_new = layer.bias_hh_l0.tensor_split([2 * layer.hidden_size])
    bias = layer.bias_ih_l0 + nn.functional.pad(of_gates, (0, layer.hidden_size))
    gates = cpu.affine(inputs, layer.weight_ih_l0, bias)
    return _GruKernel.apply(gates, layer.weight_hh_l0, of_new, mask, backward)


class _GruKernel(torch.autograd.Function):
    """The gated recurrent unit. ``gates`` and W have PyTorch's order: reset r, update z, new n.

    r, z = sigmoid(gates + W h); n = tanh(gates + r (W h + bias)); h' = n + z (h - n).
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        mask: torch.Tensor | None,
        backward: bool,
    ) -> torch.Tensor:
        size = len(bias)
        states = gates.new_empty(*gates.shape[:2], size)
        first, kept = torch.zeros_like(states[0]), []
        for step, before in inference_kernels.order_steps(len(gates), backward):
            state = first if before is None else states[before]
            hidden = cpu.multiply(state, weight).split(size, dim=1)
            gate = gates[step].split(size, dim=1)
            reset = torch.add(gate[0], hidden[0]).sigmoid_()
            update = torch.add(gate[1], hidden[1]).sigmoid_()
            hidden_new = hidden[2] + bias
            new = cpu.tanh_(torch.addcmul(gate[2], reset, hidden_new))
            torch.lerp(new, state, update, out=states[step])
            if mask is not None:
                states[step].mul_(mask[step])
            kept += [reset, update, hidden_new, new]
        ctx.save_for_backward(states, weight, mask, *kept)
        ctx.is_backward = backward
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, mask, *kept = ctx.saved_tensors
        size, transposed = states.shape[2], weight.T.contiguous()
        of_gates, of_hidden = (states.new_empty(*states.shape[:2], 3 * size) for _ in range(2))
        first, carried = torch.zeros_like(states[0]), torch.zeros_like(states[0])
        for step, before in reversed(inference_kernels.order_steps(len(states), ctx.is_backward)):
            state = first if before is None else states[before]
            *kept, reset, update, hidden_new, new = kept
            of_state = carried.add_(gradient[step])
            if mask is not None:
                of_state.mul_(mask[step])
            of_reset, of_update, of_hidden_new = of_hidden[step].split(size, dim=1)
            of_new = of_gates[step, :, 2 * size :]
            _SIGMOID_GRADIENT((state - new).mul_(of_state), update, grad_input=of_update)
            passed = of_state * update
            _TANH_GRADIENT(of_state.sub_(passed), new, grad_input=of_new)
            torch.mul(of_new, reset, out=of_hidden_new)
            _SIGMOID_GRADIENT(of_new * hidden_new, reset, grad_input=of_reset)
            carried = cpu.multiply(of_hidden[step], transposed).add_(passed)
        of_gates[:, :, : 2 * size] = of_hidden[:, :, : 2 * size]
        of_weight = _of_weight(states, of_hidden, ctx.is_backward)
        of_bias = of_hidden[:, :, 2 * size :].sum(dim=(0, 1))
        return of_gates, of_weight, of_bias, None, None


_TANH_GRADIENT = torch.ops.aten.tanh_backward.grad_input
_SIGMOID_GRADIENT = torch.ops.aten.sigmoid_backward.grad_input
_KERNELS: dict[str, Callable[..., torch.Tensor]] = {"RNN_TANH": _encode_tanh, "GRU": _encode_gru}
