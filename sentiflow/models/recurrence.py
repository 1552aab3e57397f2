"""Inputs of each step -> states of a recurrent layer, in either direction.

On a CPU in float32, the tanh layer and the gated layer (Cho et al. 2014) have CPU kernels with
gradients, and faster ones for inference. PyTorch's layers take up to 2 times as long to score and
1.5 times as long to train. LSTM and bf16 use PyTorch's layers; GPUs use :mod:`models.cudnn`.

The kernels for inference store u in place of the state h = 2 u - 1, because
tanh x = 2 sigmoid(2 x) - 1. The factors move into the weights, W h = 2 W u - W 1, and each step
needs half as many operations. The state before the first step is h = 0, so u = 1/2.

Shape: (T steps, B tweets, D features of the inputs, H of the states, G = H or 3 H of the gates)
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sentiflow.models import cpu, cudnn

_Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""Takes a step's gates, the states before it, and the tensor for the states after it."""
_ROWS = 256
"""Tweets are dropped from a batch in multiples of it: oneDNN compiles a product for each size."""


def encode_layer(
    layers: Sequence[nn.RNNBase], inputs: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Run a layer of one or two directions over tweets.

    Args:
        layers: The forward direction and, if there is one, the backward direction, as
            :func:`encode` takes them.
        inputs: ``(T, B, D)``.
        valid: ``(T, B)`` bool: the steps that hold a token, which are the first ones of each tweet.

    Returns:
        ``(T, B, H)`` or ``(T, B, 2 H)``, the forward half first; states of padding are undefined.
    """
    if inputs.device.type != "cpu":
        return cudnn.encode_layer(layers, inputs, valid)
    halves = [
        encode(layer, inputs, valid, backward=bool(number)) for number, layer in enumerate(layers)
    ]
    return halves[0] if len(halves) == 1 else torch.cat(halves, dim=-1)


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
    if layer.mode not in _TRAINING or not cpu.is_plain(inputs):
        return _encode_natively(layer, inputs, valid, backward)
    if infers_by_kernel(layer, inputs):
        return _encode_gates(layer, compute_gates(layer, inputs), valid, backward)
    return _TRAINING[layer.mode](layer, inputs, _make_mask(valid, backward), backward)


def infers_by_kernel(layer: nn.RNNBase, inputs: torch.Tensor) -> bool:
    """Whether a layer has a kernel for its inputs, and no gradient is needed."""
    return layer.mode in _GATES and cpu.is_plain(inputs) and not torch.is_grad_enabled()


def compute_gates(layer: nn.RNNBase, inputs: torch.Tensor) -> torch.Tensor:
    """Compute the share of the inputs ``(..., D)`` in the gates ``(..., G)``, for inference."""
    return _GATES[layer.mode](layer, inputs)


def encode_words(
    layer: nn.RNNBase,
    table: torch.Tensor,
    token_ids: torch.Tensor,
    lengths: torch.Tensor,
    *,
    backward: bool,
) -> torch.Tensor:
    """Do as :func:`encode`, but padding takes no time.

    Args:
        layer: As :func:`encode` takes it.
        table: ``(V, G)``, the gates of each word from :func:`compute_gates`.
        token_ids: ``(T, B)`` int64.
        lengths: ``(B,)`` int64, in ascending order: so the tweets that have a step are the last.
        backward: As :func:`encode` takes it.
    """
    assert bool((lengths.diff() >= 0).all())
    states = table.new_full((*token_ids.shape, layer.hidden_size), 0.5)
    none = torch.full_like(states[0], 0.5)
    step = _STEPS[layer.mode](layer)
    ended = np.searchsorted(lengths.numpy(), np.arange(len(states)), side="right")
    first = np.maximum(0, ended - (ended - len(lengths)) % _ROWS)
    for number, before in _order_steps(len(states), backward):
        rows = slice(first[number], None)
        gates = nn.functional.embedding(token_ids[number, rows], table)
        step(gates, (none if before is None else states[before])[rows], states[number, rows])
        states[number, first[number] : ended[number]] = 0.5
    return states.mul_(2).sub_(1)


def _encode_gates(
    layer: nn.RNNBase, gates: torch.Tensor, valid: torch.Tensor, backward: bool
) -> torch.Tensor:
    """Do as :func:`encode`, from the gates ``(T, B, G)`` of :func:`compute_gates`."""
    states = gates.new_empty(*gates.shape[:2], layer.hidden_size)
    none = torch.full_like(states[0], 0.5)
    mask = _make_mask(valid, backward)
    step = _STEPS[layer.mode](layer)
    for number, before in _order_steps(len(states), backward):
        step(gates[number], none if before is None else states[before], states[number])
        if mask is not None:
            torch.lerp(none, states[number], mask[number], out=states[number])
    return states.mul_(2).sub_(1)


def _make_mask(valid: torch.Tensor, backward: bool) -> torch.Tensor | None:
    """Make the mask ``(T, B, 1)`` of the steps with a token; None if it would change nothing."""
    return None if not backward or bool(valid.all()) else valid[:, :, None].float()


def _order_steps(num_steps: int, backward: bool) -> list[tuple[int, int | None]]:
    """List each step with the step before it, in the order of computation."""
    steps = range(num_steps)[::-1] if backward else range(num_steps)
    return list(zip(steps, [None, *steps], strict=False))


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
        for step, before in _order_steps(len(gate), backward):
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
        for step, _ in reversed(_order_steps(len(states), ctx.is_backward)):
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
        for step, before in _order_steps(len(gates), backward):
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
        for step, before in reversed(_order_steps(len(states), ctx.is_backward)):
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


def _gates_of_tanh(layer: nn.RNNBase, inputs: torch.Tensor) -> torch.Tensor:
    bias = layer.bias_ih_l0 + layer.bias_hh_l0 - layer.weight_hh_l0.sum(dim=1)
    return cpu.affine(inputs, 2 * layer.weight_ih_l0, 2 * bias)


def _step_of_tanh(layer: nn.RNNBase) -> _Step:
    """Step: ``u' = sigmoid(gate + V u)``."""
    weight = 4 * layer.weight_hh_l0

    def step(gates: torch.Tensor, state: torch.Tensor, out: torch.Tensor) -> None:
        torch.sigmoid(cpu.multiply_add(state, weight, gates), out=out)

    return step


def _gates_of_gru(layer: nn.RNNBase, inputs: torch.Tensor) -> torch.Tensor:
    scale = _scale_of_gru(layer)
    of_states = layer.bias_hh_l0 - layer.weight_hh_l0.sum(dim=1)
    bias = layer.bias_ih_l0 + of_states.masked_fill(scale == 2, 0)
    return cpu.affine(inputs, layer.weight_ih_l0 * scale[:, None], bias * scale)


def _step_of_gru(layer: nn.RNNBase) -> _Step:
    """Step: ``u' = v + z (u - v)``.

    ``r, z = sigmoid(gate + V u)`` and ``v = sigmoid(gate + r (V u + bias))``.
    """
    size, scale = 2 * layer.hidden_size, _scale_of_gru(layer)
    weight = 2 * layer.weight_hh_l0 * scale[:, None]
    of_states = layer.bias_hh_l0 - layer.weight_hh_l0.sum(dim=1)
    bias = 2 * of_states.masked_fill(scale == 1, 0)

    def step(gates: torch.Tensor, state: torch.Tensor, out: torch.Tensor) -> None:
        hidden = cpu.multiply(state, weight, bias)
        both = hidden[:, :size].add_(gates[:, :size]).sigmoid_()
        reset, update = both.chunk(2, dim=1)
        new = torch.addcmul(gates[:, size:], reset, hidden[:, size:]).sigmoid_()
        torch.lerp(new, state, update, out=out)

    return step


def _scale_of_gru(layer: nn.RNNBase) -> torch.Tensor:
    """Return the factors of the 3 H gates: 1 for reset and update, 2 for new, which is a tanh."""
    scale = torch.ones_like(layer.bias_hh_l0)
    scale[2 * layer.hidden_size :] = 2
    return scale


_TANH_GRADIENT = torch.ops.aten.tanh_backward.grad_input
_SIGMOID_GRADIENT = torch.ops.aten.sigmoid_backward.grad_input
_TRAINING: dict[str, Callable[..., torch.Tensor]] = {"RNN_TANH": _encode_tanh, "GRU": _encode_gru}
_GATES: dict[str, Callable[[nn.RNNBase, torch.Tensor], torch.Tensor]] = {
    "RNN_TANH": _gates_of_tanh,
    "GRU": _gates_of_gru,
}
_STEPS: dict[str, Callable[[nn.RNNBase], _Step]] = {
    "RNN_TANH": _step_of_tanh,
    "GRU": _step_of_gru,
}
