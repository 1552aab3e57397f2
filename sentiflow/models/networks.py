"""Padded token ids -> logits: `TweetRNN`, `BagOfEmbeddings`."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from sentiflow.config.train_sections import ModelSettings
from sentiflow.models import batching, recurrence
from sentiflow.models.encoded_rows import EncodedRows, order_by_length
from sentiflow.models.vocabulary import PAD_ID

_SCORED_BATCH_OF_BAG = 4096
"""Largest batch of a bag of embeddings that is scored on a GPU, in tweets."""
_SCORED_BATCH_OF_RNN = 1 << 15
"""Largest batch of a recurrent network that is scored on a GPU, in tweets."""

_CELLS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
"""PyTorch's recurrent layer for each value of ``train.model.cell``."""


class Network(nn.Module):
    """A classifier of tweets.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64.
        - dropout_mask: ``(B, F)`` float, multiplied with features in training, see
          :func:`training.dropout_masks.draw_dropout_mask`.
        - returns: ``(B, C)`` unnormalized logits.
    """

    needs_token: ClassVar[bool] = True
    """Whether tweets without a known word are left out of training."""
    embedding: nn.Embedding
    output: nn.Linear
    mask_sizes: tuple[int, int]
    """Sizes of the two parts of a dropout mask: features that are dropped before the first layer,
    and before the output layer."""

    def dropout_rates(self, *, inputs: float, output: float) -> np.ndarray:
        """Return the dropout rates of the features in a dropout mask, F = ``sum(mask_sizes)``.

        Args:
            inputs: Rate before the first layer.
            output: Rate before the output layer.
        """
        return np.repeat(np.array([inputs, output], np.float32), self.mask_sizes)

    def _split_mask(
        self, dropout_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Split a dropout mask into its parts before the first and before the output layer."""
        if dropout_mask is None:
            return None, None
        input_mask, output_mask = torch.split(dropout_mask, self.mask_sizes, dim=1)
        return input_mask, output_mask

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.output.out_features

    scoring_batch_size: ClassVar[int]
    """The fastest batch size for scoring on a GPU."""

    @property
    def on_gpu(self) -> bool:
        """Whether the weights are on a GPU."""
        return self.output.weight.device.type != "cpu"

    def logits(self, rows: EncodedRows, *, bf16: bool) -> np.ndarray:
        """Compute the logits of N rows, ``(N, C)`` float32; a row without a token gets 0.

        A GPU computes while the host makes the next batches; the host waits for the GPU once, at
        the end. On a CPU, :class:`models.array_networks.ArrayNetwork` does the same.

        Args:
            rows: N rows.
            bf16: Multiply in bfloat16, see :meth:`models.package.ModelPackage.score`.
        """
        device = self.output.weight.device
        batches = order_by_length(rows.lengths, batch_size=self.scoring_batch_size)
        result = torch.zeros(len(rows), self.num_classes)
        found = []
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16),
        ):
            for chosen in batches:
                batch = batching.collate(rows, chosen).to(device)
                found.append(self(batch.token_ids, batch.lengths).float())
            if batches:
                result[np.concatenate(batches)] = torch.cat(found).cpu()
        return result.numpy()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the weights by their names; on a CPU they share the memory of the tensors."""
        return {name: tensor.cpu().numpy() for name, tensor in self.state_dict().items()}


class TweetRNN(Network):
    """Embedding, a recurrent layer, pooling over the valid states, and a linear layer.

    Padding never changes a logit: a tweet scored alone or in a batch has the same logits up to
    rounding. Inside the network, steps come before tweets: ``(T, B, H)``.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64, each from 1 to T, in any order.
        - dropout_mask: ``(B, F)`` float, multiplied in training with the word vectors and with the
          inputs of the output layer, see :func:`training.dropout_masks.draw_dropout_mask`.
        - returns: ``(B, C)`` unnormalized logits.
    """

    scoring_batch_size = _SCORED_BATCH_OF_RNN

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_dim: int,
        cell: str,
        hidden_size: int,
        bidirectional: bool,
        pooling: str,
        num_classes: int,
    ) -> None:
        """Build the layers, with PyTorch's initial weights."""
        super().__init__()
        num_directions = 2 if bidirectional else 1
        state_size = num_directions * hidden_size
        self.embedding = make_embedding(vocabulary_size, embedding_dim)
        layers = [_CELLS[cell](embedding_dim, hidden_size) for _ in range(num_directions)]
        # Lists of at most one layer: saved weights have the names "forward_layers.0.*" and
        # "backward_layers.0.*", and PyTorch allows no dot in the name of a module.
        self.forward_layers = nn.ModuleList(layers[:1])
        self.backward_layers = nn.ModuleList(layers[1:])
        self.pooling: Callable[..., torch.Tensor]
        pooled_size = state_size
        if pooling == "attention":
            self.pooling = Attention(state_size, hidden_size)
        elif pooling == "last":
            self.pooling = functools.partial(pool_last, hidden_size=hidden_size)
        elif pooling == "mean_max":
            self.pooling = pool_mean_max
            pooled_size = 2 * state_size
        else:
            raise ValueError(f"no pooling is called {pooling!r}")
        self.output = nn.Linear(pooled_size, num_classes)
        self.mask_sizes = (embedding_dim, pooled_size)

    @property
    def directions(self) -> list[nn.RNNBase]:
        """The recurrent layer of each direction, forward first."""
        return [*self.forward_layers, *self.backward_layers]

    def forward(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        dropout_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the logits of each tweet."""
        valid = _find_valid(token_ids, lengths)
        input_mask, output_mask = self._split_mask(dropout_mask)
        states = self._encode(token_ids, valid, input_mask)
        pooled = self.pooling(states, valid, lengths)
        if output_mask is not None:
            pooled = pooled * output_mask
        return self.output(pooled)

    def encode(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        dropout_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the recurrent layer's states ``(T, B, H)``, the forward half first."""
        input_mask, _ = self._split_mask(dropout_mask)
        return self._encode(token_ids, _find_valid(token_ids, lengths), input_mask)

    def _encode(
        self, token_ids: torch.Tensor, valid: torch.Tensor, input_mask: torch.Tensor | None
    ) -> torch.Tensor:
        inputs = self.embedding(token_ids.T)
        if input_mask is not None:
            # (T, B, D) * (B, D): one mask for all steps of a tweet (variational dropout).
            inputs = inputs * input_mask
        return recurrence.encode_layer(self.directions, inputs, valid)


class BagOfEmbeddings(Network):
    """Sum or mean of a tweet's word vectors, then linear layers with ReLU between them.

    The order of the words has no effect (a deep averaging network, Iyyer et al. 2015). A tweet
    without a known word is the zero vector. Padding never changes a logit.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64, each from 0 to T; they are not used.
        - dropout_mask: ``(B, F)`` float, multiplied with the pooled vector and the inputs of the
          output layer in training, see :func:`training.dropout_masks.draw_dropout_mask`.
        - returns: ``(B, C)`` unnormalized logits.
    """

    needs_token = False
    scoring_batch_size = _SCORED_BATCH_OF_BAG

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_dim: int,
        hidden_sizes: Sequence[int],
        pooling: str,
        num_classes: int,
    ) -> None:
        """Build the layers, with PyTorch's initial weights."""
        super().__init__()
        sizes = [embedding_dim, *hidden_sizes]
        self.embedding = make_embedding(vocabulary_size, embedding_dim)
        self.pooling = pooling
        self.hidden = nn.ModuleList()
        for input_size, output_size in itertools.pairwise(sizes):
            self.hidden.append(nn.Linear(input_size, output_size))
        self.output = nn.Linear(sizes[-1], num_classes)
        self.mask_sizes = (sizes[0], sizes[-1])

    def forward(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        dropout_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the logits of each tweet."""
        input_mask, output_mask = self._split_mask(dropout_mask)
        state = nn.functional.embedding_bag(
            token_ids, self.embedding.weight, mode=self.pooling, padding_idx=PAD_ID
        )
        if input_mask is not None:
            state = state * input_mask
        for layer in self.hidden:
            state = torch.relu(layer(state))
        if output_mask is not None:
            state = state * output_mask
        return self.output(state)


class Attention(nn.Module):
    """Weighted mean of the valid states, with additive attention (Bahdanau et al. 2015)."""

    def __init__(self, state_size: int, hidden_size: int) -> None:
        """Build the scoring layers."""
        super().__init__()
        self.hidden = nn.Linear(state_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(
        self, states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Pool the states ``(T, B, H)`` of the steps that hold a token to ``(B, H)``."""
        hidden = torch.tanh(self.hidden(states))
        scores = self.score(hidden).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(~valid, -torch.inf), dim=0)
        return (weights[:, :, None] * states).sum(dim=0)


