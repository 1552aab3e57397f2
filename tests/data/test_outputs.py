"""A directory is complete when its manifest is there, and only its owner's names are removed."""

import itertools
import json
import os
import threading
from dataclasses import replace

import pytest
from stages import add_part, begin, fill, finish, grow, list_owned, look

from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import Status, find_status
from sentiflow.data.outputs import list_result, open_output
from sentiflow.errors import JobError, UserError
from sentiflow.storage import filesystem


def test_a_directory_goes_from_new_to_complete(spec, folder):
    assert find_status(spec()) == Status("new")
    folder.mkdir()
    output = begin(spec())
    assert find_status(spec()).run
    assert manifest.read(spec().uri) is None
    record = output.publish(counts={}, files=[], seconds=0)
    assert find_status(spec()) == Status("complete")
    assert manifest.read(spec().uri) == json.loads(json.dumps(record))
    assert filesystem.listing(spec().uri) == ["manifest.json"]


def test_the_manifest_records_files_settings_and_inputs(spec):
    record = finish(spec(), notes=["more"])
    assert record["fingerprint"] == spec().fingerprint
    assert (record["stage"], record["format_version"], record["seconds"]) == ("prepare", 3, 1.235)
    assert (record["counts"], record["notes"]) == ({"rows": 1}, ["more"])
    assert record["inputs"]["csv"] == {"fingerprint": "c5f0", "uri": "/in/tweets.csv"}
    assert [item["path"] for item in record["files"]] == list_owned(spec().uri)[1:]
    assert "sha256" in record["files"][-1]
    assert record["versions"].keys() >= {"sentiflow", "ray", "torch"}
    own = {"uri": "/made", "fingerprint": spec().fingerprint}
    assert manifest.reference("/made", record) == own


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 3}, "seed: 0 there, 3 here"),
        ({"split": {"kind": "user"}}, 'split.kind: "hash" there, "user" here'),
        ({"names": ("b",)}, 'names: ["a", "b"] there, ["b"] here'),
        ({"more": 1}, "more: null there, 1 here"),
        ({"csv": "0000"}, "another csv"),
    ],
)
def test_a_difference_is_named_and_refused_unless_it_is_to_be_replaced(spec, change, difference):
    finish(spec())
    problem = f"belongs to other settings ({difference})"
    assert find_status(spec(**change)) == Status("other", problem)
    before = filesystem.listing(spec().uri)
    for act in (look, begin):
        with pytest.raises(UserError) as error:
            act(spec(**change))
        assert difference in str(error.value)
        assert "--overwrite" in str(error.value)
    assert filesystem.listing(spec().uri) == before
    finish(spec(**change))
    assert find_status(spec(**change)).state == "complete"


def test_other_files_are_refused_and_never_deleted(spec, folder):
    fill(folder, "thesis.docx", "tables/mine.parquet")
    for act, overwrite in itertools.product((look, begin), (False, True)):
        with pytest.raises(UserError, match="holds files that are not from prepare: choose"):
            act(spec(), overwrite=overwrite)
    assert filesystem.listing(str(folder)) == ["tables/mine.parquet", "thesis.docx"]


@pytest.mark.parametrize("name", ["tables", "_work", "_lease", "tables/part-0.parquet"])
def test_a_link_in_an_output_is_refused_and_nothing_is_written_through_it(
    spec, folder, tmp_path, name
):
    finish(spec())
    outside = tmp_path / "outside"
    fill(outside, "diary.txt")
    filesystem.delete(str(folder / name))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(outside)
    with pytest.raises(UserError, match=f"{name} is a link"), open_output(spec(), overwrite=True):
        pass
    assert os.listdir(outside) == ["diary.txt"]


def test_an_unfinished_run_of_other_settings_is_replaced_with_overwrite_only(spec, folder):
    add_part(begin(spec()))
    with pytest.raises(UserError, match=r"unfinished run of other settings \(seed: 0 there, 1 h"):
        begin(spec(seed=1))
    assert len(filesystem.listing(str(folder))) == 3
    assert not begin(spec(seed=1), overwrite=True).resumes
    assert len(filesystem.listing(str(folder))) == 1


def test_an_unfinished_run_without_a_part_is_replaced_and_named(spec):
    with open_output(spec(), user="anna") as first:
        first.mlflow_run_id = "0b1c"
        first.begin()
    with open_output(spec(seed=1), user="ben") as second:
        (run,) = second.status.unfinished
        assert str(run) == "an unfinished run of other settings by anna (seed: 0 there, 1 here)"
        assert run.description["mlflow_run_id"] == "0b1c"
        second.begin()
    (run,) = find_status(spec(seed=1)).unfinished
    assert (run.changes, run.description["user"]) == ((), "ben")


