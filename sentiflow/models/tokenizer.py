"""Text column -> the tokens of each text.

No rule looks across white space. So texts are split at white space into *chunks*, and a rule runs
once over the distinct chunks; in real tweets one chunk in seven is distinct. The chunks are joined
to one string with a chunk on each line, because a call of RE2 costs more than the few bytes of a
chunk. Most English chunks need only a few rules, the *plain* ones; all rules run over other chunks,
such as chunks in other scripts.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from unicodedata import category, normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import UNSPACED, string_buffers

MARKS = (".", ",", ";", "?")
"""The punctuation that the tutorial's rule separates."""

_Rules = tuple[tuple[str, str], ...]
"""Patterns of RE2 and what replaces them, in order."""


class _RulesAroundSqueezing(NamedTuple):
    """Rules that run before and after runs of a character are shortened."""

    before: _Rules
    after: _Rules


_BLANK = r"[\t\x{0B}-\x{0D}\x{1C}-\x{1F}\x{85}\p{Z}]"
"""White space other than a line feed."""

_ENTITIES = {
    "&lt;": "<",
    "&gt;": ">",
    "&quot;": '"',
    "&#39;": "'",
    "&apos;": "'",
    "&nbsp;": " ",
    "&amp;": "&",
    "`": "'",
}
"""HTML entities and their characters, and the backtick, which is used as an apostrophe. ``&amp;``
comes after the other entities, so that no text is decoded twice."""
_UPPER = "".join(chr(code) for code in range(0x588) if chr(code).isupper())
"""Capital letters up to U+0587: Latin, Greek, Cyrillic and Armenian."""
_CAMEL_CASE = re.compile(rf"(?<=[^\W\d_{_UPPER}])(?=[{_UPPER}])")
"""Where a word of a hashtag begins, in Latin, Greek, Cyrillic and Armenian letters."""
_LATIN = r"a-z0-9_\x{C0}-\x{24F}\x{300}-\x{36F}\x{1E00}-\x{1EFF}"
"""Characters of a Latin word: letters, their marks, digits and the underscore."""
_ADDRESS = f"[{_LATIN}]+(?:[.+-][{_LATIN}]+)*"
"""The name in an e-mail address, or its domain without the last part."""
_EMOJI = r"\x{2190}-\x{2BFF}\x{1F000}-\x{1FAFF}"
"""Emoji, arrows and other symbols."""
_GRAPHEMES = (
    r"[\x{1F1E6}-\x{1F1FF}]{2}",  # a flag
    rf"[{_EMOJI}](?:\x{{200D}}[{_EMOJI}])+",  # a family
    # A letter with its marks: stacked letters of Khmer and Burmese, the vowel am of Thai and Lao.
    # 30FC, the sign of a long vowel in Japanese, belongs to no script.
    rf"[{UNSPACED}\x{{30FC}}]"
    r"(?:[\x{17D2}\x{1039}][\x{1000}-\x{17B3}]|\x{0E4D}\x{0E32}|\x{0ECD}\x{0EB2}|\p{M})*",
    r"[\p{P}\p{S}]",
)
"""Characters as readers see them (Unicode Annex 29); each is a token."""
_PIECES = (
    r"<(?:url|email|user|emoji)>",
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
)
"""Emoticons, numbers, abbreviations, contractions and ASCII punctuation; each is a token."""


def _after_squeezing(*pieces: str) -> _Rules:
    """List the rules for text whose runs of characters are shortened; each piece is a token."""
    return (
        (r"\.\.+", " ... "),
        (r"([:;=])[-o'^]([()\[\]/\\|*]|[dpo]\b)", r"\1\2"),  # GloVe knows smileys without a nose
        ("|".join(pieces), r" \0 "),
        (r"\ba?(haha|hehe)(?:ha|he)*h?\b", r"\1"),
    )


