"""Column of texts -> what its values look like."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.classes import MIN_CLASS_ROWS
from sentiflow.data.inspection.column_names import rate
from sentiflow.data.tweets import count_values
from sentiflow.errors import shorten

_SAMPLE = 5_000
"""Values that are looked at to tell what a column is."""
_MAX_COUNTED = 1_000
_MAX_SHOWN = 40
_NUMBER = r"^[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?$"
_WHOLE = r"^[-+]?\d+(\.0+)?$"
_DATE = r"^(\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} )"


@dataclass(frozen=True)
class Column:
    """What is known of a column."""

    name: str | int
    """Its name in the header, or its position."""
    counts: Mapping[str, int]
    """Rows of the most frequent values, up to ``_MAX_COUNTED``; an empty one is not among them."""
    num_distinct: int
    """Different values."""
    num_filled: int
    """Rows with a value."""
    filled_share: float
    """Share of the rows with a value."""
    mean_length: float
    """Characters in a value."""
    mean_words: float
    number_share: float
    """Share of the values that are numbers."""
    whole_share: float
    """Share of the values that are whole numbers."""
    date_share: float
    """Share of the values that begin like a date."""

    @property
    def distinct_share(self) -> float:
        """Share of the values that are different."""
        return self.num_distinct / max(1, self.num_filled)

    def fits(self, meaning: str) -> int:
        """Rate how well the name fits a meaning, as :func:`column_names.rate` does."""
        return rate(self.name, meaning) if isinstance(self.name, str) else 0


def describe(name: str | int, values: pa.Array) -> Column:
    """Describe a column of strings."""
    trimmed = pc.utf8_trim_whitespace(pc.fill_null(values, ""))
    filled = trimmed.filter(pc.not_equal(trimmed, ""))
    counts = count_values(filled)
    step = max(1, len(filled) // _SAMPLE)
    sample = filled.take(pa.array(np.arange(0, len(filled), step)))

    def share(pattern: str) -> float:
        return pc.mean(pc.match_substring_regex(sample, pattern)).as_py() or 0.0

    blanks = pc.count_substring_regex(sample, r"\s+")
    return Column(
        name,
        dict(itertools.islice(counts.items(), _MAX_COUNTED)),
        len(counts),
        len(filled),
        len(filled) / max(1, len(values)),
        mean_length=pc.mean(pc.utf8_length(sample)).as_py() or 0.0,
        mean_words=1 + (pc.mean(blanks).as_py() or 0.0),
        number_share=share(_NUMBER),
        whole_share=share(_WHOLE),
        date_share=share(_DATE),
    )


def main_values(column: Column) -> dict[str, int]:
    """Return the values of a label, without those that so few rows have that they are mistakes."""
    least = min(column.num_filled / 2000, MIN_CLASS_ROWS)
    return {value: rows for value, rows in column.counts.items() if rows >= least}


def brief(text: str | int) -> str:
    """Write a name or a value in one line, shortened."""
    return shorten("".join(c if c.isprintable() else " " for c in str(text)))
