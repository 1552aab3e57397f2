"""N-grams of texts + linear model -> the part of each token in the logit of its text's class."""

from typing import NamedTuple

import numpy as np

from sentiflow.data.arrays import find_sorted
from sentiflow.models.centered_logits import center
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams


class _Shares(NamedTuple):
    """What the n-grams of some kind add to the P tokens of N texts."""

    parts: np.ndarray
    """P float64: the part of each token in the logit of its text's class, before the division by
    the norm of the text."""
    squares: np.ndarray
    """P float64: the squares of the idf of these n-grams, for the norm. An n-gram of several words
    counts at its first."""


def share_ngrams(
    model: LinearModel, ngrams: Ngrams, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share the weights of all n-grams equally among their tokens; the norm is held fixed.

    Args:
        model: The linear model.
        ngrams: The n-grams of N texts with P tokens.
        codes: The class of each text.

    Returns:
        The part of each token in the logit of its text's class, without the bias, P float64; and
        whether the model knows an n-gram of each text, N bool.
    """
    texts = np.repeat(np.arange(len(codes)), np.diff(ngrams.tokens.offsets))
    within = _share_within_words(model, ngrams, codes[texts])
    across = _share_across_words(model, ngrams, codes[texts])
    squares = within.squares + across.squares
    squared_norm = np.bincount(texts, squares, minlength=len(codes))
    norm = np.sqrt(np.maximum(squared_norm, np.finfo(np.float32).tiny))
    return (within.parts + across.parts) / norm[texts], squared_norm > 0


def _share_within_words(model: LinearModel, ngrams: Ngrams, codes: np.ndarray) -> _Shares:
    """Add up the weights of words and of n-grams of their characters, which belong to their word.

    Args:
        model: The linear model.
        ngrams: The n-grams of texts with P tokens.
        codes: The class of each token's text.
    """
    tokens = ngrams.tokens
    num_words = len(tokens.words)
    is_known, places = find_sorted(model.hashes, ngrams.of_words)
    places = places[is_known]
    words = np.repeat(np.arange(num_words), np.diff(ngrams.word_offsets))[is_known]
    means = model.weights[places].mean(axis=1, dtype=np.float64)
    parts = np.zeros(len(tokens.ids))
    for code in np.unique(codes):
        has_class = codes == code
        of_words = np.bincount(words, model.weights[places, code] - means, minlength=num_words)
        parts[has_class] = of_words[tokens.ids[has_class]]
    squares = np.bincount(words, model.squares[places], minlength=num_words)
    return _Shares(parts, squares[tokens.ids].astype(np.float64))


def _share_across_words(model: LinearModel, ngrams: Ngrams, codes: np.ndarray) -> _Shares:
    """Share the weights of n-grams of several words equally among these words.

    Args:
        model: The linear model.
        ngrams: The n-grams of texts with P tokens.
        codes: The class of each token's text.
    """
    num_tokens = len(codes)
    parts = np.zeros(num_tokens)
    squares = np.zeros(num_tokens)
    for runs in ngrams.list_runs():
        is_known, places = find_sorted(model.hashes, runs.hashes)
        places = places[is_known]
        starts = runs.starts[is_known]
        of_one_word = center(model.weights[places], codes[starts]) / runs.size
        for number in range(runs.size):
            parts += np.bincount(starts + number, of_one_word, minlength=num_tokens)
        squares += np.bincount(starts, model.squares[places], minlength=num_tokens)
    return _Shares(parts, squares)
