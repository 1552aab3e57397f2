"""Text column -> the tokens of each text.

No rule looks across white space. So texts are split there, and a rule runs once over the distinct
chunks; in real tweets one chunk in seven is distinct. The chunks are joined to one string with a
chunk on each line, because one call of RE2 costs more than the few bytes of a chunk.
"""

import functools
import string
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrow_buffers import string_buffers

MARKS = (".", ",", ";", "?")
"""The punctuation that the tutorial's rule separates."""

_BLANK = r"[\t\x{0B}-\x{0D}\x{1C}-\x{1F}\x{85}\p{Z}]"
"""White space other than a line feed."""

_ENTITIES = (
    *(("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&apos;", "'")),
    *(("&nbsp;", " "), ("&amp;", "&")),
)
_WORD = r"\p{L}\p{M}\p{N}_"
_BEFORE_SQUEEZING = (
    ("`", "'"),
    (r"(?:https?://|www\.)[!-~]+", " <url> "),
    (rf"[{_WORD}.+-]+@[{_WORD}-]+(?:\.[{_WORD}-]+)+", " <email> "),
    (rf"@(?:[a-z0-9_\p{{Latin}}\p{{M}}]+|[{_WORD}]+)", " <user> "),  # a name ends with Latin letters
)
_UNSPACED = "".join(
    rf"\p{{{script}}}"
    for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
)
"""Scripts that do not separate words by blanks (Unicode Standard Annex 14, classes ID, CJ and SA)."""
_PIECES = (
    r"[\x{1F1E6}-\x{1F1FF}]{2}",  # a flag is two letters
    r"<(?:url|email|user)>",
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
    r"[\p{So}\p{Sk}\p{Pd}\p{Pi}\p{Pf}\p{Ps}\p{Pe}\p{Po}\p{Sm}\p{Sc}]",
    # a letter with its marks and stacked letters (Annex 29); the sign of a long vowel has no script
    rf"[{_UNSPACED}\x{{30FC}}](?:[\x{{17D2}}\x{{1039}}]\p{{Lo}}|\p{{M}})*",
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

    Every token is hashed once. Counting and encoding words are then look-ups in small arrays.
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

    def cut(self, max_length: int) -> "Tokens":
        """Keep the first ``max_length`` tokens of each tweet."""
        lengths = np.diff(self.offsets)
        place = np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], lengths)
        offsets = np.append(0, np.cumsum(np.minimum(lengths, max_length)))
        return Tokens(self.words, self.ids[place < max_length], offsets)

    def to_lists(self) -> pa.ListArray:
        """Return the tokens as a list-of-strings column."""
        offsets = pa.array(self.offsets.astype(np.int32))
        return pa.ListArray.from_arrays(offsets, self.words.take(pa.array(self.ids)))

    def replace_words(self, parts: "Tokens") -> "Tokens":
        """Replace each token that is word w by row w of ``parts``."""
        lists = pa.ListArray.from_arrays(pa.array(parts.offsets, pa.int32()), pa.array(parts.ids))
        taken = lists.take(pa.array(self.ids))
        offsets = taken.offsets.to_numpy()[self.offsets].astype(np.int64)
        return Tokens(parts.words, taken.flatten().to_numpy(), offsets)


