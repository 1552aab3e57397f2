"""Encoded rows -> logits of a network in numpy, which needs no torch: scoring on a CPU.

The logits are those of :mod:`models.networks` with the same weights, up to rounding.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from sentiflow.config.train_sections import BagSettings, ModelSettings, RnnSettings
from sentiflow.models import array_layers, earlier_layers, weight_shapes
from sentiflow.models.array_layers import Layer, StateRuns, Steps
from sentiflow.models.cpu import one_thread
from sentiflow.models.earlier_formats import EarlierLayers
from sentiflow.models.encoded_rows import EncodedRows, order_by_length
from sentiflow.models.weight_shapes import Shapes

_MAX_TABLE_BYTES = 200 << 20
"""Largest table with the gates of the words that occur."""
_MAX_TOKENS = 1 << 21
"""Maximum number of tokens that are looked up in one table."""
_MAX_CELLS = 1 << 17
"""Limit of a batch, in tokens."""
_FEATURES_IN_CACHE = 1 << 16
"""Features of the states of a batch that fit into a core's cache, together with their gates."""
_MIN_BATCH = 128
"""Smallest batch, in texts, unless it has ``_MAX_CELLS`` tokens."""
_MAX_BATCH = 4096
"""Largest batch, in texts."""

S = TypeVar("S", RnnSettings, BagSettings)


