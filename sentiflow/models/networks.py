"""Padded token ids -> logits: `TweetRNN`, `BagOfEmbeddings`."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from sentiflow.config.train_sections import ModelSettings
from sentiflow.models import cpu, recurrence
from sentiflow.models.vocabulary import PAD_ID

_MAX_TABLE_BYTES = 200 << 20
_WORDS = 1024
"""A table has a multiple of so many rows: oneDNN compiles a product for each size."""
_GATES_IN_CACHE, _MIN_BATCH, _MAX_BATCH, _MAX_BATCH_ON_GPU = 1 << 18, 128, 4096, 1 << 15

_CELLS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


InferenceFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Computes the logits of a batch from its token ids and lengths, which ascend."""


class Network(nn.Module):
    """A classifier of tweets.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64.
        - dropout_mask: ``(B, F)`` float, multiplied with features in training, see
          :func:`training.trainer.draw_dropout_mask`.
        - returns: ``(B, C)`` unnormalized logits.
    """

    needs_token: ClassVar[bool] = True
    """Whether tweets without a known word are left out of training."""
    embedding: nn.Embedding
    output: nn.Linear
    mask_sizes: list[int]
    """Features of each part of a dropout mask; the output layer reads the last part."""

    def dropout_rates(self, *, inputs: float, output: float) -> np.ndarray:
        """Return the dropout rate of each of the ``F`` features in a dropout mask.

        Args:
            inputs: Rate of all features but those that the output layer reads.
            output: Rate of the features that the output layer reads.
        """
        *sizes, last = self.mask_sizes
        return np.repeat(np.array([inputs, output], np.float32), [sum(sizes), last])

    def _masks(self, dropout_mask: torch.Tensor | None) -> Iterator[torch.Tensor | None]:
        """Split a dropout mask into the masks of the layers."""
        if dropout_mask is None:
            return iter([None] * len(self.mask_sizes))
        return iter(torch.split(dropout_mask, self.mask_sizes, dim=1))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.output.out_features

    @property
    def scoring_batch_size(self) -> int:
        """The fastest batch size for scoring."""
        return 4096

    def inference_function(self, token_ids: np.ndarray) -> InferenceFunction:
        """Return a function like :meth:`forward` for batches that have only these token ids."""
        return self


