"""Files of an object store are read ahead, in their order."""

import pyarrow as pa
import pytest

from sentiflow.data import lineage, manifest
from sentiflow.errors import UserError
from sentiflow.storage import filesystem, parquet


@pytest.fixture
def record(bucket):
    """Write 20 files of one row, and list them as a manifest does."""
    files = []
    for number in range(20):
        table = pa.table({"number": [number], "other": [0]})
        files += parquet.write_part(f"{bucket}/a", f"rows/part-{number:02}.parquet", table)
    return {"stage": "score", "files": files}


def test_tables_of_an_object_store_come_in_the_order_of_the_files(bucket, record):
    tables = list(lineage.read_tables(f"{bucket}/a", record, ("rows/",), ["number"]))
    assert pa.concat_tables(tables)["number"].to_pylist() == list(range(20))
    assert tables[0].column_names == ["number"]


def test_a_file_that_is_gone_is_named_and_earlier_files_are_read(bucket, record, monkeypatch):
    monkeypatch.setattr(manifest, "was_replaced", lambda *_: False)
    tables = lineage.read_tables(f"{bucket}/a", record, ("rows/",), ["number"])
    assert next(tables)["number"].to_pylist() == [0]
    filesystem.delete(f"{bucket}/a/rows/part-19.parquet")
    with pytest.raises(UserError, match=r"part-19\.parquet is gone or damaged"):
        list(tables)


def test_a_reader_that_stops_reads_no_further_files(bucket, record, monkeypatch):
    read = []
    monkeypatch.setattr(parquet, "read", lambda uri, columns: read.append(uri) or pa.table({}))
    tables = lineage.read_tables(f"{bucket}/a", record, ("rows/",), ["number"])
    next(tables)
    tables.close()
    assert len(read) < 20
