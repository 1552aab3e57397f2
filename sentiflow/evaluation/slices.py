"""Texts and columns -> slices of rows that have something in common."""

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import hash_texts
from sentiflow.errors import UserError
from sentiflow.models.tokenizer import tokenize
from sentiflow.models.tokens import Tokens

MIN_ROWS = 30
"""Slices of fewer rows are listed last: their accuracy is too uncertain."""
MAX_VALUES = 20
"""Maximum number of values of a column that each get a slice."""
OWN = "own column "
"""Prefix, in a table of rows, of the columns that slices are made of: the columns that the user
names, and other columns whose values are searched. So they never have the name of a column of the
predictions."""

_BEGIN = r"(?:^|\s)"
_END = r"(?:$|[\s.,!?])"
_HAPPY = rf"{_BEGIN}(?:[:;=]['^]?[-o]?[)\]D]+|\([-:;=]|<3+|\^[_.-]?\^){_END}"
_SAD = rf"{_BEGIN}(?:[:;=]['^]?[-o]?[(\[/\\|]+|\)[-:;=]|</3+|[T;]_[T;]){_END}"
"""Emoticons after white space, and before white space or punctuation: otherwise parts of a link,
ratio or number would count."""

PATTERNS: dict[str, tuple[str, str]] = {
    "negation": (
        "not, no, never, cannot, n't and the like",
        r"(?i)\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|"
        r"(?:ca|wo|do|does|did|is|are|was|were|has|have|had|could|would|should|ai)n['\x{2019}]?t)\b",
    ),
    "mention": ("an @user", r"(?:^|[^\w])@\w"),
    "link": ("an address on the web", r"(?i)\b(?:https?://|www\.)\S"),
    "hashtag": ("a #topic", r"(?:^|\s)#\w"),
    "elongation": (
        "a letter three times or more, as in sooo",
        # RE2 has no back-references. www is a link, so w counts from four.
        "(?i)w{4}|" + "|".join(f"{a}{{3}}" for a in string.ascii_lowercase if a != "w"),
    ),
    "happy emoticon": (":) and the like", _HAPPY),
    "sad emoticon": (":( and the like", _SAD),
    "shouting": ("three words or more in capitals", r"(?:\b[A-Z]{2,}\b\W+){2}\b[A-Z]{2,}\b"),
    "question": ("a question mark", r"\?"),
}
"""What the texts of a slice contain, and the pattern (RE2) that finds it, by name of the slice."""


class _Range(NamedTuple):
    """A slice of the rows with a value above ``low`` and at most ``high``."""

    name: str
    low: float
    high: float


_LENGTHS = (
    _Range("0 to 4 tokens", -1, 4),
    _Range("5 to 9 tokens", 4, 9),
    _Range("10 to 14 tokens", 9, 14),
    _Range("15 to 19 tokens", 14, 19),
    _Range("20 to 29 tokens", 19, 29),
    _Range("30 tokens or more", 29, math.inf),
)
_UNKNOWN = (
    _Range("no unknown token", -math.inf, 0),
    _Range("unknown tokens, up to a tenth", 0, 0.1),
    _Range("unknown tokens, a tenth to a quarter", 0.1, 0.25),
    _Range("unknown tokens, over a quarter", 0.25, 1),
)
"""By the share of unknown tokens."""


@dataclass(frozen=True)
class SliceOfRows:
    """Texts that have something in common, out of N."""

    name: str
    about: str
    """What its texts have in common; empty if the name says it."""
    mask: np.ndarray
    """N booleans: the rows that are in the slice."""
    is_own: bool = False
    """Whether the user named it."""
    among: np.ndarray | None = None
    """N booleans: the rows of the slice and the rows that it is compared with. None: all rows. A
    slice found by a search has the rows that were not searched, without copies of a text."""

    @property
    def is_found(self) -> bool:
        """Say whether a search has found it."""
        return self.among is not None

    @property
    def others(self) -> np.ndarray:
        """Return the rows that it is compared with, as N booleans."""
        if self.among is None:
            return ~self.mask
        return self.among & ~self.mask


def read_tokens(rows: pa.Table, settings: Mapping[str, Any]) -> Tokens | None:
    """Cut the texts of rows into the tokens that a model reads.

    Args:
        rows: With the column ``text`` if the texts are known.
        settings: Settings of the model package: ``tokenizer`` and ``max_length``.

    Returns:
        The tokens of each text; None without texts.
    """
    if "text" not in rows.column_names:
        return None
    text = rows["text"].combine_chunks()
    return tokenize(text, name=settings["tokenizer"]).cut(settings["max_length"])


