"""Text column -> the tokens of each text.

No rule looks across white space. So texts are split at white space into *chunks*, and a rule runs
once over the distinct chunks; in real tweets one chunk in seven is distinct. The chunks are joined
to one string with a chunk on each line, because a call of RE2 costs more than the few bytes of a
chunk. A chunk of ASCII letters and digits needs only the rules for *words*, most other English
chunks need only the *plain* rules; all rules run over the rest, such as chunks in other scripts.
"""

import re
import string
from collections.abc import Callable
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import UNSPACED, string_buffers
from sentiflow.models.character_runs import byte_table, squeeze_runs
from sentiflow.models.earlier_tweet_rule import tweet_rule_2
from sentiflow.models.spellings import unify
from sentiflow.models.tokens import Tokens

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
_VISIBLE_BLANK = rf"{_BLANK}|&nbsp;"
"""The same, also as an HTML entity."""

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


_LAUGHTER = (r"\ba?(haha|hehe)(?:ha|he)*h?\b", r"\1")


def _after_squeezing(*pieces: str) -> _Rules:
    """List the rules for text whose runs of characters are shortened; each piece is a token."""
    return (
        (r"\.\.+", " ... "),
        (r"([:;=])[-o'^]([()\[\]/\\|*]|[dpo]\b)", r"\1\2"),  # GloVe knows smileys without a nose
        ("|".join(pieces), r" \0 "),
        _LAUGHTER,
    )


_URL = (r"(?:https?://|www\.)[!-~]+", " <url> ")
_MAX_NAME = 15
"""Longest Latin user name on Twitter, in characters; a longer one is text without blanks."""
_LONG_NAME = (rf"@([{_LATIN}]{{{_MAX_NAME + 1},}})", r"@ \1")
"""A user name that is too long; the rule separates it from its ``@``."""
_WORD_RULES = _RulesAroundSqueezing(before=(), after=(_LAUGHTER,))
"""Rules for chunks of ASCII letters and digits alone: all others need another character."""
_PLAIN_RULES = _RulesAroundSqueezing(
    before=(_URL, (rf"@[a-z0-9_]{{1,{_MAX_NAME}}}\b", " <user> ")),
    after=_after_squeezing(*_PIECES),
)
"""Rules for other English chunks: few rules with few classes of characters are fast in RE2."""
_ALL_RULES = _RulesAroundSqueezing(
    before=(
        (_BLANK, " "),
        _URL,
        (rf"{_ADDRESS}@{_ADDRESS}\.[a-z]{{2,}}", " <email> "),
        _LONG_NAME,
        # A Latin name ends at a letter of another script, which may follow without a blank.
        (rf"@(?:[{_LATIN}]+|(?:[a-z0-9_]|[^\x00-\x{{BF}}\p{{P}}\p{{S}}])+)", " <user> "),
    ),
    after=_after_squeezing(*_PIECES, *_GRAPHEMES),
)
"""Rules for all other chunks. Chunks that need only the plain rules get the same tokens by both."""
_PLAIN_RULES_3 = _PLAIN_RULES._replace(before=(_URL, ("@[a-z0-9_]+", " <user> ")))
_ALL_RULES_3 = _ALL_RULES._replace(
    before=tuple(rule for rule in _ALL_RULES.before if rule != _LONG_NAME)
)
"""The rules of version 3, in which a user name may have any length."""
_WORD, _PLAIN, _OTHER = range(3)
"""Kinds of chunks: those of ASCII letters and digits, those that the plain rules suffice for, and
all others."""
_KIND_OF_BYTE = np.full(256, _OTHER, np.uint8)
"""The kind of a chunk is the largest of its bytes. A ``@`` at its beginning is plain."""
_KIND_OF_BYTE[byte_table(string.punctuation) & ~byte_table("&`#@")] = _PLAIN
_KIND_OF_BYTE[byte_table(string.ascii_letters + string.digits)] = _WORD


