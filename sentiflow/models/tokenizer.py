"""Text column -> the tokens of each text.

No rule looks across white space. So texts are split there, and a rule runs once over the distinct
chunks; in real tweets one chunk in seven is distinct. The chunks are joined to one string with a
chunk on each line, because one call of RE2 costs more than the few bytes of a chunk. Most chunks of
English need few rules; all others, and those of other scripts, pass all of them.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from unicodedata import category, normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import UNSPACED, string_buffers

MARKS = (".", ",", ";", "?")
"""The punctuation that the tutorial's rule separates."""

_Rules = tuple[tuple[str, str], ...]
"""Patterns of RE2 and what replaces them, in order."""

_BLANK = r"[\t\x{0B}-\x{0D}\x{1C}-\x{1F}\x{85}\p{Z}]"
"""White space other than a line feed."""

_ENTITIES = (
    *(("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&apos;", "'")),
    *(("&nbsp;", " "), ("&amp;", "&"), ("`", "'")),
)
_UPPER = "".join(filter(str.isupper, map(chr, range(0x588))))
_CAMEL_CASE = re.compile(rf"(?<=[^\W\d_{_UPPER}])(?=[{_UPPER}])")
"""Where a word of a hashtag begins, in Latin, Greek, Cyrillic and Armenian letters."""
_LATIN = r"a-z0-9_\x{C0}-\x{24F}\x{300}-\x{36F}\x{1E00}-\x{1EFF}"
_ADDRESS = f"[{_LATIN}]+(?:[.+-][{_LATIN}]+)*"
_EMOJI = r"\x{2190}-\x{2BFF}\x{1F000}-\x{1FAFF}"
_GRAPHEMES = (
    r"[\x{1F1E6}-\x{1F1FF}]{2}",  # a flag
    rf"[{_EMOJI}](?:\x{{200D}}[{_EMOJI}])+",  # a family
    # a letter with its marks: stacked letters of Khmer and Burmese, the vowel am of Thai and Lao;
    # the sign of a long vowel is of no script
    rf"[{UNSPACED}\x{{30FC}}]"
    r"(?:[\x{17D2}\x{1039}][\x{1000}-\x{17B3}]|\x{0E4D}\x{0E32}|\x{0ECD}\x{0EB2}|\p{M})*",
    r"[\p{P}\p{S}]",
)
"""Characters as readers see them (Unicode Annex 29), where each is a token."""
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


def _after_squeezing(*pieces: str) -> _Rules:
    return (
        (r"\.\.+", " ... "),
        (r"([:;=])[-o'^]([()\[\]/\\|*]|[dpo]\b)", r"\1\2"),  # GloVe knows smileys without a nose
        ("|".join(pieces), r" \0 "),
        (r"\ba?(haha|hehe)(?:ha|he)*h?\b", r"\1"),
    )


_URL = (r"(?:https?://|www\.)[!-~]+", " <url> ")
_MAX_NAME = 15
"""Characters of a Latin user name, as Twitter has it: what is longer is text without blanks."""
_PLAIN_RULES = (_URL, (rf"@[a-z0-9_]{{1,{_MAX_NAME}}}\b", " <user> ")), _after_squeezing(*_PIECES)
"""For most chunks of English: few classes of characters, and few rules, make RE2 fast."""
_ALL_RULES = (
    (
        (_BLANK, " "),
        _URL,
        (rf"{_ADDRESS}@{_ADDRESS}\.[a-z]{{2,}}", " <email> "),
        (rf"@([{_LATIN}]{{{_MAX_NAME + 1},}})", r"@ \1"),
        # a name of Latin letters ends with them: other scripts may have no blank there
        (rf"@(?:[{_LATIN}]+|(?:[a-z0-9_]|[^\x00-\x{{BF}}\p{{P}}\p{{S}}])+)", " <user> "),
    ),
    _after_squeezing(*_PIECES, *_GRAPHEMES),
)
"""For all other chunks. Chunks for which the plain rules are enough get the same tokens by them."""


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
        """Collect the distinct words of a column of lists of words; null is an empty list."""
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
        """Return a column of lists of words, as indexes into the distinct words."""
        words = pa.DictionaryArray.from_arrays(pa.array(self.ids, pa.int32()), self.words)
        return pa.ListArray.from_arrays(pa.array(self.offsets.astype(np.int32)), words)

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
    spaced = pc.ascii_trim_whitespace(rule(chunks.words))
    filled = pc.if_else(pc.equal(spaced, ""), None, spaced)  # "" would become the token ""
    return chunks.replace_words(Tokens.from_lists(pc.ascii_split_whitespace(filled)))


