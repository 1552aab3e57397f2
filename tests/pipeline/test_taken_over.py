"""Work that a later job takes over is named, and its runs in MLflow are ended."""

import os
import signal
import types
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from conftest import write_config
from mlflow import MlflowClient
from mlflow.entities import Run
from other_process import calling

from sentiflow.config import settings
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.outputs import Output
from sentiflow.errors import UserError
from sentiflow.pipeline import run_plan, stage_plans, stages
from sentiflow.storage import filesystem
from sentiflow.tracking import runs
from sentiflow.tracking.recorder import Recorder

OTHER = ["evaluate.num_examples=3"]
CHANGE = r"an unfinished run of other settings by ben (num_examples: 15 there, 3 here)"


def make_stage(*, dies: bool = False, has_files: bool = False) -> types.SimpleNamespace:
    """Make a stage that publishes nothing, or is killed when it has begun a nested run."""

    def resolve(config):
        decisive = {"num_examples": config.evaluate.num_examples}
        spec = OutputSpec("evaluate", config.evaluate.output_uri, decisive, {}, owns=("a.txt",))
        return types.SimpleNamespace(config=config, spec=spec)

    def run(plan, output: Output, recorder: Recorder):
        output.begin()
        if has_files:
            filesystem.write_bytes(f"{output.spec.uri}/a.txt", b"a")
        if dies:
            recorder.begin_nested("trial 1", stage="train", tags={})
            recorder.store.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return output.publish(counts={}, files=[], seconds=1, run=recorder.describe())

    return types.SimpleNamespace(resolve=resolve, run=run)


def run_and_die(pipe: Connection, config: Path, has_files: bool) -> None:
    """Run the stage as another person; the process is killed."""
    os.environ["SENTIFLOW_USER"] = "ben"
    stage_plans.import_stage = lambda verb: make_stage(dies=True, has_files=has_files)
    stages.run(settings.load(config), ["evaluate"])


@pytest.fixture
def config(tmp_path, sample_csv, monkeypatch) -> Path:
    monkeypatch.setattr(stage_plans, "import_stage", lambda verb: make_stage())
    monkeypatch.setenv("SENTIFLOW_USER", "anna")
    return write_config(tmp_path, sample_csv)


def kill_a_run(config: Path, *, has_files: bool = False) -> None:
    with calling(run_and_die, config, has_files) as (process, _):
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert {run.info.status for run in find_runs(config)} == {"RUNNING"}


def find_runs(config: Path) -> list[Run]:
    """List the runs in MLflow, the latest first."""
    client = MlflowClient(settings.load(config).tracking.uri)
    return client.search_runs([client.get_experiment_by_name("test").experiment_id])


def check_ended(config: Path) -> None:
    """Check that the killed run and its nested run have ended, and the last run is complete."""
    found = find_runs(config)
    finished = [run for run in found if run.info.status == "FINISHED"]
    killed = [run for run in found if run.info.status == "KILLED"]
    assert (len(finished), len(killed)) == (1, 2)
    for run in killed:
        assert "taken its output over" in run.data.tags["sentiflow.reason"]
        assert run.data.tags["mlflow.user"] == run.data.tags["sentiflow.user"] == "ben"
    assert finished[0].data.tags["sentiflow.user"] == "anna"


def test_work_of_other_settings_is_named_when_it_is_replaced(config, said):
    kill_a_run(config)
    other = settings.load(config, OTHER)
    line = run_plan.plan(other, ["evaluate"]).lines[0]
    assert f"would run and replace {CHANGE}: " in line
    stages.run(other, ["evaluate"])
    assert f"evaluate  replaces {CHANGE}" in said.text
    check_ended(config)


def test_a_result_that_is_overwritten_is_named(config, said):
    kill_a_run(config, has_files=True)
    other = settings.load(config, OTHER)
    with pytest.raises(UserError, match="holds an unfinished run of other settings by ben"):
        stages.run(other, ["evaluate"])
    stages.run(other, ["evaluate"], overwrite=True)
    place = other.evaluate.output_uri
    assert f"evaluate  replaces {place}, which holds {CHANGE}" in said.text
    check_ended(config)
    stages.run(settings.load(config), ["evaluate"], overwrite=True)
    change = "belongs to other settings (num_examples: 3 there, 15 here)"
    assert f"evaluate  replaces {place}, which {change}" in said.text


def test_the_run_of_a_killed_job_that_is_resumed_is_ended(config, said):
    kill_a_run(config)
    stages.run(settings.load(config), ["evaluate"])
    assert "replaces" not in said.text
    check_ended(config)


def test_a_run_of_another_output_or_stage_is_left_as_it_is(config):
    kill_a_run(config)
    nested, parent = sorted(find_runs(config), key=lambda run: "evaluate" in run.info.run_name)
    client = MlflowClient(settings.load(config).tracking.uri)
    place = settings.load(config).evaluate.output_uri
    for run_id, stage, output_uri in (
        (parent.info.run_id, "train", place),
        (parent.info.run_id, "evaluate", f"{place}/elsewhere"),
        (nested.info.run_id, "evaluate", place),
        ("0" * 32, "evaluate", place),
        ("../x' or '1", "evaluate", place),
    ):
        runs.end_killed(client, run_id, stage=stage, output_uri=output_uri)
    assert {run.info.status for run in find_runs(config)} == {"RUNNING"}
    runs.end_killed(client, parent.info.run_id, stage="evaluate", output_uri=place)
    assert {run.info.status for run in find_runs(config)} == {"KILLED"}