def tokenize(text: pa.Array, *, name: str) -> Tokens:
    """Tokenize with the rule ``name``; the result may have texts without a token.

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
    """Separate four punctuation marks, and lower the case.

    The rule of the tutorial: ``. , ; ?`` become tokens, other marks stay with their word.
    """
    for mark in MARKS:
        text = pc.replace_substring(text, mark, f" {mark} ")
    return pc.utf8_lower(text)


def tweet_rule(text: pa.Array) -> pa.Array:
    """Separate words and marks as GloVe 6B has them, and letters of scripts without blanks.

    HTML entities are decoded and the case is lowered; a text of other characters than ASCII is
    unified (:func:`unify`). Links become ``<url>``, addresses ``<email>``, mentions ``<user>``. A
    hashtag in camel case is several words. Runs of a character are shortened
    (:func:`squeeze_runs`), runs of dots to ``...``, laughter to ``haha``. Emoticons lose their
    nose. An emoticon, an emoji, a flag, a compound number (``3.5``, ``1,000``, ``10:30``) or an
    abbreviation (``a.m.``) is one token; a contraction is two (``ca n't``, ``it 's``). Of a script
    that does not separate words by blanks each letter with its marks is a token.
    """
    for entity, character in _ENTITIES:
        text = pc.replace_substring(text, entity, character)
    text = _replace(pc.utf8_lower(text), _BEFORE_SQUEEZING)
    return _replace(squeeze_runs(text), _AFTER_SQUEEZING)


def prepare_chunks(chunks: pa.Array) -> pa.Array:
    """Separate the words of hashtags in camel case, and unify what is not ASCII."""
    is_tag = pc.starts_with(chunks, "#")
    parted = pc.replace_substring_regex(chunks.filter(is_tag), r"(\p{Ll})(\p{Lu})", r"\1 \2")
    return unify(pc.replace_with_mask(chunks, is_tag, parted))


def unify(text: pa.Array) -> pa.Array:
    """Unify texts of other characters than ASCII; the others stay as they are.

    ``NFKC_Casefold`` (Unicode Standard, section 3.13): compatibility forms, case folding, and no
    character that is ignored by default, such as joiners and variation selectors. Also dropped are
    skin tones, and what Arabic and Hebrew usually leave out: marks of vowels (Mn) and tatweel.
    Alef with hamza or madda is alef; alef maqsura and Farsi yeh are yeh, keheh is kaf; dotless i is
    i; a zero width space is a blank. Runs of three or more of a letter or mark become one, of two or
    more punctuation marks too; those of ASCII are left to :func:`squeeze_runs`.

    Args:
        text: N strings without a line feed.

    Example:
        >>> unify(pa.array(["Ｓｏ gut", "ΣΑΣ", "جمييييل", "naïve", "Ok"])).to_pylist()
        ['so gut', 'σασ', 'جميل', 'naïve', 'Ok']
    """
    is_other = pc.invert(pc.string_is_ascii(text))
    lines = text.filter(is_other).to_pylist()
    if not lines:
        return text
    folded = "\n".join(lines).translate(_APOSTROPHES)
    for _ in range(2):  # folding may undo a normal form
        folded = unicodedata.normalize("NFKC", folded).casefold()
    folded = folded.translate(_fold_table()).replace("i\u0307", "i")
    return pc.replace_with_mask(text, is_other, pa.array(_squeeze(folded).split("\n")))


_APOSTROPHES = {0x2019: "'", 0xB4: "'"}
"""NFKC would make two characters of the second."""


@functools.cache
def _fold_table() -> dict[int, str]:
    """Map code points as :func:`unify` says."""
    alef, yeh, kaf = "\u0627", "\u064a", "\u0643"
    table = {0x622: alef, 0x623: alef, 0x625: alef, 0x671: alef, 0x649: yeh, 0x6CC: yeh, 0x6A9: kaf}
    table |= {0x131: "i", 0x200B: " "}
    ignored = (0xAD, 0x640, *range(0x200C, 0x2010), *range(0x2060, 0x2065), 0xFEFF)
    styles = (*range(0xFE00, 0xFE10), *range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080))
    marks = (n for n in range(0x591, 0x6EE) if unicodedata.category(chr(n)) == "Mn")
    return table | dict.fromkeys((*ignored, *styles, *marks), "")


def _squeeze(text: str) -> str:
    """Shorten runs of a letter, mark or punctuation mark that is not ASCII to one."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    same = np.append(False, (codes[1:] == codes[:-1]) & (codes[1:] >= 0x80))
    at = np.flatnonzero(same)
    if not len(at):
        return text
    kinds = np.array([unicodedata.category(chr(code))[0] for code in codes[at]])
    is_long = np.append(same, False)[at + 1] | same[at - 1]
    dropped = at[(kinds == "P") | (np.isin(kinds, ["L", "M"]) & is_long)]
    return np.delete(codes, dropped).tobytes().decode("utf-32-le")


