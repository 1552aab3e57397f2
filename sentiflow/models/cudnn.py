"""Inputs of each step -> states of a recurrent layer on a GPU, by one call of cuDNN.

Autocast would run cuDNN's cells in fp16, whatever its own type is, and small gradients would become
0. So it is off here: weights and states are float32, and cuDNN multiplies in TF32 unless
``torch.backends.cudnn.allow_tf32`` is off.

A call for both directions needs a rule for padding, because the backward direction meets it first:
its state must still be 0 at a tweet's last token. Packed sequences have their own rule, but keep
cuDNN from its fastest kernels and need the lengths on the host. Here the inputs get one more
feature, and the weights a column for it:

- LSTM and tanh: the feature is 1 at tokens and 0 at padding, and its weights stand for the biases.
  Where states and inputs are 0, these cells give 0 without a bias.
- GRU: the feature is 1 at padding and opens the update gate z, as h' = n + z (h - n).

Shape: (T steps, B tweets, D features of the inputs, H of the states, G = H, 3 H or 4 H gates)
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

_OPENS = 100.0
"""Input of a gate of which the sigmoid is 1 in float32."""
_ALIGNMENT = 8
"""Tensor cores want a multiple of this many features."""

_FUNCTIONS: dict[str, Callable[..., Sequence[torch.Tensor]]] = {
    "RNN_TANH": torch.rnn_tanh,
    "GRU": torch.gru,
    "LSTM": torch.lstm,
}


def encode_layer(
    layers: Sequence[nn.RNNBase], inputs: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Do as :func:`models.recurrence.encode_layer`; it works on any device."""
    mode, dim = layers[0].mode, inputs.shape[2]
    tokens = valid[:, :, None].float()
    feature = 1 - tokens if mode == "GRU" else tokens
    num_added = _ALIGNMENT - dim % _ALIGNMENT
    added = nn.functional.pad(feature, (0, num_added - 1))
    first = inputs.new_zeros(len(layers), inputs.shape[1], layers[0].hidden_size)
    with torch.autocast(inputs.device.type, enabled=False):
        return _FUNCTIONS[mode](
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
