"""Each partition gets all rows of its keys, from all parts, and no others."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.preparation import partitions

PARTS = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.text(max_size=3)), max_size=8), max_size=4
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory for files that one example after the other overwrites."""
    return tmp_path_factory.mktemp("partitions")


@settings(max_examples=60, deadline=None)
@given(PARTS.filter(len), st.integers(1, 5))
def test_a_partition_holds_the_rows_of_its_keys_from_all_parts(folder, parts, num_partitions):
    uris = []
    for number, rows in enumerate(parts):
        keys = np.array([key for key, _ in rows], np.int64)
        table = pa.table(
            {"key": pa.array(keys), "value": pa.array([value for _, value in rows], pa.string())}
        )
        uris.append(str(folder / f"{number}.parquet"))
        partitions.write(uris[-1], table, keys % num_partitions, num_partitions=num_partitions)
    for number in range(num_partitions):
        found = partitions.read(uris, number)
        expected = [row for rows in parts for row in rows if row[0] % num_partitions == number]
        assert list(zip(*found.to_pydict().values(), strict=True)) == expected


@pytest.mark.parametrize(
    ("num_parts", "number"), [(0, 1), (7, 1), (8, 2), (16, 4), (160, 10), (4096, 64), (6400, 100)]
)
def test_a_partition_has_the_rows_of_4_to_64_parts(num_parts, number):
    assert partitions.count(num_parts) == number
