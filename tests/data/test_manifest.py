"""A result is identified by its content, and only a manifest of ours is read."""

import functools
import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from stages import begin, finish, look

from sentiflow.data import manifest, prepared_data
from sentiflow.data.manifest import fingerprint
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.output_status import find_status
from sentiflow.errors import UserError
from sentiflow.storage import filesystem, result_files


def test_a_fingerprint_is_16_digits_and_the_same_everywhere():
    assert fingerprint({"a": [1, "caf\u00e9"], "b": None}) == "8c83849043cf1613"


def test_the_page_of_outputs_lists_the_keys_of_a_manifest():
    page = (Path(__file__).parents[2] / "docs/outputs.md").read_text()
    section = page.partition("## Keys of a manifest")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    listed = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(Manifest.__annotations__)


def test_json_is_written_as_the_module_json_indents_it():
    value = {"é": [1, -0.0, 1e22, 0.1, True, None], "n": {}, "of": (), "text": '"\\\n\x01한'}
    value |= {"nan": float("nan"), "numbers": {1: float("inf")}}
    expected = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    assert manifest.to_json(value) == expected.encode()
    numbers = [1e-7, 1 / 3, 5e-324]  # 1e-7 is not written 1e-07
    assert json.loads(manifest.to_json(numbers)) == numbers


def test_a_spec_is_identified_by_stage_settings_and_inputs_alone(spec):
    moved_input = {"fingerprint": spec().inputs["csv"]["fingerprint"], "uri": "/elsewhere"}
    moved = replace(spec(), uri="/elsewhere", inputs={"csv": moved_input}, owns=("other",))
    assert moved.fingerprint == spec().fingerprint
    others = [spec(seed=1), spec(csv="0000"), spec(stage="train"), spec(split=None)]
    assert len({one.fingerprint for one in [spec(), *others]}) == 5


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "all of it: Invalid JSON"),
        (b"\xff", "all of it: Invalid JSON"),
        (b"[]", "all of it: Input should be an object"),
        (b'{"name": "an app"}', "stage: Field required"),
        (b'{"a": ' + b"[" * 2000 + b"]" * 2000 + b"}", "all of it: Invalid JSON"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused_and_kept(spec, folder, content, problem):
    filesystem.write_bytes(str(folder / "manifest.json"), content)
    for act in (find_status, look, functools.partial(begin, overwrite=True)):
        with pytest.raises(UserError) as error:
            act(spec())
        assert f"{folder}/manifest.json is not a manifest of sentiflow" in str(error.value)
        assert problem in str(error.value)
    assert (folder / "manifest.json").read_bytes() == content


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"stage": 1}, "stage: "),
        ({"format_version": 0}, "format_version: "),
        ({"format_version": 10**400}, "format_version: "),
        ({"format_version": True}, "format_version: "),
        ({"inputs": None}, "inputs: "),
        ({"inputs": {"csv": 3}}, "inputs.csv: "),
        ({"inputs": {"model": {"fingerprint": "a", "members": 3}}}, "inputs.model.members: "),
        ({"settings": "x"}, "settings: "),
        ({"classes": ["a"]}, "classes: "),
        ({"classes": ["a", "\x1b[2J"]}, "classes: "),
        ({"classes": ["a", "b\r"]}, "classes: "),
        ({"classes": ["a", "\u202eb"]}, "classes: "),
        ({"calibration": {"temperature": 1e-320}}, "calibration.temperature: "),
        ({"calibration": {"temperature": float("nan")}}, "calibration.temperature: "),
        ({"calibration": {"bias": {"good": float("nan")}}}, "calibration.bias.good: "),
        ({"calibration": {"bias": {"good": 1e9}}}, "calibration.bias.good: "),
        ({"calibration": {"bias": [0.5]}}, "calibration.bias: "),
        ({"reference": {"rows": "many"}}, "reference.rows: "),
        ({"files": [{"path": "a", "rows": -5, "bytes": 1}]}, "files.0.rows"),
        ({"files": [{"path": "a", "rows": 5, "bytes": -1}]}, "files.0.bytes: "),
        ({"num_parts": -1}, "num_parts: "),
    ],
)
def test_a_manifest_with_a_value_of_another_type_or_range_is_refused(spec, folder, change, problem):
    record = finish(spec()) | change
    filesystem.write_bytes(str(folder / "manifest.json"), json.dumps(record).encode())
    with pytest.raises(UserError) as error:
        manifest.read(str(folder))
    assert problem in str(error.value)
    assert str(error.value).isprintable()


PATHS = ["/etc/passwd", "..", "../x", "a/../../x", "./x", "a//b", "a/", "", ".", "a\\b", "a\0b",
         "a\x1b[2Jb", "a\nb", "x" * 5000]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_out_of_the_directory_is_refused(spec, folder, path):
    record = finish(spec())
    record["files"][0]["path"] = path
    filesystem.write_bytes(str(folder / "manifest.json"), json.dumps(record).encode())
    with pytest.raises(UserError, match="which is no path below its directory") as error:
        manifest.read(str(folder))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["words.parquet", "tables"])
def test_a_listed_file_that_is_reached_through_a_link_is_missing(spec, folder, tmp_path, name):
    finish(spec())
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is missing or damaged"):
        manifest.require(str(folder), stage="prepare", setting="")


def test_requiring_names_the_setting_and_what_it_should_be(spec, folder):
    with pytest.raises(UserError) as error:
        manifest.require(str(folder), stage="prepare", setting="train.prepared_uri")
    assert str(error.value) == (
        f"train.prepared_uri: {folder} has no manifest.json: "
        "name the finished output of sentiflow prepare"
    )
    finish(spec())
    with pytest.raises(UserError) as error:
        manifest.require(str(folder), stage="model", setting="score.model_uri")
    assert f"score.model_uri: {folder} is an output of prepare: name a f" in str(error.value)


def test_a_file_of_given_test_rows_alone_is_not_learned():
    files = [{"uri": f"/{name}.csv", "tree_sha256": name} for name in "abc"]
    prepared = {"inputs": {"csv": {"files": files}}, "settings": {}}
    assert prepared_data.identify_learned_files(prepared) == set("abc")
    prepared["settings"]["fixed_files"] = [None, "validation", "test"]
    assert prepared_data.identify_learned_files(prepared) == set("ab")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a" * 5000])
def test_a_directory_whose_name_cannot_be_has_no_manifest(folder, name):
    assert manifest.read(f"{folder}/{name}") is None


def test_an_error_of_a_reader_is_not_the_lack_of_a_manifest(folder, monkeypatch):
    def fail(uri, *, max_bytes):
        raise pa.ArrowInvalid("this is no path")

    monkeypatch.setattr(result_files, "read", fail)
    with pytest.raises(pa.ArrowInvalid):
        manifest.read(str(folder))
