"""Inputs of each step -> states of a recurrent layer, read in either direction.

On a CPU in float32 the tanh and the gated layer (Cho et al. 2014) run by loops of our own, with
their gradients: PyTorch's take up to twice as long to score and half as long again to train.
Everything else (LSTM, GPU, bf16) is PyTorch's.

Shape: (T steps, B tweets, D features of the inputs, H of the states)
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sentiflow.models import cpu, inference


def read(
    layer: nn.RNNBase, inputs: torch.Tensor, valid: torch.Tensor, *, backward: bool = False
) -> torch.Tensor:
    """Let a layer of one direction read tweets.

    Args:
        layer: An ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` of one layer, steps before tweets.
        inputs: ``(T, B, D)``.
        valid: ``(T, B)`` bool: the steps that hold a token, the first ones of each tweet.
        backward: Read each tweet from its own last token to its first.

    Returns:
        ``(T, B, H)``, the state after each token; padding's mean nothing.
    """
    loop = _LOOPS.get(layer.mode)
    if loop is None or not cpu.is_plain(inputs):
        return _read_natively(layer, inputs, valid, backward)
    mask = mask_of(valid, backward=backward)
    if inference.can_read(layer, inputs):
        gates = inference.to_gates(layer, inputs)
        return inference.read(layer, gates, mask, backward=backward)
    return loop(layer, inputs, mask, backward)


def mask_of(valid: torch.Tensor, *, backward: bool) -> torch.Tensor | None:
    """Make the mask ``(T, B, 1)`` of the steps that hold a token; None where it changes nothing."""
    return None if not backward or bool(valid.all()) else valid[:, :, None].float()


def _read_natively(
    layer: nn.RNNBase, inputs: torch.Tensor, valid: torch.Tensor, backward: bool
) -> torch.Tensor:
    """Let PyTorch read; backwards each tweet's own steps are mirrored before and after.

    No packing is needed then; on short tweets it is several times slower than padding.
    """
    if not backward:
        return layer(inputs)[0]
    steps = torch.arange(len(valid), device=valid.device)[:, None]
    places = torch.where(valid, valid.sum(dim=0) - 1 - steps, steps)
    return _permute(layer(_permute(inputs, places))[0], places)


def _permute(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Reorder states: step t of tweet b comes from step ``places[t, b]``."""
    return states.gather(0, places[:, :, None].expand(-1, -1, states.shape[2]))


def _of_weight(states: torch.Tensor, gradients: torch.Tensor, backward: bool) -> torch.Tensor:
    """Sum, over the steps, the gradient of the weight that each state was multiplied with."""
    before, after = (states[1:], gradients[:-1]) if backward else (states[:-1], gradients[1:])
    return cpu.multiply_sides(after.flatten(end_dim=1), before.flatten(end_dim=1))


def _read_tanh(
    layer: nn.RNNBase, inputs: torch.Tensor, mask: torch.Tensor | None, backward: bool
) -> torch.Tensor:
    gate = cpu.affine(inputs, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    return _TanhLoop.apply(gate, layer.weight_hh_l0, mask, backward)


class _TanhLoop(torch.autograd.Function):
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
        for step, before in inference.order_steps(len(gate), backward):
            if before is None:
                total = gate[step].clone()
            else:
                total = cpu.multiply_add(states[before], weight, gate[step])
            state = cpu.tanh_(total)
            states[step] = state if mask is None else state.mul_(mask[step])
        ctx.save_for_backward(states, weight, mask)
        ctx.reads_backward = backward
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, mask = ctx.saved_tensors
        of_gate, transposed = torch.empty_like(states), weight.T.contiguous()
        after = None
        for step, _ in reversed(inference.order_steps(len(states), ctx.reads_backward)):
            of_state = gradient[step]
            if after is not None:
                of_state = cpu.multiply_add(of_gate[after], transposed, of_state)
            if mask is not None:
                of_state = of_state * mask[step]
            _TANH_GRADIENT(of_state, states[step], grad_input=of_gate[step])
            after = step
        return of_gate, _of_weight(states, of_gate, ctx.reads_backward), None, None


def _read_gated(
    layer: nn.RNNBase, inputs: torch.Tensor, mask: torch.Tensor | None, backward: bool
) -> torch.Tensor:
    of_gates, of_new = layer.bias_hh_l0.tensor_split([2 * layer.hidden_size])
    bias = layer.bias_ih_l0 + nn.functional.pad(of_gates, (0, layer.hidden_size))
    gates = cpu.affine(inputs, layer.weight_ih_l0, bias)
    return _GatedLoop.apply(gates, layer.weight_hh_l0, of_new, mask, backward)


class _GatedLoop(torch.autograd.Function):
    """The gated recurrent unit; PyTorch's order in ``gates`` and W: reset r, update z, new n.

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
        for step, before in inference.order_steps(len(gates), backward):
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
        ctx.reads_backward = backward
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, mask, *kept = ctx.saved_tensors
        size, transposed = states.shape[2], weight.T.contiguous()
        of_gates, of_hidden = (states.new_empty(*states.shape[:2], 3 * size) for _ in range(2))
        first, carried = torch.zeros_like(states[0]), torch.zeros_like(states[0])
        for step, before in reversed(inference.order_steps(len(states), ctx.reads_backward)):
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
        of_weight = _of_weight(states, of_hidden, ctx.reads_backward)
        of_bias = of_hidden[:, :, 2 * size :].sum(dim=(0, 1))
        return of_gates, of_weight, of_bias, None, None


_TANH_GRADIENT = torch.ops.aten.tanh_backward.grad_input
_SIGMOID_GRADIENT = torch.ops.aten.sigmoid_backward.grad_input
_LOOPS: dict[str, Any] = {"RNN_TANH": _read_tanh, "GRU": _read_gated}