_URL = (r"(?:https?://|www\.)[!-~]+", " <url> ")
_MAX_NAME = 15
"""Longest Latin user name on Twitter, in characters; a longer one is text without blanks."""
_PLAIN_RULES = _RulesAroundSqueezing(
    before=(_URL, (rf"@[a-z0-9_]{{1,{_MAX_NAME}}}\b", " <user> ")),
    after=_after_squeezing(*_PIECES),
)
"""Rules for most English chunks: few rules with few classes of characters are fast in RE2."""
_ALL_RULES = _RulesAroundSqueezing(
    before=(
        (_BLANK, " "),
        _URL,
        (rf"{_ADDRESS}@{_ADDRESS}\.[a-z]{{2,}}", " <email> "),
        (rf"@([{_LATIN}]{{{_MAX_NAME + 1},}})", r"@ \1"),
        # A Latin name ends at a letter of another script, which may follow without a blank.
        (rf"@(?:[{_LATIN}]+|(?:[a-z0-9_]|[^\x00-\x{{BF}}\p{{P}}\p{{S}}])+)", " <user> "),
    ),
    after=_after_squeezing(*_PIECES, *_GRAPHEMES),
)
"""Rules for all other chunks. Chunks that need only the plain rules get the same tokens by both."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of N tweets, as positions in a list of their distinct words.

    Every token is hashed once. Counting and encoding words are then look-ups in small arrays.
    """

    words: pa.Array
    """W distinct strings."""
    ids: np.ndarray
    """The position in ``words`` of each token, int32."""
    offsets: np.ndarray
    """N + 1 positions of the tweets' first tokens in ``ids``."""

    @classmethod
    def from_lists(cls, tokens: pa.ListArray) -> "Tokens":
        """Read a column of lists of words; null is an empty list."""
        coded = tokens.flatten().dictionary_encode()
        offsets = tokens.offsets.to_numpy().astype(np.int64)
        return cls(coded.dictionary, coded.indices.to_numpy(), offsets - offsets[0])

    def count(self, rows: np.ndarray) -> np.ndarray:
        """Count each word in the tweets for which ``rows``, N bool, is true: W int64."""
        chosen = np.repeat(rows, np.diff(self.offsets))
        return np.bincount(self.ids[chosen], minlength=len(self.words))

    def cut(self, max_length: int) -> "Tokens":
        """Keep the first ``max_length`` tokens of each tweet."""
        lengths = np.diff(self.offsets)
        starts = np.repeat(self.offsets[:-1], lengths)
        place = np.arange(len(self.ids)) - starts
        offsets = np.append(0, np.cumsum(np.minimum(lengths, max_length)))
        return Tokens(self.words, self.ids[place < max_length], offsets)

    def to_lists(self) -> pa.ListArray:
        """Return a column of lists of words, dictionary-encoded."""
        words = pa.DictionaryArray.from_arrays(pa.array(self.ids, pa.int32()), self.words)
        return pa.ListArray.from_arrays(pa.array(self.offsets.astype(np.int32)), words)

    def replace_words(self, parts: "Tokens") -> "Tokens":
        """Replace each token by several: a token with id w by the tokens in row w of ``parts``."""
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
    rule = TOKENIZERS[name].rule
    chunks = Tokens.from_lists(pc.ascii_split_whitespace(text))
    spaced = pc.ascii_trim_whitespace(rule(chunks.words))
    filled = pc.if_else(pc.equal(spaced, ""), None, spaced)  # splitting "" gives a token ""
    tokens_of_chunks = Tokens.from_lists(pc.ascii_split_whitespace(filled))
    return chunks.replace_words(tokens_of_chunks)


def tutorial_rule(chunks: pa.Array) -> pa.Array:
    """Separate four punctuation marks, and convert to lower case.

    The rule of the tutorial: ``. , ; ?`` become tokens, other marks stay with their word.
    """
    text = pc.replace_substring_regex(chunks, _BLANK, " ")
    for mark in MARKS:
        text = pc.replace_substring(text, mark, f" {mark} ")
    return pc.utf8_lower(text)


