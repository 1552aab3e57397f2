"""Inputs of each step -> states of a recurrent layer, in either direction.

On a CPU in float32, the tanh layer and the gated layer (Cho et al. 2014) have CPU kernels for
scoring, which start from the gates of each word (:func:`encode_words`); PyTorch's layers take up to
2 times as long. Training, LSTM and bf16 use PyTorch's layers; GPUs use :func:`encode_on_gpu`.

The kernels store u in place of the state h = 2 u - 1, because
tanh x = 2 sigmoid(2 x) - 1. The factors move into the weights, W h = 2 W u - W 1, and each step
needs half as many operations. The state before the first step is h = 0, so u = 1/2.

Shape: (T steps, B tweets, D features of the inputs, H of the states, G = H or 3 H of the gates)
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from sentiflow.models import cpu

_Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""Takes a step's gates, the states before it, and the tensor for the states after it."""
_ROWS = 256
"""Tweets are dropped from a batch in multiples of it: oneDNN compiles a product for each size."""

_OPENS = 100.0
"""Input of a gate of which the sigmoid is 1 in float32."""
_ALIGNMENT = 8
"""Tensor cores want a multiple of this many features."""


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
        return encode_on_gpu(layers, inputs, valid)
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
    if not backward:
        return layer(inputs)[0]
    # Packed sequences would do the same, but on short tweets they are several times slower.
    steps = torch.arange(len(valid), device=valid.device)[:, None]
    source = torch.where(valid, valid.sum(dim=0) - 1 - steps, steps)
    return _permute(layer(_permute(inputs, source))[0], source)


