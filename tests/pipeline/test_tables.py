"""A table has the columns of its files, and of the folders between it and them."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.pipeline.tables import Table
from sentiflow.storage import filesystem


def write(uri, rows):
    content = io.BytesIO()
    pq.write_table(pa.table(rows), content)
    filesystem.write_bytes(uri, content.getvalue())


def check(folder):
    write(f"{folder}/split=train/part.parquet", {"row_id": [1, 2], "brand": ["A", "B"]})
    write(f"{folder}/split=test/part.parquet", {"row_id": [3], "brand": ["C"]})
    table = Table(folder, ("split=train/part.parquet", "split=test/part.parquet"))
    assert table.columns == ["row_id", "brand", "split"]
    assert table.to_arrow().to_pydict() == {
        "row_id": [1, 2, 3],
        "brand": ["A", "B", "C"],
        "split": ["train", "train", "test"],
    }
    assert len(table.to_pandas(filters=[("split", "==", "test"), ("brand", "==", "C")])) == 1


def test_folders_above_a_table_are_no_columns(tmp_path):
    check(f"{tmp_path}/env=prod/brand=Q/tweets")


def test_folders_above_a_table_in_object_storage_are_no_columns(bucket):
    check(f"{bucket}/env=prod/brand=Q/tweets")
