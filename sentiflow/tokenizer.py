"""Text column -> the tokens of each text."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MARKS = (".", ",", ";", "?")
"""The punctuation that the tutorial's rule sets apart."""

_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&amp;", "&"))
_CURLY_APOSTROPHE = "\u2019"
_LINK = r"(?:https?://|www\.)\S+"
_EMOJI_STYLE = r"[\x{FE0E}\x{FE0F}\x{1F3FB}-\x{1F3FF}]"  # presentation and skin tone
_MENTION = r"@[a-z0-9_]+"

_PIECES = "|".join(
    (
        r"<(?:url|user)>",
        r"[:;=][-o'^]?[()\[\]/\\|*]+",  # :) ;-( :/
        r"(?:^|\s)[:;=][-o'^]?[dpo]\b",  # :d ;-p, but not 4:do
        r"<+/?3+",  # <3 </3
        r"\^[_.]*\^|[-t>][_.]+[-t<]",  # ^_^ -_- t_t
        r"n't\b",
        r"'(?:s|m|re|ve|ll|d)\b",
        r"\.\.+|!+|\?+|-+",
        r"[[:punct:]]",
        r"[\p{So}\p{Sk}\p{Pd}\p{Pi}\p{Pf}\p{Po}\p{Sm}\p{Sc}]",
    )
)


@dataclass(frozen=True)
class Tokens:
    """Tokens of many tweets as ids into their own list of distinct words.

    The hash of every token is taken once; counting words and encoding them are then look-ups in
    small arrays.
    """

    words: pa.Array
    """W distinct strings."""
    ids: np.ndarray
    """int32, one for each token, into ``words``."""
    offsets: np.ndarray
    """N + 1 positions of the tweets' first tokens in ``ids``."""

    @classmethod
    def from_lists(cls, tokens: pa.ListArray) -> "Tokens":
        """Collect the distinct words of a list-of-strings column."""
        coded = tokens.flatten().dictionary_encode()
        offsets = tokens.offsets.to_numpy().astype(np.int64)
        return cls(coded.dictionary, coded.indices.to_numpy(), offsets - offsets[0])

    def count(self, rows: np.ndarray) -> np.ndarray:
        """Count each word over the rows where ``rows`` is true: W int64."""
        chosen = np.repeat(rows, np.diff(self.offsets))
        return np.bincount(self.ids[chosen], minlength=len(self.words))

    def to_lists(self) -> pa.ListArray:
        """Write the tokens out as a list-of-strings column."""
        offsets = pa.array(self.offsets.astype(np.int32))
        return pa.ListArray.from_arrays(offsets, self.words.take(pa.array(self.ids)))


def tokenize_tutorial(text: pa.Array) -> pa.ListArray:
    """Set four punctuation marks apart, lower the case, split at white space.

    The rule of the tutorial: ``. , ; ?`` become words of their own, other marks stay on theirs.

    Example:
        >>> tokenize_tutorial(pa.array(["Why, @ann? Me!"])).to_pylist()
        [['why', ',', '@ann', '?', 'me!']]
    """
    for mark in MARKS:
        text = pc.replace_substring(text, mark, f" {mark} ")
    return _split(pc.utf8_lower(text))


def tokenize_tweet(text: pa.Array) -> pa.ListArray:
    """Split tweets into the words and marks that GloVe knows.

    HTML entities are undone, case is lowered, links become ``<url>`` and mentions ``<user>``, three
    or more of a letter become two, a run of one mark becomes one (dots: ``...``), emoticons and
    emoji are tokens, and contractions are split as in GloVe (``ca n't``, ``it 's``).

    Example:
        >>> tokenize_tweet(pa.array(["@ann Sooo can't wait!!! :) http://t.co/x"])).to_pylist()
        [['<user>', 'soo', 'ca', "n't", 'wait', '!', ':)', '<url>']]
    """
    text = pc.replace_substring_regex(_undo_entities(text), _EMOJI_STYLE, "")
    text = pc.replace_substring(pc.utf8_lower(text), _CURLY_APOSTROPHE, "'")
    text = pc.replace_substring_regex(text, _LINK, " <url> ")
    text = pc.replace_substring_regex(text, _MENTION, " <user> ")
    text = squeeze_runs(text)
    text = pc.replace_substring_regex(text, f"({_PIECES})", r" \1 ")
    return _split(text)


TOKENIZERS: dict[str, tuple[int, Callable[[pa.Array], pa.ListArray]]] = {
    "tutorial": (1, tokenize_tutorial),
    "tweet": (1, tokenize_tweet),
}
"""By name: the version of the rule, which changes whenever a token of any text does; the rule."""


def tokenize(text: pa.Array, *, name: str) -> Tokens:
    """Tokenize with the rule ``name``; a text may have no token."""
    return Tokens.from_lists(TOKENIZERS[name][1](text))


def squeeze_runs(text: pa.Array) -> pa.Array:
    """Shorten runs of one ASCII character: three or more letters to two, marks to one.

    Of ``.`` three are left. Digits and white space stay. A pass over the bytes, as RE2 has no
    backreferences.

    Example:
        >>> squeeze_runs(pa.array(["soooo good!!!!!......", "1000", "aa"])).to_pylist()
        ['soo good!...', '1000', 'aa']
    """
    data, offsets = _buffers(text)
    if len(data) == 0:
        return text
    same = np.zeros(len(data), bool)
    same[1:] = data[1:] == data[:-1]
    same[offsets[:-1][offsets[:-1] < len(data)]] = False
    again = same.copy()
    again[1:] &= same[:-1]
    thrice = again.copy()
    thrice[1:] &= again[:-1]
    dropped = again & _IS_LETTER[data] | same & _IS_MARK[data] | thrice & (data == ord("."))
    if not dropped.any():
        return text
    new_offsets = (offsets - np.concatenate([[0], np.cumsum(dropped)])[offsets]).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(text), pa.py_buffer(new_offsets), pa.py_buffer(data[~dropped])
    )


def _byte_table(characters: str) -> np.ndarray:
    table = np.zeros(256, bool)
    table[[ord(character) for character in characters]] = True
    return table


_IS_LETTER = _byte_table("abcdefghijklmnopqrstuvwxyz")
_IS_MARK = _byte_table("!?,;*~-_")


def _undo_entities(text: pa.Array) -> pa.Array:
    for entity, character in _ENTITIES:
        text = pc.replace_substring(text, entity, character)
    return text


def _split(text: pa.Array) -> pa.ListArray:
    """Split at white space, without the empty words that blanks at the ends would give."""
    words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(text))
    flat, lengths = words.flatten(), pc.list_value_length(words).to_numpy()
    filled = pc.not_equal(flat, "")
    kept = (
        np.add.reduceat(
            np.append(filled.to_numpy(zero_copy_only=False), False).astype(np.int64),
            np.cumsum(lengths) - lengths,
        )
        if len(lengths)
        else lengths
    )
    offsets = np.concatenate([[0], np.cumsum(np.where(lengths > 0, kept, 0))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat.filter(filled))


def _buffers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """View a string array as its bytes and the int offsets of its rows into them."""
    _, offsets_buffer, data_buffer = text.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]