def _permute(states: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Reorder states: step t of tweet b is taken from step ``source[t, b]``."""
    return states.gather(0, source[:, :, None].expand(-1, -1, states.shape[2]))


def infers_by_kernel(layer: nn.RNNBase, inputs: torch.Tensor) -> bool:
    """Whether a layer has a kernel for its inputs, and no gradient is needed."""
    return layer.mode in _STEPS and cpu.has_kernels(inputs)


def compute_gates(layer: nn.RNNBase, inputs: torch.Tensor) -> torch.Tensor:
    """Compute the share of the inputs ``(..., D)`` in the gates ``(..., G)``, for inference."""
    scale = _scale_of(layer)
    of_states = layer.bias_hh_l0 - layer.weight_hh_l0.sum(dim=1)
    if layer.mode == "GRU":  # each step adds that of the new state
        of_states = of_states.masked_fill(scale == 2, 0)
    bias = layer.bias_ih_l0 + of_states
    return cpu.affine(inputs, layer.weight_ih_l0 * scale[:, None], bias * scale)


def _scale_of(layer: nn.RNNBase) -> torch.Tensor:
    """Return the factor of each gate: 2 of a tanh, 1 of the GRU's reset and update."""
    scale = torch.full_like(layer.bias_hh_l0, 2)
    scale[: 2 * layer.hidden_size if layer.mode == "GRU" else 0] = 1
    return scale


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
    steps = range(len(states))[::-1] if backward else range(len(states))
    for number, before in zip(steps, [None, *steps], strict=False):
        rows = slice(first[number], None)
        gates = nn.functional.embedding(token_ids[number, rows], table)
        step(gates, (none if before is None else states[before])[rows], states[number, rows])
        states[number, first[number] : ended[number]] = 0.5
    return states.mul_(2).sub_(1)


def _step_of_tanh(layer: nn.RNNBase) -> _Step:
    """Step: ``u' = sigmoid(gate + V u)``."""
    weight = 4 * layer.weight_hh_l0

    def step(gates: torch.Tensor, state: torch.Tensor, out: torch.Tensor) -> None:
        torch.sigmoid(cpu.multiply_add(state, weight, gates), out=out)

    return step


def _step_of_gru(layer: nn.RNNBase) -> _Step:
    """Step: ``u' = v + z (u - v)``.

    ``r, z = sigmoid(gate + V u)`` and ``v = sigmoid(gate + r (V u + bias))``.
    """
    size, scale = 2 * layer.hidden_size, _scale_of(layer)
    weight = 2 * layer.weight_hh_l0 * scale[:, None]
    of_states = layer.bias_hh_l0 - layer.weight_hh_l0.sum(dim=1)
    bias = 2 * of_states.masked_fill(scale == 1, 0)

    def step(gates: torch.Tensor, state: torch.Tensor, out: torch.Tensor) -> None:
        hidden = cpu.affine(state, weight, bias)
        both = hidden[:, :size].add_(gates[:, :size]).sigmoid_()
        reset, update = both.chunk(2, dim=1)
        new = torch.addcmul(gates[:, size:], reset, hidden[:, size:]).sigmoid_()
        torch.lerp(new, state, update, out=out)

    return step


_STEPS: dict[str, Callable[[nn.RNNBase], _Step]] = {
    "RNN_TANH": _step_of_tanh,
    "GRU": _step_of_gru,
}


def encode_on_gpu(
    layers: Sequence[nn.RNNBase], inputs: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Do as :func:`encode_layer` by one call of cuDNN; it works on any device.

    Autocast would run cuDNN's cells in fp16, whatever its own type is, and small gradients would
    become 0. So it is off here: weights and states are float32, and cuDNN multiplies in TF32 unless
    ``torch.backends.cudnn.allow_tf32`` is off.

    A call for both directions needs a rule for padding, because the backward direction meets it
    first: its state must still be 0 at a tweet's last token. Packed sequences have their own rule,
    but keep cuDNN from its fastest kernels and need the lengths on the host. Here the inputs get
    one more feature, and the weights a column for it:

    - LSTM and tanh: the feature is 1 at tokens and 0 at padding, and its weights stand for the
      biases. Where states and inputs are 0, these cells give 0 without a bias.
    - GRU: the feature is 1 at padding and opens the update gate z, as h' = n + z (h - n).
    """
    mode, dim = layers[0].mode, inputs.shape[2]
    tokens = valid[:, :, None].float()
    feature = 1 - tokens if mode == "GRU" else tokens
    num_added = _ALIGNMENT - dim % _ALIGNMENT
    added = nn.functional.pad(feature, (0, num_added - 1))
    first = inputs.new_zeros(len(layers), inputs.shape[1], layers[0].hidden_size)
    with torch.autocast(inputs.device.type, enabled=False):
        return getattr(torch, mode.lower())(  # rnn_tanh, gru or lstm
            torch.cat([inputs * tokens, added], dim=2),
            (first, first) if mode == "LSTM" else first,
            _flatten([_add_column(layer, num_added) for layer in layers]),
            True,  # has_biases
            1,  # num_layers
            0.0,  # dropout
            torch.is_grad_enabled(),  # train
            len(layers) == 2,  # bidirectional
            False,  # batch_first
        )[0]


def _add_column(layer: nn.RNNBase, num_added: int) -> list[torch.Tensor]:
    """Add the column of the feature to a layer's weights, and columns of 0 after it.

    Returns:
        Weights ``(G, D + num_added)`` of the inputs and ``(G, H)`` of the states; two biases.
    """
    biases = [layer.bias_ih_l0, layer.bias_hh_l0]
    if layer.mode == "GRU":
        column = torch.zeros_like(biases[0])
        column[layer.hidden_size : 2 * layer.hidden_size] = _OPENS
    else:
        column = biases[0] + biases[1]
        biases = [torch.zeros_like(column)] * 2
    added = nn.functional.pad(column[:, None], (0, num_added - 1))
    return [torch.cat([layer.weight_ih_l0, added], dim=1), layer.weight_hh_l0, *biases]


def _flatten(directions: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """Put the weights into one block of memory in cuDNN's order, which would copy them otherwise.

    All matrices come first, then all biases; a call names the four of each direction.
    """
    order = [
        *(weight for each in directions for weight in each[:2]),
        *(bias for each in directions for bias in each[2:]),
    ]
    flat = torch.cat([tensor.flatten() for tensor in order])
    parts = flat.split([tensor.numel() for tensor in order])
    views = [part.view_as(tensor) for part, tensor in zip(parts, order, strict=True)]
    biases = views[2 * len(directions) :]
    return [
        view
        for start in range(0, len(biases), 2)
        for view in (*views[start : start + 2], *biases[start : start + 2])
    ]
