"""Errors of real disks and a real object store become one line with a way out."""

import gzip
import os
import random
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from sentiflow.data import table_files
from sentiflow.errors import JobError, StorageError
from sentiflow.storage import compression, errors, filesystem


def error_of(work) -> BaseException:
    try:
        work()
    except OSError as error:
        return error
    pytest.fail("it did not fail")


def of_store(rest, place="key 'run/a b' in bucket 'there'"):
    return f"When getting information for {place}: AWS Error {rest}"


CHECK = (
    ": check the name of the bucket, the credentials (AWS_ACCESS_KEY_ID, a profile or a role), "
    "AWS_DEFAULT_REGION and AWS_ENDPOINT_URL; "
)
RETRY = "then run the same command again: what is finished is kept; without a change it fails again"
CHECK += RETRY
LATER = ": check AWS_ENDPOINT_URL; run the same command again later to resume"


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (
            of_store("NO_SUCH_BUCKET during HeadBucket operation: x", "bucket 'there'"),
            StorageError,
            f"s3://there: the object store refuses (NO_SUCH_BUCKET){CHECK}",
        ),
        (
            "Bucket 'absent' not found",
            StorageError,
            f"s3://absent: the object store refuses (not found){CHECK}",
        ),
        (
            of_store("UNKNOWN (HTTP status 400) during UploadPart operation: Unable to parse ")
            + "ExceptionName: ExpiredToken Message: The provided token has expired. (Request ID: 7)"
            "\nmore",
            StorageError,
            "s3://there/run/a b: the object store refuses (UNKNOWN (HTTP status 400) ExpiredToken)"
            + CHECK,
        ),
        (
            of_store("UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
            JobError,
            "s3://there/run/a b: the object store is unavailable (UNKNOWN (HTTP status 503))"
            + LATER,
        ),
        (
            of_store("UNKNOWN (HTTP status 429) during HeadObject operation: No response body."),
            JobError,
            "s3://there/run/a b: the object store is unavailable (UNKNOWN (HTTP status 429))"
            + LATER,
        ),
        (
            of_store("NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not ")
            + "connect to server; Details: Failed to connect to 127.0.0.1 port 9 after 0 ms",
            JobError,
            f"s3://there/run/a b: the object store is unavailable (NETWORK_CONNECTION){LATER}",
        ),
    ],
)
def test_the_answer_of_a_store_becomes_one_line(text, kind, line):
    error = errors.explain_text(text)
    assert (type(error), str(error)) == (kind, line)


def test_system_errors_are_shown_without_their_number(tmp_path):
    (tmp_path / "file").write_text("x")
    error = errors.explain(error_of(lambda: os.listdir(tmp_path / "file")))
    assert isinstance(error, StorageError)
    assert str(error) == (
        f"Not a directory: '{tmp_path}/file': choose another location, or make it writable; {RETRY}"
    )
    assert errors.explain(ValueError("AWS Error")) is None
    of_a_library = PermissionError(1, "Operation not permitted")
    assert errors.explain(of_a_library) is None, "it names no place"


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory) -> Iterator[str]:
    """Mount a disk of 256 KiB, where that is allowed."""
    folder = tmp_path_factory.mktemp("small")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a disk of a given size")
    yield str(folder)
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_not_a_user_error(small_disk):
    error = error_of(lambda: filesystem.write_bytes(f"{small_disk}/big", bytes(1 << 20)))
    told = errors.explain(error)
    assert type(told) is JobError
    assert str(told) == (
        f"No space left on device: '{small_disk}/big': free some space, and run the same command "
        "again to resume"
    )
    assert os.listdir(small_disk) == []


class TestStore:
    """A real S3 endpoint says no."""

    @pytest.fixture
    def strict(self, bucket) -> Iterator[str]:
        """Have the endpoint look at the keys."""
        self.ask_for_keys("0")
        yield bucket
        self.ask_for_keys("inf")

    @staticmethod
    def ask_for_keys(after: str) -> None:
        url = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, after.encode(), headers, method="POST")
        urllib.request.urlopen(request).close()

    def test_a_missing_bucket(self, bucket):
        error = error_of(lambda: filesystem.write_bytes("s3://absent/run/file", b"x"))
        line = f"s3://absent/run/file: the object store refuses (NO_SUCH_BUCKET){CHECK}"
        assert str(errors.explain(error)) == line

    def test_unknown_credentials(self, strict):
        for work in (
            lambda: filesystem.write_bytes(f"{strict}/file", b"x"),
            lambda: filesystem.read_bytes(f"{strict}/file"),
            lambda: filesystem.listing(f"{strict}/folder"),
            lambda: filesystem.file_info(f"{strict}/file"),
        ):
            error = errors.explain(error_of(work))
            assert isinstance(error, StorageError)
            assert str(error).startswith(f"{strict}/f")
            assert "the object store refuses (" in str(error)

    @pytest.mark.soak
    def test_no_server_at_the_endpoint(self, bucket, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        error = errors.explain(error_of(lambda: filesystem.read_bytes(f"{bucket}/file")))
        assert type(error) is JobError
        assert str(error) == (
            f"{bucket}/file: the object store is unavailable (NETWORK_CONNECTION): check "
            "AWS_ENDPOINT_URL; run the same command again later to resume"
        )

    def test_a_store_that_refuses_has_damaged_no_file(self, bucket):
        uri = f"{bucket}/packed.csv.gz"
        noise = random.Random(0).randbytes(20_000_000)  # more than is read at first
        filesystem.write_bytes(uri, gzip.compress(noise, 1))
        with compression.open_content(uri) as content:
            content.read_block(0, 100)
            self.ask_for_keys("0")
            try:
                with pytest.raises(StorageError, match="the object store refuses"):
                    content.read_block(0, len(noise))
                with pytest.raises(StorageError, match="the object store refuses"):
                    table_files.read_footer(f"{bucket}/a.parquet")
            finally:
                self.ask_for_keys("inf")


def test_a_fault_is_described_without_advice(tmp_path):
    gone = error_of(lambda: filesystem.read_bytes(f"{tmp_path}/none"))
    store = OSError(of_store("SLOW_DOWN during HeadObject operation: x"))
    assert (
        errors.describe(store) == "s3://there/run/a b: the object store is unavailable (SLOW_DOWN)"
    )
    assert f"{tmp_path}/none" in errors.describe(gone)
    assert errors.describe(ValueError("first\nlast")) == "last"
    assert errors.describe(MemoryError()) == "MemoryError"


def test_a_file_that_is_gone_is_one_line_that_says_what_to_do(tmp_path):
    told = errors.explain_gone(error_of(lambda: filesystem.read_bytes(f"{tmp_path}/none")))
    assert isinstance(told, JobError)
    assert f"{tmp_path}/none" in str(told)
    assert str(told).endswith("while this command ran? Then run the command again")
    assert errors.explain_gone(OSError("something else")) is None
    deleted = OSError(of_store("NO_SUCH_KEY during GetObject operation: x"))
    assert str(errors.explain_gone(deleted)).startswith("s3://there/run/a b: the object store refu")
