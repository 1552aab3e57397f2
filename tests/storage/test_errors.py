"""Errors of real disks and a real object store become one line with a way out."""

import gzip
import os
import random
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from conftest import write_config

from sentiflow.cli.exits import reporting
from sentiflow.data import table_files
from sentiflow.errors import JobError, StorageError
from sentiflow.storage import compression, errors, filesystem


def error_of(work) -> BaseException:
    try:
        work()
    except OSError as error:
        return error
    pytest.fail("it did not fail")


def told(text):
    error = errors.explain_text(text)
    return type(error), str(error)


ELSEWHERE = " Looks like the configured region is '' while the bucket is located in 'eu-west-1'."


def of_store(rest, place="key 'run/a b' in bucket 'there'"):
    return f"When getting information for {place}: AWS Error {rest}"


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (
            of_store("NO_SUCH_BUCKET during HeadBucket operation: x", "bucket 'there'"),
            StorageError,
            "s3://there: there is no bucket there: create it, or check its name and "
            "AWS_ENDPOINT_URL",
        ),
        (
            of_store("UNKNOWN (HTTP status 301) during HeadObject operation: No response body.")
            + ELSEWHERE,
            StorageError,
            "s3://there/run/a b: the bucket is in another region, or the credentials have expired "
            "(UNKNOWN, status 301): set AWS_DEFAULT_REGION to eu-west-1, or AWS_ENDPOINT_URL, or "
            "renew the credentials",
        ),
        (
            of_store("UNKNOWN (HTTP status 400) during UploadPart operation: Unable to parse ")
            + "ExceptionName: ExpiredToken Message: The provided token has expired. (Request ID: 7)"
            "\nmore",
            StorageError,
            "s3://there/run/a b: the object store refuses access (ExpiredToken, status 400): "
            "give credentials that may use it (AWS_ACCESS_KEY_ID, a profile or a role)",
        ),
        (
            of_store("UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
            JobError,
            "s3://there/run/a b: the object store is unavailable (UNKNOWN, status 503): check "
            "AWS_ENDPOINT_URL; run the same command again later to resume",
        ),
        (
            of_store("NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not ")
            + "connect to server; Details: Failed to connect to 127.0.0.1 port 9 after 0 ms",
            JobError,
            "s3://there/run/a b: the object store is unavailable (NETWORK_CONNECTION): check "
            "AWS_ENDPOINT_URL; run the same command again later to resume",
        ),
        (
            of_store("SLOW_DOWN during PutObject operation: Reduce your rate."),
            JobError,
            "s3://there/run/a b: the object store is unavailable (SLOW_DOWN): "
            "check AWS_ENDPOINT_URL; run the same command again later to resume",
        ),
        (
            of_store("UNKNOWN (HTTP status 301) during ListObjectsV2 operation: Unable to parse ")
            + "ExceptionName: PermanentRedirect Message: Use the specified endpoint.",
            StorageError,
            "s3://there/run/a b: the bucket is in another region, or the credentials have expired "
            "(PermanentRedirect, status 301): set AWS_DEFAULT_REGION to its region, or "
            "AWS_ENDPOINT_URL, or renew the credentials",
        ),
        (
            of_store("UNKNOWN (HTTP status 400) during HeadObject operation: No response body."),
            StorageError,
            "s3://there/run/a b: the bucket is in another region, or the credentials have expired "
            "(UNKNOWN, status 400): set AWS_DEFAULT_REGION to its region, or AWS_ENDPOINT_URL, or "
            "renew the credentials",
        ),
        (
            "Bucket 'absent' not found",
            StorageError,
            "s3://absent: there is no bucket absent: create it, or check its name and "
            "AWS_ENDPOINT_URL",
        ),
    ],
)
def test_the_answer_of_a_store_becomes_one_line(text, kind, line):
    assert told(text) == (kind, line)


@pytest.mark.parametrize(
    ("status", "kind", "what"),
    [
        (403, StorageError, "the object store refuses access (UNKNOWN, status 403)"),
        (503, JobError, "the object store is unavailable (UNKNOWN, status 503)"),
    ],
)
def test_a_refusal_and_an_outage_are_no_question_of_the_region(status, kind, what):
    text = of_store(
        f"UNKNOWN (HTTP status {status}) during HeadObject operation: No response body."
    )
    found, line = told(text + ELSEWHERE)
    assert found is kind
    assert what in line