@dataclass(frozen=True)
class ArrayNetwork(ABC, Generic[S]):
    """A network whose weights are arrays of numpy."""

    settings: S
    arrays: Mapping[str, np.ndarray]
    """The weights, as a package names them."""
    earlier: EarlierLayers
    """Layers that only networks of earlier versions have."""

    @property
    def batch_size(self) -> int:
        """The fastest size of a batch, in texts."""
        return _MAX_BATCH

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens of the batches that :meth:`pool` takes at once."""
        return _MAX_TOKENS

    def logits(self, rows: EncodedRows) -> np.ndarray:
        """Compute the logits of N rows, ``(N, C)`` float32; a row without a token gets 0."""
        with one_thread():
            return self._compute_logits(rows)

    def _compute_logits(self, rows: EncodedRows) -> np.ndarray:
        logits = np.zeros((len(rows), len(self.arrays["output.bias"])), np.float32)
        lengths = rows.lengths
        batches = order_by_length(lengths, batch_size=self.batch_size, max_cells=_MAX_CELLS)
        for group in _group(batches, lengths, max_tokens=self.max_tokens):
            by_steps = []
            for chosen in group:
                by_steps.append(Steps.of(rows.token_ids, rows.offsets[chosen], lengths[chosen]))
            for chosen, pooled in zip(group, self.pool(by_steps), strict=True):
                logits[chosen] = self._affine("output", pooled)
        if self.earlier.ngrams:
            logits += earlier_layers.ngram_logits(rows, self.arrays, self.earlier)
        return logits

    @abstractmethod
    def pool(self, batches: Sequence[Steps]) -> Iterator[np.ndarray]:
        """Compute the inputs of the output layer for each batch."""

    def _affine(self, name: str, inputs: np.ndarray) -> np.ndarray:
        """Compute a layer, ``inputs @ weight.T + bias``."""
        product: np.ndarray = inputs @ self.arrays[f"{name}.weight"].T
        product += self.arrays[f"{name}.bias"]
        return product


class ArrayRnn(ArrayNetwork[RnnSettings]):
    """Embedding, recurrent layers, pooling of the states, and a linear layer."""

    def pool(self, batches: Sequence[Steps]) -> Iterator[np.ndarray]:
        """Compute the inputs of the output layer for each batch.

        The gates of the first recurrent layer are computed once for each word that occurs.
        """
        all_words = self.arrays["embedding.weight"]
        occurs = np.zeros(len(all_words), bool)
        for steps in batches:
            occurs[steps.token_ids] = True
        row_of_word = np.cumsum(occurs) - 1
        words = all_words[occurs]
        tables = [layer.compute_gates(words) for layer in self._layers[0]]
        for steps in batches:
            yield self._pool_states(replace(steps, token_ids=row_of_word[steps.token_ids]), tables)

    def _pool_states(self, steps: Steps, tables: Sequence[np.ndarray]) -> np.ndarray:
        """Run the recurrent layers, and combine the states of the last one.

        Args:
            steps: The tokens, as rows of the tables.
            tables: The gates of each direction of the first layer.
        """
        hidden_size = self.settings.hidden_size
        runs = _run(self._layers[0], tables, steps)
        for directions in self._layers[1:]:
            states = array_layers.gather_states(runs, steps, hidden_size=hidden_size)
            steps = replace(steps, token_ids=np.arange(len(states)))
            runs = _run(directions, [layer.compute_gates(states) for layer in directions], steps)
        if self.settings.pooling == "last":
            return array_layers.pool_last(runs)
        if self.settings.pooling == "mean_max":
            return array_layers.pool_mean_max(runs, steps.lengths, hidden_size=hidden_size)
        assert self.settings.pooling == "attention"
        states = array_layers.gather_states(runs, steps, hidden_size=hidden_size)
        hidden = self._affine("pooling.hidden", states)
        scores = np.tanh(hidden, out=hidden) @ self.arrays["pooling.score.weight"][0]
        return array_layers.pool_by_scores(states, scores, steps)

    @functools.cached_property
    def _layers(self) -> list[list[Layer]]:
        """The directions of each recurrent layer, forward first."""
        layers = []
        for number in range(self.earlier.num_layers):
            directions = [self._layer(f"forward_layers.{number}.")]
            if self.settings.bidirectional:
                directions.append(self._layer(f"backward_layers.{number}."))
            layers.append(directions)
        return layers

    def _layer(self, prefix: str) -> Layer:
        """Make the layer whose weights have names with a prefix."""
        arrays = {}
        for name, array in self.arrays.items():
            if name.startswith(prefix):
                arrays[name.removeprefix(prefix)] = array
        return Layer.of(self.settings.cell, arrays)

    @property
    def batch_size(self) -> int:
        """The fastest size of a batch, in texts: its states stay in the cache."""
        fitting = _FEATURES_IN_CACHE // self.settings.hidden_size
        return min(max(fitting, _MIN_BATCH), _MAX_BATCH)

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens of the batches that :meth:`pool` takes at once.

        The gates of all their words are in one table, which has a maximum size.
        """
        num_words = len(self.arrays["embedding.weight"])
        bytes_of_word = 0
        for layer in self._layers[0]:
            bytes_of_word += layer.bias.nbytes
        if num_words * bytes_of_word <= _MAX_TABLE_BYTES:
            return _MAX_TOKENS
        return max(1, _MAX_TABLE_BYTES // bytes_of_word)


class ArrayBag(ArrayNetwork[BagSettings]):
    """Sum or mean of the word vectors, then linear layers with ReLU between them."""

    def pool(self, batches: Sequence[Steps]) -> Iterator[np.ndarray]:
        """Compute the inputs of the output layer for each batch."""
        vectors = self.arrays["embedding.weight"]
        for steps in batches:
            state = np.zeros((len(steps.lengths), vectors.shape[1]), np.float32)
            for place in steps.places():
                now = array_layers.rows_at(state, place)
                now += vectors.take(steps.token_ids[place], axis=0)
            if self.settings.pooling == "mean":
                state /= steps.lengths[:, None].astype(np.float32)
            for number in range(len(self.settings.hidden_sizes)):
                state = np.maximum(self._affine(f"hidden.{number}", state), 0)
            yield state


def build(
    settings: ModelSettings,
    arrays: Mapping[str, np.ndarray],
    *,
    vocabulary_size: int,
    embedding_dim: int,
    num_classes: int,
    earlier: EarlierLayers | None = None,
) -> ArrayNetwork:
    """Build the network that a ``train.model`` section describes from its weights.

    Args:
        settings: The section.
        arrays: The weights, as a package names them.
        vocabulary_size: Number of words.
        embedding_dim: Size of a word vector.
        num_classes: Number of classes.
        earlier: Layers that only networks of earlier versions have.

    Raises:
        ValueError: The weights are not those of such a network.
    """
    layers = earlier or EarlierLayers()
    sizes = {"vocabulary_size": vocabulary_size, "num_classes": num_classes}
    if isinstance(settings, RnnSettings):
        shapes = _list_rnn_shapes(settings, layers, embedding_dim=embedding_dim, **sizes)
    else:
        shapes = _list_bag_shapes(settings, embedding_dim=embedding_dim, **sizes)
        if layers.num_layers > 1:
            raise ValueError("a bag of embeddings has no recurrent layers")
    if layers.ngrams:
        shapes |= earlier_layers.list_ngram_shapes(arrays, layers, **sizes)
    weight_shapes.check(arrays, shapes)
    if isinstance(settings, RnnSettings):
        return ArrayRnn(settings, arrays, layers)
    return ArrayBag(settings, arrays, layers)


def _run(directions: Sequence[Layer], tables: Sequence[np.ndarray], steps: Steps) -> StateRuns:
    """Run the directions of a layer over a batch, forward first."""
    runs = []
    for number, (layer, table) in enumerate(zip(directions, tables, strict=True)):
        runs.append(layer.run(table, steps, backward=number == 1))
    return runs


def _group(
    batches: Sequence[np.ndarray], lengths: np.ndarray, *, max_tokens: int
) -> list[list[np.ndarray]]:
    """Group batches so that a group has at most ``max_tokens`` tokens, or one batch."""
    groups = list[list[np.ndarray]]()
    num_tokens = 0
    for chosen in batches:
        number = int(lengths[chosen].sum())
        num_tokens += number
        if not groups or num_tokens > max_tokens:
            groups.append([])
            num_tokens = number
        groups[-1].append(chosen)
    return groups


def _list_rnn_shapes(
    settings: RnnSettings,
    layers: EarlierLayers,
    *,
    vocabulary_size: int,
    embedding_dim: int,
    num_classes: int,
) -> Shapes:
    """List the shapes of the weights of a recurrent network."""
    hidden_size = settings.hidden_size
    num_gates = array_layers.count_gates(settings.cell) * hidden_size
    directions = ["forward", "backward"] if settings.bidirectional else ["forward"]
    state_size = len(directions) * hidden_size
    shapes: Shapes = {"embedding.weight": (vocabulary_size, embedding_dim)}
    input_size = embedding_dim
    for number in range(layers.num_layers):
        for direction in directions:
            prefix = f"{direction}_layers.{number}."
            shapes[f"{prefix}weight_ih_l0"] = (num_gates, input_size)
            shapes[f"{prefix}weight_hh_l0"] = (num_gates, hidden_size)
            shapes[f"{prefix}bias_ih_l0"] = (num_gates,)
            shapes[f"{prefix}bias_hh_l0"] = (num_gates,)
        input_size = state_size
    pooled_size = state_size
    if settings.pooling == "mean_max":
        pooled_size = 2 * state_size
    elif settings.pooling == "attention":
        shapes["pooling.hidden.weight"] = (hidden_size, state_size)
        shapes["pooling.hidden.bias"] = (hidden_size,)
        shapes["pooling.score.weight"] = (1, hidden_size)
    return shapes | _list_affine_shapes("output", pooled_size, num_classes)


def _list_bag_shapes(
    settings: BagSettings, *, vocabulary_size: int, embedding_dim: int, num_classes: int
) -> Shapes:
    """List the shapes of the weights of a bag of embeddings."""
    shapes: Shapes = {"embedding.weight": (vocabulary_size, embedding_dim)}
    input_size = embedding_dim
    for number, size in enumerate(settings.hidden_sizes):
        shapes |= _list_affine_shapes(f"hidden.{number}", input_size, size)
        input_size = size
    return shapes | _list_affine_shapes("output", input_size, num_classes)


def _list_affine_shapes(name: str, input_size: int, output_size: int) -> Shapes:
    """List the shapes of the weights of a linear layer."""
    return {f"{name}.weight": (output_size, input_size), f"{name}.bias": (output_size,)}