def tokenize(text: pa.Array, *, name: str, version: int | None = None) -> Tokens:
    """Tokenize with the rule ``name``; the result may have texts without a token.

    Args:
        text: N strings, without nulls.
        name: One of ``TOKENIZERS``.
        version: Version of the rule, one that :func:`find_rule` finds. Default: the newest.

    Example:
        >>> text = pa.array(["@Ann Sooo can't wait, 10:30! :-) http://t.co/x"])
        >>> tokenize(text, name="tweet").to_lists().to_pylist()
        [['<user>', 'so', 'ca', "n't", 'wait', ',', '10:30', '!', ':)', '<url>']]
        >>> tokenize(text, name="tutorial").to_lists().to_pylist()
        [['@ann', 'sooo', "can't", 'wait', ',', '10:30!', ':-)', 'http://t', '.', 'co/x']]
    """
    chunks, tokens_of_chunks = _split_chunks(text, name=name, version=version)
    return chunks.replace_words(tokens_of_chunks)


def find_after_blanks(text: pa.Array, *, name: str, version: int | None = None) -> np.ndarray:
    """Say before which tokens of :func:`tokenize` white space stands in their text, bool.

    The arguments are those of :func:`tokenize`. The first token of a text stands after none.

    Example:
        >>> text = pa.array(["I can't, 映画は 好き"])
        >>> tokenize(text, name="tweet").to_lists().to_pylist()
        [['i', 'ca', "n't", ',', '映', '画', 'は', '好', 'き']]
        >>> np.flatnonzero(find_after_blanks(text, name="tweet")).tolist()
        [1, 4, 7]
    """
    is_first, offsets = _find_first_of_chunks(text, name=name, version=version)
    lengths = np.diff(offsets)
    spaced = pc.replace_substring_regex(text, _VISIBLE_BLANK, " ")
    if not spaced.equals(text):
        is_first_of_spaced, offsets = _find_first_of_chunks(spaced, name=name, version=version)
        # A blank outside of ASCII hardly ever changes how the text around it is split.
        is_same = lengths == np.diff(offsets)
        of_spaced = is_first_of_spaced[np.repeat(is_same, np.diff(offsets))]
        is_first[np.repeat(is_same, lengths)] = of_spaced
    is_first[np.cumsum(lengths)[lengths > 0] - lengths[lengths > 0]] = False
    return is_first


