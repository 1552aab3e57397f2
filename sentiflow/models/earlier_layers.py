"""Layers of networks of earlier versions, with which their packages predict as before.

No training makes them any more. The modules have the names by which the packages name tensors.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from sentiflow.config.train_sections import ModelSettings
from sentiflow.models import networks, recurrence
from sentiflow.models.earlier_formats import EarlierLayers
from sentiflow.models.networks import BagOfEmbeddings, InferenceFunction, Network, TweetRNN
from sentiflow.models.vocabulary import PAD_ID

KEYS = "ngrams.keys"
"""Name of the only tensor that is int64, see :class:`NgramBag`."""


def build(
    settings: ModelSettings,
    layers: EarlierLayers,
    *,
    vocabulary_size: int,
    embedding_dim: int,
    num_classes: int,
    has_keys: bool,
) -> Network:
    """Build the network of an earlier version.

    Args:
        settings: Its settings that networks of this version have, too.
        layers: Its other settings.
        vocabulary_size: Number of words.
        embedding_dim: Size of a word vector.
        num_classes: Number of classes.
        has_keys: Whether the package has the tensor ``KEYS``.

    Raises:
        TypeError: A bag of embeddings has several recurrent layers.
    """
    shape = networks.shape_of(settings)
    shape |= {
        "vocabulary_size": vocabulary_size,
        "embedding_dim": embedding_dim,
        "num_classes": num_classes,
    }
    if settings.kind == "rnn" or layers.num_layers > 1:
        shape["num_layers"] = layers.num_layers
    if not layers.ngrams:
        return EarlierRNN(**shape)
    network_class = RnnWithNgrams if settings.kind == "rnn" else BagWithNgrams
    network = network_class(**shape)
    network.ngrams = NgramBag(
        vocabulary_size,
        max_n=layers.ngrams,
        num_buckets=layers.ngram_buckets,
        num_classes=num_classes,
        has_keys=has_keys,
    )
    return network


class EarlierRNN(TweetRNN):
    """A :class:`TweetRNN` of several recurrent layers; each reads the states of the one before."""

    def __init__(self, *, num_layers: int, hidden_size: int, **shape: Any) -> None:
        """Build the layers.

        Args:
            num_layers: Number of layers in each direction.
            hidden_size: Size of the hidden state of each direction.
            shape: The other arguments of :class:`TweetRNN`.
        """
        super().__init__(hidden_size=hidden_size, **shape)
        state_size = len(self.directions) * hidden_size
        layer_class = type(self.directions[0])
        for _ in range(num_layers - 1):
            self.forward_layers.append(layer_class(state_size, hidden_size))
            if len(self.backward_layers):
                self.backward_layers.append(layer_class(state_size, hidden_size))

    def _encode(
        self, token_ids: torch.Tensor, valid: torch.Tensor, input_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Run one layer after the other, without dropout: they are not trained any more."""
        assert input_mask is None
        states = self.embedding(token_ids.T)
        for number in range(len(self.forward_layers)):
            directions: list[Any] = [self.forward_layers[number]]
            if len(self.backward_layers):
                directions.append(self.backward_layers[number])
            states = recurrence.encode_layer(directions, states, valid)
        return states

    def inference_function(self, token_ids: np.ndarray) -> InferenceFunction:
        """Return a function as the base class does, whose CPU kernels are for one layer."""
        if len(self.forward_layers) > 1:
            return self
        return super().inference_function(token_ids)


class NgramBag(nn.Module):
    """A linear model of a tweet's words and word n-grams.

    The weights of an n-gram are in the bucket of its hash (Joulin et al. 2017). Their sum is
    divided by the square root of the number of n-grams. What is hashed are the ``keys`` of the
    words, ``(V,)`` int64; without them, the ids. A model that was trained on from another
    vocabulary has keys, so it has kept its n-grams.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - returns: ``(B, C)`` logits.
    """

    keys: torch.Tensor | None

    def __init__(
        self,
        vocabulary_size: int,
        *,
        max_n: int,
        num_buckets: int,
        num_classes: int,
        has_keys: bool,
    ) -> None:
        """Make the table of weights.

        Args:
            vocabulary_size: Number of words, V.
            max_n: Words of the longest n-gram.
            num_buckets: Number of weights for each class, in addition to the weights of words.
            num_classes: Number of classes, C.
            has_keys: Whether there are ``keys``.
        """
        super().__init__()
        self.max_n = max_n
        self.first_bucket = vocabulary_size
        self.num_buckets = num_buckets
        self.weights = networks.make_embedding(vocabulary_size + num_buckets, num_classes)
        self.bias = nn.Parameter(torch.zeros(num_classes))
        keys = torch.empty(vocabulary_size, dtype=torch.int64) if has_keys else None
        self.register_buffer("keys", keys)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Compute the logits of each tweet."""
        rows = self._find_rows(token_ids)
        count = (rows != PAD_ID).sum(dim=1, keepdim=True).clamp(min=1)
        sums: torch.Tensor = self.weights(rows).sum(dim=1)
        return sums / count.sqrt() + self.bias

    def _find_rows(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Find each tweet's words and n-grams in the table; ``PAD_ID`` stands for padding."""
        keys = token_ids if self.keys is None else self.keys[token_ids]
        found = [token_ids]
        hashed = keys
        for n in range(2, self.max_n + 1):
            last = keys[:, n - 1 :]
            hashed = (hashed[:, :-1] * 1_000_003 + last) % 2_147_483_647
            bucket = (hashed * 2_654_435_761 % 4_294_967_296 >> 8) % self.num_buckets
            found.append(torch.where(last == PAD_ID, PAD_ID, bucket + self.first_bucket))
        return torch.cat(found, dim=1)


class _WithNgrams(Network):
    """Adds the logits of n-grams to the logits of the network that is named after this class."""

    ngrams: NgramBag

    def forward(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        dropout_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the logits of each tweet."""
        logits: torch.Tensor = super().forward(token_ids, lengths, dropout_mask)
        return logits + self.ngrams(token_ids)

    def inference_function(self, token_ids: np.ndarray) -> InferenceFunction:
        """Return a function like :meth:`forward` for batches that have only these token ids."""
        predict = super().inference_function(token_ids)
        if predict is self:
            return self

        def add_ngrams(batch_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return predict(batch_ids, lengths) + self.ngrams(batch_ids)

        return add_ngrams


class RnnWithNgrams(_WithNgrams, EarlierRNN):
    """A recurrent network with n-grams."""


class BagWithNgrams(_WithNgrams, BagOfEmbeddings):
    """A bag of embeddings with n-grams."""
