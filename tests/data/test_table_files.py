"""Parquet files of any origin are read as rows of one corpus."""

import itertools
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, input_files, table_plans
from sentiflow.data.parts import read as read_part
from sentiflow.data.row_checks import RowRules
from sentiflow.errors import UserError
from sentiflow.storage import parquet


def read(folder, *tables, keep_columns=()):
    """Read tables as one part, each from a file of its own."""
    uris = [f"{folder}/{number}.parquet" for number in range(len(tables))]
    for uri, table in zip(uris, tables, strict=True):
        pq.write_table(table, uri)
    plan = table_plans.plan_scoring(
        input_files.describe_unread(uris), text_column="text", keep_columns=keep_columns
    )
    (part,) = corpus.cut(plan, rows_per_part=100).parts
    return read_part(part, RowRules(keep=tuple(keep_columns)))


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64(), pa.uint8(), pa.int64(), pa.uint64()])
def test_labels_are_numbers_of_any_type(tmp_path, kind):
    labels = pa.array(np.array([0, 1, 2, 3, 5], kind.to_pandas_dtype()), kind)
    found = read(tmp_path, pa.table({"text": list("abcde"), "label": labels}))
    assert found["label"].to_pylist() == [0, 1, 2, None, None]
    assert found["unknown_label"].to_pylist() == [None, None, None, "3", "5"]


def test_a_column_of_nulls_is_a_column_of_texts_without_any(tmp_path):
    found = read(tmp_path, pa.table({"text": pa.nulls(3)}), pa.table({"text": ["a"]}))
    assert found["row_id"].to_pylist() == [0, 1, 2, 3]
    assert found["offset"].to_pylist() == [0, 1, 2, 0]
    assert found["source"].to_pylist() == [f"{tmp_path}/0.parquet"] * 3 + [f"{tmp_path}/1.parquet"]
    assert found["reason"].to_pylist() == ["empty text"] * 3 + [None]
    assert found["raw"].to_pylist() == [b""] * 3 + [None]


@pytest.mark.parametrize("order", [1, -1])
def test_a_kept_column_that_no_type_holds_is_refused(tmp_path, order):
    tables = [
        pa.table({"text": ["a"], "k": pa.array([7], pa.int64())}),
        pa.table({"text": ["b"], "k": pa.array(["b"])}),
    ]
    with pytest.raises(UserError, match=r"^score.keep_columns: k is .* in .*1.parquet: "):
        read(tmp_path, *tables[::order], keep_columns=["k"])
    found = read(tmp_path, tables[0], tables[0], keep_columns=["k"])
    assert found["k"].to_pylist() == [7] * 2


def write_groups(path, num_rows, group_rows):
    """Write rows in groups, with a page for every few rows."""
    table = pa.table({"text": [f"text {number}" for number in range(num_rows)]})
    options = {"use_dictionary": False, "data_page_size": 64, "write_batch_size": 8}
    pq.write_table(table, path, row_group_size=group_rows, **options)
    return table


def open_groups(path, rows_per_part):
    """Cut one file into parts."""
    files = input_files.describe_unread([str(path)])
    plan = table_plans.plan_scoring(files, text_column="text", keep_columns=())
    return corpus.cut(plan, rows_per_part=rows_per_part)


def test_a_text_that_is_too_long_is_rejected_in_scoring_as_in_a_csv(tmp_path):
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"text": ["good", "bad"]}), path)
    files = input_files.describe_unread([str(path)])
    form = FormatSettings(max_text_length=3)
    plan = table_plans.plan_scoring(files, text_column="text", keep_columns=())
    (part,) = corpus.cut(plan, rows_per_part=10).parts
    assert read_part(part, RowRules.of_texts(form))["reason"].to_pylist() == ["text too long", None]


def bounds_of(source):
    """List the rows of each part."""
    return [[(piece.start, piece.stop) for piece in part.pieces] for part in source.parts]


@pytest.mark.parametrize(
    ("group_rows", "rows_per_part", "bounds"),
    [
        (30, 60, [0, 60, 120, 180, 200]),
        (30, 70, [0, 60, 120, 200]),
        (30, 80, [0, 90, 180, 200]),
        (100, 90, [0, 100, 200]),
        (100, 60, [0, 50, 100, 150, 200]),
        (200, 60, [0, 66, 133, 200]),
    ],
)
def test_a_part_has_whole_row_groups_or_a_piece_of_a_large_one(
    tmp_path, group_rows, rows_per_part, bounds
):
    table = write_groups(tmp_path / "a.parquet", 200, group_rows)
    source = open_groups(tmp_path / "a.parquet", rows_per_part)
    assert bounds_of(source) == [[pair] for pair in itertools.pairwise(bounds)]
    rows = pa.concat_tables([read_part(part, RowRules()) for part in source.parts])
    assert rows["text"].to_pylist() == table["text"].to_pylist()
    assert rows["row_id"].to_pylist() == rows["offset"].to_pylist() == list(range(200))


def damage(path, start, stop):
    """Overwrite bytes of a file, but not its size and time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_part_reads_its_own_row_groups_alone(tmp_path):
    path = tmp_path / "a.parquet"
    table = write_groups(path, 200, 50)
    parts = open_groups(path, 50).parts
    column = pq.ParquetFile(path).metadata.row_group(2).column(0)
    damage(path, 4, column.data_page_offset)
    damage(path, column.data_page_offset + column.total_compressed_size, path.stat().st_size - 900)
    assert read_part(parts[2], RowRules())["text"].to_pylist() == table["text"].to_pylist()[100:150]
    for number in (0, 1, 3):
        with pytest.raises(UserError, match="the file is damaged: create it again"):
            read_part(parts[number], RowRules())


def test_a_piece_of_a_large_row_group_reads_nothing_behind_it(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_BUFFER_BYTES", 256)
    path = tmp_path / "a.parquet"
    table = write_groups(path, 2000, 2000)
    parts = open_groups(path, 500).parts
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    begin = column.data_page_offset + column.total_compressed_size * 3 // 5
    damage(path, begin, column.data_page_offset + column.total_compressed_size)
    for number in (0, 1):
        expected = table["text"].to_pylist()[500 * number : 500 * number + 500]
        assert read_part(parts[number], RowRules())["text"].to_pylist() == expected
    with pytest.raises(UserError, match="the file is damaged: create it again"):
        read_part(parts[3], RowRules())


def test_invalid_utf8_is_replaced(tmp_path):
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"a\xff"], pa.binary()).buffers())
    assert read(tmp_path, pa.table({"text": broken}))["text"].to_pylist() == ["a\ufffd"]