def tweet_rule(chunks: pa.Array) -> pa.Array:
    """Separate words and marks as GloVe 6B has them, and letters of scripts without blanks.

    The words of a hashtag in camel case are separated. HTML entities are decoded, letters become
    lower case, and characters outside of ASCII are unified (:func:`unify`). Links become ``<url>``,
    e-mail addresses ``<email>``, mentions ``<user>``, unless the user name is too long. Runs of
    a character are shortened (:func:`squeeze_runs`), runs of dots to ``...``, laughter to ``haha``.
    Emoticons lose their nose. An emoticon, an emoji, a flag, a compound number (``3.5``, ``1,000``,
    ``10:30``) or an abbreviation (``a.m.``) is one token; a contraction is two (``ca n't``,
    ``it 's``). In a script that does not separate words by blanks, each letter with its marks is a
    token.
    """
    is_other = _need_all_rules(chunks)
    plain = _apply_plain_rules(chunks.filter(pa.array(~is_other)))
    others = _apply_all_rules(chunks.filter(pa.array(is_other)))
    place_in_plain = np.cumsum(~is_other) - 1
    place_in_others = np.cumsum(is_other) - 1
    place = np.where(is_other, len(plain) + place_in_others, place_in_plain)
    return pa.concat_arrays([plain, others]).take(pa.array(place))


def _need_all_rules(chunks: pa.Array) -> np.ndarray:
    """Whether each chunk may need more than the plain rules, by its bytes."""
    data, offsets = string_buffers(chunks)
    at = np.flatnonzero(_IS_SPECIAL.take(data))  # positions of special bytes
    row = np.searchsorted(offsets, at, "right") - 1  # their chunks
    is_first_at_sign = (data[at] == ord("@")) & (at == offsets[row])
    is_needed = np.zeros(len(chunks), bool)
    is_needed[row[~is_first_at_sign]] = True
    return is_needed


def _apply_plain_rules(chunks: pa.Array) -> pa.Array:
    """Separate the tokens of chunks that need the plain rules only."""
    row = pa.ListArray.from_arrays([0, len(chunks)], chunks)
    lines = pc.binary_join(row, "\n")
    return _apply(pc.ascii_lower(lines), _PLAIN_RULES)


def _apply_all_rules(chunks: pa.Array) -> pa.Array:
    """Separate the tokens of all other chunks."""
    lines = [_split_hashtag(chunk) for chunk in chunks.to_pylist()]
    text = "\n".join(lines)
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    return _apply(pa.array([unify(text)]), _ALL_RULES)


def _split_hashtag(chunk: str) -> str:
    """Separate the words of a hashtag in camel case; other chunks are returned unchanged."""
    if not chunk.startswith("#"):
        return chunk
    return _CAMEL_CASE.sub(" ", normalize("NFC", chunk))


def _apply(lines: pa.Array, rules: _RulesAroundSqueezing) -> pa.Array:
    """Apply rules to one string in lower case; return its lines."""
    if lines[0].as_py():  # RE2 compiles no pattern for an empty string
        lines = _replace(lines, rules.before)
        lines = squeeze_runs(lines)
        lines = _replace(lines, rules.after)
    return pc.split_pattern(lines, "\n").flatten()


def _replace(text: pa.Array, rules: _Rules) -> pa.Array:
    """Apply rules one after the other."""
    for pattern, replacement in rules:
        text = pc.replace_substring_regex(text, pattern, replacement)
    return text


def unify(text: str) -> str:
    """Give different spellings of a word the same characters, in lower case.

    | rule | source in the Unicode Standard |
    |---|---|
    | case and compatibility forms; no joiners and styles | 3.13, ``NFKC_Casefold`` |
    | no marks of vowels in Arabic and Hebrew, no tatweel | 9.1, 9.2 |
    | one alef, one yeh, one kaf for Arabic, Persian and Urdu | 9.2 |
    | i with a dot and without one are i | 5.18, ``SpecialCasing.txt`` |
    | no skin tones; emoji stay joined | Technical Standard 51 |
    | ``<emoji>`` for a style without its emoji, which was cut off | the same |
    | a zero width space is a blank | Annex 14, class ZW |

    Runs of three or more letters or marks become one, and so do runs of two or more punctuation
    marks; runs of ASCII are left to :func:`squeeze_runs`.

    Example:
        >>> unify("Straße, NAÏVE, ﬁne, جمييييل")
        'strasse, naïve, fine, جميل'
    """
    for character, plain in _BEFORE_FOLDING.items():
        text = text.replace(character, plain)
    text = _LONELY_JOINER.sub("", text)
    text = _LONELY_STYLE.sub("<emoji> ", text)
    text = normalize("NFKC", text).casefold()
    text = _FOLDED.sub(lambda found: _FOLDS.get(found[0], ""), text)
    return _squeeze(normalize("NFKC", text))  # folding may undo a normal form


