"""A location of a store has no options, and a manifest is followed only in its own store."""

import copy
import json
import pickle

import pytest

from sentiflow.data import foreign_inputs, manifest
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.stores import ForeignUri, find_fault
from sentiflow.storage.uris import absolute_uri, join, shares_store

GOOD = [
    "s3://bucket/", "s3://my.bucket-1_x/", "gs://bucket/", "gcs://bucket/", "abfs://container/",
    "abfss://container@account.dfs.core.windows.net/", "abfss://$root@account/",
    "hdfs://host:8020/", "hdfs:///", "hdfs://[::1]:8020/", "viewfs:///",
]  # fmt: skip
BAD = [
    "s3://b?region=us-east-1/", "s3://b#/", "s3://id@b/", "s3://id:key@b/", "s3://b%3Fa/", "s3://b:9/",
    "s3://b c/", "s3://b\n/", "s3:///", "s3://.b/", "s3://-b/", "gs://anonymous@b/",
    "gs://b?endpoint_override=h/", "abfs://a:key@h/", "abfs://c@h?enable_tls=false/",
    "hdfs://me@host/", "hdfs://host?user=me/", "S3://b/", "hf://b/", "fsspec+http://h/",
    "mock://b/", "nosuch://b/", "http://h/", "models:/b", "",
]  # fmt: skip


@pytest.mark.parametrize("store", GOOD)
def test_the_name_of_a_store_is_accepted(store):
    assert find_fault(store) == ""


@pytest.mark.parametrize("store", BAD, ids=ascii)
def test_what_is_no_name_of_a_store_is_not_opened(store):
    assert find_fault(store)
    uri = f"{store}key"
    if not store:
        return
    with pytest.raises(UserError, match=r"^cannot open ") as error:
        filesystem.file_info(uri)
    assert "\n" not in str(error.value)


def test_a_setting_with_options_is_refused_with_the_way_out():
    with pytest.raises(UserError) as error:
        absolute_uri("s3://b?region=us-east-1&endpoint_override=h/x", setting="output_uri")
    assert str(error.value) == (
        "output_uri='s3://b?region=us-east-1&endpoint_override=h/x': write s3://NAME/PATH: a "
        "location has no options, no user and no %; AWS_DEFAULT_REGION and AWS_ENDPOINT_URL name "
        "region and server"
    )
    assert absolute_uri("s3://bucket/run #1?/50%") == "s3://bucket/run #1?/50%"


@pytest.mark.parametrize("key", ["../other", "a/../../b", ".", "a/./b"])
def test_a_key_does_not_climb_out_of_its_bucket(key):
    with pytest.raises(UserError, match=r"a name between two slashes is \. or \.\."):
        filesystem.locate(f"s3://bucket/{key}")


@pytest.mark.parametrize(
    ("uri", "directory", "is_shared"),
    [
        ("s3://b/a", "s3://b/c/d", True),
        ("s3://b", "s3://b/c", True),
        ("s3://b/a", "s3://bb/a", False),
        ("s3://b?x", "s3://b", False),
        ("gs://b/a", "s3://b/a", False),
        ("/data/a", "/home/me/run", True),
        ("/data/a", "runs/a", True),
        ("/data/a", "s3://b", False),
        ("s3://b", "/data/a", False),
        ("/net/host/a", "/data/a", False),
        ("/proc/self/fd/3", "/data/a", False),
        ("/data//a", "/data/a", False),
        ("//host/a", "/data/a", False),
    ],
)
def test_a_manifest_is_followed_in_its_own_store(uri, directory, is_shared):
    assert shares_store(uri, directory) == is_shared


def record_of(uri):
    """Make a manifest with the location at each depth."""
    named = {"uri": uri, "fingerprint": "aa"}
    files = [{"uri": uri, "bytes": 1, "modified_ns": 1, "tree_sha256": ""}]
    model = {**named, "training": named, "members": [{**named, "training": named}]}
    return {
        "inputs": {"model": model, "corpus": {"fingerprint": "bb", "files": files}},
        "models": {"1": model}, "refit": {"of": named, "prepared": named}, "taught": named,
    }  # fmt: skip


def find_uris(value):
    """List the locations in a manifest, except those of files."""
    if isinstance(value, list):
        return [uri for item in value for uri in find_uris(item)]
    if not isinstance(value, dict):
        return []
    found = [value["uri"]] if "uri" in value else []
    for name, item in value.items():
        if name != "files":
            found += find_uris(item)
    return found


@pytest.mark.parametrize("uri", ["s3://theirs/run", "/elsewhere/run"])
def test_every_location_in_another_store_is_marked(uri):
    marked = record_of(uri)
    foreign_inputs.mark(marked, ["s3://mine/run"])
    assert marked == record_of(uri)
    assert len(find_uris(marked)) == 11
    assert all(isinstance(item, ForeignUri) for item in find_uris(marked))
    assert json.loads(manifest.to_json(marked)) == record_of(uri)
    near = record_of(uri)
    foreign_inputs.mark(near, ["s3://mine/run", uri])
    assert not any(isinstance(item, ForeignUri) for item in find_uris(near))


def test_a_model_in_mlflow_is_not_marked():
    record = record_of("models:/sentiment/3")
    foreign_inputs.mark(record, ["s3://mine/run"])
    assert not any(isinstance(item, ForeignUri) for item in find_uris(record))


@pytest.mark.parametrize("change", [copy.deepcopy, lambda uri: pickle.loads(pickle.dumps(uri))])
def test_a_marked_location_is_never_opened(tmp_path, change):
    (tmp_path / "file").write_text("mine")
    uri = change(ForeignUri(str(tmp_path)))
    assert uri == str(tmp_path)
    for place in (uri, join(uri, "file"), join(join(uri), "file")):
        with pytest.raises(UserError, match="the manifest that names it is in another store"):
            filesystem.read_bytes(place)
    with pytest.raises(UserError):
        manifest.read(uri)
