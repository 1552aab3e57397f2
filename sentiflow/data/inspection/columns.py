"""Columns of strings -> statistics of their values."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import MIN_CLASS_ROWS
from sentiflow.data.arrays import UNSPACED
from sentiflow.data.inspection.column_names import are_ratings, list_labels, name_classes, rate
from sentiflow.data.row_checks import count_values
from sentiflow.errors import shorten

_SAMPLE = 5_000
"""Approximate number of values that the means and fractions of a column are computed from."""
_MAX_COUNTED = 1_000
"""Maximum number of values in ``Column.counts``."""
_MISTAKE_ONE_IN = 2000
"""A value of a label may be a mistake if fewer than one in this many rows have it."""
_NUMBER = r"^[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?$"
"""``3``, ``-1.5``, ``1,5``, ``.5``, ``2e-3``."""
_WHOLE = r"^[-+]?\d+(\.0+)?$"
"""``4``, ``-1``, ``4.0``."""
_DATE = (
    r"^[(\['\"]?(\d{1,4} ?[-/._年년] ?\d{1,2} ?[-/._月월] ?\d{1,4}|\d{1,4} \d{1,2} \d{1,4}( |$)|"
    r"\d{1,4}[-/. ]{1,2}[A-Za-z]{3,9}[-/., ]{1,2}\d{2,4}|[A-Z][a-z]{2,8} \d{1,2}, ?\d{4}|"
    r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} )"
)
"""Begins with ``2009-04-06``, ``6.4.09``, ``9. 4. 6.`` or ``2009年4月6日``; ``06-Apr-2009``;
``April 6, 2009``; or ``Mon Apr 06``, as on Twitter."""


@dataclass(frozen=True)
class Column:
    """Statistics of a column of strings."""

    name: str | int
    """Its name in the header, or its position."""
    counts: Mapping[str, int]
    """Number of rows by value, the most frequent first, for at most ``_MAX_COUNTED`` values; the
    empty value is left out."""
    num_distinct: int
    """Number of different values."""
    num_filled: int
    """Rows with a value."""
    filled_fraction: float
    """Share of the rows with a value."""
    mean_length: float
    """Average number of characters in a value."""
    mean_words: float
    """Average number of words in a value."""
    mean_unspaced_letters: float
    """Average number of letters in a value from scripts that are written without spaces, such as
    Chinese."""
    number_fraction: float
    """Share of the values that are numbers."""
    whole_fraction: float
    """Share of the values that are whole numbers."""
    date_fraction: float
    """Share of the values that begin like a date."""

    @property
    def distinct_fraction(self) -> float:
        """Number of different values for each row with a value."""
        return self.num_distinct / max(1, self.num_filled)

    @property
    def is_measure(self) -> bool:
        """Whether the values are numbers with fractions: measurements, not labels."""
        return self.number_fraction > 0.5 and self.whole_fraction < 0.99

    def rate_name(self, meaning: str) -> int:
        """Rate how well the name fits a meaning, as :func:`column_names.rate` does; 0: no name."""
        return rate(self.name, meaning) if isinstance(self.name, str) else 0


def describe(name: str | int, values: pa.Array) -> Column:
    """Describe a column of strings."""
    trimmed = pc.utf8_trim_whitespace(pc.fill_null(values, ""))
    filled = trimmed.filter(pc.not_equal(trimmed, ""))
    counts = count_values(filled)
    every_nth = max(1, len(filled) // _SAMPLE)
    sample = filled.take(pa.array(np.arange(0, len(filled), every_nth)))

    def mean(numbers: pa.Array) -> float:
        return pc.mean(numbers).as_py() or 0.0  # null without a value

    return Column(
        name=name,
        counts=dict(itertools.islice(counts.items(), _MAX_COUNTED)),
        num_distinct=len(counts),
        num_filled=len(filled),
        filled_fraction=len(filled) / max(1, len(values)),
        mean_length=mean(pc.utf8_length(sample)),
        mean_words=1 + mean(pc.count_substring_regex(sample, r"\s+")),
        mean_unspaced_letters=mean(pc.count_substring_regex(sample, f"[{UNSPACED}]")),
        number_fraction=mean(pc.match_substring_regex(sample, _NUMBER)),
        whole_fraction=mean(pc.match_substring_regex(sample, _WHOLE)),
        date_fraction=mean(pc.match_substring_regex(sample, _DATE)),
    )


def main_values(column: Column) -> dict[str, int]:
    """Count the rows of each value of a label.

    Values are left out as mistakes if they have fewer than ``MIN_CLASS_ROWS`` rows and also fewer
    than one row in ``_MISTAKE_ONE_IN``.
    """
    min_rows = min(column.num_filled / _MISTAKE_ONE_IN, MIN_CLASS_ROWS)
    return {value: rows for value, rows in column.counts.items() if rows >= min_rows}


def classes_of(column: Column) -> dict[str, list[str]]:
    """Group the values of a column of labels into named classes."""
    name = str(column.name).lower()
    is_sentiment = "sentiment" in name or "polarity" in name
    return name_classes(main_values(column), is_sentiment=is_sentiment)


def holds_ratings(column: Column) -> bool:
    """Say whether the values of a column are ratings, such as 1 to 5 stars."""
    return are_ratings(column.name, list_labels(main_values(column)))


def brief(text: str | int) -> str:
    """Write a name or a value in one line, shortened."""
    return shorten("".join(c if c.isprintable() else " " for c in str(text)))
