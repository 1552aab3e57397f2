"""Text column -> the tokens of each text.

No rule looks across white space. So texts are cut there, and a rule runs over the distinct chunks
between: one in seven of real tweets. It gets them as one string, a chunk a line, since a call of
RE2 costs more than the few bytes of a chunk.
"""

import string
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrow_buffers import string_buffers

MARKS = (".", ",", ";", "?")
"""The punctuation that the tutorial's rule sets apart."""

_BLANK = r"[\t\x{0B}-\x{0D}\x{1C}-\x{1F}\x{85}\p{Z}]"
"""White space, but for the end of a line."""

_ENTITIES = (
    *(("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&apos;", "'")),
    *(("&nbsp;", " "), ("&amp;", "&")),
)
_BEFORE_SQUEEZING = (
    (r"[\x{200D}\x{FE0E}\x{FE0F}\x{1F3FB}-\x{1F3FF}]", ""),  # an emoji's joiners, style and skin
    (r"[\x{2019}\x{B4}`]", "'"),
    (r"(?:https?://|www\.)\S+", " <url> "),
    (r"@[a-z0-9_]+", " <user> "),
)
_PIECES = (
    r"<(?:url|user)>",
    r"[:;=][()\[\]/\\|*]+",  # :) ;( :/
    r"(?:^|\s)[:;=][dpo]\b",  # :d ;p, but not 4:do
    r"</?3+",  # <3 </3
    r"\^[_.-]?\^|-[_.]-|>[_.]<|\bt_t\b",  # ^_^ -.- >.< t_t
    r"\b\d+(?:[.,:/-]\d+)+",  # 3.5 1,000 10:30 1/2 2-0
    r"\b[a-z]\.(?:[a-z]\.)+",  # a.m. p.s.
    r"n't\b|'(?:s|m|re|ve|ll|d|em|cause|till?|twas)\b",
    r"\b(?:o'clock\b|ma'am\b|y')",
    r"\.\.\.|--",
    r"[[:punct:]]",
    r"[\p{So}\p{Sk}\p{Pd}\p{Pi}\p{Pf}\p{Po}\p{Sm}\p{Sc}]",
)
_AFTER_SQUEEZING = (
    (r"\.\.+", " ... "),
    (r"([:;=])[-o'^]([()\[\]/\\|*]|[dpo]\b)", r"\1\2"),  # GloVe knows smileys without a nose
    ("|".join(_PIECES), r" \0 "),
    (r"\ba?(haha|hehe)(?:ha|he)*h?\b", r"\1"),
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
        """Collect the distinct words of a list-of-strings column; null is an empty list."""
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

    def replace_words(self, parts: "Tokens") -> "Tokens":
        """Put row w of ``parts`` in the place of each token that is word w."""
        lists = pa.ListArray.from_arrays(pa.array(parts.offsets, pa.int32()), pa.array(parts.ids))
        taken = lists.take(pa.array(self.ids))
        offsets = taken.offsets.to_numpy()[self.offsets].astype(np.int64)
        return Tokens(parts.words, taken.flatten().to_numpy(), offsets)


def tokenize(text: pa.Array, *, name: str) -> Tokens:
    """Tokenize with the rule ``name``; a text may have no token.

    Args:
        text: N strings, without nulls.
        name: One of ``TOKENIZERS``.

    Example:
        >>> text = pa.array(["@Ann Sooo can't wait, 10:30! :-) http://t.co/x"])
        >>> tokenize(text, name="tweet").to_lists().to_pylist()
        [['<user>', 'so', 'ca', "n't", 'wait', ',', '10:30', '!', ':)', '<url>']]
        >>> tokenize(text, name="tutorial").to_lists().to_pylist()
        [['@ann', 'sooo', "can't", 'wait', ',', '10:30!', ':-)', 'http://t', '.', 'co/x']]
    """
    _, rule = TOKENIZERS[name]
    chunks = Tokens.from_lists(pc.ascii_split_whitespace(text))
    return chunks.replace_words(Tokens.from_lists(_split_chunks(chunks.words, rule)))


def tutorial_rule(text: pa.Array) -> pa.Array:
    """Set four punctuation marks apart and lower the case.

    The rule of the tutorial: ``. , ; ?`` become words of their own, other marks stay on theirs.
    """
    for mark in MARKS:
        text = pc.replace_substring(text, mark, f" {mark} ")
    return pc.utf8_lower(text)


def tweet_rule(text: pa.Array) -> pa.Array:
    """Set apart the words and marks that GloVe 6B knows, in its forms.

    HTML entities are undone, case is lowered, links become ``<url>`` and mentions ``<user>``, runs
    are shortened (:func:`squeeze_runs`; of dots to ``...``, laughter to ``haha``) and emoticons
    lose their nose. One token each are emoticons, emoji, compound numbers (``3.5``, ``1,000``,
    ``10:30``) and abbreviations (``a.m.``); contractions are two (``ca n't``, ``it 's``).
    """
    for entity, character in _ENTITIES:
        text = pc.replace_substring(text, entity, character)
    text = _replace(pc.utf8_lower(text), _BEFORE_SQUEEZING)
    return _replace(squeeze_runs(text), _AFTER_SQUEEZING)


TOKENIZERS: dict[str, tuple[int, Callable[[pa.Array], pa.Array]]] = {
    "tutorial": (1, tutorial_rule),
    "tweet": (2, tweet_rule),
}
"""By name: the version of the rule, which changes whenever a token of any text does; and the rule,
which sets the tokens of a text apart by blanks and looks at no more than a chunk at a time."""


def squeeze_runs(text: pa.Array) -> pa.Array:
    """Shorten runs of one ASCII character: of marks to one, of three or more letters to one or two.

    Two are left where English often has two (``gooood``, ``alllll``), else one (``sooo``,
    ``haaate``), and two of ``-``. Digits, dots, ``^`` and white space stay. A pass over the bytes,
    as RE2 has no backreferences.

    Example:
        >>> squeeze_runs(pa.array(["sooo gooood!!!!!", "1000", "aa"])).to_pylist()
        ['so good!', '1000', 'aa']
    """
    data, offsets = string_buffers(text)
    dropped = _find_excess(data, offsets)
    new_offsets = (offsets - np.searchsorted(dropped, offsets)).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(text), pa.py_buffer(new_offsets), pa.py_buffer(np.delete(data, dropped))
    )


