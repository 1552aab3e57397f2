"""A result names the version that made it; one that cannot be read is kept until it is replaced."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from stages import add_part, begin, finish, list_owned, look

from sentiflow import __version__
from sentiflow.data import manifest, other_versions
from sentiflow.data.other_versions import OtherFormatError
from sentiflow.data.output_status import find_status, read_result
from sentiflow.data.outputs import open_output
from sentiflow.errors import UserError

THIS = f"sentiflow {__version__}"


def change_manifest(folder: Path, **changes: object) -> None:
    """Change keys of the manifest of a result."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def look_at(folder: Path) -> dict[str, bytes]:
    """Return the content of each file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def earlier(spec, folder):
    """Make a result in the format of an earlier version."""
    finish(spec())
    change_manifest(folder, format_version=2, versions={"sentiflow": "0.1.0"})
    return folder


def test_a_result_names_the_version_that_made_it(spec):
    assert other_versions.name_maker(finish(spec())) == THIS


@pytest.mark.parametrize("versions", [{}, {"ray": "2.60.0"}, {"sentiflow": "\x1b[2J"}])
def test_a_result_without_a_version_is_of_an_earlier_version(versions):
    assert other_versions.name_maker({"versions": versions}) == "an earlier version of sentiflow"


def test_an_earlier_format_is_refused_by_its_version_and_with_a_way_out(earlier):
    before = look_at(earlier)
    for read in (manifest.read, manifest.find_package):
        with pytest.raises(OtherFormatError) as error:
            read(str(earlier))
        assert str(error.value) == (
            f"{earlier}/manifest.json was made by sentiflow 0.1.0 in manifest format 2, which "
            f"{THIS} cannot read: sentiflow prepare CONFIG makes it again, with another "
            "output_uri or with --overwrite"
        )
    assert look_at(earlier) == before


def test_the_error_may_come_from_another_process(earlier):
    with pytest.raises(OtherFormatError) as error:
        manifest.read(str(earlier))
    received = pickle.loads(pickle.dumps(error.value))
    assert str(received) == str(error.value)
    assert received.found == error.value.found


@pytest.mark.parametrize("format_version", [1, 2])
def test_the_manifest_of_a_package_in_an_earlier_format_is_read(spec, folder, format_version):
    finish(spec(stage="model"))
    change_manifest(folder, format_version=format_version)
    record = manifest.require(str(folder), stage="model", setting="score.model_uri")
    assert record["format_version"] == format_version
    assert manifest.find_package(str(folder)) == str(folder)


def test_a_package_in_a_later_format_needs_an_upgrade(spec, folder):
    finish(spec(stage="model"))
    change_manifest(folder, format_version=4, versions={"sentiflow": "9.1"})
    for read in (manifest.read, manifest.find_package):
        with pytest.raises(OtherFormatError, match=r"made by sentiflow 9\.1 .*: upgrade sentiflow"):
            read(str(folder))


def test_the_package_of_a_training_in_an_earlier_format_is_found(spec, folder):
    finish(spec(stage="train"))
    change_manifest(folder, format_version=2)
    package = folder / "model"
    finish(replace(spec(stage="model"), uri=str(package)))
    change_manifest(package, format_version=2)
    assert manifest.find_package(str(folder)) == str(package)


def test_an_input_in_an_earlier_format_is_not_known(earlier):
    record = json.loads((earlier / "manifest.json").read_text())
    described = {"uri": str(earlier), "fingerprint": record["fingerprint"]}
    assert manifest.read_input({"prepared": described}, "prepared") is None


def test_an_earlier_format_is_refused_by_a_writer_and_stays_as_it_is(spec, earlier):
    before = look_at(earlier)
    problem = f"was made by sentiflow 0.1.0 in manifest format 2, which {THIS} cannot read"
    status = find_status(spec())
    assert (status.state, status.problem, status.record) == ("other", problem, None)
    assert read_result(str(earlier)) is None
    for act in (look, begin):
        with pytest.raises(UserError, match="another output_uri, or replace it with --overwrite"):
            act(spec())
    assert look_at(earlier) == before


def test_an_earlier_format_is_replaced_with_overwrite_and_stays_until_then(spec, earlier):
    before = look_at(earlier)
    output = begin(spec(), overwrite=True)
    add_part(output)
    after = look_at(earlier)
    assert before.items() <= after.items()
    output.roll_back()
    assert look_at(earlier) == before
    record = finish(spec())
    assert find_status(spec()).state == "complete"
    assert list_owned(earlier)[1:] == [item["path"] for item in record["files"]]


def test_a_killed_replacement_of_an_earlier_format_is_resumed(spec, earlier):
    add_part(begin(spec(), overwrite=True))
    assert begin(spec(), overwrite=True).resumes
    finish(spec())
    with open_output(spec()) as output:
        assert output.is_complete


def test_a_replacement_that_was_killed_after_the_manifest_was_set_aside_is_resumed(spec, earlier):
    output = begin(spec(), overwrite=True)
    aside = Path(output.uri, "replaced")
    aside.mkdir()
    (earlier / "manifest.json").rename(aside / "manifest.json")
    assert begin(spec()).resumes


def test_an_earlier_format_of_another_stage_is_not_replaced(spec, earlier):
    before = look_at(earlier)
    with pytest.raises(UserError, match="holds files that are not from train"):
        begin(spec(stage="train"), overwrite=True)
    assert look_at(earlier) == before


def test_a_later_format_is_never_replaced(spec, folder):
    finish(spec())
    change_manifest(folder, format_version=4, versions={"sentiflow": "9.1"})
    before = look_at(folder)
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"made by sentiflow 9\.1 .*: upgrade sentiflow, or"):
            begin(spec(), overwrite=overwrite)
    assert look_at(folder) == before


def test_other_settings_of_another_version_are_told_with_the_version(spec, folder):
    finish(spec())
    change_manifest(folder, versions={"sentiflow": "0.1.0"})
    assert find_status(spec()).state == "complete", "only what decides a result is compared"
    assert find_status(spec(seed=1)).problem == (
        "belongs to other settings (seed: 0 there, 1 here), "
        f"made by sentiflow 0.1.0, this is {THIS}"
    )


def test_a_damaged_result_is_told_from_one_of_another_version(spec):
    record = finish(spec())
    assert other_versions.explain(record) == "it is damaged"
    record["versions"]["sentiflow"] = "0.1.3"
    assert other_versions.explain(record) == f"it was made by sentiflow 0.1.3, this is {THIS}"