_BEFORE_FOLDING = {"\u2019": "'", "\xb4": "'", "¼": " 1/4", "½": " 1/2", "¾": " 3/4"}
"""NFKC would make two characters of an acute accent, and 11/2 of 1½."""
_JOINED = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
"""Characters of emoji: a joiner between two of them stays."""
_LONELY_JOINER = re.compile(f"\u200d(?:(?<![{_JOINED}]\u200d)|(?![{_JOINED}]))")
"""A zero width joiner that is not between two such characters."""
_LONELY_STYLE = re.compile(r"(?<!\S)\ufe0f+")
"""Emoji styles without their emoji, at the beginning of a chunk."""
_FOLDS = {"\u200b": " ", "\u0131": "i", "i\u0307": "i", "ی": "ي", "ى": "ي", "ک": "ك"}
_FOLDS |= dict.fromkeys("آأإٱ", "\u0627")
"""Spellings of a letter, and the letter that stands for all of them; also the zero width space."""
_SCRIPT_MARKS = "".join(chr(n) for n in range(0x591, 0x6EE) if category(chr(n)) == "Mn")
"""Marks of Hebrew and Arabic letters, such as vowels."""
_IGNORED = "\xad\u0640\u200c\u200e\u200f\u2060-\u2064\ufeff"
"""Invisible characters (soft hyphen, joiners, marks of direction), and the tatweel."""
_STYLES = "\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
"""Styles of emoji, skin tones, and the tags of flags."""
_FOLDED = re.compile(f"{'|'.join(_FOLDS)}|[{_SCRIPT_MARKS}{_IGNORED}{_STYLES}]")
"""Characters that ``_FOLDS`` replaces, and characters that are left out."""


