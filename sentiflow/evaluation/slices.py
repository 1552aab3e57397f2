"""Texts and columns -> slices of rows that have something in common."""

import itertools
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.text_units import WORDS, Unit, name_unit
from sentiflow.data.arrays import find_sorted, hash_strings, one_array
from sentiflow.errors import UserError
from sentiflow.metrics.classification import MIN_ROWS as MIN_ROWS
from sentiflow.metrics.row_ranges import row_ranges
from sentiflow.models.tokens import Tokens

MAX_VALUES = 20
"""Maximum number of values of a column that each get a slice."""
OWN = "own column "
"""Prefix, in a table of rows, of the columns that slices are made of: the columns that the user
names, and other columns whose values are searched. So they never have the name of a column of the
predictions."""

HASH = "text hash"
"""Column with a hash of each text: texts that differ only in case or white space have the same."""
LENGTH = "text length"
"""Column with the number of units that the network reads."""
IS_SHORT = "text is short"
"""Column that says whether a text has at most ``LONGEST_CHANGED`` characters."""
MATCHES = "text matches "
"""With a number from 0, columns that say which patterns a text matches, a bit for each of eight."""
LONGEST_CHANGED = 1000
"""Maximum length of a text that is changed for the behavior tests, in characters."""

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
    """With ``{unit}`` for the name of a unit."""
    low: float
    high: float


_FIRST_LENGTHS = (0, 5, 10, 15, 20, 30)
"""The smallest length of each slice by length, in tokens."""
_CHARACTERS_PER_TOKEN = 5
"""The slices of a network that reads characters are so many times as long."""
_UNKNOWN = (
    _Range("no unknown {unit}", -math.inf, 0),
    _Range("unknown {unit}s, up to a tenth", 0, 0.1),
    _Range("unknown {unit}s, a tenth to a quarter", 0.1, 0.25),
    _Range("unknown {unit}s, over a quarter", 0.25, 1),
)
"""By the share of units that are unknown to the vocabulary."""


@dataclass(frozen=True)
class SliceOfRows:
    """Texts that have something in common, out of N."""

    name: str
    about: str
    """What its texts have in common; empty if the name says it."""
    num_all: int
    """N."""
    bits: np.ndarray
    """The mask, eight rows a byte."""
    is_own: bool = False
    """Whether the user named it."""
    bits_among: np.ndarray | None = None
    """``among``, eight rows a byte."""

    @classmethod
    def of(
        cls,
        name: str,
        about: str,
        mask: np.ndarray,
        *,
        is_own: bool = False,
        among: np.ndarray | None = None,
    ) -> "SliceOfRows":
        """Make a slice of the rows that a mask marks, N booleans; ``among`` is another mask."""
        bits_among = None if among is None else np.packbits(among)
        return cls(name, about, len(mask), np.packbits(mask), is_own, bits_among)

    @property
    def mask(self) -> np.ndarray:
        """Return the rows that are in the slice, as N booleans."""
        return np.unpackbits(self.bits, count=self.num_all).view(bool)

    @property
    def among(self) -> np.ndarray | None:
        """Return the rows of the slice and the rows that it is compared with, as N booleans.

        None: all rows. A slice found by a search has the rows that were not searched, without
        copies of a text.
        """
        if self.bits_among is None:
            return None
        return np.unpackbits(self.bits_among, count=self.num_all).view(bool)

    @property
    def is_found(self) -> bool:
        """Say whether a search has found it."""
        return self.bits_among is not None

    @property
    def others(self) -> np.ndarray:
        """Return the rows that it is compared with, as N booleans."""
        among = self.among
        if among is None:
            return ~self.mask
        return among & ~self.mask


class Pattern(NamedTuple):
    """What the texts of a slice contain."""

    about: str
    regex: str
    """RE2."""
    is_own: bool
    """Whether the user named it."""


def list_patterns(patterns: Mapping[str, str]) -> dict[str, Pattern]:
    """List all patterns by name; a user-defined one replaces the one of ``PATTERNS`` of its name.

    Args:
        patterns: User-defined slices: a regular expression (RE2) by name.
    """
    listed = {}
    for name, (about, regex) in PATTERNS.items():
        listed[name] = Pattern(about, regex, is_own=False)
    for name, regex in patterns.items():
        listed[name] = Pattern(f"matches {regex}", regex, is_own=True)
    return listed


