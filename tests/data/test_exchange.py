"""Only the holder of a directory writes, and a result replaces another as a whole."""

import json
import os
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stages import begin, publish
from test_outputs import fill, finish

from sentiflow.data import exchange, manifest
from sentiflow.data.output_status import OutputSpec, State, find_status
from sentiflow.data.outputs import list_files, open_output
from sentiflow.errors import JobError
from sentiflow.storage import filesystem


def test_the_second_writer_is_told_who_the_first_is(spec, folder):
    with open_output(spec()) as first:
        first.begin()
        holder = rf"in use by another job \(prepare, process {os.getpid()} on "
        with pytest.raises(JobError, match=holder):
            open_output(spec()).__enter__()
    with open_output(spec()) as third:
        assert third.resumes


def test_a_submitted_job_that_holds_a_directory_is_named_by_its_id(spec, monkeypatch):
    job = json.dumps({"metadata": {"job_submission_id": "sentiflow-run-x-1a2b3c"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    with (
        open_output(spec()),
        pytest.raises(JobError, match=r"\(prepare, sentiflow-run-x-1a2b3c, p"),
    ):
        open_output(spec()).__enter__()


def test_a_writer_that_has_lost_its_lease_publishes_and_deletes_nothing(spec, folder):
    with open_output(spec()) as output:
        output.begin()
        fill(folder, "tables/a")
        filesystem.delete(output.claim)
        with pytest.raises(JobError, match="another job has taken the directory over"):
            output.publish(counts={}, files=[], seconds=0)
        with pytest.raises(JobError, match="another job has taken the directory over"):
            output.roll_back()
    assert filesystem.listing(str(folder)) == ["started.json", "tables/a"]


def test_a_job_that_has_lost_its_lease_begins_and_writes_nothing(spec, folder):
    with open_output(spec()) as output:
        filesystem.delete(output.claim)
        other = threading.Thread(target=finish, args=(spec(),))  # the checks are for this thread
        other.start()
        other.join()
        with pytest.raises(JobError, match="another job has taken the directory over"):
            output.begin()
        with pytest.raises(JobError, match="another job has taken the directory over"):
            filesystem.write_bytes(f"{output.uri}/words.parquet", b"late")
    assert filesystem.listing(str(folder)) == ["manifest.json", "tables/part-0.parquet"]


def test_what_a_late_task_left_after_a_roll_back_is_removed(spec, folder):
    owner = replace(spec(), owns=("tables", "_work"))
    fill(folder, "tables/late.parquet", "_work/receipts/ingest-000007.json")
    assert find_status(owner).state is State.UNFINISHED
    assert not begin(owner).resumes
    assert filesystem.listing(str(folder)) == ["started.json"]


def test_an_exchange_is_finished_by_who_reads_a_result_within(spec, folder):
    """The package of a training is read, while the training's own files were only half moved."""

    def save(output, content):
        package = OutputSpec("model", f"{output.uri}/model", {"of": content}, {}, owns=("weights",))
        begin(package, overwrite=True)
        filesystem.write_bytes(f"{output.uri}/model/weights", content.encode())
        size = len(content)
        publish(package, files=[{"path": "weights", "rows": None, "bytes": size}])

    for seed, content in enumerate(("old", "newer")):
        output = begin(replace(spec(seed=seed, stage="train"), owns=("model",)), overwrite=True)
        save(output, content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exchange, "exchange", lambda uri: None)  # it is killed before
            output.publish(counts={}, files=list_files(output.uri, "model"), seconds=0)
    filesystem.move(f"{folder}/_next/model/weights", f"{folder}/model/weights")
    record = manifest.require(f"{folder}/model", stage="model", setting="", check_files=True)
    assert record["settings"] == {"of": "newer"}
    assert not (folder / "_next").exists()


@settings(max_examples=20, deadline=None)
@given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")))
def test_an_exchange_leaves_exactly_the_new_files(tmp_path_factory, old, new):
    uri = str(tmp_path_factory.mktemp("exchange"))
    for seed, names in enumerate((old, new)):
        wanted = OutputSpec("prepare", uri, {"seed": seed}, {}, owns=("tables",))
        output = begin(wanted, overwrite=True)
        for name in names:
            filesystem.write_bytes(f"{output.uri}/tables/{name}", b"%d" % seed)
        files = [{"path": f"tables/{name}", "rows": None, "bytes": 1} for name in names]
        publish(wanted, files=files)
    assert filesystem.listing(uri) == sorted(["manifest.json", *(f"tables/{n}" for n in new)])
    assert all(filesystem.read_bytes(f"{uri}/tables/{name}") == b"1" for name in new)
