"""Files appear whole or not at all, on this machine and in an object store."""

import hashlib
import os

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from sentiflow import storage
from sentiflow.errors import UserError
from sentiflow.uris import join


@pytest.fixture(scope="module")
def bucket():
    """An S3 endpoint on loopback with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        boto3.client("s3").create_bucket(Bucket="storage")
        yield "s3://storage"
    server.stop()


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    """A directory here, then one in an object store."""
    if request.param == "local":
        return str(tmp_path / "root")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def fill(root, *names):
    """Write files that hold their name."""
    for name in names:
        storage.write_bytes(join(root, name), name.encode())


def test_what_is_written_is_read_and_listed(root):
    fill(root, "b.txt", "sub/deep/a.txt", "a.csv")
    assert storage.read_bytes(join(root, "sub/deep/a.txt")) == b"sub/deep/a.txt"
    assert storage.listing(root) == ["a.csv", "b.txt", "sub/deep/a.txt"]
    assert storage.listing(root, suffix=".txt") == ["b.txt", "sub/deep/a.txt"]
    assert storage.listing(join(root, "sub")) == ["deep/a.txt"]


def test_what_is_not_there_is_absent(root):
    assert not storage.exists(join(root, "none"))
    assert storage.listing(join(root, "none")) == []
    assert storage.file_info(join(root, "none")).type == fs.FileType.NotFound
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(join(root, "none"))


def test_a_table_comes_back_with_its_rows_and_bytes(root):
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    uri = join(root, "part.parquet")
    assert storage.write_parquet(uri, table) == {
        "rows": 3,
        "bytes": storage.file_info(uri).size,
    }
    assert storage.read_parquet(uri).equals(table)
    assert storage.read_parquet(uri, columns=["b"]).column_names == ["b"]


def test_the_hash_is_that_of_the_content(root):
    content = os.urandom(5 << 20)
    storage.write_bytes(join(root, "big"), content)
    assert storage.sha256(join(root, "big")) == hashlib.sha256(content).hexdigest()


def test_deleting_removes_what_is_named_and_nothing_else(root):
    fill(root, "a", "b/c", "b/d", "bb")
    storage.delete(join(root, "b"))
    storage.delete(join(root, "a"))
    storage.delete(join(root, "none"))
    assert storage.listing(root) == ["bb"]


def write_half(uri, error):
    """Write half a file and fail."""
    try:
        with storage.publish(uri) as stream:
            stream.write(b"half")
            raise error
    except error:
        return
    pytest.fail("the error was swallowed")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("root", ["local", "s3"], indirect=True)
def test_a_failed_write_leaves_nothing(root, error):
    fill(root, "other")
    write_half(join(root, "sub/new"), error)
    assert storage.listing(root) == ["other"]


@pytest.mark.parametrize("root", ["local", "s3"], indirect=True)
def test_a_failed_write_leaves_the_file_that_was_there(root):
    fill(root, "file")
    write_half(join(root, "file"), RuntimeError)
    assert storage.listing(root) == ["file"]
    assert storage.read_bytes(join(root, "file")) == b"file"


def test_a_file_is_not_seen_before_it_is_whole(root):
    uri = join(root, "file")
    with storage.publish(uri) as stream:
        stream.write(b"half")
        assert not storage.exists(uri)
        stream.write(b" and half")
    assert storage.read_bytes(uri) == b"half and half"
    assert storage.listing(root) == ["file"]


def test_globs_are_sorted_and_patterns_keep_their_order(root):
    fill(root, "b.csv", "a.csv", "c.txt", "sub/d.csv", "a10.csv", "a9.csv")
    names = storage.expand([join(root, "sub/d.csv"), join(root, "*.csv"), join(root, "?.txt")])
    found = [name.removeprefix(root + "/") for name in names]
    assert found == ["sub/d.csv", "a.csv", "a10.csv", "a9.csv", "b.csv", "c.txt"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*/*.csv", ["x/1.csv", "y/2.csv"]),
        ("x/[0-9].csv", ["x/1.csv"]),
        ("?/2.*", ["y/2.csv"]),
        ("*/*/*", ["y/z/3.csv"]),
    ],
)
def test_a_wildcard_stays_in_its_segment(root, pattern, found):
    fill(root, "0.csv", "x/1.csv", "y/2.csv", "y/z/3.csv", "x/1.CSV")
    assert storage.expand([join(root, pattern)]) == [join(root, name) for name in found]


def test_what_names_no_file_is_refused(root):
    fill(root, "sub/a.csv")
    for pattern, problem in [
        ("none.csv", "no such file: {uri}"),
        ("*.csv", "no file matches {uri}"),
        ("none/*.csv", "no file matches {uri}"),
        ("sub", "{uri} is a directory: name a file, or a glob"),
    ]:
        uri = join(root, pattern)
        with pytest.raises(UserError) as error:
            storage.expand([uri])
        assert str(error.value).startswith(problem.format(uri=uri))


def test_an_unknown_scheme_is_refused():
    with pytest.raises(UserError, match="cannot open nosuch://bucket/key: "):
        storage.file_info("nosuch://bucket/key")


def test_a_file_may_have_a_bracket_in_its_name(tmp_path):
    fill(str(tmp_path), "tweets[1].csv")
    uri = str(tmp_path / "tweets[1].csv")
    assert storage.expand([uri]) == [uri]


@pytest.mark.parametrize(("start", "stop"), [(0, 25), (0, 1), (9, 11), (10, 20), (24, 25), (3, 17)])
def test_rows_of_a_file_are_read_whatever_its_row_groups(tmp_path, start, stop):
    table = pa.table({"a": range(25), "b": list("abcde" * 5)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=10)
    found = storage.read_rows(str(tmp_path / "x.parquet"), start, stop, columns=["b", "c"])
    assert found.to_pydict() == {"b": table["b"].to_pylist()[start:stop]}