def tutorial_rule(chunks: pa.Array) -> pa.Array:
    """Separate four punctuation marks, and lower the case.

    The rule of the tutorial: ``. , ; ?`` become tokens, other marks stay with their word.
    """
    text = pc.replace_substring_regex(chunks, _BLANK, " ")
    for mark in MARKS:
        text = pc.replace_substring(text, mark, f" {mark} ")
    return pc.utf8_lower(text)


def tweet_rule(chunks: pa.Array) -> pa.Array:
    """Separate words and marks as GloVe 6B has them, and letters of scripts without blanks.

    The words of a hashtag in camel case are separated. HTML entities are decoded and the case is
    lowered; what is not ASCII is unified (:func:`unify`). Links become ``<url>``, e-mail addresses
    ``<email>``, mentions ``<user>``, unless the name is too long for one. Runs of a character are
    shortened (:func:`squeeze_runs`), runs of dots to ``...``, laughter to ``haha``. Emoticons lose
    their nose. An emoticon, an emoji, a flag, a compound number (``3.5``, ``1,000``, ``10:30``) or
    an abbreviation (``a.m.``) is one token; a contraction is two (``ca n't``, ``it 's``). Of a
    script that does not separate words by blanks each letter with its marks is a token.
    """
    is_other = _need_all_rules(chunks)
    row = pa.ListArray.from_arrays([0, (~is_other).sum()], chunks.filter(pa.array(~is_other)))
    plain = _apply(pc.ascii_lower(pc.binary_join(row, "\n")), _PLAIN_RULES)
    text = "\n".join(
        _CAMEL_CASE.sub(" ", normalize("NFC", chunk)) if chunk[0] == "#" else chunk
        for chunk in chunks.filter(pa.array(is_other)).to_pylist()
    )
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    others = _apply(pa.array([unify(text)]), _ALL_RULES)
    place = np.where(is_other, len(plain) + np.cumsum(is_other), np.cumsum(~is_other)) - 1
    return pa.concat_arrays([plain, others]).take(pa.array(place))


def _need_all_rules(chunks: pa.Array) -> np.ndarray:
    """Whether a chunk may need more than the plain rules, by its bytes."""
    data, offsets = string_buffers(chunks)
    at = np.flatnonzero(_IS_SPECIAL.take(data))
    row = np.searchsorted(offsets, at, "right") - 1
    is_needed = np.zeros(len(chunks), bool)
    is_needed[row[(data[at] != ord("@")) | (at > offsets[row])]] = True
    return is_needed


def _apply(lines: pa.Array, rules: tuple[_Rules, _Rules]) -> pa.Array:
    """Apply rules to one string in lower case; return its lines."""
    if lines[0].as_py():  # else no pattern is compiled for nothing
        before, after = rules
        lines = _replace(squeeze_runs(_replace(lines, before)), after)
    return pc.split_pattern(lines, "\n").flatten()


def _replace(text: pa.Array, rules: _Rules) -> pa.Array:
    for pattern, replacement in rules:
        text = pc.replace_substring_regex(text, pattern, replacement)
    return text


def unify(text: str) -> str:
    """Write equal words equally, and in lower case.

    | rule | source in the Unicode Standard |
    |---|---|
    | case and compatibility forms; no joiners and styles | 3.13, ``NFKC_Casefold`` |
    | no marks of vowels in Arabic and Hebrew, no tatweel | 9.1, 9.2 |
    | one alef, one yeh, one kaf for Arabic, Persian and Urdu | 9.2 |
    | i with a dot and without one are i | 5.18, ``SpecialCasing.txt`` |
    | no skin tones; emoji stay joined | Technical Standard 51 |
    | ``<emoji>``: a style without the emoji before it, which was cut away | the same |
    | a zero width space is a blank | Annex 14, class ZW |

    Runs of three or more letters or marks become one, of two or more punctuation marks too; those
    of ASCII are left to :func:`squeeze_runs`.

    Example:
        >>> unify("Straße, NAÏVE, ﬁne, جمييييل")
        'strasse, naïve, fine, جميل'
    """
    for character, plain in _BEFORE_FOLDING.items():
        text = text.replace(character, plain)
    text = _LONELY_STYLE.sub("<emoji> ", _LONELY_JOINER.sub("", text))
    text = normalize("NFKC", text).casefold()
    text = _FOLDED.sub(lambda found: _FOLDS.get(found[0], ""), text)
    return _squeeze(normalize("NFKC", text))  # folding may undo a normal form


