"""Row ids number the rows of a corpus only where each stands for one row."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.data import row_ids, table_plans
from sentiflow.errors import UserError
from sentiflow.storage import parquet

TEXT = pa.scalar("good")


def write(folder, *files, **options):
    """Write a file for each list of ids."""
    uris = []
    for number, ids in enumerate(files):
        uris.append(f"{folder}/{number}.parquet")
        column = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.int64())
        table = pa.table({"row_id": column, "text": pa.repeat(TEXT, len(column))})
        pq.write_table(table, uris[-1], **options)
    return uris


def plan(uris):
    """Plan the scoring of files."""
    files = [{"uri": uri, "bytes": 0, "modified_ns": 0, "tree_sha256": ""} for uri in uris]
    return table_plans.plan_scoring(files, text_column="text", keep_columns=())


class Tasks:
    """Calls functions as tasks do, and remembers the names and the parts."""

    def __init__(self):
        self.calls = []

    def __call__(self, name, work, parts):
        """Call a function for each part; results travel as JSON."""
        self.calls += [(name, part) for part in parts]
        return [json.loads(json.dumps(work(part))) for part in parts]


def describe(uri):
    """Describe a file of rows that were scored before."""
    return row_ids.EarlierFile(uri, pq.read_metadata(uri).num_rows, row_ids.read_ranges([uri])[0])


def find_fault(uris, earlier=(), tasks=None):
    """Look at the footers of files, then at their ids."""
    found = plan(uris)
    if not found.table_format.has_row_ids:
        return found.id_fault
    files = [describe(uri) for uri in earlier]
    return row_ids.find_fault(found.tables, files, map_tasks=tasks or Tasks())


def make_files(low, high):
    """Make lists of ids for several files."""
    ids = st.lists(st.integers(low, high), max_size=6)
    return st.lists(ids, min_size=1, max_size=4)


@pytest.mark.parametrize("chunk_rows", [2, 5, 1 << 21])
@settings(deadline=None, max_examples=60)
@given(files=st.one_of(make_files(-20, 20), make_files(-(2**63), 2**63 - 1)))
def test_ids_are_unique_if_no_two_rows_of_all_files_share_one(tmp_path_factory, chunk_rows, files):
    uris = write(tmp_path_factory.mktemp("files"), *files)
    ids = [number for file in files for number in file]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_ids, "_CHUNK_ROWS", chunk_rows)
        patch.setattr(row_ids, "_BUCKET_ROWS", 2 * chunk_rows)
        patch.setattr(row_ids, "_NUM_RANGES", 2)
        fault = find_fault(uris)
    assert (fault is None) == (len(set(ids)) == len(ids))


@pytest.mark.parametrize("chunk_rows", [3, 1 << 21])
@settings(deadline=None, max_examples=60)
@given(
    new=st.sets(st.integers(-20, 20), min_size=1),
    old=st.sets(st.integers(-20, 20)),
    seed=st.integers(0, 99),
)
def test_new_ids_must_differ_from_the_ids_of_scored_rows(
    tmp_path_factory, chunk_rows, new, old, seed
):
    folder = tmp_path_factory.mktemp("files")
    order = np.random.default_rng(seed)
    halves = np.array_split(order.permutation(sorted(old)), 2)
    (folder / "old").mkdir()
    earlier = write(folder / "old", *[half.astype(np.int64) for half in halves if len(half)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_ids, "_CHUNK_ROWS", chunk_rows)
        patch.setattr(row_ids, "_BUCKET_ROWS", 2 * chunk_rows)
        fault = find_fault(write(folder, order.permutation(sorted(new))), earlier)
    assert (fault is None) == (not new & old)
    if fault:
        assert fault.startswith(f"{folder}/0.parquet has the row_id ")
        assert fault.endswith(" of a row that was scored before")


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        (pa.array([1, None]), "/1.parquet has a row without a row_id"),
        (pa.array([None, None], pa.int64()), "/1.parquet has a row without a row_id"),
        (pa.array(["1", "2"]), "/1.parquet has a row_id of type string"),
        (pa.array([1.0, 2.0]), "/1.parquet has a row_id of type double"),
        (pa.array([1, 1 << 63], pa.uint64()), "/1.parquet has a row_id of more than 63 bits"),
        (pa.array([1, 1]), "/1.parquet has the row_id 1 twice"),
        (pa.array([1, 8]), "/0.parquet and {folder}/1.parquet both have the row_id 8"),
        (pa.array([1, 2], pa.int8()), None),
        (pa.array([1, 2], pa.uint64()), None),
        (pa.array([], pa.int16()), None),
    ],
)
@pytest.mark.parametrize("chunk_rows", [1, 1 << 21])
def test_the_fault_of_row_ids_is_named(tmp_path, monkeypatch, column, fault, chunk_rows):
    monkeypatch.setattr(row_ids, "_CHUNK_ROWS", chunk_rows)
    expected = f"{tmp_path}{fault.format(folder=tmp_path)}" if fault else None
    assert find_fault(write(tmp_path, [7, 8], column)) == expected


def test_a_file_without_the_column_among_others_is_named(tmp_path):
    alone = f"{tmp_path}/a.parquet"
    pq.write_table(pa.table({"text": ["a"]}), alone)
    assert find_fault([*write(tmp_path, [1, 2]), alone]) == f"{alone} has no row_id"
    assert find_fault([alone]) == ""


def test_a_damaged_file_is_named(tmp_path):
    (uri,) = write(tmp_path, range(1000), compression="none")
    found = plan([uri])
    with open(uri, "r+b") as file:
        file.seek(4)
        file.write(b"\xff" * 200)
    with pytest.raises(UserError, match=r"0\.parquet, rows 0 to 999: the file is damaged"):
        row_ids.find_fault(found.tables, [], map_tasks=Tasks())


def test_ascending_ids_are_read_once_and_no_earlier_file_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(row_ids, "_CHUNK_ROWS", 100)
    gone = [row_ids.EarlierFile(f"{tmp_path}/gone-{n}", 10, [-20 - n, -20 - n]) for n in range(9)]
    tables = plan(write(tmp_path, *np.arange(1000).reshape(5, 200), row_group_size=50)).tables
    read = []
    monkeypatch.setattr(
        parquet,
        "read_rows",
        lambda uri, *args, original=parquet.read_rows, **options: (
            read.append(uri) or original(uri, *args, **options)
        ),
    )
    tasks = Tasks()
    assert row_ids.find_fault(tables, gone, map_tasks=tasks) is None
    assert [name for name, _ in tasks.calls] == ["check_ids"] * 10
    assert len(read) == 10


def test_gaps_between_ids_keep_chunks_and_earlier_files_apart(tmp_path, monkeypatch):
    """Many small files of any order are in one chunk, whose ids have gaps."""
    monkeypatch.setattr(row_ids, "_CHUNK_ROWS", 100)
    days = np.arange(8)[:, None] * 1000 + np.arange(25)
    tables = plan(write(tmp_path, *days[[0, 2, 4, 6, 1, 3, 5, 7]])).tables
    gone = [row_ids.EarlierFile(f"{tmp_path}/gone", 10, [1500, 1600])]
    tasks = Tasks()
    assert row_ids.find_fault(tables, gone, map_tasks=tasks) is None
    assert [name for name, _ in tasks.calls] == ["check_ids"] * 2


@pytest.mark.parametrize("num_buckets", [2, 7])
def test_buckets_are_of_similar_size_and_have_each_id_once(num_buckets):
    for ids in (np.arange(70_000), np.arange(70_000) << 40, np.arange(70_000) * -(10**9)):
        parts = [
            row_ids._select(ids, row_ids.Bucket((), (), number, num_buckets))
            for number in range(num_buckets)
        ]
        assert np.array_equal(np.sort(np.concatenate(parts)), np.sort(ids))
        assert max(map(len, parts)) < 1.2 * len(ids) / num_buckets
