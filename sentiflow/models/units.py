"""Tokens of texts -> the units that the network reads: the tokens, or their characters.

In a language that glues endings to stems, such as Korean, Turkish or Swahili, most words of a small
corpus occur once, and a network that reads words knows few of them. It knows nearly all characters.
The linear model beside the network has n-grams of characters anyway: it always gets the tokens.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.text_units import CHARACTERS, WORDS, Unit
from sentiflow.models.tokens import Tokens

_MARK = r"\p{M}\x{200C}\x{200D}"
"""Marks of a letter, such as the vowels of Hindi and Tamil, and joiners, in a class of RE2."""
_WORD = rf"^[\p{{L}}\p{{N}}{_MARK}]*\p{{L}}[\p{{L}}\p{{N}}{_MARK}]*$"
"""A token of letters and digits. All others stay whole: marks, numbers, emoticons, emoji,
``<user>``, and contractions such as ``n't``."""
_CHARACTER = rf"[\p{{L}}\p{{N}}][{_MARK}]*"
"""A character as readers see it, a letter with its marks (Unicode Annex 29)."""
_HASH = "#"
"""The token before the word of a hashtag."""


def split(tokens: Tokens, unit: Unit) -> Tokens:
    """Split tokens into the units that a network reads.

    Args:
        tokens: The tokens of N texts.
        unit: ``WORDS``: the tokens stay as they are. ``CHARACTERS``: a word becomes its characters,
            unless it is a hashtag; other tokens stay whole.

    Example:
        >>> tokens = Tokens.from_lists(pa.array([["<user>", "영화", "진짜", ":)", "#", "대박"]]))
        >>> split(tokens, "characters").to_lists().to_pylist()
        [['<user>', '영', '화', '진', '짜', ':)', '#', '대박']]
    """
    if unit == WORDS:
        return tokens
    coded, parts = _choose_parts(tokens, unit)
    return coded.replace_words(parts)


def find_tokens(tokens: Tokens, unit: Unit) -> np.ndarray:
    """Return the position of the token that each unit of :func:`split` is a part of.

    Example:
        >>> tokens = Tokens.from_lists(pa.array([["<user>", "영화", ":)"]]))
        >>> find_tokens(tokens, "characters").tolist()
        [0, 1, 1, 2]
    """
    places = np.arange(len(tokens.ids))
    if unit == WORDS:
        return places
    coded, parts = _choose_parts(tokens, unit)
    return np.repeat(places, np.diff(parts.offsets)[coded.ids])


def _choose_parts(tokens: Tokens, unit: Unit) -> tuple[Tokens, Tokens]:
    """Say into what each token is split: a token with id w into row w of the second result."""
    assert unit == CHARACTERS, "the settings allow no other unit"
    num_words = len(tokens.words)
    # the words once more, whole: hashtags take these
    parts = Tokens.join([_split_words(tokens.words), _leave_whole(tokens.words)])
    ids = np.where(_find_hashtags(tokens), tokens.ids + num_words, tokens.ids)
    return Tokens(tokens.words, ids, tokens.offsets), parts


def find_words(tokens: pa.Array) -> np.ndarray:
    """Whether each token is a word, which has characters, bool."""
    return np.asarray(pc.match_substring_regex(tokens, _WORD), bool)


def _split_words(words: pa.Array) -> Tokens:
    """Split each of W distinct words into its characters; other tokens stay whole."""
    spaced = pc.replace_substring_regex(words, _CHARACTER, r"\0 ")
    spaced = pc.if_else(pa.array(find_words(words)), spaced, words)
    return Tokens.from_lists(pc.split_pattern(pc.utf8_rtrim(spaced, characters=" "), " "))


def _leave_whole(words: pa.Array) -> Tokens:
    """Turn each of W distinct words into a text of this one token."""
    num_words = len(words)
    return Tokens(words, np.arange(num_words, dtype=np.int32), np.arange(num_words + 1))


def _find_hashtags(tokens: Tokens) -> np.ndarray:
    """Whether each token follows a ``#`` of its text, bool."""
    is_hash = np.asarray(pc.equal(tokens.words, _HASH), bool)[tokens.ids]
    follows = np.append(False, is_hash)[: len(is_hash)]
    starts = tokens.offsets[:-1]
    follows[starts[starts < len(follows)]] = False  # the first token of a text
    return follows
