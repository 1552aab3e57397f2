"""A directory is complete when its manifest is there, and only its owner's names are removed."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import settings
from stages import begin, look, publish

from sentiflow.data import exchange, manifest
from sentiflow.data.output_status import State, Status, find_status
from sentiflow.data.outputs import LIBRARIES, list_files, open_output
from sentiflow.errors import JobError, UserError
from sentiflow.storage import filesystem

SETTINGS = settings(max_examples=100, deadline=None)


def fill(folder, *names):
    """Write files that hold their name."""
    for name in names:
        filesystem.write_bytes(str(folder / name), name.encode())


def finish(spec):
    """Do what a stage does from its beginning to its manifest."""
    output = begin(spec, overwrite=True)
    filesystem.write_bytes(f"{output.uri}/tables/part-0.parquet", b"rows")
    return publish(
        spec,
        counts={"rows": 1},
        files=[{"path": "tables/part-0.parquet", "rows": 1, "bytes": 4}],
        seconds=1.23456,
        note="more",
    )


def test_a_new_directory_is_absent(spec, folder):
    assert find_status(spec()).state is State.ABSENT
    folder.mkdir()
    assert find_status(spec()).state is State.ABSENT


def test_a_directory_goes_from_absent_over_unfinished_to_complete(spec):
    begin(spec())
    assert find_status(spec()).state is State.UNFINISHED
    assert manifest.read(spec().uri) is None
    record = publish(spec())
    assert find_status(spec()) == Status(State.COMPLETE)
    assert manifest.read(spec().uri) == json.loads(json.dumps(record))
    assert filesystem.listing(spec().uri) == ["manifest.json"]


def test_the_manifest_records_files_settings_and_inputs(spec):
    record = finish(spec())
    assert record["fingerprint"] == spec().fingerprint
    assert (record["stage"], record["format_version"], record["seconds"]) == ("prepare", 2, 1.235)
    assert (record["counts"], record["note"]) == ({"rows": 1}, "more")
    assert record["inputs"]["csv"] == {"fingerprint": "c5f0", "uri": "/in/tweets.csv"}
    assert record["versions"].keys() == {"sentiflow", *LIBRARIES}
    assert manifest.reference("/made", record) == {
        "uri": "/made",
        "fingerprint": spec().fingerprint,
    }


def test_the_output_of_another_stage_is_never_replaced(spec):
    finish(spec())
    before = filesystem.listing(spec().uri)
    for act in (look, begin):
        with pytest.raises(UserError, match="holds files that are not from train"):
            act(spec(stage="train"), overwrite=True)
    assert filesystem.listing(spec().uri) == before


def test_files_are_recorded_in_the_order_of_their_paths(spec, folder):
    begin(spec())
    fill(folder, "a/1", "a/2", "b")
    files = [{"path": path, "rows": 1, "bytes": len(path)} for path in ("b", "a/2", "a/1")]
    record = publish(spec(), files=files)
    assert [item["path"] for item in record["files"]] == ["a/1", "a/2", "b"]


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
    assert find_status(spec(**change)) == Status(State.DIFFERENT, (difference,))
    before = filesystem.listing(spec().uri)
    for act in (look, begin):
        with pytest.raises(UserError) as error:
            act(spec(**change))
        assert difference in str(error.value)
        assert "--overwrite" in str(error.value)
    assert filesystem.listing(spec().uri) == before
    look(spec(**change), overwrite=True)
    finish(spec(**change))
    assert find_status(spec(**change)).state is State.COMPLETE


def test_every_difference_is_named(spec):
    finish(spec())
    found = find_status(spec(seed=3, csv="0000", split={"kind": "user"}))
    assert len(found.differences) == 3


def test_moving_an_input_is_no_difference(spec):
    finish(spec())
    moved = spec()
    moved.inputs["csv"]["uri"] = "/moved/tweets.csv"
    assert find_status(moved).state is State.COMPLETE


def test_other_files_are_refused_and_never_deleted(spec, folder):
    fill(folder, "thesis.docx", "tables/mine.parquet")
    assert find_status(spec()).state is State.NOT_OURS
    for act, overwrite in itertools.product((look, begin), (False, True)):
        with pytest.raises(UserError, match="holds files that are not from prepare: choose"):
            act(spec(), overwrite=overwrite)
    assert filesystem.listing(str(folder)) == ["tables/mine.parquet", "thesis.docx"]


def test_a_replaced_result_stays_whole_until_the_new_one_is_complete(spec, folder):
    before = finish(spec())
    fill(folder, "notes.txt")
    output = begin(spec(seed=1), overwrite=True)
    fill(folder / "_next", "tables/part-1.parquet")
    assert manifest.read(str(folder)) == json.loads(json.dumps(before))
    assert find_status(spec()).state is State.COMPLETE
    assert find_status(spec(seed=1)).state is State.DIFFERENT
    files = [{"path": "tables/part-1.parquet", "rows": 1, "bytes": 21}]
    output.publish(counts={}, files=files, seconds=0)
    assert find_status(spec(seed=1)).state is State.COMPLETE
    assert filesystem.listing(str(folder)) == [
        "manifest.json",
        "notes.txt",
        "tables/part-1.parquet",
    ]


def test_half_written_files_of_a_killed_run_are_removed_and_other_temporary_ones_are_not(
    spec, folder
):
    half = ["words.parquet.0a1b2c3d.tmp", "manifest.json.0a1b2c3d.tmp", "tables/a.0a1b2c3d.tmp"]
    mine = ["notes.txt.0a1b2c3d.tmp", "words.tmp", "deep/words.parquet.0a1b2c3d.tmp"]
    begin(spec())
    fill(folder, *half, *mine)
    publish(spec())
    assert filesystem.listing(str(folder)) == sorted([*mine, "manifest.json"])


def test_publishing_keeps_the_listed_files_and_removes_what_else_the_stage_left(spec, folder):
    begin(spec())
    fill(folder, "tables/a.parquet", "tables/b.parquet", "words.parquet", "notes.txt")
    files = [{"path": "tables/b.parquet", "rows": 1, "bytes": 16}]
    publish(spec(), files=files)
    assert filesystem.listing(str(folder)) == ["manifest.json", "notes.txt", "tables/b.parquet"]


def test_listed_files_have_their_path_in_the_directory_and_their_bytes(folder):
    fill(folder, "tables/x/b", "tables/a", "other")
    assert list_files(str(folder), "tables") == [
        {"path": "tables/a", "rows": None, "bytes": 8},
        {"path": "tables/x/b", "rows": None, "bytes": 10},
    ]
    assert list_files(str(folder), "none") == []


def test_an_unfinished_run_of_other_settings_is_replaced_with_overwrite_only(spec, folder):
    begin(spec())
    fill(folder, "tables/half.parquet")
    with pytest.raises(UserError, match=r"unfinished run of other settings \(seed: 0 there, 1 h"):
        begin(spec(seed=1))
    assert filesystem.listing(str(folder)) == ["started.json", "tables/half.parquet"]
    assert not begin(spec(seed=1), overwrite=True).resumes
    assert filesystem.listing(str(folder)) == ["started.json"]


def test_a_run_that_has_no_result_yet_is_replaced_without_overwrite(spec, folder):
    begin(spec())
    assert not begin(spec(seed=1)).resumes
    assert find_status(spec(seed=1)).differences == ()


def test_rolling_back_removes_the_files_of_the_run_and_nothing_else(spec, folder):
    begin(spec())
    fill(folder, "tables/half.parquet", "notes.txt")
    look(spec()).roll_back()
    assert filesystem.listing(str(folder)) == ["notes.txt"]


@pytest.mark.parametrize("stays", [False, True])
def test_a_refusal_rolls_back_unless_something_must_stay(spec, folder, stays):
    output = begin(spec())
    fill(folder, "tables/half.parquet")
    with pytest.raises(UserError), output.rolled_back_if_refused(unless=lambda: stays):
        raise UserError("it cannot be read")
    assert (folder / "tables/half.parquet").exists() == stays


def test_rolling_back_leaves_no_empty_directory(spec, folder):
    begin(spec())
    fill(folder, "tables/half.parquet", "words.parquet")
    look(spec()).roll_back()
    assert not folder.exists()
    assert find_status(spec()).state is State.ABSENT


def test_an_unfinished_run_of_the_same_spec_is_resumed(spec, folder):
    begin(spec())
    fill(folder, "tables/half.parquet")
    assert begin(spec()).resumes
    assert filesystem.listing(str(folder)) == ["started.json", "tables/half.parquet"]


def test_a_result_in_object_storage_is_replaced_and_the_exchange_can_be_repeated(spec, bucket):
    there = replace(spec(), uri=f"{bucket}/replaced")
    finish(there)
    new = replace(spec(seed=1), uri=there.uri)
    output = begin(new, overwrite=True)
    filesystem.write_bytes(f"{output.uri}/tables/part-1.parquet", b"rows")
    files = [{"path": "tables/part-1.parquet", "rows": 1, "bytes": 4}]
    with pytest.MonkeyPatch.context() as patch:  # as if it were killed after the first file
        patch.setattr(exchange, "tidy", lambda *_, **__: None)
        output.publish(counts={}, files=files, seconds=0)
        filesystem.write_bytes(
            f"{there.uri}/_next/manifest.json",
            filesystem.read_bytes(f"{there.uri}/manifest.json"),
        )
    record = manifest.require(there.uri, stage="prepare", setting="", check_files=True)
    assert record["fingerprint"] == new.fingerprint
    left = [path for path in filesystem.listing(there.uri) if not path.startswith("_lease")]
    assert left == ["manifest.json", "tables/part-1.parquet"]


def test_an_unfinished_replacement_is_left_to_the_command_that_began_it(spec, folder):
    finish(spec())
    begin(spec(seed=1), overwrite=True)
    fill(folder, "_next/tables/half.parquet")
    with open_output(spec()) as output:
        assert output.is_complete
        output.clean_up()
    assert begin(spec(seed=1), overwrite=True).resumes
    assert (folder / "_next/tables/half.parquet").exists()
    finish(spec(seed=1))
    assert not (folder / "_next").exists()


def test_details_of_a_run_are_there_when_it_is_resumed(spec):
    look(spec()).begin(precision="bf16")
    assert look(spec()).saved == {"precision": "bf16"}
    assert look(spec(seed=1)).saved == {}


def test_overwrite_restarts_a_run_that_was_begun_without_it_and_resumes_its_own(spec, folder):
    begin(spec())
    fill(folder, "tables/half.parquet")
    assert not begin(spec(), overwrite=True).resumes
    assert filesystem.listing(str(folder)) == ["started.json"]
    assert begin(spec(), overwrite=True).resumes
    finish(spec())
    assert not begin(spec(seed=1), overwrite=True).resumes
    assert begin(spec(seed=1), overwrite=True).resumes
    assert not begin(spec(seed=2), overwrite=True).resumes


def test_what_a_killed_run_left_beside_a_result_is_cleaned_up(spec, folder):
    finish(spec())
    for started in (b"{}", b"{", b""):
        fill(folder, "tables/old.parquet", "_next/tables/half.parquet")
        filesystem.write_bytes(f"{spec().uri}/started.json", started)
        assert look(spec()).is_complete
        look(spec()).clean_up()
        assert filesystem.listing(str(folder)) == ["manifest.json", "tables/part-0.parquet"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}"])
def test_a_run_of_which_nothing_is_known_is_started_again(spec, folder, content):
    filesystem.write_bytes(str(folder / "started.json"), content)
    fill(folder, "tables/half.parquet")
    assert not begin(spec()).resumes
    assert filesystem.listing(str(folder)) == ["started.json"]


def test_a_run_of_another_format_version_is_replaced_with_overwrite_only(spec, folder):
    started = {"stage": "prepare", "fingerprint": "0123", "format_version": 1}
    filesystem.write_bytes(str(folder / "started.json"), json.dumps(started).encode())
    fill(folder, "tables/half.parquet")
    with pytest.raises(UserError, match="written by another version of sentiflow"):
        begin(spec())
    assert not begin(spec(), overwrite=True).resumes
    assert filesystem.listing(str(folder)) == ["started.json"]


def test_a_result_of_format_version_1_is_read_and_replaced_with_overwrite_only(spec, folder):
    record = finish(spec()) | {"format_version": 1}
    filesystem.write_bytes(str(folder / "manifest.json"), json.dumps(record).encode())
    assert manifest.require(str(folder), stage="prepare", setting="", check_files=True)
    with pytest.raises(UserError, match=r"written by another version of sentiflow.*--overwrite"):
        begin(spec())
    with pytest.raises(UserError, match="written by another version"):
        begin(grow(spec, "a"))
    assert finish(spec())["format_version"] == 2


@pytest.mark.parametrize("damage", [None, b"half"])
def test_nothing_is_published_over_a_missing_or_damaged_file(spec, folder, damage):
    begin(spec())
    if damage:
        filesystem.write_bytes(str(folder / "tables/a"), damage)
    files = [{"path": "tables/a", "rows": 1, "bytes": 5}]
    with pytest.raises(JobError, match=r"tables/a is missing or damaged: run the same command ag"):
        publish(spec(), files=files)
    assert manifest.read(str(folder)) is None


def test_looking_at_a_complete_output_writes_nothing(spec, folder):
    finish(spec())
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    with open_output(spec()) as output:
        assert output.is_complete
        assert not output.claim
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


def test_an_input_that_was_replaced_meanwhile_is_noticed(spec, folder, tmp_path):
    prepared = replace(spec(), uri=str(tmp_path / "prepared"))
    record = finish(prepared)
    inputs = {"data": manifest.reference(prepared.uri, record)}
    reading = replace(spec(stage="train"), inputs=inputs)
    with open_output(reading) as output:
        output.begin()
        finish(replace(prepared, settings={"seed": 9}))
        with pytest.raises(JobError, match="prepared was replaced while it was read"):
            output.publish(counts={}, files=[], seconds=0)


def grow(spec, *names):
    """Make a spec to files of these names, whose content is their name, that may grow."""
    files = [{"uri": f"/in/{name}", "tree_sha256": name} for name in names]
    corpus = {"fingerprint": "+".join(names), "files": files}
    return replace(spec(), inputs={"corpus": corpus}, grows="corpus")


def test_a_damaged_directory_is_replaced_with_overwrite_only(spec, folder):
    finish(spec())
    for damage in (b"half", None):
        filesystem.delete(str(folder / "tables/part-0.parquet"))
        if damage:
            filesystem.write_bytes(str(folder / "tables/part-0.parquet"), damage + b"!")
        assert find_status(spec()).state is State.DAMAGED
        with pytest.raises(
            UserError, match=r"part-0\.parquet is missing or damaged: .*--overwrite"
        ):
            look(spec())
    finish(spec())
    assert find_status(spec()).state is State.COMPLETE
