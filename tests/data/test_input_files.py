"""Input files are known by their content, which is read no more often than it must be."""

import json
import os

import pytest

from sentiflow.data import input_files
from sentiflow.storage import filesystem


def fill(folder, *names):
    """Write files that hold their name."""
    for name in names:
        filesystem.write_bytes(str(folder / name), name.encode())


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files whose content is read."""
    names, tree_sha256 = [], filesystem.tree_sha256
    monkeypatch.setattr(
        filesystem, "tree_sha256", lambda uri: names.append(uri) or tree_sha256(uri)
    )
    return names


@pytest.fixture
def files(tmp_path):
    """Two input files."""
    fill(tmp_path, "a.csv", "b.csv")
    return [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]


def test_a_file_of_equal_size_and_time_is_not_read_again(files, hashed):
    known = input_files.describe(files)
    assert hashed == files
    assert input_files.describe(files, known=json.loads(json.dumps(known))) == known
    assert hashed == files


def test_a_file_of_another_time_is_read_again(files, hashed):
    known = input_files.describe(files)
    os.utime(files[1], ns=(1, 1))
    again = input_files.describe(files, known=known)
    assert hashed == [*files, files[1]]
    assert again["fingerprint"] == known["fingerprint"]


def test_a_file_of_another_size_is_read_again(files, hashed, tmp_path):
    known = input_files.describe(files)
    time = os.stat(files[0]).st_mtime_ns
    (tmp_path / "a.csv").write_bytes(b"longer")
    os.utime(files[0], ns=(time, time))
    again = input_files.describe(files, known=known)
    assert hashed == [*files, files[0]]
    assert again["fingerprint"] != known["fingerprint"]


def test_an_unknown_file_is_read(files, hashed):
    known = input_files.describe(files[:1])
    input_files.describe(files, known=known)
    assert hashed == files


def test_inputs_are_identified_by_their_contents_in_order_and_not_by_location(files, tmp_path):
    fill(tmp_path / "moved", "a.csv", "b.csv")
    moved = [str(tmp_path / "moved" / name) for name in ("a.csv", "b.csv")]
    prints = [input_files.describe(uris)["fingerprint"] for uris in (files, moved, files[::-1])]
    assert prints[0] == prints[1] != prints[2]


def test_a_described_input_has_uri_size_time_and_hash(files):
    described = input_files.describe(files[:1])["files"]
    assert described == [
        {
            "uri": files[0],
            "bytes": 5,
            "modified_ns": os.stat(files[0]).st_mtime_ns,
            "tree_sha256": filesystem.tree_sha256(files[0]),
        }
    ]


def test_two_members_of_an_archive_are_two_inputs_and_a_moved_archive_is_none(tmp_path):
    fill(tmp_path, "a.zip")
    (tmp_path / "b.zip").write_bytes(b"a.zip")
    names = ("a.zip", "a.zip::x.csv", "a.zip::y.csv", "b.zip", "b.zip::x.csv", "b.zip::y.csv")
    described = [input_files.describe([f"{tmp_path}/{name}"]) for name in names]
    prints = [item["fingerprint"] for item in described]
    assert len(set(prints)) == 3
    assert prints[:3] == prints[3:]
    assert described[1]["files"][0]["bytes"] == 5


def test_files_at_the_end_are_added_without_reading_any(files, hashed):
    known = input_files.describe(files[:1])
    hashed.clear()
    added = input_files.add(known, files)
    assert hashed == []
    assert [item["tree_sha256"] for item in added["files"]] == [
        filesystem.tree_sha256(files[0]),
        "",
    ]
    assert input_files.add(known, files[:1]) == known


def test_nothing_is_added_to_files_that_changed_or_moved(files, tmp_path):
    known = input_files.describe(files[:1])
    assert input_files.add(known, files[::-1]) is None
    os.utime(files[0], ns=(1, 1))
    assert input_files.add(known, files) is None
