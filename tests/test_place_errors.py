"""Errors of real disks and of a real object store, each in one line with the way out."""

import os
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from conftest import write_config

from sentiflow import place_errors, storage
from sentiflow.errors import JobError, UserError
from sentiflow.exits import reporting


def error_of(work) -> BaseException:
    try:
        work()
    except OSError as error:
        return error
    pytest.fail("it did not fail")


def told(text):
    error = place_errors.explain_text(text)
    return type(error), str(error)


def of_store(rest, place="key 'run/a b' in bucket 'there'"):
    return f"When getting information for {place}: AWS Error {rest}"


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (
            of_store("NO_SUCH_BUCKET during HeadBucket operation: x", "bucket 'there'"),
            UserError,
            "s3://there: there is no bucket there: make it, or check its name and AWS_ENDPOINT_URL",
        ),
        (
            of_store("UNKNOWN (HTTP status 301) during HeadObject operation: No response body. ")
            + "Looks like the configured region is '' while the bucket is located in 'eu-west-1'.",
            UserError,
            "s3://there/run/a b: the bucket is in the region eu-west-1, and asked for in '': "
            "set AWS_DEFAULT_REGION=eu-west-1",
        ),
        (
            of_store("UNKNOWN (HTTP status 400) during UploadPart operation: Unable to parse ")
            + "ExceptionName: ExpiredToken Message: The provided token has expired. (Request ID: 7)"
            "\nmore",
            UserError,
            "s3://there/run/a b: the object store refuses access (ExpiredToken: The provided token "
            "has expired): give credentials that may use it (AWS_ACCESS_KEY_ID, a profile or a "
            "role)",
        ),
        (
            of_store("UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
            JobError,
            "s3://there/run/a b: the object store is away or failing (UNKNOWN): check "
            "AWS_ENDPOINT_URL; when it is well again, the same command goes on",
        ),
        (
            of_store("SLOW_DOWN during PutObject operation: Reduce your rate."),
            JobError,
            "s3://there/run/a b: the object store is away or failing (SLOW_DOWN: Reduce your "
            "rate): check AWS_ENDPOINT_URL; when it is well again, the same command goes on",
        ),
    ],
)
def test_what_a_store_says_becomes_one_line(text, kind, line):
    assert told(text) == (kind, line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AWS Error NO_SUCH_BUCKET during HeadBucket operation: of no bucket that is named",
        "When getting information for bucket 'there': it said nothing",
        of_store("UNKNOWN (HTTP status 400) during UploadPart operation: Unable to parse ")
        + "ExceptionName: BadDigest Message: The checksum did not match.",
    ],
)
def test_other_messages_are_left_alone(text):
    assert place_errors.explain_text(text) is None
    assert place_errors.explain(OSError(text)) is None


def test_errors_of_the_system_are_told_without_their_number(tmp_path):
    (tmp_path / "file").write_text("x")
    error = place_errors.explain(error_of(lambda: os.listdir(tmp_path / "file")))
    assert isinstance(error, UserError)
    assert str(error) == (
        f"Not a directory: '{tmp_path}/file': choose another place, or make it writable"
    )
    assert place_errors.explain(ValueError("AWS Error")) is None


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory) -> Iterator[str]:
    """Mount a disk of 256 KiB, where that is allowed."""
    folder = tmp_path_factory.mktemp("small")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a disk of a given size")
    yield str(folder)
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_no_mistake_of_the_user(small_disk):
    error = error_of(lambda: storage.write_bytes(f"{small_disk}/big", bytes(1 << 20)))
    told = place_errors.explain(error)
    assert type(told) is JobError
    assert str(told) == (
        f"No space left on device: '{small_disk}/big': make room there, and the same command goes "
        "on"
    )
    assert os.listdir(small_disk) == []


@pytest.mark.ray
@pytest.mark.soak
def test_a_job_on_a_full_disk_ends_in_one_line_and_goes_on(
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

    def test_a_bucket_that_is_not_there(self, bucket):
        error = error_of(lambda: storage.write_bytes("s3://absent/run/file", b"x"))
        assert str(place_errors.explain(error)) == (
            "s3://absent/run/file: there is no bucket absent: make it, or check its name and "
            "AWS_ENDPOINT_URL"
        )

    def test_keys_that_are_not_known(self, strict):
        for work in (
            lambda: storage.write_bytes(f"{strict}/file", b"x"),
            lambda: storage.read_bytes(f"{strict}/file"),
            lambda: storage.listing(f"{strict}/folder"),
        ):
            error = place_errors.explain(error_of(work))
            assert isinstance(error, UserError)
            assert str(error).startswith(f"{strict}/f")
            assert "the object store refuses access (" in str(error)
            assert str(error).endswith(
                "): give credentials that may use it (AWS_ACCESS_KEY_ID, a profile or a role)"
            )

    def test_nobody_at_the_endpoint(self, bucket, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        error = place_errors.explain(error_of(lambda: storage.read_bytes(f"{bucket}/file")))
        assert type(error) is JobError
        assert str(error) == (
            f"{bucket}/file: the object store is away or failing (NETWORK_CONNECTION: Could not "
            "connect to server): check AWS_ENDPOINT_URL; when it is well again, the same command "
            "goes on"
        )

    def test_a_command_says_so_in_one_line(self, bucket, capsys):
        import typer

        with pytest.raises(typer.Exit) as ended, reporting(verbose=False):
            storage.write_bytes("s3://absent/run/file", b"x")
        assert ended.value.exit_code == 2
        assert capsys.readouterr().err.endswith(  # moto's server writes there, too
            "sentiflow: s3://absent/run/file: there is no bucket absent: make it, or check its "
            "name and AWS_ENDPOINT_URL\n"
        )
