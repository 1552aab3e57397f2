"""A row id leads to the file of the row, also where an earlier version has counted no rows."""

import numpy as np
import pytest

from sentiflow.data.row_sources import RowSources


def list_files(*rows):
    """Describe files a, b, c, ...; None: an earlier version has read it."""
    files = []
    for name, number in zip("abcdef", rows, strict=False):
        files.append({"uri": name} if number is None else {"uri": name, "rows": number})
    return files


def locate(files, num_rows, numbers):
    found = RowSources.of(files, num_rows).locate(np.array(numbers))
    sources = found["source"].to_pylist()
    return list(zip(sources, found["source_row"].to_pylist(), strict=True))


def test_rows_are_numbered_over_files_with_and_without_rows():
    files = list_files(0, 2, 0, 0, 3, 0)
    expected = [("b", 0), ("b", 1), ("e", 0), ("e", 1), ("e", 2)]
    assert locate(files, 5, range(5)) == expected
    assert locate(files, 5, [4, 0, 4]) == [("e", 2), ("b", 0), ("e", 2)]
    assert locate(files, 5, [-1, 5, 10**12]) == [(None, None)] * 3


@pytest.mark.parametrize(
    ("files", "first"), [(list_files(None, 1, 2), "a"), (list_files(None, None, 1, 2), None)]
)
def test_rows_of_new_files_are_found_behind_files_of_an_earlier_version(files, first):
    assert locate(files, 10, [7, 8, 9])[1][1] == 0
    names = [item["uri"] for item in files[-2:]]
    assert locate(files, 10, [7, 8, 9]) == [(names[0], 0), (names[1], 0), (names[1], 1)]
    assert locate(files, 10, [0, 6]) == [
        (first, 0 if first else None),
        (first, 6 if first else None),
    ]


def test_without_files_no_row_is_found():
    assert locate([], 0, [0, 1]) == [(None, None)] * 2
    assert locate(list_files(None, None), 9, [0]) == [(None, None)]