def pool_last(
    states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor, *, hidden_size: int
) -> torch.Tensor:
    """Take the state after the last token; for the backward half, the state after the first."""
    tweets = torch.arange(len(lengths), device=lengths.device)
    last = states[lengths - 1, tweets, :hidden_size]
    return torch.cat([last, states[0, :, hidden_size:]], dim=-1)


def pool_mean_max(states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Put the mean and the maximum of the valid states side by side, ``(B, 2 H)``."""
    mask = valid[:, :, None]
    mean = (states * mask).sum(dim=0) / lengths[:, None]
    largest = states.masked_fill(~mask, -torch.inf).amax(dim=0)
    return torch.cat([mean, largest], dim=-1)


def make_embedding(num_rows: int, dim: int) -> nn.Embedding:
    """Make an embedding with PyTorch's initial weights; on the meta device none are drawn.

    For drawing on the meta device, PyTorch would import its compiler and sympy, which takes a
    second.
    """
    weight = torch.empty(num_rows, dim)
    if not weight.is_meta:
        nn.init.normal_(weight)
        weight[PAD_ID] = 0
    return nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=PAD_ID)


_SETTINGS_WITHOUT_LAYERS = {"kind", "vectors", "dropout", "output_dropout"}
"""Settings of a network that have no effect on its layers."""


def build(
    settings: ModelSettings, *, vocabulary_size: int, embedding_dim: int, num_classes: int = 2
) -> Network:
    """Build the network that a ``train.model`` section describes."""
    network_class = TweetRNN if settings.kind == "rnn" else BagOfEmbeddings
    return network_class(
        vocabulary_size=vocabulary_size,
        embedding_dim=embedding_dim,
        num_classes=num_classes,
        **shape_of(settings),
    )


def from_arrays(settings: ModelSettings, arrays: Mapping[str, np.ndarray]) -> Network:
    """Build a network with the weights of :meth:`Network.to_arrays`, which are copied."""
    num_words, embedding_dim = arrays["embedding.weight"].shape
    with torch.device("meta"):
        network = build(
            settings,
            vocabulary_size=num_words,
            embedding_dim=embedding_dim,
            num_classes=len(arrays["output.bias"]),
        )
    weights = {name: torch.tensor(array) for name, array in arrays.items()}
    network.load_state_dict(weights, assign=True)
    return network


def shape_of(settings: ModelSettings) -> dict[str, Any]:
    """Return the settings of a network that have an effect on its layers."""
    return settings.model_dump(exclude=_SETTINGS_WITHOUT_LAYERS)


def _find_valid(token_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mark the steps of each tweet that hold a token, ``(T, B)`` bool."""
    steps = torch.arange(token_ids.shape[1], device=token_ids.device)
    return steps[:, None] < lengths
