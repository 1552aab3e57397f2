"""Inputs of each step -> states of a recurrent layer, in either direction.

Training uses it, and so does scoring on a GPU, by :func:`encode_on_gpu`. On a CPU
:mod:`models.array_layers` scores.

Shape: (T steps, B tweets, D features of the inputs, H of the states, G = H or 3 H of the gates)
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

_OPEN = 100.0
"""Input of a gate that opens it: the sigmoid is 1 in float32."""
_ALIGNMENT = 8
"""Tensor cores need a multiple of this many features."""


def encode_layer(
    directions: Sequence[nn.RNNBase], inputs: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Run a layer of one or two directions over tweets.

    Args:
        directions: The forward direction and, if there is one, the backward direction, as
            :func:`encode` takes them.
        inputs: ``(T, B, D)``.
        valid: ``(T, B)`` bool: the steps that hold a token, which are the first ones of each tweet.

    Returns:
        ``(T, B, H)`` or ``(T, B, 2 H)``, the forward half first; states of padding are undefined.
    """
    if inputs.device.type != "cpu":
        return encode_on_gpu(directions, inputs, valid)
    halves = [
        encode(layer, inputs, valid, backward=number == 1)
        for number, layer in enumerate(directions)
    ]
    return join_halves(halves)


def join_halves(halves: Sequence[torch.Tensor]) -> torch.Tensor:
    """Put the states of both directions side by side; a single direction is returned unchanged."""
    if len(halves) == 1:
        return halves[0]
    return torch.cat(halves, dim=-1)


def encode(
    layer: nn.RNNBase, inputs: torch.Tensor, valid: torch.Tensor, *, backward: bool = False
) -> torch.Tensor:
    """Run a unidirectional layer over tweets.

    Args:
        layer: An ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` of one layer, steps before tweets.
        inputs: ``(T, B, D)``.
        valid: ``(T, B)`` bool: the steps that hold a token, which are the first ones of each tweet.
        backward: Run over each tweet from its last token to its first.

    Returns:
        ``(T, B, H)``, the state after each token; states of padding are undefined.
    """
    if not backward:
        states, _ = layer(inputs)
        return states
    # Packed sequences give the same states, but are several times slower on short tweets.
    steps = torch.arange(len(valid), device=valid.device)[:, None]
    last_step = valid.sum(dim=0) - 1
    source = torch.where(valid, last_step - steps, steps)
    states, _ = layer(_permute(inputs, source))
    return _permute(states, source)


def _permute(states: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Reorder states: step t of tweet b is taken from step ``source[t, b]``."""
    index = source[:, :, None].expand(-1, -1, states.shape[2])
    return states.gather(0, index)


_CUDNN: dict[str, Callable[..., tuple[torch.Tensor, ...]]] = {
    "RNN_TANH": torch.rnn_tanh,
    "GRU": torch.gru,
    "LSTM": torch.lstm,
}
"""PyTorch's function that runs a layer, by cuDNN on a GPU, by the kind of layer."""


def encode_on_gpu(
    directions: Sequence[nn.RNNBase], inputs: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Run a layer of one or two directions over tweets by one call of cuDNN; works on any device.

    It takes and returns the same as :func:`encode_layer`.

    Autocast would run cuDNN's cells in fp16, whatever type it is set to, and small gradients would
    become 0. So it is off here: weights and states are float32, and cuDNN multiplies in TF32 unless
    ``torch.backends.cudnn.allow_tf32`` is off.

    The backward direction meets the padding first, and its state must still be 0 at a tweet's last
    token. Packed sequences ensure this, but they rule out cuDNN's fastest kernels and need the
    lengths on the host. Here the inputs get one more feature, and the weights a column for it:

    - LSTM and tanh: the feature is 1 at tokens and 0 at padding, and its weights stand for the
      biases. Where states and inputs are 0, these cells give 0 without a bias.
    - GRU: the feature is 1 at padding and opens the update gate z, as h' = n + z (h - n).
    """
    mode = directions[0].mode
    is_token = valid[:, :, None].float()
    feature = 1 - is_token if mode == "GRU" else is_token
    num_added = _ALIGNMENT - inputs.shape[2] % _ALIGNMENT
    added = nn.functional.pad(feature, (0, num_added - 1))
    zeros = inputs.new_zeros(len(directions), inputs.shape[1], directions[0].hidden_size)
    with torch.autocast(inputs.device.type, enabled=False):
        states, *_ = _CUDNN[mode](
            torch.cat([inputs * is_token, added], dim=2),
            (zeros, zeros) if mode == "LSTM" else zeros,
            _flatten([_add_column(layer, num_added) for layer in directions]),
            True,  # has_biases
            1,  # num_layers
            0.0,  # dropout
            torch.is_grad_enabled(),  # train
            len(directions) == 2,  # bidirectional
            False,  # batch_first
        )
    return states


def _add_column(layer: nn.RNNBase, num_added: int) -> list[torch.Tensor]:
    """Add a column for the feature to a layer's weights, and columns of 0 after it.

    Returns:
        Weights ``(G, D + num_added)`` of the inputs and ``(G, H)`` of the states; two biases.
    """
    biases = [layer.bias_ih_l0, layer.bias_hh_l0]
    if layer.mode == "GRU":
        column = torch.zeros_like(layer.bias_ih_l0)
        column[layer.hidden_size : 2 * layer.hidden_size] = _OPEN
    else:
        column = layer.bias_ih_l0 + layer.bias_hh_l0
        zeros = torch.zeros_like(column)
        biases = [zeros, zeros]
    added = nn.functional.pad(column[:, None], (0, num_added - 1))
    return [torch.cat([layer.weight_ih_l0, added], dim=1), layer.weight_hh_l0, *biases]


def _flatten(directions: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """Put the weights into one block of memory in cuDNN's order; otherwise cuDNN copies them.

    In the block, all matrices come first, then all biases.

    Returns:
        Views of the block, as cuDNN's functions take them: for each direction its two matrices and
        its two biases.
    """
    matrices = [matrix for weights in directions for matrix in weights[:2]]
    biases = [bias for weights in directions for bias in weights[2:]]
    ordered = [*matrices, *biases]
    flat = torch.cat([tensor.flatten() for tensor in ordered])
    parts = flat.split([tensor.numel() for tensor in ordered])
    views = [part.view_as(tensor) for part, tensor in zip(parts, ordered, strict=True)]
    by_direction = []
    for first in range(0, len(matrices), 2):
        first_bias = len(matrices) + first
        by_direction += views[first : first + 2]
        by_direction += views[first_bias : first_bias + 2]
    return by_direction