def test_the_message_is_the_same_on_nodes_with_different_files():
    said = (
        'User a is not authorized to perform: s3:PutObject on resource: "arn:aws:s3:::b/of-node-1"'
    )
    text = of_store(f"ACCESS_DENIED during PutObject operation: {said}")
    assert str(errors.explain_text(text, names_location=False)).startswith(
        "the object store refuses access (ACCESS_DENIED): give"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "When getting information for bucket 'there': it said nothing",
        of_store("UNKNOWN (HTTP status 400) during UploadPart operation: Unable to parse ")
        + "ExceptionName: BadDigest Message: The checksum did not match.",
    ],
)
def test_other_messages_are_left_alone(text):
    assert errors.explain_text(text) is None
    assert errors.explain(OSError(text)) is None


def test_the_uri_of_the_caller_is_named_if_arrow_names_none():
    error = OSError("AWS Error ACCESS_DENIED during GetObject operation: ")
    what = "the object store refuses access (ACCESS_DENIED): give credentials"
    assert str(errors.explain(error)).startswith(what)
    assert str(errors.explain(error, uri="s3://b/a")).startswith(f"s3://b/a: {what}")
    nowhere = errors.explain_text("AWS Error NO_SUCH_BUCKET during GetObject operation: x")
    assert str(nowhere).startswith("there is no bucket of this name: create it")


def test_system_errors_are_shown_without_their_number(tmp_path):
    (tmp_path / "file").write_text("x")
    error = errors.explain(error_of(lambda: os.listdir(tmp_path / "file")))
    assert isinstance(error, StorageError)
    assert str(error) == (
        f"Not a directory: '{tmp_path}/file': choose another location, or make it writable"
    )
    assert errors.explain(ValueError("AWS Error")) is None
    of_a_library = PermissionError(1, "Operation not permitted")
    assert errors.explain(of_a_library) is None, "it names no place"


@pytest.mark.parametrize(
    "use", [os.stat, lambda path: filesystem.write_bytes(path[:-4], b"")], ids=["read", "written"]
)
def test_a_name_that_is_too_long_is_one_short_line(use, tmp_path):
    error = errors.explain(error_of(lambda: use(f"{tmp_path}/{'x' * 256}")))
    assert isinstance(error, StorageError)
    assert str(error).endswith(": choose a shorter path")
    assert len(str(error)) < 200


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


@pytest.fixture
def read_only(tmp_path) -> Iterator[str]:
    """Mount a file system that refuses to be written, where that is allowed."""
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield str(tmp_path)
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("name", ["file", "folder/file"])
def test_a_read_only_file_system_is_named_in_one_line(read_only, name):
    found = errors.explain(error_of(lambda: filesystem.write_bytes(f"{read_only}/{name}", b"x")))
    assert isinstance(found, StorageError)
    assert f"'{read_only}/{name.split('/')[0]}'" in str(found)
    assert "Read-only file system" in str(found)
    assert "errno" not in str(found).lower()
    assert str(found).endswith(": choose another location, or make it writable")


@pytest.mark.ray
@pytest.mark.soak
def test_a_job_on_a_full_disk_ends_in_one_line_and_resumes(
    small_disk, tmp_path, sample_csv, sentiflow
):
    config = write_config(tmp_path, sample_csv)
    ended = sentiflow("prepare", config, f"output_uri={small_disk}/run")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "No space left on device" in ended.stderr.splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    again = sentiflow("prepare", config, f"output_uri={small_disk}/run")
    assert again.returncode == 0, again.stderr


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
        assert str(errors.explain(error)) == (
            "s3://absent/run/file: there is no bucket absent: create it, or check its name and "
            "AWS_ENDPOINT_URL"
        )

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
            assert "the object store refuses access (" in str(error)
            assert str(error).endswith(
                "): give credentials that may use it (AWS_ACCESS_KEY_ID, a profile or a role)"
            )

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
                with pytest.raises(StorageError, match="the object store refuses access"):
                    content.read_block(0, len(noise))
                with pytest.raises(StorageError, match="the object store refuses access"):
                    table_files._open(f"{bucket}/a.parquet")
            finally:
                self.ask_for_keys("inf")

    def test_a_command_says_so_in_one_line(self, bucket, capsys):
        import typer

        with pytest.raises(typer.Exit) as ended, reporting(verbose=False):
            filesystem.write_bytes("s3://absent/run/file", b"x")
        assert ended.value.exit_code == 2
        assert capsys.readouterr().err.endswith(  # moto's server writes there, too
            "sentiflow: s3://absent/run/file: there is no bucket absent: create it, or check its "
            "name and AWS_ENDPOINT_URL\n"
        )