def _find_excess(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Find the bytes that squeezing drops, in ascending order."""
    is_border = np.zeros(len(data) + 1, bool)
    is_border[offsets] = True
    same = ~is_border  # as the byte before it in its row
    same[1:-1] &= data[1:] == data[:-1]
    at = np.flatnonzero(same)
    byte, goes_on, is_third = data[at], same[at + 1], same[at - 1]
    within = ~is_border[at + 1] & _IS_LETTER[data[np.minimum(at + 1, len(data) - 1)]]
    one_left = ~(_DOUBLED[byte] | within & _DOUBLED_WITHIN[byte])
    return at[_IS_MARK[byte] | _IS_LONG[byte] & (goes_on | is_third & one_left)]


def _byte_table(characters: str) -> np.ndarray:
    table = np.zeros(256, bool)
    table[[ord(character) for character in characters]] = True
    return table


_IS_LETTER = _byte_table(string.ascii_lowercase)
_IS_MARK = _byte_table(string.punctuation.translate({ord(mark): None for mark in ".-^"}))
_IS_LONG = _byte_table(string.ascii_lowercase + "-")
_DOUBLED, _DOUBLED_WITHIN = _byte_table("l-"), _byte_table("elost")


def _replace(text: pa.Array, rules: tuple[tuple[str, str], ...]) -> pa.Array:
    for pattern, replacement in rules:
        text = pc.replace_substring_regex(text, pattern, replacement)
    return text


def _split_chunks(chunks: pa.Array, rule: Callable[[pa.Array], pa.Array]) -> pa.ListArray:
    """Split each chunk by a rule; null where nothing is left of it."""
    row = pa.ListArray.from_arrays([0, len(chunks)], chunks)
    lines = pc.replace_substring_regex(pc.binary_join(row, "\n"), _BLANK, " ")
    spaced = pc.ascii_trim_whitespace(pc.split_pattern(rule(lines), "\n").flatten())
    filled = pc.if_else(pc.equal(spaced, ""), None, spaced)  # "" would give the word ""
    return pc.ascii_split_whitespace(filled)
