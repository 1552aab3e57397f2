"""Scored directory -> its evaluated rows in few bytes each, and where their texts are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import authors, lineage
from sentiflow.data.arrays import one_array, put_columns
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import JobError, UserError
from sentiflow.evaluation import evaluated_rows
from sentiflow.evaluation.evaluated_rows import AUTHOR, EVALUATED, TEXT, WHOLE
from sentiflow.evaluation.text_source import TextSource


class CompactRows(NamedTuple):
    """Evaluated rows without their texts."""

    rows: pa.Table
    """N rows with the columns of ``evaluated_rows.read``, except ``text`` and the columns for
    slices; ``split`` is a number with a name."""
    sources: list[TextSource]
    """Where texts and columns for slices are; none has texts if they are unknown."""

    @property
    def texts(self) -> TextSource | None:
        """Return the source with the texts; None if they are unknown."""
        return next((source for source in self.sources if source.text_column), None)


def read(uri: str, scored: Manifest, *, columns: Sequence[str] = ()) -> CompactRows:
    """Read the rows that ``evaluated_rows.read`` reads; leave texts and slices where they are.

    Args:
        uri: The scored directory.
        scored: Its manifest.
        columns: Columns for slices, which ``evaluated_rows.check_columns`` has accepted.

    Raises:
        UserError: There is no prediction, or a file is damaged.
        JobError: The prepared data are gone or were replaced, and ``columns`` are only there.
    """
    if not any(item["path"].startswith("predictions/") for item in scored["files"]):
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    of_predictions = evaluated_rows.list_columns_of_predictions(scored)
    kept = tuple(name for name in columns if name in of_predictions)
    missing = tuple(name for name in columns if name not in kept)
    prepared = lineage.prepared_of(scored)
    if missing and not prepared:  # they existed when check_columns and list_searched looked
        uri_of_corpus = scored["inputs"]["corpus"]["uri"]
        raise JobError(f"{uri_of_corpus} was replaced while it was read: run again")
    author = evaluated_rows.find_authors(scored)
    author_column = author.column if author.is_kept else ""
    in_predictions = author_column if author.in_predictions else ""
    rows, text_column = _read_predictions(uri, scored, in_predictions)
    sources = [TextSource(uri, scored, ("predictions/",), text_column, kept)]
    if prepared:
        of_prepared = TextSource(
            uri=scored["inputs"]["corpus"]["uri"],
            record=prepared,
            folders=lineage.name_folders(SPLITS[1:]),
            text_column=None if text_column else TEXT,
            columns=missing,
        )
        sources.append(of_prepared)
        if author_column and not in_predictions:
            rows = _add_authors(rows, of_prepared, author_column)
    return CompactRows(rows, sources)


def _read_predictions(uri: str, scored: Manifest, author: str) -> tuple[pa.Table, str | None]:
    """Read the numbers of evaluated rows, and find the column of their texts.

    Args:
        uri: The scored directory.
        scored: Its manifest.
        author: The column of the authors; empty if there is none.

    Returns:
        The rows; and the first kept column that has a text in each row, or None.
    """
    measured = [
        *evaluated_rows.COLUMNS,
        *[PROBABILITY + name for name in lineage.classes_of_model(scored)],
        *evaluated_rows.list_unsure_column(scored),
    ]
    has_texts = dict.fromkeys(evaluated_rows.list_text_columns(scored), True)
    columns = [*measured, *has_texts]
    if author:
        columns.append(author)
    chunks: dict[str, list[pa.Array]] = {}
    for table in evaluated_rows.read_tables(uri, scored, columns):
        for name in has_texts:
            has_texts[name] &= evaluated_rows.has_texts(table[name])
        added: dict[str, pa.Array] = {"split": _number_splits(table["split"])}
        if author:
            hashes = authors.hash_authors(table[author], table["row_id"].to_numpy())
            added[AUTHOR] = pa.array(hashes)
        for name in dict.fromkeys([*measured, *added]):
            column = added[name] if name in added else one_array(table[name])
            chunks.setdefault(name, []).append(column)
    text_column = next((name for name, is_text in has_texts.items() if is_text), None)
    return _join_chunks(chunks), text_column


def _number_splits(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Replace the names of splits by numbers, in one byte a row."""
    names = pa.array(EVALUATED)
    written = pc.fill_null(one_array(column), WHOLE)  # null: there are no splits
    numbers = pc.index_in(written, value_set=names).cast(pa.int8())
    return pa.DictionaryArray.from_arrays(numbers, names)


def _join_chunks(chunks: dict[str, list[pa.Array]]) -> pa.Table:
    """Join the chunks of each column, and free them before those of the next column."""
    columns = {}
    for name in list(chunks):
        columns[name] = pa.chunked_array(chunks.pop(name)).combine_chunks()
    return pa.table(columns)


def _add_authors(rows: pa.Table, source: TextSource, column: str) -> pa.Table:
    """Add the hash of the author of each row, from the prepared data."""
    row_ids = rows["row_id"].to_numpy()
    hashes = np.empty(len(rows), np.uint64)
    for positions, table in source.read(row_ids, [column]):
        hashes[positions] = authors.hash_authors(table[column], row_ids[positions])
    return put_columns(rows, {AUTHOR: pa.array(hashes)})
