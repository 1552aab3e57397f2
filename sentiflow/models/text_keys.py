"""Texts -> the keys by which they count as equal, see ``prepare.duplicate_key``."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.text_units import EXACT, TEMPLATE, DuplicateKey
from sentiflow.data.arrays import UNSPACED, normalize_text
from sentiflow.models import tokenizer
from sentiflow.models.tokens import Tokens

TEMPLATE_VERSION = 1
"""Increase it whenever any text gets another template key, also by another version of the
tokenizer ``tweet``."""

_MIN_WORDS = 3
"""A text with fewer words has its exact key."""
_HALF_WORD = rf"^[{UNSPACED}]"
"""A letter of a script without spaces; two of them count as a word."""
_NUMBER = r"^\p{N}"
_KEPT = r"^'?[\p{L}\p{M}\p{N}]"
"""A word, a number, or the end of a contraction such as ``'s``. Not kept are ``<user>``, links,
marks, and emoticons other than ``_LETTERED``."""
_LETTERED = "t_t"
"""The emoticon that looks like a word."""
_RETWEET = "rt"
"""Left out before a mention."""
_MENTION = "<user>"


def make(text: pa.Array, kind: DuplicateKey) -> pa.Array:
    """Make the keys of texts; texts with equal keys count as equal.

    Args:
        text: N texts, without nulls.
        kind: ``exact``: the normalized text. ``template``: its words and numbers alone. If it has
            fewer than three words, the key is exact.

    Example:
        >>> text = pa.array(["@ann Sooo can't wait! http://t.co/x", "so cant wait :)", "So  good!"])
        >>> make(text, "template").to_pylist()
        [' socantwait', ' socantwait', 'so good!']
    """
    exact = normalize_text(text)
    if kind == EXACT or not len(text):
        return exact
    # Of the normalized text, so that texts with equal exact keys have equal template keys.
    tokens = tokenizer.tokenize(exact, name="tweet")
    is_kept = _match(tokens, _KEPT)[tokens.ids] & ~_find_retweets(tokens)
    is_long = _count_words(tokens, is_kept) >= _MIN_WORDS
    return pc.if_else(pa.array(is_long), _join(tokens, is_kept), exact)


def count_near_copies(text: pa.Array) -> int:
    """Count the texts that nearly copy an earlier one, and do not equal it.

    Example:
        >>> count_near_copies(pa.array(["I like it", "I LIKE it", "i like it!", "@ann i like it"]))
        2
    """
    num_exact, num_different = (len(pc.unique(make(text, kind))) for kind in (EXACT, TEMPLATE))
    return num_exact - num_different


def _match(tokens: Tokens, pattern: str) -> np.ndarray:
    """Mark the distinct words that match a pattern; ``_LETTERED`` never matches."""
    is_found = np.asarray(pc.match_substring_regex(tokens.words, pattern))
    return is_found & (np.asarray(tokens.words) != _LETTERED)


def _find_retweets(tokens: Tokens) -> np.ndarray:
    """Mark each token ``rt`` before a mention."""
    words = np.asarray(tokens.words)
    is_retweet = (words == _RETWEET)[tokens.ids]
    is_mention = (words == _MENTION)[tokens.ids]
    begins_text = tokens.offsets[:-1][np.diff(tokens.offsets) > 0]
    is_mention[begins_text] = False  # a mention that begins a text is not after "rt"
    is_retweet[:-1] &= is_mention[1:]
    is_retweet[-1:] = False
    return is_retweet


def _count_words(tokens: Tokens, is_kept: np.ndarray) -> np.ndarray:
    """Count the words and numbers of each text, halves included.

    The second part of a contraction does not count.
    """
    weight = np.where(_match(tokens, _HALF_WORD), 0.5, 1.0)
    weight[np.asarray(pc.match_substring(tokens.words, "'"))] = 0.0
    until = np.append(0.0, np.cumsum(weight[tokens.ids] * is_kept))
    return until[tokens.offsets[1:]] - until[tokens.offsets[:-1]]


def _join(tokens: Tokens, is_kept: np.ndarray) -> pa.Array:
    """Join the kept tokens of each text, without apostrophes.

    No space stands between words, so that ``can't`` and ``cant``, ``e-mail`` and ``email`` are
    equal. Numbers stand apart. The space at the beginning tells the key from an exact one.
    """
    pieces = pc.replace_substring(tokens.words, "'", "")
    numbers = pc.binary_join_element_wise("", pieces, "", " ")
    pieces = pc.if_else(pa.array(_match(tokens, _NUMBER)), numbers, pieces)
    until = np.append(0, np.cumsum(is_kept))
    kept = pieces.take(pa.array(tokens.ids[is_kept]))
    lists = pa.ListArray.from_arrays(pa.array(until[tokens.offsets], pa.int32()), kept)
    return pc.binary_join_element_wise(" ", pc.binary_join(lists, ""), "")