def find_traits(
    text: pa.Array, tokens: Tokens, normalized: np.ndarray, patterns: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Find what slices and mistakes need to know of texts, in a few bytes each.

    Args:
        text: N texts.
        tokens: Their units that the network reads: words or characters.
        normalized: The texts as ``arrays.normalize_text`` returns them.
        patterns: User-defined slices: a regular expression (RE2) by name.

    Returns:
        The columns ``HASH``, ``LENGTH`` and ``IS_SHORT``; and columns ``MATCHES`` with a number,
        which have a bit for each of eight patterns of :func:`list_patterns`.
    """
    listed = list_patterns(patterns).values()
    found = np.stack([matches(text, each.regex) for each in listed], axis=1)
    is_short = pc.less_equal(pc.utf8_length(text), LONGEST_CHANGED)
    traits = {
        HASH: hash_strings(normalized),
        LENGTH: np.diff(tokens.offsets).astype(np.int32),
        IS_SHORT: is_short.to_numpy(zero_copy_only=False),
    }
    for number, bits in enumerate(np.packbits(found, axis=1).T):
        traits[f"{MATCHES}{number}"] = np.ascontiguousarray(bits)
    return traits


def has_texts(rows: pa.Table) -> bool:
    """Say whether rows have the columns of :func:`find_traits`: their texts are known."""
    return HASH in rows.column_names


def _read_matches(rows: pa.Table, place: int) -> np.ndarray:
    """Say which texts match the pattern at a place of :func:`list_patterns`."""
    number, bit = divmod(place, 8)
    bits = rows[f"{MATCHES}{number}"].to_numpy()
    return np.asarray((bits & (128 >> bit)) != 0)


def find(
    rows: pa.Table,
    *,
    patterns: Mapping[str, str],
    columns: Sequence[str] = (),
    unit: Unit = WORDS,
) -> list[SliceOfRows]:
    """Find the slices of a table's rows; a row may be in many, and each slice has at least one.

    Args:
        rows: At least one row. Optional columns: the columns of :func:`find_traits`, without which
            there are slices by column alone; ``num_tokens``, the number of units that the model
            knows.
        patterns: The user-defined slices that :func:`find_traits` took.
        columns: User-defined slices: columns, see :func:`by_columns`.
        unit: What the network reads, which slices by length are named after.
    """
    of_columns = by_columns(rows, columns, is_own=True)
    if not has_texts(rows):
        return of_columns
    lengths = rows[LENGTH].to_numpy()
    listed = of_columns + _by_range(lengths, _list_lengths(unit), unit)
    for place, (name, each) in enumerate(list_patterns(patterns).items()):
        mask = _read_matches(rows, place)
        listed.append(SliceOfRows.of(name, each.about, mask, is_own=each.is_own))
    if "num_tokens" in rows.column_names:
        listed += _by_known_units(rows["num_tokens"].to_numpy(), lengths, unit)
    repeated = find_repeated(rows[HASH].to_numpy())
    listed.append(SliceOfRows.of("repeated", "the same text is on more than one row", repeated))
    return [item for item in listed if item.bits.any()]


def _by_known_units(num_known: np.ndarray, lengths: np.ndarray, unit: Unit) -> list[SliceOfRows]:
    """Find the rows by the share of their units that the model does not know."""
    unknown_fraction = num_known / np.maximum(lengths, 1)
    is_unknown = unknown_fraction == 0
    np.subtract(1, unknown_fraction, out=unknown_fraction)
    unknown_fraction[is_unknown] = np.nan
    about = "the prediction is the class prior"
    by_share = _by_range(unknown_fraction, _UNKNOWN, unit)
    return [*by_share, SliceOfRows.of(f"no known {name_unit(unit)}", about, is_unknown)]


def find_repeated(hashes: np.ndarray) -> np.ndarray:
    """Say which hashes occur more than once."""
    rising = np.sort(hashes)
    repeated = np.unique(rising[1:][rising[1:] == rising[:-1]])
    del rising
    found = np.empty(len(hashes), bool)
    for rows in row_ranges(len(hashes)):
        found[rows], _ = find_sorted(repeated, hashes[rows])
    return found


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
    if not has_texts(rows):
        raise UserError(
            f"the slices {', '.join(patterns)} need the texts, and there are none",
            hint="score with score.keep_columns=[text]",
        )
    names = list(list_patterns(patterns))
    empty = [name for name in patterns if not _read_matches(rows, names.index(name)).any()]
    if empty:
        unmatched = ", ".join(f"{name} ({patterns[name]})" for name in empty)
        raise UserError(
            f"no text is in the slice {unmatched}: {len(rows):,} evaluated texts were searched",
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
        column = encode_values(one_array(rows[OWN + name]))
        values = column.indices.to_numpy()
        counts = pd.Series(values).value_counts()
        most_frequent = counts.iloc[:MAX_VALUES]
        frequent = most_frequent.index[most_frequent >= MIN_ROWS].tolist()
        is_rare = np.ones(len(rows), bool)
        for value in frequent:
            is_value = values == value
            is_rare &= ~is_value
            title = f"{name}: {column.dictionary[value]}"
            slices.append(SliceOfRows.of(title, "", is_value, is_own=is_own))
        num_rare = len(counts) - len(frequent)
        if num_rare:
            about = f"{num_rare:,} values of fewer rows"
            slices.append(SliceOfRows.of(f"{name}: other", about, is_rare, is_own=is_own))
    return slices


def encode_values(column: pa.Array) -> pa.DictionaryArray:
    """Number the values of a column as strings; an empty value is *(empty)*."""
    is_encoded = pa.types.is_dictionary(column.type) and column.type.value_type == pa.string()
    if is_encoded and not column.null_count:
        return column
    return pc.fill_null(column.cast(pa.string()), "(empty)").dictionary_encode()


def has_categories(kind: pa.DataType) -> bool:
    """Say whether a column of this type may have categories: strings, numbers or booleans."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = kind in (pa.string(), pa.large_string(), pa.string_view())
    return is_text or (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind))


def _list_lengths(unit: Unit) -> list[_Range]:
    """List the slices by length, in the units that the network reads."""
    factor = 1 if unit == WORDS else _CHARACTERS_PER_TOKEN
    first = [factor * length for length in _FIRST_LENGTHS]
    ranges = [
        _Range(f"{low} to {following - 1} {{unit}}s", low - 1, following - 1)
        for low, following in itertools.pairwise(first)
    ]
    return [*ranges, _Range(f"{first[-1]} {{unit}}s or more", first[-1] - 1, math.inf)]


def _by_range(values: np.ndarray, ranges: Sequence[_Range], unit: Unit) -> list[SliceOfRows]:
    """Find the rows whose value is in each range; NaN is in none."""
    found = []
    for each in ranges:
        name = each.name.format(unit=name_unit(unit))
        found.append(SliceOfRows.of(name, "", (values > each.low) & (values <= each.high)))
    return found


def matches(text: pa.Array, regex: str) -> np.ndarray:
    """Say in which texts a regular expression (RE2) finds something."""
    return pc.match_substring_regex(text, regex).to_numpy(zero_copy_only=False).astype(bool)