TOKENIZERS: dict[str, tuple[int, Callable[[pa.Array], pa.Array]]] = {
    "tutorial": (1, tutorial_rule),
    "tweet": (3, tweet_rule),
}
"""By name: the version of the rule and the rule. The version changes whenever any text gets other
tokens. A rule separates the tokens of each line by blanks and never looks across white space."""


def squeeze_runs(text: pa.Array) -> pa.Array:
    """Shorten runs of one ASCII character: of marks to one, of three or more letters to one or two.

    Two letters stay where English often has two (``gooood``, ``alllll``), else one (``sooo``,
    ``haaate``); of ``-`` two stay. Three consonants within a word stay, as German has them. Digits,
    dots, ``^`` and white space are not changed. The rule works on bytes because RE2 has no
    backreferences.

    Example:
        >>> squeeze_runs(pa.array(["sooo gooood!!!!!", "1000", "aa", "schifffahrt"])).to_pylist()
        ['so good!', '1000', 'aa', 'schifffahrt']
    """
    data, offsets = string_buffers(text)
    dropped = _find_excess(data, offsets)
    new_offsets = (offsets - np.searchsorted(dropped, offsets)).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(text), pa.py_buffer(new_offsets), pa.py_buffer(np.delete(data, dropped))
    )


def _find_excess(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """List the positions of the bytes that squeezing drops, in order."""
    is_border = np.zeros(len(data) + 1, bool)
    is_border[offsets] = True
    same = ~is_border  # whether a byte equals the one before it in its row
    same[1:-1] &= data[1:] == data[:-1]
    at = np.flatnonzero(same)
    byte, continues, is_third = data[at], same[at + 1], same[at - 1]
    within = ~is_border[at + 1] & _IS_LETTER[data[np.minimum(at + 1, len(data) - 1)]]
    one_left = ~(_DOUBLED[byte] | within & _DOUBLED_WITHIN[byte])
    is_excess = _IS_MARK[byte] | _IS_LONG[byte] & (continues | is_third & one_left)
    inside = is_third & ~continues & within & _IS_CONSONANT[byte] & (at >= 3)  # of exactly three
    inside &= ~same[at - 2] & ~is_border[at - 2] & _IS_LETTER[data[at - 3]]
    return np.setdiff1d(at[is_excess], np.concatenate([at[inside], at[inside] - 1]))


def _byte_table(characters: str) -> np.ndarray:
    table = np.zeros(256, bool)
    table[[ord(character) for character in characters]] = True
    return table


_IS_LETTER = _byte_table(string.ascii_lowercase)
_IS_MARK = _byte_table(string.punctuation.translate({ord(mark): None for mark in ".-^"}))
_IS_LONG = _byte_table(string.ascii_lowercase + "-")
_IS_CONSONANT = _byte_table("bcdfghjklmnpqrstvwxz")
_DOUBLED, _DOUBLED_WITHIN = _byte_table("l-"), _byte_table("elost")


def _replace(text: pa.Array, rules: tuple[tuple[str, str], ...]) -> pa.Array:
    for pattern, replacement in rules:
        text = pc.replace_substring_regex(text, pattern, replacement)
    return text


def _split_chunks(chunks: pa.Array, rule: Callable[[pa.Array], pa.Array]) -> pa.ListArray:
    """Split each chunk by a rule; null for a chunk without a token."""
    if rule is tweet_rule:
        chunks = prepare_chunks(chunks)
    row = pa.ListArray.from_arrays([0, len(chunks)], chunks)
    lines = pc.replace_substring_regex(pc.binary_join(row, "\n"), _BLANK, " ")
    spaced = pc.ascii_trim_whitespace(pc.split_pattern(rule(lines), "\n").flatten())
    filled = pc.if_else(pc.equal(spaced, ""), None, spaced)  # "" would become the token ""
    return pc.ascii_split_whitespace(filled)