def _squeeze(text: str) -> str:
    """Shorten runs of a character outside of ASCII to one, as :func:`unify` says."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    same = np.append(
        False, (codes[1:] == codes[:-1]) & (codes[1:] >= 0x80)
    )  # as the character before
    at = np.flatnonzero(same)
    kinds = np.array([category(chr(code))[0] for code in codes[at]], str)
    is_long = np.append(same, False)[at + 1] | same[at - 1]  # in a run of three or more
    is_mark = kinds == "P"
    is_letter = np.isin(kinds, ["L", "M"])
    dropped = at[is_mark | (is_letter & is_long)]
    return np.delete(codes, dropped).tobytes().decode("utf-32-le")


class Tokenizer(NamedTuple):
    """A rule that turns texts into tokens."""

    version: int
    """Increase it whenever any text gets other tokens."""
    rule: Callable[[pa.Array], pa.Array]
    """Separates the tokens of each chunk by blanks; chunks contain no ASCII white space."""


TOKENIZERS = {
    "tutorial": Tokenizer(1, tutorial_rule),
    "tweet": Tokenizer(4, tweet_rule),
}
"""The rules by their names in the settings."""


def squeeze_runs(text: pa.Array) -> pa.Array:
    """Shorten runs of one ASCII character: of marks to one, of three or more letters to one or two.

    Two letters stay where English often has two (``gooood``, ``alllll``), otherwise one (``sooo``,
    ``haaate``). Of three or more ``-`` two stay. Three consonants stay within a longer word, for
    German compounds. Digits, dots, ``^`` and white space are not changed. The rule works on bytes
    because RE2 has no backreferences.

    Example:
        >>> squeeze_runs(pa.array(["sooo gooood!!!!!", "1000", "aa", "schifffahrt"])).to_pylist()
        ['so good!', '1000', 'aa', 'schifffahrt']
    """
    data, offsets = string_buffers(text)
    dropped = _find_excess(data, offsets)
    new_offsets = (offsets - np.searchsorted(dropped, offsets)).astype(np.int32)
    kept = np.delete(data, dropped)
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(new_offsets), pa.py_buffer(kept))


def _find_excess(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """List the positions of the bytes that squeezing drops, in order.

    Args:
        data: The bytes of all rows.
        offsets: Where each row begins, and the end of the last one.
    """
    is_border = np.zeros(len(data) + 1, bool)
    is_border[offsets] = True
    same = ~is_border  # whether a byte equals the one before it in its row
    same[1:-1] &= data[1:] == data[:-1]
    at = np.flatnonzero(same)
    byte = data[at]
    continues = same[at + 1]  # whether the run goes on
    is_third = same[at - 1]  # or a later one
    next_byte = data[np.minimum(at + 1, len(data) - 1)]
    is_within = ~is_border[at + 1] & _IS_LETTER[next_byte]
    two_stay = _DOUBLED[byte] | (is_within & _DOUBLED_WITHIN[byte])
    # A run of two letters stays. Of a longer one the first stays, and the last one where two stay.
    is_excess_letter = _IS_LONG[byte] & (continues | (is_third & ~two_stay))
    is_excess = _IS_MARK[byte] | is_excess_letter

    third = np.flatnonzero(is_third & ~continues & _TRIPLED[byte])
    third = third[(at[third] >= 4) & (at[third] + 3 < len(data))]
    in_compound = third[_are_in_compounds(at[third], data, is_border, same)]
    is_excess[in_compound] = False
    is_excess[in_compound - 1] = False
    return at[is_excess]


def _are_in_compounds(
    at: np.ndarray, data: np.ndarray, is_border: np.ndarray, same: np.ndarray
) -> np.ndarray:
    """Whether runs of three letters stand in a longer word, without another run next to them.

    Args:
        at: Position of the last letter of each run; four bytes before it and three after it exist.
        data: The bytes of all rows.
        is_border: Whether a row begins at each position, or the last one ends there.
        same: Whether the byte at each position equals the one before it in its row.
    """
    around = at[:, None] + np.arange(-4, 4)  # two letters before the run, three after it
    is_longer_run = same[at - 2]
    is_run_before = same[at - 3]
    is_word = _IN_WORD[data[around]].all(axis=1) & ~is_border[around[:, 1:]].any(axis=1)
    begins_letter = ~_CONTINUES_LETTER[data[at - 4]]
    is_run_after = same[at + 2] & same[at + 3]
    return ~is_longer_run & ~is_run_before & is_word & begins_letter & ~is_run_after


def _byte_table(characters: str) -> np.ndarray:
    """Make a table of 256 bool: whether each byte is one of these characters."""
    return np.isin(np.arange(256), [ord(character) for character in characters])


_IS_SPECIAL = ~_byte_table(string.ascii_letters + string.digits + string.punctuation)
_IS_SPECIAL |= _byte_table("&`#@")
"""Bytes that need more than the plain rules, except for ``@`` at the beginning of a chunk."""
_IS_LETTER = _byte_table(string.ascii_lowercase)
_CONTINUES_LETTER = np.arange(256) & 0xC0 == 0x80
"""Bytes of UTF-8 after the first one of a letter."""
_IN_WORD = _IS_LETTER | _CONTINUES_LETTER | _byte_table("\xc3")
"""Bytes of Latin letters, German umlauts included."""
_IS_MARK = _byte_table("".join(mark for mark in string.punctuation if mark not in ".-^"))
_IS_LONG = _byte_table(string.ascii_lowercase + "-")
"""Characters whose runs of three and more are shortened."""
_DOUBLED = _byte_table("l-")
"""Two of a run of these characters stay."""
_DOUBLED_WITHIN = _byte_table("elost")
"""Two of a run of these letters stay before another letter."""
_TRIPLED = _byte_table("flmnprst")
"""A run of three of these letters stays within a longer word."""