_BEFORE_FOLDING = {"\u2019": "'", "\xb4": "'", "¼": " 1/4", "½": " 1/2", "¾": " 3/4"}
"""NFKC would make two characters of an acute accent, and 11/2 of 1½."""
_JOINED = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_LONELY_JOINER = re.compile(f"\u200d(?:(?<![{_JOINED}]\u200d)|(?![{_JOINED}]))")
_LONELY_STYLE = re.compile(r"(?<!\S)\ufe0f+")
_FOLDS = {"\u200b": " ", "\u0131": "i", "i\u0307": "i", "ی": "ي", "ى": "ي", "ک": "ك"}
_FOLDS |= dict.fromkeys("آأإٱ", "\u0627")
_MARKS = "".join(chr(n) for n in range(0x591, 0x6EE) if category(chr(n)) == "Mn")
_IGNORED = "\xad\u0640\u200c\u200e\u200f\u2060-\u2064\ufeff"
_STYLES = "\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_FOLDED = re.compile(f"{'|'.join(_FOLDS)}|[{_MARKS}{_IGNORED}{_STYLES}]")
"""What is replaced by ``_FOLDS``, or left out."""


def _squeeze(text: str) -> str:
    """Shorten runs of a letter, mark or punctuation mark that is not ASCII to one."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    same = np.append(False, (codes[1:] == codes[:-1]) & (codes[1:] >= 0x80))
    at = np.flatnonzero(same)
    kinds = np.array([category(chr(code))[0] for code in codes[at]], str)
    is_long = np.append(same, False)[at + 1] | same[at - 1]
    dropped = at[(kinds == "P") | (np.isin(kinds, ["L", "M"]) & is_long)]
    return np.delete(codes, dropped).tobytes().decode("utf-32-le")


TOKENIZERS: dict[str, tuple[int, Callable[[pa.Array], pa.Array]]] = {
    "tutorial": (1, tutorial_rule),
    "tweet": (4, tweet_rule),
}
"""By name: the version of the rule and the rule. The version changes whenever any text gets other
tokens. A rule separates the tokens of each chunk by blanks; no chunk has white space of ASCII."""


def squeeze_runs(text: pa.Array) -> pa.Array:
    """Shorten runs of one ASCII character: of marks to one, of three or more letters to one or two.

    Two letters stay where English often has two (``gooood``, ``alllll``), else one (``sooo``,
    ``haaate``); of ``-`` two stay. Three consonants stay within a longer word, as German compounds
    have them. Digits, dots, ``^`` and white space are not changed. The rule works on bytes because
    RE2 has no backreferences.

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
    third = np.flatnonzero(is_third & ~continues & _TRIPLED[byte])
    third = third[(at[third] >= 4) & (at[third] + 3 < len(data))]
    third = third[~same[at[third] - 2] & ~same[at[third] - 3]]
    around = at[third, None] + np.arange(-4, 4)  # two letters before the run, three after it
    is_compound = _IN_WORD[data[around]].all(1) & ~is_border[around[:, 1:]].any(1)
    is_compound &= data[around[:, 0]] & 0xC0 != 0x80  # it begins a letter
    is_compound &= ~same[around[:, -2:]].all(1)  # no other run
    is_excess[np.subtract.outer(third[is_compound], [0, 1])] = False
    return at[is_excess]


def _byte_table(characters: str) -> np.ndarray:
    return np.isin(np.arange(256), [ord(character) for character in characters])


_IS_SPECIAL = ~_byte_table(string.ascii_letters + string.digits + string.punctuation)
_IS_SPECIAL |= _byte_table("&`#@")
"""Bytes that the plain rules do not know, but ``@`` at the beginning of a chunk."""
_IS_LETTER = _byte_table(string.ascii_lowercase)
_IN_WORD = _IS_LETTER | (np.arange(256) & 0xC0 == 0x80) | _byte_table("\xc3")
"""Bytes of Latin letters, with those of German umlauts."""
_IS_MARK = _byte_table(string.punctuation.translate({ord(mark): None for mark in ".-^"}))
_IS_LONG = _byte_table(string.ascii_lowercase + "-")
_DOUBLED, _DOUBLED_WITHIN, _TRIPLED = map(_byte_table, ("l-", "elost", "flmnprst"))