def test_an_unfinished_replacement_is_left_to_the_command_that_began_it(spec, folder):
    finish(spec())
    add_part(begin(spec(seed=1), overwrite=True))
    with open_output(spec()) as output:
        assert output.is_complete
    assert begin(spec(seed=1), overwrite=True).resumes
    finish(spec(seed=1))
    assert not (folder / "_work").exists()


@pytest.mark.parametrize("place", ["manifest.json", "replaced/manifest.json"])
def test_a_changed_manifest_of_a_killed_run_does_not_delete_the_result(spec, folder, place):
    finish(spec())
    record = json.loads((folder / "manifest.json").read_text())
    record["files"].append({"path": "manifest.json", "rows": None, "bytes": 1})
    filesystem.write_bytes(f"{folder}/_work/ab12/{place}", json.dumps(record).encode())
    with open_output(spec()) as output:
        assert output.is_complete
    assert find_status(spec()).state == "complete"
    assert not (folder / "_work").exists()


def test_a_changed_manifest_of_an_earlier_format_does_not_delete_a_claim(spec, folder):
    finish(spec())
    record = json.loads((folder / "manifest.json").read_text()) | {"format_version": 2}
    record["files"].append({"path": "_lease/a.json"})
    filesystem.write_bytes(f"{folder}/manifest.json", json.dumps(record).encode())
    filesystem.write_bytes(f"{folder}/_lease/a.json", b"{}")
    assert not any(path.startswith("_lease") for path in find_status(spec()).leftovers)


def test_rolling_back_removes_the_files_of_the_run_and_nothing_else(spec, folder):
    add_part(begin(spec()))
    fill(folder, "notes.txt")
    look(spec()).roll_back()
    assert filesystem.listing(str(folder)) == ["notes.txt"]
    filesystem.delete(str(folder / "notes.txt"))
    with open_output(spec()) as output:
        output.begin()
        output.roll_back()
    assert not folder.exists()


@pytest.mark.parametrize("stays", [False, True])
def test_a_refusal_rolls_back_unless_something_must_stay(spec, stays):
    output = begin(spec())
    with pytest.raises(UserError), output.rolled_back_if_refused(unless=lambda: stays):
        raise UserError("it cannot be read")
    assert bool(find_status(spec()).run) == stays


@pytest.mark.parametrize("damage", [None, b"half"])
def test_nothing_is_published_over_a_missing_or_damaged_file(spec, folder, damage):
    output = begin(spec())
    part = add_part(output)
    filesystem.delete(f"{output.uri}/{part['path']}")
    if damage:
        filesystem.write_bytes(f"{output.uri}/{part['path']}", damage + b"!")
    with pytest.raises(JobError, match=r"is missing or damaged: run the same command again"):
        output.publish(counts={}, files=[part], seconds=0)
    assert manifest.read(str(folder)) is None


@pytest.mark.parametrize("damage", [b"wor", None])
def test_a_damaged_directory_is_replaced_with_overwrite_only(spec, folder, damage):
    finish(spec())
    filesystem.delete(str(folder / "words.parquet"))
    if damage:
        filesystem.write_bytes(str(folder / "words.parquet"), damage)
    for state in (find_status(spec()), find_status(replace(grow(spec, "a"), inputs=spec().inputs))):
        assert state.state == "other"
    with pytest.raises(UserError, match=r"words\.parquet is missing or damaged: .*--overwrite"):
        look(spec())
    with pytest.raises(UserError, match="missing or damaged"):
        manifest.require(str(folder), stage="prepare", setting="x")
    finish(spec())
    assert find_status(spec()).state == "complete"


def test_a_file_with_a_name_is_read_only_as_it_was_saved(spec, folder):
    record = finish(spec())
    assert manifest.read_file(str(folder), record, "words.parquet") == b"words"
    filesystem.write_bytes(str(folder / "words.parquet"), b"sword")
    for path in ("words.parquet", "manifest.json", "../made/words.parquet", "none"):
        with pytest.raises(UserError, match="is not the file that was saved"):
            manifest.read_file(str(folder), record, path)


def test_a_result_within_another_is_known_by_its_manifest(spec, folder):
    """A package that was replaced alone makes its training unfinished, while it can be read."""

    def train(seed):
        outer = OutputSpec("train", str(folder), {"seed": seed}, {}, owns=("model",))
        output = begin(outer, overwrite=True)
        files = [output.write("model/weights", b"%d" % seed) | {"path": "weights"}]
        inner = manifest.make("model", {"seed": seed}, {}, counts={}, files=files)
        filesystem.write_bytes(f"{output.uri}/model/manifest.json", manifest.to_json(inner))
        listed = list_result(f"{output.uri}/model", inner, path="model")
        return outer, output.publish(counts={}, files=listed, seconds=0)

    train(0)
    kept = filesystem.read_bytes(f"{folder}/model/manifest.json")
    spec, record = train(1)
    assert [item["path"] for item in record["files"]] == ["model/manifest.json", "model/weights"]
    assert find_status(spec).state == "complete"
    filesystem.write_bytes(f"{folder}/model/manifest.json", kept)
    assert find_status(spec).state == "other"
    with pytest.raises(UserError, match=r"model/manifest.json is missing or damaged"):
        manifest.require(str(folder), stage="train", setting="")
    assert manifest.require(f"{folder}/model", stage="model", setting="")["settings"]["seed"] == 0


