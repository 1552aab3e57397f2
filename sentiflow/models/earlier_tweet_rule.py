"""Version 2 of the rule ``tweet`` of the tokenizer, for models that were trained with it.

Models of manifest formats 1 and 2, up to 29 November 2026, need it. Its patterns never change.
"""

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.models.character_runs import squeeze_runs

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
}
"""HTML entities and their characters, in order."""
_BEFORE_SQUEEZING = (
    (r"[\x{200D}\x{FE0E}\x{FE0F}\x{1F3FB}-\x{1F3FF}]", ""),  # an emoji's joiners, style and skin
    (r"[\x{2019}\x{B4}`]", "'"),
    (r"(?:https?://|www\.)\S+", " <url> "),
    (r"@[a-z0-9_]+", " <user> "),
)
"""Patterns of RE2 and what replaces them, in order, before runs of a character are shortened."""
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
"""Parts of a text that are tokens."""
_AFTER_SQUEEZING = (
    (r"\.\.+", " ... "),
    (r"([:;=])[-o'^]([()\[\]/\\|*]|[dpo]\b)", r"\1\2"),
    ("|".join(_PIECES), r" \0 "),
    (r"\ba?(haha|hehe)(?:ha|he)*h?\b", r"\1"),
)
"""Patterns of RE2 and what replaces them, in order, after runs of a character are shortened."""


def tweet_rule_2(chunks: pa.Array) -> pa.Array:
    """Separate the tokens of each chunk by blanks.

    It differs from :func:`models.tokenizer.tweet_rule` outside of English: characters are not
    unified, letters of scripts without blanks are not separated, and there is no ``<email>``. The
    words of a hashtag stay together, and a user name may be long.
    """
    row = pa.ListArray.from_arrays([0, len(chunks)], chunks)
    lines = pc.replace_substring_regex(pc.binary_join(row, "\n"), _BLANK, " ")
    for entity, character in _ENTITIES.items():
        lines = pc.replace_substring(lines, entity, character)
    lines = _replace(pc.utf8_lower(lines), _BEFORE_SQUEEZING)
    lines = squeeze_runs(lines, keep_compounds=False)
    lines = _replace(lines, _AFTER_SQUEEZING)
    return pc.split_pattern(lines, "\n").flatten()


def _replace(text: pa.Array, rules: tuple[tuple[str, str], ...]) -> pa.Array:
    """Apply rules one after the other."""
    for pattern, replacement in rules:
        text = pc.replace_substring_regex(text, pattern, replacement)
    return text
