"""A run of several stages keeps the directories of its later stages for itself."""

import os
import types
from pathlib import Path

import pytest
from conftest import write_config

from sentiflow.config import settings
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.outputs import Output, open_output
from sentiflow.errors import JobError, UserError
from sentiflow.pipeline import stage_plans, stages
from sentiflow.storage import filesystem


def spec_of(config, verb: str, **decisive: int) -> OutputSpec:
    """Describe the output of a stage that writes one file."""
    return OutputSpec(verb, getattr(config, verb).output_uri, decisive, {}, owns=("a.txt",))


def make_stage(verb, during) -> types.SimpleNamespace:
    """Make a stage that calls a function while it runs."""

    def resolve(config):
        return types.SimpleNamespace(config=config, spec=spec_of(config, verb))

    def run(plan, output: Output, recorder):
        output.begin()
        during(verb, plan.config)
        return output.publish(counts={}, files=[], seconds=1, run=recorder.describe())

    return types.SimpleNamespace(resolve=resolve, run=run)


@pytest.fixture
def run_stages(tmp_path, sample_csv, monkeypatch):
    """Run the stages ``evaluate`` and ``trends``, with a function that is called in each."""
    config = settings.load(write_config(tmp_path, sample_csv))

    def run(during=lambda verb, config: None) -> list[stages.Outcome]:
        monkeypatch.setattr(stage_plans, "import_stage", lambda verb: make_stage(verb, during))
        monkeypatch.setattr(stage_plans, "check_inputs", lambda *_, **__: None)
        monkeypatch.setenv("SENTIFLOW_USER", "anna")
        return stages.run(config, ["evaluate", "trends"])

    run.config = config
    return run


def test_no_other_job_gets_the_output_of_a_later_stage(run_stages):
    refusals = []

    def take_trends(verb, config):
        with pytest.raises(JobError) as refused:
            open_output(spec_of(config, "trends", other=1), user="ben").__enter__()
        refusals.append(str(refused.value))

    outcomes = run_stages(take_trends)

    assert [outcome.ran for outcome in outcomes] == [True, True]
    owner = f"in use by another job of anna (trends, process {os.getpid()} on "
    assert len(refusals) == 2
    assert all(owner in refusal for refusal in refusals)


def test_a_run_stops_before_its_first_stage_if_a_later_output_is_in_use(run_stages):
    began = []
    with (
        open_output(spec_of(run_stages.config, "trends", other=1), user="ben"),
        pytest.raises(JobError, match="trends is in use by another job of ben"),
    ):
        run_stages(lambda verb, config: began.append(verb))
    assert not began


def test_an_output_is_released_when_its_stage_ends(run_stages):
    def take_report(verb, config):
        if verb == "trends":
            with open_output(spec_of(config, "evaluate")) as output:
                assert output.is_complete
            assert not filesystem.exists(f"{config.evaluate.output_uri}/_lease")

    run_stages(take_report)
    assert not list(Path(run_stages.config.output_uri).glob("**/_lease"))


def test_a_failed_run_leaves_no_directory_of_a_later_stage(run_stages):
    def fail(verb, config):
        assert Path(config.trends.output_uri, "_lease").is_dir()
        raise UserError("no")

    with pytest.raises(UserError):
        run_stages(fail)
    assert not Path(run_stages.config.trends.output_uri).exists()


def test_a_complete_later_stage_is_not_run_again(run_stages):
    run_stages()
    evaluated = Path(run_stages.config.evaluate.output_uri)
    (evaluated / "manifest.json").unlink()
    assert [outcome.ran for outcome in run_stages()] == [True, False]
    assert not list(Path(run_stages.config.output_uri).glob("**/_lease"))
