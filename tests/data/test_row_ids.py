"""Row ids number the rows of a corpus only where each stands for one row."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.data import table_files, table_plans


def write(folder, *files):
    """Write a file for each list of ids."""
    uris = []
    for number, ids in enumerate(files):
        uris.append(f"{folder}/{number}.parquet")
        column = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.int64())
        pq.write_table(pa.table({"row_id": column}), uris[-1])
    return uris


def find_fault(uris):
    """Look at files, and find the fault of their ids."""
    return table_plans.find_id_fault([table_files.read_footer(uri) for uri in uris])


@settings(deadline=None, max_examples=60)
@given(files=st.lists(st.lists(st.integers(-20, 20), max_size=4), min_size=1, max_size=4))
def test_ids_are_unique_if_no_two_rows_of_all_files_share_one(tmp_path_factory, files):
    uris = write(tmp_path_factory.mktemp("files"), *files)
    ids = [number for file in files for number in file]
    assert (find_fault(uris) is None) == (len(set(ids)) == len(ids))


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        (pa.array([1, None]), "is missing, occurs twice or has more than 63 bits"),
        (pa.array(["1", "2"]), "has a row_id of type string"),
        (pa.array([1.0, 2.0]), "has a row_id of type double"),
        (pa.array([1, 1 << 63], pa.uint64()), "is missing, occurs twice or has more than 63 bits"),
        (pa.array([1, 1]), "is missing, occurs twice or has more than 63 bits"),
        (pa.array([1, 8]), "is missing, occurs twice or has more than 63 bits"),
    ],
)
def test_the_fault_of_row_ids_is_named(tmp_path, column, fault):
    assert fault in find_fault(write(tmp_path, [7, 8], column))


def test_a_file_without_the_column_among_others_is_named(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    alone = f"{tmp_path}/a.parquet"
    assert find_fault([*write(tmp_path, [1, 2]), alone]).endswith("a.parquet has no row_id")
    assert find_fault([alone]) == ""
