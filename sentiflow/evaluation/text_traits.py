"""Texts of evaluated rows -> what is kept of each: a hash, its length, the patterns it matches.

A text itself is not kept, so a row takes a few bytes. The words of a sample of the texts are kept,
for the search for slices.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.config.text_units import WORDS, find_cut, find_unit
from sentiflow.data.arrays import hash_strings, normalize_text, one_array, put_columns
from sentiflow.data.manifest_types import Settings
from sentiflow.evaluation import slices
from sentiflow.evaluation.evaluated_rows import AUTHOR, TEXT
from sentiflow.evaluation.slice_search import Sampler, SearchSample
from sentiflow.evaluation.slices import OWN
from sentiflow.evaluation.text_source import TextSource
from sentiflow.metrics.row_ranges import row_ranges
from sentiflow.models import units
from sentiflow.models.tokenizer import tokenize
from sentiflow.models.tokens import Tokens

_DRAW_KEY = "sentiflow-halves"
"""Key of the hash by which rows are drawn for the search."""


class DescribedRows(NamedTuple):
    """Rows without their texts."""

    rows: pa.Table
    """N rows; where the texts are known, with the columns of ``slices.list_traits``."""
    sample: SearchSample
    """Rows that are searched for slices."""


def describe(
    rows: pa.Table,
    sources: Sequence[TextSource],
    *,
    settings: Settings,
    patterns: Mapping[str, str],
    searched: Sequence[str] = (),
    with_words: bool = True,
) -> DescribedRows:
    """Read the texts of rows and their columns for slices, and add what is kept of them.

    Args:
        rows: N rows of one split, as ``compact_rows.read`` returns them.
        sources: Where the texts and the columns are.
        settings: Settings of the model package: ``tokenizer``, ``max_length`` and ``cut``.
        patterns: User-defined slices: a regular expression (RE2) by name.
        searched: Columns that are left out if their type has no categories.
        with_words: Whether the sample has words.

    Raises:
        UserError: A file is gone or damaged, or lacks a row.
    """
    row_ids = rows["row_id"].to_numpy()
    collector = _Collector(rows, settings, patterns, with_words=with_words)
    own_columns: dict[str, pa.Array] = {}
    for source in sources:
        columns = dict.fromkeys(source.columns)
        if source.text_column:
            columns[source.text_column] = None
        if not columns:
            continue
        of_source = _OwnColumns(source.columns, searched)
        for positions, table in source.read(row_ids, [*columns]):
            of_source.add(positions, table)
            if source.text_column:
                text = one_array(table[source.text_column]).cast(pa.string())
                collector.add(positions, text)
        own_columns |= of_source.finish(len(rows))
    return collector.finish(put_columns(rows, own_columns))


def describe_table(
    rows: pa.Table,
    *,
    settings: Settings,
    patterns: Mapping[str, str],
    with_words: bool = True,
) -> DescribedRows:
    """Replace the texts of a table, if it has any, by what is kept of them.

    Args:
        rows: N rows of one split, which may have the column ``text``.
        settings: As in :func:`describe`.
        patterns: As in :func:`describe`.
        with_words: Whether the sample has words.
    """
    collector = _Collector(rows, settings, patterns, with_words=with_words)
    if TEXT not in rows.column_names:
        return collector.finish(rows)
    for part in row_ranges(len(rows)):
        text = one_array(rows[TEXT].slice(part.start, part.stop - part.start))
        collector.add(np.arange(part.start, part.stop), text)
    return collector.finish(rows.drop_columns(TEXT))


def add_traits(rows: pa.Table, settings: Settings, patterns: Mapping[str, str]) -> pa.Table:
    """Add what is kept of the texts of rows, without a sample; nothing if there are no texts.

    The arguments are those of :func:`describe_table`.
    """
    if TEXT not in rows.column_names:
        return rows
    chunks: dict[str, list[pa.Array]] = {}
    for part in row_ranges(len(rows)):
        text = one_array(rows[TEXT].slice(part.start, part.stop - part.start))
        _, read = _tokenize(text, settings)
        traits = slices.find_traits(text, read, np.asarray(normalize_text(text)), patterns)
        for name, values in traits.items():
            chunks.setdefault(name, []).append(pa.array(values))
    columns = {name: pa.chunked_array(parts) for name, parts in chunks.items()}
    return put_columns(rows, columns).combine_chunks()


def _tokenize(text: pa.Array, settings: Settings) -> tuple[Tokens, Tokens]:
    """Return the words of texts, which slices are searched by, and the units that a network reads.

    They are the same for a network that reads words.
    """
    tokens = tokenize(text, name=settings["tokenizer"], version=settings.get("tokenizer_version"))
    unit = find_unit(settings)
    read = units.split(tokens, unit).cut(settings["max_length"], find_cut(settings))
    words = read if unit == WORDS else tokens
    return words, read


class _Collector:
    """Collects what is kept of the texts of N rows, in any order of the rows."""

    def __init__(
        self, rows: pa.Table, settings: Settings, patterns: Mapping[str, str], *, with_words: bool
    ) -> None:
        self._rows = rows
        self._settings = settings
        self._patterns = patterns
        self._with_words = with_words
        self._traits: dict[str, np.ndarray] = {}
        self._sampler = Sampler()

    def add(self, positions: np.ndarray, text: pa.Array) -> None:
        """Add the texts of some rows."""
        words, read = _tokenize(text, self._settings)
        normalized = np.asarray(normalize_text(text))
        traits = slices.find_traits(text, read, normalized, self._patterns)
        for name, values in traits.items():
            if name not in self._traits:
                self._traits[name] = np.zeros(len(self._rows), values.dtype)
            self._traits[name][positions] = values
        if AUTHOR in self._rows.column_names:
            draw = self._hash_column(AUTHOR, positions)
        else:
            draw = hash_strings(normalized, key=_DRAW_KEY)
        self._sampler.add(positions, draw, words if self._with_words else None)

    def finish(self, rows: pa.Table) -> DescribedRows:
        """Add the columns to rows, and draw the sample."""
        if not self._traits:
            name = AUTHOR if AUTHOR in rows.column_names else "row_id"
            for part in row_ranges(len(rows)):
                positions = np.arange(part.start, part.stop)
                self._sampler.add(positions, self._hash_column(name, positions), None)
        columns = {name: pa.array(values) for name, values in self._traits.items()}
        return DescribedRows(put_columns(rows, columns), self._sampler.finish())

    def _hash_column(self, name: str, positions: np.ndarray) -> np.ndarray:
        """Hash the values of a column of numbers, as strings, at some positions.

        The search halves the rows by these numbers, so the texts of an author stay together.
        """
        values = pa.array(self._rows[name].to_numpy()[positions])
        return hash_strings(values.cast(pa.string()), key=_DRAW_KEY)


class _OwnColumns:
    """Collects columns for slices as numbers of their distinct values, in any order of the rows."""

    def __init__(self, columns: Sequence[str], searched: Sequence[str]) -> None:
        self._columns = columns
        self._searched = searched
        self._positions: list[np.ndarray] = []
        self._values: dict[str, list[pa.Array]] = {}

    def add(self, positions: np.ndarray, table: pa.Table) -> None:
        """Add some rows."""
        if self._columns:
            self._positions.append(positions.astype(np.int32))
        for name in self._columns:
            column = one_array(table[name])
            if name in self._searched and not slices.has_categories(column.type):
                continue
            self._values.setdefault(name, []).append(slices.encode_values(column))

    def finish(self, num_rows: int) -> dict[str, pa.Array]:
        """Return the columns of all rows, whose names begin with ``OWN``."""
        columns = {}
        for name in list(self._values):
            unified = pa.chunked_array(self._values.pop(name)).unify_dictionaries()
            numbers = np.empty(num_rows, np.int32)
            for positions, chunk in zip(self._positions, unified.chunks, strict=True):
                numbers[positions] = chunk.indices.to_numpy()
            dictionary = unified.chunk(0).dictionary
            columns[OWN + name] = pa.DictionaryArray.from_arrays(pa.array(numbers), dictionary)
        return columns
