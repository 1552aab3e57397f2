"""CPU kernels of recurrent layers in float32, for inference only: gates of each step -> states.

The kernels store u in place of the state h = 2 u - 1, because tanh x = 2 sigmoid(2 x) - 1. The
factors move into the weights, W h = 2 W u - W 1, and each step needs half as many operations. The
state before the first step is h = 0, so u = 1/2.

Shape: (T steps, B tweets, D features of the inputs, H of the states, G = H or 3 H of the gates)
"""

from collections.abc import Callable

import torch
from torch import nn

from sentiflow.models import cpu

_Step = Callable[[int, torch.Tensor, torch.Tensor], None]
"""Takes the number of a step, the states before it, and the tensor for the states after it."""


def supports(layer: nn.RNNBase, inputs: torch.Tensor) -> bool:
    """Whether there is a kernel for a layer and its inputs, and no gradient is needed."""
    return layer.mode in _KERNELS and cpu.is_plain(inputs) and not torch.is_grad_enabled()


def compute_gates(layer: nn.RNNBase, inputs: torch.Tensor) -> torch.Tensor:
    """Compute the share of the inputs ``(..., D)`` in the gates ``(..., G)``."""
    return _GATES[layer.mode](layer, inputs)


def encode(
    layer: nn.RNNBase, gates: torch.Tensor, mask: torch.Tensor | None, *, backward: bool
) -> torch.Tensor:
    """Run a unidirectional layer over tweets.

    Args:
        layer: An ``nn.RNN`` or ``nn.GRU``.
        gates: From :func:`compute_gates`, ``(T, B, G)``.
        mask: ``(T, B, 1)``, 0 where a step holds no token, 1 elsewhere; None if all hold one.
        backward: Run over each tweet from its last token to its first.

    Returns:
        ``(T, B, H)``, the state after each token; 0 where the mask is 0.
    """
    states = gates.new_empty(*gates.shape[:2], layer.hidden_size)
    none = torch.full_like(states[0], 0.5)
    step = _KERNELS[layer.mode](layer, gates)
    for number, before in order_steps(len(states), backward):
        step(number, none if before is None else states[before], states[number])
        if mask is not None:
            torch.lerp(none, states[number], mask[number], out=states[number])
    return states.mul_(2).sub_(1)


def order_steps(num_steps: int, backward: bool) -> list[tuple[int, int | None]]:
    """List each step with the step before it, in the order of computation."""
    steps = list(range(num_steps))
    if backward:
        steps.reverse()
    return list(zip(steps, [None, *steps], strict=False))


def _gates_of_tanh(layer: nn.RNNBase, inputs: torch.Tensor) -> torch.Tensor:
    bias = layer.bias_ih_l0 + layer.bias_hh_l0 - layer.weight_hh_l0.sum(dim=1)
    return cpu.affine(inputs, 2 * layer.weight_ih_l0, 2 * bias)


def _tanh_kernel(layer: nn.RNNBase, gates: torch.Tensor) -> _Step:
    """Step: ``u' = sigmoid(gate + V u)``."""
    weight = 4 * layer.weight_hh_l0

    def step(number: int, state: torch.Tensor, out: torch.Tensor) -> None:
        torch.sigmoid(cpu.multiply_add(state, weight, gates[number]), out=out)

    return step


def _gates_of_gru(layer: nn.RNNBase, inputs: torch.Tensor) -> torch.Tensor:
    scale = _scale_of_gru(layer)
    of_states = layer.bias_hh_l0 - layer.weight_hh_l0.sum(dim=1)
    bias = layer.bias_ih_l0 + of_states.masked_fill(scale == 2, 0)
    return cpu.affine(inputs, layer.weight_ih_l0 * scale[:, None], bias * scale)


def _gru_kernel(layer: nn.RNNBase, gates: torch.Tensor) -> _Step:
    """Step: ``u' = v + z (u - v)``.

    ``r, z = sigmoid(gate + V u)`` and ``v = sigmoid(gate + r (V u + bias))``.
    """
    size, scale = 2 * layer.hidden_size, _scale_of_gru(layer)
    weight = 2 * layer.weight_hh_l0 * scale[:, None]
    of_states = layer.bias_hh_l0 - layer.weight_hh_l0.sum(dim=1)
    bias = 2 * of_states.masked_fill(scale == 1, 0)

    def step(number: int, state: torch.Tensor, out: torch.Tensor) -> None:
        gate, hidden = gates[number], cpu.multiply(state, weight, bias)
        both = hidden[:, :size].add_(gate[:, :size]).sigmoid_()
        reset, update = both.chunk(2, dim=1)
        new = torch.addcmul(gate[:, size:], reset, hidden[:, size:]).sigmoid_()
        torch.lerp(new, state, update, out=out)

    return step


def _scale_of_gru(layer: nn.RNNBase) -> torch.Tensor:
    """Return the factors of the 3 H gates: 1 for reset and update, 2 for new, which is a tanh."""
    scale = torch.ones_like(layer.bias_hh_l0)
    scale[2 * layer.hidden_size :] = 2
    return scale


_GATES: dict[str, Callable[[nn.RNNBase, torch.Tensor], torch.Tensor]] = {
    "RNN_TANH": _gates_of_tanh,
    "GRU": _gates_of_gru,
}
_KERNELS: dict[str, Callable[[nn.RNNBase, torch.Tensor], _Step]] = {
    "RNN_TANH": _tanh_kernel,
    "GRU": _gru_kernel,
}
