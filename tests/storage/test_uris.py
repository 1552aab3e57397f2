"""A location means the same wherever it is read, and paths below it are joined with slashes."""

import pytest

from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import (
    absolute_uri,
    display_uri,
    holds_credentials,
    is_local,
    join_member,
    split_member,
    without_credentials,
)


@pytest.mark.parametrize(
    ("typed", "absolute"),
    [
        ("data/tweets.csv", "/base/data/tweets.csv"),
        ("./data/../tweets.csv", "/base/tweets.csv"),
        ("../tweets.csv", "/tweets.csv"),
        ("/data/tweets.csv", "/data/tweets.csv"),
        ("/data//run/", "/data/run"),
        ("file:///data/tweets.csv", "/data/tweets.csv"),
        ("data/*.csv", "/base/data/*.csv"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("s3://bucket/key/", "s3://bucket/key"),
        ("gs://bucket/a/../b", "gs://bucket/a/../b"),
        ("hdfs://host:8020/x", "hdfs://host:8020/x"),
        ("models:/sentiflow/3", "models:/sentiflow/3"),
        ("a:b", "/base/a:b"),
        ("data/x.zip::a/../b.csv", "/base/data/x.zip::a/../b.csv"),
        ("../x.ZIP::/b.csv/", "/x.ZIP::/b.csv/"),
        ("s3://bucket/x.zip::a.csv", "s3://bucket/x.zip::a.csv"),
        ("a.zip/../b::c", "/base/b::c"),
        ("file:/data/x", "/data/x"),
        ("FILE:///data/x", "/data/x"),
        ("S3://Bucket/Key", "s3://Bucket/Key"),
        ("Models:/Mine/3", "models:/Mine/3"),
        ("./gs:x", "/base/gs:x"),
        ("./~nobody/x", "/base/~nobody/x"),
    ],
)
def test_a_typed_location_becomes_absolute(typed, absolute):
    assert absolute_uri(typed, base="/base") == absolute
    assert is_local(typed) == absolute.startswith("/")


NO_LOCATIONS = {
    "gs:x": "write gs://…, or ./gs:… for a file of this name",
    "S3:/bucket/x": "write s3://…, or ./s3:… ",
    "a:/b": "write a://…",
    "s3://": "write s3://…",
    "models:mine": "write models:/…",
    "file://host/x.csv": "file:///PATH",
    "file:x.csv": "file:///PATH",
    "~no-such-user/x": "write its path, or ./~…",
}


@pytest.mark.parametrize("typed", NO_LOCATIONS, ids=ascii)
def test_what_is_no_location_is_refused_with_what_to_write(typed):
    with pytest.raises(UserError) as error:
        absolute_uri(typed, base="/base", setting="output_uri")
    (line,) = str(error.value).splitlines()
    assert line.startswith("output_uri='")
    assert NO_LOCATIONS[typed] in line
    assert len(line.encode()) < 250


def test_a_location_below_the_working_directory_is_shown_as_it_may_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert display_uri(f"{tmp_path}/runs/trial") == "runs/trial"
    assert display_uri("/elsewhere/run") == "/elsewhere/run"
    assert display_uri("s3://bucket/run") == "s3://bucket/run"
    assert absolute_uri(display_uri(f"{tmp_path}/runs/trial")) == f"{tmp_path}/runs/trial"


@pytest.mark.parametrize(
    ("uri", "archive", "member"),
    [
        ("x.zip::a.csv", "x.zip", "a.csv"),
        ("/data/x.Zip::a/b.csv", "/data/x.Zip", "a/b.csv"),
        ("s3://bucket/*.zip::a.csv", "s3://bucket/*.zip", "a.csv"),
        ("x.zip::a.zip::b.csv", "x.zip", "a.zip::b.csv"),
        ("x.zip::a\nb.csv", "x.zip", "a\nb.csv"),
        ("x.zip", "x.zip", ""),
        ("x.zip::", "x.zip::", ""),
        ("x.csv::a.csv", "x.csv::a.csv", ""),
        ("xzip::a.csv", "xzip::a.csv", ""),
    ],
)
def test_only_a_zip_archive_has_members(uri, archive, member):
    assert split_member(uri) == (archive, member)
    assert join_member(archive, member) == uri


AZURE = "abfss://container@account.dfs.core.windows.net/run"


def test_a_container_of_azure_is_no_user():
    assert not holds_credentials(AZURE)
    assert without_credentials(f"cannot open {AZURE}") == f"cannot open {AZURE}"
    assert filesystem.locate(AZURE)[1] == "container/run"


@pytest.mark.parametrize("secret", ["container:key@account", "container@user:key@account"])
def test_a_password_before_an_account_of_azure_is_seen(secret):
    uri = f"abfss://{secret}.dfs.core.windows.net/run"
    assert holds_credentials(uri)
    assert "key" not in without_credentials(uri)
