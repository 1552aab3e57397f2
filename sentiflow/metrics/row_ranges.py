"""Many rows -> ranges of rows, so that temporary arrays stay small."""

from collections.abc import Iterator

RANGE_ROWS = 1 << 18
"""Number of rows that are computed with at a time."""


_NUM_COLUMNS = 4
"""A range of rows with more columns has fewer rows."""


def row_ranges(num_rows: int, *, num_columns: int = 1) -> Iterator[slice]:
    """Divide N rows into ranges of ``RANGE_ROWS`` rows; of fewer, if the rows have many columns.

    Example:
        >>> [(rows.start, rows.stop) for rows in row_ranges(RANGE_ROWS + 1)]
        [(0, 262144), (262144, 262145)]
    """
    size = max(1, _NUM_COLUMNS * RANGE_ROWS // max(num_columns, _NUM_COLUMNS))
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))
