"""Input files are known by their content, which is read no more often than it must be."""

import json
import os

import pytest
from stages import begin, publish

from sentiflow.data import input_files, manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import JobError, UserError
from sentiflow.storage import filesystem, hashes


def fill(folder, *names):
    """Write files that hold their name."""
    for name in names:
        filesystem.write_bytes(str(folder / name), name.encode())


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files whose content is read."""
    names, hash_files = [], hashes.hash_files
    monkeypatch.setattr(
        hashes,
        "hash_files",
        lambda files, **options: names.extend(files) or hash_files(files, **options),
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
    assert input_files.describe(files, earlier=json.loads(json.dumps(known))) == known
    assert hashed == files


def test_an_input_that_was_a_model_before_is_read(files, hashed):
    model = {"uri": "/model", "fingerprint": "0123"}
    assert input_files.describe(files, earlier=model) == input_files.describe(files)
    assert hashed == files


def test_a_pattern_of_files_that_may_be_gone_need_not_match(files, tmp_path):
    pattern = f"{tmp_path}/a.csv"
    (tmp_path / "a.csv").unlink()
    with pytest.raises(UserError, match="no such file"):
        input_files.find([pattern, *files[1:]])
    found = input_files.find([pattern, *files[1:]], may_be_gone=[files[0]])
    assert [item["uri"] for item in found] == files[1:]
    with pytest.raises(UserError, match="no file matches"):
        input_files.find([f"{tmp_path}/x/*.csv"], may_be_gone=[files[0]])


def test_files_are_gone_only_if_all_of_a_setting_are(files, tmp_path):
    known = input_files.combine(input_files.describe_unread(files))
    glob = [f"{tmp_path}/*.csv"]
    assert not input_files.are_gone(known, glob)
    (tmp_path / "a.csv").unlink()
    assert not input_files.are_gone(known, glob), "one is still there"
    (tmp_path / "b.csv").unlink()
    assert input_files.are_gone(known, glob)
    assert input_files.are_gone(known, files)
    assert not input_files.are_gone(known, files[:1]), "other files were read"
    assert not input_files.are_gone(known, [*files, f"{tmp_path}/c.csv"]), "others are named"
    assert not input_files.are_gone({"fingerprint": "", "uri": "/x"}, files), "a directory"


def write_again(path):
    path.write_bytes(b"other")
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (write_again, "changed"),
        (lambda path: path.write_bytes(b"longer than before"), "changed"),
        (os.remove, "deleted"),
    ],
)
def test_a_file_that_was_changed_since_is_refused(files, tmp_path, change, what):
    known = input_files.describe(files)
    change(tmp_path / "b.csv")
    with pytest.raises(UserError) as error:
        input_files.check_unchanged(known)
    assert str(error.value) == (
        f"{files[1]} was {what} while it was read: run the same command again when nothing "
        "writes to it"
    )


def test_a_file_that_vanishes_before_it_is_hashed_is_named(files, tmp_path):
    found = input_files.find(files)
    write_again(tmp_path / "a.csv")
    os.remove(tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"b\.csv was deleted while it was read"):
        input_files.add_hashes(found[1:])


def test_an_error_without_a_changed_file_stays_as_it_is(files):
    described = input_files.combine(input_files.find(files))
    with pytest.raises(ZeroDivisionError), input_files.naming_changes(described):
        raise ZeroDivisionError


def test_inputs_are_identified_by_their_contents_in_order_and_not_by_location(files, tmp_path):
    fill(tmp_path / "moved", "a.csv", "b.csv")
    moved = [str(tmp_path / "moved" / name) for name in ("a.csv", "b.csv")]
    prints = [input_files.describe(uris)["fingerprint"] for uris in (files, moved, files[::-1])]
    assert prints[0] == prints[1] != prints[2]


def test_two_members_of_an_archive_are_two_inputs_and_a_moved_archive_is_none(tmp_path):
    fill(tmp_path, "a.zip")
    (tmp_path / "b.zip").write_bytes(b"a.zip")
    names = ("a.zip", "a.zip::x.csv", "a.zip::y.csv", "b.zip", "b.zip::x.csv", "b.zip::y.csv")
    described = [input_files.describe([f"{tmp_path}/{name}"]) for name in names]
    prints = [item["fingerprint"] for item in described]
    assert len(set(prints)) == 3
    assert prints[:3] == prints[3:]
    assert described[1]["files"][0]["bytes"] == 5


@pytest.mark.parametrize("describe", [input_files.watch, dict])
def test_a_part_of_a_directory_that_was_replaced_meanwhile_is_refused(tmp_path, describe):
    uri = str(tmp_path / "prepared")
    record = publish(OutputSpec("prepare", uri, {"seed": 0}, {}))
    described = describe(manifest.reference(uri, record))
    input_files.check_part(described, ())
    begin(OutputSpec("prepare", uri, {"seed": 1}, {}), overwrite=True)
    input_files.check_part(described, ())
    publish(OutputSpec("prepare", uri, {"seed": 1}, {}))
    with pytest.raises(JobError, match="prepared was replaced while it was read"):
        input_files.check_part(described, ())


def test_a_part_reads_the_manifest_of_its_directory_only_if_it_has_been_written(
    tmp_path, monkeypatch
):
    uri = str(tmp_path / "prepared")
    record = publish(OutputSpec("prepare", uri, {"seed": 0}, {}))
    described = input_files.watch(manifest.reference(uri, record))
    read = []
    monkeypatch.setattr(manifest, "read", lambda uri: read.append(uri) or record)
    input_files.check_part(described, ())
    assert read == []
    os.utime(tmp_path / "prepared/manifest.json")  # restored from a backup, for example
    input_files.check_part(described, ())
    assert read == [uri]