class TweetRNN(Network):
    """Embedding, recurrent layers, pooling over the valid states, and a linear layer.

    Padding never changes a logit: a tweet scored alone or in a batch has the same logits up to
    rounding. Inside the network, steps come before tweets: ``(T, B, H)``.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64, each from 1 to T, in any order.
        - dropout_mask: ``(B, F)`` float, multiplied with the inputs of the layers in training, see
          :func:`training.trainer.draw_dropout_mask`.
        - returns: ``(B, C)`` unnormalized logits.
    """

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
        """Build the layers, with PyTorch's own initial weights."""
        super().__init__()
        state_size = hidden_size * (2 if bidirectional else 1)
        self.embedding = make_table(vocabulary_size, embedding_dim)
        self.forward_layers = nn.ModuleList([_CELLS[cell](embedding_dim, hidden_size)])
        self.backward_layers = nn.ModuleList(
            [_CELLS[cell](embedding_dim, hidden_size)] if bidirectional else []
        )
        self.pooling: Callable[..., torch.Tensor] = pool_mean_max
        if pooling == "attention":
            self.pooling = Attention(state_size, hidden_size)
        elif pooling == "last":
            self.pooling = functools.partial(pool_last, hidden_size=hidden_size)
        pooled_size = 2 * state_size if pooling == "mean_max" else state_size
        self.output = nn.Linear(pooled_size, num_classes)
        self.mask_sizes = [embedding_dim, pooled_size]

    def forward(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        dropout_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the logits of each tweet."""
        valid, masks = _find_valid(token_ids, lengths), self._masks(dropout_mask)
        states = self._encode(self.embedding(token_ids.T), valid, next(masks))
        pooled, mask = self.pooling(states, valid, lengths), next(masks)
        return self.output(pooled if mask is None else pooled * mask)

    @property
    def scoring_batch_size(self) -> int:
        """The fastest batch size for scoring: on a CPU the gates of a step fit into its cache."""
        weight = self.forward_layers[0].weight_hh_l0
        if weight.is_cuda:
            return _MAX_BATCH_ON_GPU
        rows = _GATES_IN_CACHE // weight.shape[0]
        return int(2 ** np.floor(np.log2(np.clip(rows, _MIN_BATCH, _MAX_BATCH))))

    def inference_function(self, token_ids: np.ndarray) -> InferenceFunction:
        """Return a function like :meth:`forward` for batches that have only these token ids.

        The input gates of the first layer are computed once for each word that occurs.
        """
        layers = [*self.forward_layers, *self.backward_layers]
        words = self.embedding.weight
        if not all(recurrence.infers_by_kernel(layer, words) for layer in layers):
            return self
        occurs = np.zeros(len(words), bool)
        occurs[PAD_ID] = True
        occurs[token_ids] = True
        word_ids = np.flatnonzero(occurs)
        words = words[torch.from_numpy(np.pad(word_ids, (0, -len(word_ids) % _WORDS)))]
        num_gates = sum(layer.weight_hh_l0.shape[0] for layer in layers)
        if len(words) * num_gates * words.element_size() > _MAX_TABLE_BYTES:
            return self
        tables = [(layer, recurrence.compute_gates(layer, words)) for layer in layers]
        places = torch.from_numpy(occurs.cumsum() - 1)
        return functools.partial(self._predict_from_tables, tables, places)

    def _predict_from_tables(
        self,
        tables: list[tuple[nn.RNNBase, torch.Tensor]],
        places: torch.Tensor,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the logits of a batch; ``places`` are the rows of the words in the tables."""
        valid, rows = _find_valid(token_ids, lengths), places[token_ids.T.contiguous()]
        halves = [
            recurrence.encode_words(layer, table, rows, lengths, backward=bool(number))
            for number, (layer, table) in enumerate(tables)
        ]
        states = halves[0] if len(halves) == 1 else torch.cat(halves, dim=-1)
        return self.output(self.pooling(states, valid, lengths))

    def encode_first_layer(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        dropout_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the states of the first recurrent layer ``(T, B, H)``, the forward half first."""
        valid, mask = _find_valid(token_ids, lengths), next(self._masks(dropout_mask))
        return self._encode(self.embedding(token_ids.T), valid, mask)

    def _encode(
        self, inputs: torch.Tensor, valid: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Run the layer in each direction."""
        return recurrence.encode_layer(
            [*self.forward_layers, *self.backward_layers],
            inputs if mask is None else inputs * mask,
            valid,
        )


class BagOfEmbeddings(Network):
    """Sum or mean of a tweet's word vectors, then linear layers with ReLU between them.

    The order of the words has no effect (a deep averaging network, Iyyer et al. 2015). A tweet
    without a known word is the zero vector. Padding never changes a logit.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64, each from 0 to T; they are not used.
        - dropout_mask: ``(B, F)`` float, multiplied with the pooled vector and the inputs of the
          output layer in training, see :func:`training.trainer.draw_dropout_mask`.
        - returns: ``(B, C)`` unnormalized logits.
    """

    needs_token = False

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_dim: int,
        hidden_sizes: Sequence[int],
        pooling: str,
        num_classes: int,
    ) -> None:
        """Build the layers, with PyTorch's own initial weights."""
        super().__init__()
        sizes = [embedding_dim, *hidden_sizes]
        self.embedding = make_table(vocabulary_size, embedding_dim)
        self.pooling = pooling
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.output = nn.Linear(sizes[-1], num_classes)
        self.mask_sizes = [sizes[0], sizes[-1]]

    def forward(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        dropout_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the logits of each tweet."""
        masks = [m if m is not None else 1.0 for m in self._masks(dropout_mask)]
        state = masks[0] * nn.functional.embedding_bag(
            token_ids, self.embedding.weight, mode=self.pooling, padding_idx=PAD_ID
        )
        for layer in self.hidden:
            state = torch.relu(layer(state))
        return self.output(masks[1] * state)


class Attention(nn.Module):
    """Weighted mean of the valid states, weights by additive attention (Bahdanau et al. 2015)."""

    def __init__(self, state_size: int, hidden_size: int) -> None:
        """Build the scoring layers."""
        super().__init__()
        self.hidden = nn.Linear(state_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(
        self, states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Pool the states ``(T, B, H)`` of the steps that hold a token to ``(B, H)``."""
        hidden = cpu.tanh(cpu.affine(states, self.hidden.weight, self.hidden.bias))
        scores = self.score(hidden).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(~valid, -torch.inf), dim=0)
        return (weights[:, :, None] * states).sum(dim=0)


def pool_last(
    states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor, *, hidden_size: int
) -> torch.Tensor:
    """Take the state after the last token; for the backward half, the state after the first."""
    last = states[lengths - 1, torch.arange(len(lengths), device=lengths.device), :hidden_size]
    return torch.cat([last, states[0, :, hidden_size:]], dim=-1)


def pool_mean_max(states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Put the mean and the maximum of the valid states side by side, ``(B, 2 H)``."""
    mask = valid[:, :, None]
    mean = (states * mask).sum(dim=0) / lengths[:, None]
    return torch.cat([mean, states.masked_fill(~mask, -torch.inf).amax(dim=0)], dim=-1)


def make_table(num_rows: int, dim: int) -> nn.Embedding:
    """Make a table with PyTorch's own initial weights; on the meta device nothing is drawn.

    To draw there, PyTorch would import its compiler and sympy, which takes a second.
    """
    weight = torch.empty(num_rows, dim)
    if not weight.is_meta:
        nn.init.normal_(weight)
        weight[PAD_ID] = 0
    return nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=PAD_ID)


_NOT_OF_SHAPE = {"kind", "vectors", "dropout", "output_dropout"}
"""Settings of a network that change its training only."""


def build(
    settings: ModelSettings, *, vocabulary_size: int, embedding_dim: int, num_classes: int = 2
) -> Network:
    """Build the network that a ``train.model`` section describes."""
    network = TweetRNN if settings.kind == "rnn" else BagOfEmbeddings
    return network(
        vocabulary_size=vocabulary_size,
        embedding_dim=embedding_dim,
        num_classes=num_classes,
        **settings.model_dump(exclude=_NOT_OF_SHAPE),
    )


def _find_valid(token_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mark the steps of each tweet that hold a token, ``(T, B)`` bool."""
    return torch.arange(token_ids.shape[1], device=token_ids.device)[:, None] < lengths