def test_looking_at_a_complete_output_writes_nothing(spec, folder):
    finish(spec())
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    with open_output(spec()) as output:
        assert output.is_complete
        assert not output.claim
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


def test_an_input_that_was_replaced_meanwhile_is_noticed(spec, tmp_path):
    prepared = replace(spec(), uri=str(tmp_path / "prepared"))
    inputs = {"data": manifest.reference(prepared.uri, finish(prepared))}
    reading = replace(spec(stage="train"), inputs=inputs)
    with open_output(reading) as output:
        output.begin()
        finish(replace(prepared, settings={"seed": 9}))
        with pytest.raises(JobError, match="prepared was replaced while it was read"):
            output.publish(counts={}, files=[], seconds=0)


def test_the_second_writer_is_told_who_the_first_is(spec, monkeypatch):
    with open_output(spec()) as first:
        first.begin()
        owner = rf"in use by another job \(prepare, process {os.getpid()} on "
        with pytest.raises(JobError, match=owner):
            open_output(spec()).__enter__()
    with open_output(spec()) as third:
        assert third.resumes
    with (
        open_output(spec(), user="anna"),
        pytest.raises(JobError, match=r"in use by another job of anna \(prepare, process"),
    ):
        open_output(spec(), user="ben").__enter__()
    job = json.dumps({"metadata": {"job_submission_id": "sentiflow-run-x-1a2b3c"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    with (
        open_output(spec()),
        pytest.raises(JobError, match=r"\(prepare, sentiflow-run-x-1a2b3c, p"),
    ):
        open_output(spec()).__enter__()


def test_a_job_of_other_settings_is_told_that_the_directory_is_in_use(spec):
    with open_output(spec(), user="anna") as first:
        first.begin()
        add_part(first)
        with pytest.raises(JobError, match="in use by another job of anna"):
            open_output(spec(seed=1), user="ben").__enter__()
    with pytest.raises(UserError, match="holds an unfinished run of other settings by anna"):
        open_output(spec(seed=1), user="ben").__enter__()
    with open_output(spec()) as again:
        assert again.resumes


def test_a_job_that_has_lost_its_lease_changes_nothing(spec, folder):
    with open_output(spec()) as output:
        output.begin()
        part = add_part(output)
        filesystem.delete(output.claim)
        other = threading.Thread(target=finish, args=(spec(seed=1),))  # checks are for this thread
        other.start()
        other.join()
        before = filesystem.listing(str(folder))
        for act in (
            output.begin,
            output.roll_back,
            lambda: output.publish(counts={}, files=[], seconds=0),
            lambda: output.publish(counts={}, files=[part], seconds=0),
        ):
            with pytest.raises(JobError, match=r"taken the directory over"):
                act()
    assert filesystem.listing(str(folder)) == before
    assert find_status(spec(seed=1)) == Status("complete")


def test_an_error_of_the_storage_is_that_of_the_lease_where_another_job_has_taken_over(spec):
    message = "another job has taken the directory over"
    with pytest.raises(JobError, match=message), open_output(spec()) as output:  # noqa: PT012
        filesystem.delete(output.claim)
        raise FileNotFoundError("the other job has deleted it")
    with pytest.raises(FileNotFoundError), open_output(spec()):
        raise FileNotFoundError("something else")


def test_in_object_storage_parts_are_written_where_they_stay(spec, bucket):
    there = replace(spec(), uri=f"{bucket}/made")
    finish(there)
    new = replace(spec(seed=1), uri=there.uri)
    output = begin(new, overwrite=True)
    part = add_part(output)
    assert part["path"] in list_owned(there.uri)
    assert manifest.require(there.uri, stage="prepare", setting="")["settings"]["seed"] == 0
    output.publish(counts={}, files=[part, output.write("words.parquet", b"others")], seconds=0)
    assert filesystem.listing(there.uri) == ["manifest.json", part["path"], "words.parquet"]
    assert find_status(new) == Status("complete")


def test_the_output_of_another_stage_is_never_replaced(spec):
    finish(spec())
    before = filesystem.listing(spec().uri)
    for act in (look, begin):
        with pytest.raises(UserError, match="holds files that are not from train"):
            act(spec(stage="train"), overwrite=True)
    assert filesystem.listing(spec().uri) == before
