"""Parquet files of any origin are read as rows of one corpus."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiflow.data import corpus, input_files, table_files
from sentiflow.errors import UserError


def read(folder, *tables, keep_columns=()):
    """Read tables as one part, each from a file of its own."""
    uris = [f"{folder}/{number}.parquet" for number in range(len(tables))]
    for uri, table in zip(uris, tables, strict=True):
        pq.write_table(table, uri)
    plan = table_files.plan(
        input_files.as_found(uris)["files"], text_column="text", keep_columns=keep_columns
    )
    (part,) = corpus.open_tables(plan, rows_per_part=100).parts
    return corpus.read(part, keep=keep_columns)


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
        pa.table({"text": ["a"], "k": pa.array([1 << 63], pa.uint64())}),
        pa.table({"text": ["b"], "k": pa.array([-1], pa.int8())}),
    ]
    with pytest.raises(UserError, match=r"^score.keep_columns: k is u?int.* in the files before: "):
        read(tmp_path, *tables[::order], keep_columns=["k"])
    found = read(tmp_path, tables[0], tables[0], keep_columns=["k"])
    assert found["k"].to_pylist() == [1 << 63] * 2
