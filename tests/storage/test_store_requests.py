"""How many requests to an object store a file takes; each has its price and its delay."""

import math
import os
import threading
from collections import Counter

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from sentiflow.storage import compression, filesystem, parquet
from sentiflow.storage.uris import join


class CountingStore:
    """An S3 endpoint that counts requests by method."""

    def __init__(self):
        self.app = DomainDispatcherApplication(create_backend_app)
        self.requests = Counter()

    def __call__(self, environ, start):
        self.requests[environ["REQUEST_METHOD"]] += 1
        return self.app(environ, start)

    def count(self, work):
        """Count the requests of some work."""
        self.requests.clear()
        work()
        return dict(self.requests)


class QuietHandler(MotoRequestHandler):
    """Does not log requests."""

    def log_request(self, *_):
        pass


@pytest.fixture(scope="module")
def store():
    """A store on loopback with the bucket ``counted``."""
    store = CountingStore()
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        boto3.client("s3").create_bucket(Bucket="counted")
        yield store
    server.shutdown()


ROOT = "s3://counted"
TABLE = pa.table({"a": range(1000), "b": [f"text {i}" for i in range(1000)]})


def test_a_small_file_is_written_by_one_request_and_read_by_two(store):
    uri = f"{ROOT}/small"
    content = os.urandom(3 << 20)
    assert store.count(lambda: filesystem.write_bytes(uri, content)) == {"PUT": 1}
    assert store.count(lambda: filesystem.read_bytes(uri)) == {"HEAD": 1, "GET": 1}
    assert filesystem.read_bytes(uri) == content


def test_tables_are_read_by_two_requests(store):
    parquet.write(f"{ROOT}/table.parquet", TABLE)
    filesystem.write_arrow(f"{ROOT}/table.arrow", TABLE)
    reads = {
        "whole": lambda: parquet.read(f"{ROOT}/table.parquet"),
        "columns": lambda: parquet.read(f"{ROOT}/table.parquet", columns=["b"]),
        "rows": lambda: parquet.read_rows(f"{ROOT}/table.parquet", 5, 9, columns=["b"]),
        "arrow": lambda: filesystem.read_arrow(f"{ROOT}/table.arrow"),
    }
    for name, read in reads.items():
        assert store.count(read) == {"HEAD": 1, "GET": 1}, name
    assert reads["whole"]().equals(TABLE)
    assert reads["arrow"]().equals(TABLE)


def test_few_columns_of_a_large_table_are_read_without_the_others(store):
    noise = pa.array([os.urandom(4096) for _ in range(1000)])
    table = TABLE.append_column("noise", noise)
    with filesystem.publish(f"{ROOT}/large.parquet") as stream:
        pq.write_table(table, stream, row_group_size=100, write_statistics=False)
    read = parquet.read(f"{ROOT}/large.parquet", columns=["a", "b"])
    assert read.equals(TABLE)
    counted = store.count(
        lambda: parquet.read_rows(f"{ROOT}/large.parquet", 150, 160, columns=["a", "b"])
    )
    assert counted == {"HEAD": 1, "GET": 2}  # the footer, and both columns of one row group


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 80])
def test_a_plain_file_is_read_in_blocks_by_one_request_each(store, size):
    content = bytes(range(size))
    filesystem.write_bytes(f"{ROOT}/blocks", content)
    found = []
    counted = store.count(lambda: found.extend(compression.read_blocks(f"{ROOT}/blocks", 8)))
    assert b"".join(found) == content
    expected = {"HEAD": 1}
    if size:
        expected["GET"] = math.ceil(size / 8)
    assert counted == expected


def test_a_store_is_opened_once_in_an_environment(store, monkeypatch):
    first, _ = filesystem.locate(f"{ROOT}/a")
    assert filesystem.locate(f"{ROOT}/b/c")[0] is first
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    assert filesystem.locate(f"{ROOT}/a")[0] is not first


def test_files_in_a_row_are_checked_once_and_later_ones_again(tmp_path, monkeypatch):
    checks = []
    with filesystem.recording(lambda: checks.append(1)) as sizes:
        for name in ("a", "b", "c"):
            filesystem.write_bytes(join(str(tmp_path), name), b"1")
        assert (len(checks), len(sizes)) == (1, 3)
        monkeypatch.setattr(filesystem, "CHECK_SECONDS", 0.0)
        filesystem.write_bytes(join(str(tmp_path), "d"), b"1")
    assert (len(checks), len(sizes)) == (2, 4)


def test_a_check_that_fails_prevents_each_of_the_files(tmp_path):
    def refuse():
        raise RuntimeError("gone")

    with filesystem.recording(refuse) as sizes:
        for name in ("a", "b"):
            with pytest.raises(RuntimeError, match="gone"):
                filesystem.write_bytes(join(str(tmp_path), name), b"1")
    assert (sizes, list(tmp_path.iterdir())) == ({}, [])