def find(
    rows: pa.Table,
    tokens: Tokens | None,
    *,
    patterns: Mapping[str, str],
    columns: Sequence[str] = (),
) -> list[SliceOfRows]:
    """Find the slices of a table's rows; a row may be in many, and each slice has at least one.

    Args:
        rows: At least one row. Optional columns: ``text``, without which there are slices by column
            alone; ``num_tokens``, the number of tokens that the model knows.
        tokens: Result of :func:`read_tokens`.
        patterns: User-defined slices: a regular expression (RE2) by name. It replaces a slice of
            ``PATTERNS`` with the same name.
        columns: User-defined slices: columns, see :func:`by_columns`.
    """
    of_columns = by_columns(rows, columns, is_own=True)
    if tokens is None:
        return of_columns
    text = rows["text"].combine_chunks()
    lengths = np.diff(tokens.offsets)
    listed = of_columns + _by_range(lengths, _LENGTHS)
    user_defined = {name: (f"matches {regex}", regex) for name, regex in patterns.items()}
    for name, (about, regex) in (PATTERNS | user_defined).items():
        is_own = name in user_defined
        listed.append(SliceOfRows(name, about, matches(text, regex), is_own=is_own))
    if "num_tokens" in rows.column_names:
        known_fraction = rows["num_tokens"].to_numpy() / np.maximum(lengths, 1)
        unknown_fraction = np.where(known_fraction > 0, 1 - known_fraction, np.nan)
        listed += _by_range(unknown_fraction, _UNKNOWN)
        listed.append(
            SliceOfRows("no known token", "the prediction is the class prior", known_fraction == 0)
        )
    repeated = pd.Series(hash_texts(text)).duplicated(keep=False).to_numpy()
    listed.append(SliceOfRows("repeated", "the same text is on more than one row", repeated))
    return [item for item in listed if item.mask.any()]


def check_patterns(rows: pa.Table, patterns: Mapping[str, str]) -> None:
    """Check that each user-defined pattern matches a text.

    Args:
        rows: As for :func:`find`.
        patterns: A regular expression (RE2) by name.

    Raises:
        UserError: One matches no text, or there are no texts.
    """
    if not patterns:
        return
    if "text" not in rows.column_names:
        raise UserError(
            f"the slices {', '.join(patterns)} need the texts, and there are none",
            hint="score with score.keep_columns=[text]",
        )
    text = rows["text"].combine_chunks()
    empty = [name for name, regex in patterns.items() if not matches(text, regex).any()]
    if empty:
        unmatched = ", ".join(f"{name} ({patterns[name]})" for name in empty)
        raise UserError(
            f"no text is in the slice {unmatched}: {len(text):,} evaluated texts were searched",
            hint="correct the pattern or leave it out",
        )


def by_columns(rows: pa.Table, columns: Sequence[str], *, is_own: bool) -> list[SliceOfRows]:
    """Find the rows of each value of columns, the most frequent value first.

    Values of fewer than ``MIN_ROWS`` rows, and values after the first ``MAX_VALUES``, are one
    slice, *other*.

    Args:
        rows: With the columns, whose names begin with ``OWN``.
        columns: Their names, without ``OWN``.
        is_own: Whether the user named the columns.
    """
    slices = []
    for name in columns:
        values = pc.fill_null(rows[OWN + name].cast(pa.string()), "(empty)").to_pandas()
        counts = values.value_counts()
        most_frequent = counts.iloc[:MAX_VALUES]
        frequent = most_frequent.index[most_frequent >= MIN_ROWS]
        for value in frequent:
            is_value = (values == value).to_numpy()
            slices.append(SliceOfRows(f"{name}: {value}", "", is_value, is_own=is_own))
        num_rare = len(counts) - len(frequent)
        if num_rare:
            about = f"{num_rare:,} values of fewer rows"
            is_rare = ~values.isin(frequent).to_numpy()
            slices.append(SliceOfRows(f"{name}: other", about, is_rare, is_own=is_own))
    return slices


def has_categories(kind: pa.DataType) -> bool:
    """Say whether a column of this type may have categories: strings, numbers or booleans."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = kind in (pa.string(), pa.large_string(), pa.string_view())
    return is_text or (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind))


def _by_range(values: np.ndarray, ranges: Sequence[_Range]) -> list[SliceOfRows]:
    """Find the rows whose value is in each range; NaN is in none."""
    return [
        SliceOfRows(each.name, "", (values > each.low) & (values <= each.high)) for each in ranges
    ]


def matches(text: pa.Array, regex: str) -> np.ndarray:
    """Say in which texts a regular expression (RE2) finds something."""
    return pc.match_substring_regex(text, regex).to_numpy(zero_copy_only=False).astype(bool)
