"""Tokens of a corpus -> whether a network should read its words or their characters."""

from typing import NamedTuple

import numpy as np

from sentiflow.config.text_units import CHARACTERS, WORDS, Unit
from sentiflow.models import units
from sentiflow.models.tokens import Tokens
from sentiflow.words.word_vectors import WordVectors

_NUM_TEXTS = 2000
"""Number of texts that are looked at. In more texts fewer words occur once."""
_MIN_ONCE = 0.4
"""Minimum share of the words that occur once in these texts, for a network to read characters."""
_MIN_WITH_VECTOR = 0.5
"""Share of the words with a vector from which the network reads words: a vector also tells what a
rare word means. benchmarks/LOG.md has the corpora of both limits, and where they are wrong."""


class UnitChoice(NamedTuple):
    """What a network should read, and why."""

    unit: Unit
    once_fraction: float
    """Of all words in the texts, the share that occurs once."""
    vector_fraction: float
    """Of all words in the texts, the share that has a vector."""

    @property
    def reason_for_characters(self) -> str:
        """Say why the network should read characters; empty if it should read words."""
        if self.unit == WORDS:
            return ""
        return (
            f"{self.once_fraction:.0%} of the words occur once, and {self.vector_fraction:.0%} "
            "have a vector"
        )


def choose(tokens: Tokens, vectors: WordVectors) -> UnitChoice:
    """Choose what a network should read.

    It reads characters if many words occur once, as in languages that glue endings to stems, and
    if most words have no vector. Otherwise it reads words.

    Args:
        tokens: The tokens of the texts; the first ``_NUM_TEXTS`` decide.
        vectors: The vectors that the network starts from.

    Example:
        >>> import pyarrow as pa
        >>> vectors = WordVectors(pa.array(["film", "good"]), np.zeros((2, 50), np.float32))
        >>> choose(Tokens.from_lists(pa.array([["영화가"], ["영화는", "!"]])), vectors)
        UnitChoice(unit='characters', once_fraction=1.0, vector_fraction=0.0)
    """
    tokens = tokens.take(np.arange(min(_NUM_TEXTS, len(tokens.offsets) - 1)))
    is_word = units.find_words(tokens.words)
    counts = np.bincount(tokens.ids, minlength=len(tokens.words))[is_word]
    has_vector = vectors.find(tokens.words)[is_word] >= 0
    num_words = max(1, counts.sum())
    once_fraction = float((counts == 1).sum() / num_words)
    vector_fraction = float(counts[has_vector].sum() / num_words)
    unit: Unit = WORDS
    if once_fraction >= _MIN_ONCE and vector_fraction < _MIN_WITH_VECTOR:
        unit = CHARACTERS
    return UnitChoice(unit, once_fraction, vector_fraction)