def _find_first_of_chunks(
    text: pa.Array, *, name: str, version: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Say which tokens of N texts are the first of a chunk; arguments as in :func:`tokenize`.

    Returns:
        The answer for each token, bool; and N + 1 positions of the texts' first tokens.
    """
    chunks, tokens_of_chunks = _split_chunks(text, name=name, version=version)
    num_tokens = np.diff(tokens_of_chunks.offsets)[chunks.ids]
    before = np.append(0, np.cumsum(num_tokens))
    is_first = np.zeros(before[-1], bool)
    is_first[before[:-1][num_tokens > 0]] = True
    return is_first, before[chunks.offsets]


def _split_chunks(text: pa.Array, *, name: str, version: int | None) -> tuple[Tokens, Tokens]:
    """Split texts at white space into chunks, and each of the W distinct chunks into its tokens.

    Returns:
        The chunks of N texts; and the tokens of their distinct chunks.
    """
    rule = find_rule(name, version)
    assert rule is not None, "the name and the version are checked where they are read"
    chunks = Tokens.from_lists(pc.ascii_split_whitespace(text))
    spaced = pc.ascii_trim_whitespace(rule(chunks.words))
    # Splitting "" would give a token "". No value of Python is compared or filled in: for each one
    # Arrow looks for packages that know further types.
    is_empty = pc.binary_length(spaced).to_numpy() == 0
    filled = pc.if_else(pa.array(is_empty), pa.nulls(len(spaced), pa.string()), spaced)
    return chunks, Tokens.from_lists(pc.ascii_split_whitespace(filled))


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
    return _apply_by_chunk(chunks, plain_rules=_PLAIN_RULES, all_rules=_ALL_RULES)


def _tweet_rule_3(chunks: pa.Array) -> pa.Array:
    """Separate tokens as :func:`tweet_rule`, with user names of any length."""
    return _apply_by_chunk(chunks, plain_rules=_PLAIN_RULES_3, all_rules=_ALL_RULES_3)


def _apply_by_chunk(
    chunks: pa.Array, *, plain_rules: _RulesAroundSqueezing, all_rules: _RulesAroundSqueezing
) -> pa.Array:
    """Apply to each chunk the rules that it may need."""
    kinds = _find_kinds(chunks)
    words, plain, others = (chunks.filter(pa.array(kinds == kind)) for kind in range(_OTHER + 1))
    separated = [
        _apply_to_lower(words, _WORD_RULES),
        _apply_to_lower(plain, plain_rules),
        _apply_all_rules(others, all_rules),
    ]
    place = np.argsort(np.argsort(kinds, kind="stable"))
    return pa.concat_arrays(separated).take(pa.array(place))


def _find_kinds(chunks: pa.Array) -> np.ndarray:
    """Say which rules each chunk may need, by the bytes that it has."""
    data, offsets = string_buffers(chunks)
    data = np.append(data, np.uint8(ord("a")))  # an empty chunk at the end needs a byte, too
    kinds = _KIND_OF_BYTE.take(data)
    starts = offsets[:-1]
    kinds[starts[data[starts] == ord("@")]] = _PLAIN  # a mention
    return np.maximum.reduceat(kinds, starts)


def _apply_to_lower(chunks: pa.Array, rules: _RulesAroundSqueezing) -> pa.Array:
    """Separate the tokens of chunks of ASCII, in lower case."""
    if not len(chunks):
        return chunks
    row = pa.ListArray.from_arrays(pa.array([0, len(chunks)], pa.int32()), chunks)
    lines = pc.binary_join(row, pa.array(["\n"], pa.string()))
    return _apply(pc.ascii_lower(lines), rules)


def _apply_all_rules(chunks: pa.Array, rules: _RulesAroundSqueezing) -> pa.Array:
    """Separate the tokens of all other chunks."""
    if not len(chunks):
        return chunks
    lines = [_split_hashtag(chunk) for chunk in chunks.to_pylist()]
    text = "\n".join(lines)
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    return _apply(pa.array([unify(text)], pa.string()), rules)


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


_Rule = Callable[[pa.Array], pa.Array]
"""Separates the tokens of each chunk by blanks."""


class Tokenizer(NamedTuple):
    """A rule that turns texts into tokens."""

    version: int
    """Increase it whenever any text gets other tokens, and keep the rule of the version before in
    ``_EARLIER_RULES``."""
    rule: _Rule
    """Separates the tokens of each chunk by blanks; chunks contain no ASCII white space."""


TOKENIZERS = {
    "tutorial": Tokenizer(1, tutorial_rule),
    "tweet": Tokenizer(4, tweet_rule),
}
"""The rules by their names in the settings."""
_EARLIER_RULES = {
    ("tweet", 2): tweet_rule_2,
    ("tweet", 3): _tweet_rule_3,
}
"""Rules of models of earlier versions, by name and version. Texts are never prepared by them."""


def find_rule(name: str, version: int | None = None) -> _Rule | None:
    """Find a rule of the tokenizer; None if this sentiflow does not have it.

    Args:
        name: Name of the rule, known or not.
        version: Its version. Default: the newest.
    """
    newest = TOKENIZERS.get(name)
    if newest and version in (None, newest.version):
        return newest.rule
    return None if version is None else _EARLIER_RULES.get((name, version))


def list_versions(name: str) -> list[int]:
    """List the versions of a rule, the earliest first; none for an unknown name."""
    versions = [version for rule, version in _EARLIER_RULES if rule == name]
    if name in TOKENIZERS:
        versions.append(TOKENIZERS[name].version)
    return versions
