"""What the page for schedulers shows runs: the script, the function, Airflow, Dagster, Argo."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, write_config
from test_cli import invoke
from test_pages import blocks_of

from sentiflow.storage import lease

PAGE = (PROJECT / "docs/schedulers.md").read_text()
PYTHON = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in blocks_of("schedulers", "python")
}
"""Modules by their file names, which stand in their first lines."""
AWAY = ["evaluate.output_uri=new", "tracking.required=true", "tracking.uri=http://127.0.0.1:9"]
"""Settings with which a job fails as long as a server does not answer."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Lay the page's Python into a directory from which it is imported, with sentiflow on PATH."""
    for name, code in PYTHON.items():
        (tmp_path / name).write_text(code)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in PYTHON:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.soak
@pytest.mark.ray
def test_the_function_returns_what_was_made(place, finished_run):
    from sentiflow_job import run

    found = run("run", str(finished_run / "config.yaml"))
    assert list(found) == ["prepare", "train", "score", "evaluate"]
    assert not any(stage["ran"] for stage in found.values())
    assert found["score"]["output_uri"] == str(finished_run / "run/scored")
    assert found["score"]["counts"]["accepted"] > 5000


@pytest.mark.soak
@pytest.mark.ray
def test_the_function_tells_a_mistake_from_a_failure(place, finished_run):
    from sentiflow_job import Mistake, run

    config = str(finished_run / "config.yaml")
    with pytest.raises(Mistake, match="see the last line of its log"):
        run("score", config, "score.num_workers=none")
    with pytest.raises(subprocess.CalledProcessError) as error:
        run("evaluate", config, *AWAY)
    assert error.value.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "code", "pauses"),
    [(["prepare.csv=none.csv"], 2, []), ([], 1, ["240", "0"])],
)
def test_the_script_retries_only_what_a_retry_can_help(
    place, sample_csv, overrides, code, pauses, monkeypatch
):
    """A retry can help if another job is in the same directory; the script of this test has two."""
    (script,) = blocks_of("schedulers", "sh")
    assert script.count("240 ") == 5
    script = script.replace("240 240 240 240 240 0", "240 0")
    (place / "configs").mkdir()
    write_config(place, sample_csv).rename(place / "configs/weekly.yaml")
    (place / "bin").mkdir()
    for name, text in {
        "weekly.sh": script.replace("sentiflow score", "sentiflow prepare"),
        "bin/sleep": f"#!/bin/sh\necho $1 >> {place}/pauses\n",
    }.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (place / "pauses").touch()
    monkeypatch.setenv("PATH", f"{place}/bin:{os.environ['PATH']}")
    with lease.hold(str(place / "run/prepared"), job="prepare"):
        done = subprocess.run(
            ["./weekly.sh", *overrides], cwd=place, capture_output=True, text=True
        )
    assert done.returncode == code, done.stderr
    assert (place / "pauses").read_text().split() == pauses


def test_the_line_for_cron_has_a_time_and_the_script():
    (block,) = blocks_of("schedulers", "text")
    path, line = block.splitlines()
    assert path.startswith("PATH=/")
    assert re.fullmatch(r"(\S+ ){5} +/\S+/weekly\.sh 2>> /\S+\.log", line)


def test_argo_runs_a_command_that_exists_and_does_not_retry_a_mistake():
    (block,) = blocks_of("schedulers", "yaml")
    spec = yaml.safe_load(block)["spec"]
    (template,) = spec["workflowSpec"]["templates"]
    program, verb, _, *options = template["container"]["command"]
    assert program == "sentiflow"
    assert all(option in invoke(verb, "--help").stdout for option in options)
    assert template["retryStrategy"]["expression"] == "asInt(lastRetry.exitCode) != 2"
    assert spec["workflowSpec"]["entrypoint"] == template["name"]


def test_the_table_has_the_exit_codes_of_the_command_line():
    rows = dict(re.findall(r"^  \| ([\d, ]+) \| .* \| ?(.*?) ?\|$", PAGE, re.MULTILINE))
    assert list(rows) == ["0", "1", "2", "130, 137, 143"]
    assert [rows[code].partition(":")[0] for code in rows] == ["", "yes", "no", "yes"]


@pytest.mark.parametrize("name", PYTHON)
def test_the_python_of_the_page_compiles(name):
    compile(PYTHON[name], name, "exec")
    assert name in {"sentiflow_job.py", "weekly_dag.py", "weekly_assets.py"}


@pytest.mark.soak
def test_airflow_reads_the_dag_and_does_not_retry_a_mistake(place):
    pytest.importorskip("airflow.sdk", reason="Airflow is not installed")
    from airflow.sdk.exceptions import AirflowFailException
    from weekly_dag import weekly

    (task,) = weekly().tasks
    assert (task.task_id, task.retries, task.retry_delay) == ("score", 5, timedelta(minutes=4))
    with pytest.raises(AirflowFailException, match="see the last line"):
        task.python_callable()  # there is no such settings file here


@pytest.mark.soak
def test_dagster_reads_the_asset_and_does_not_retry_a_mistake(place):
    dagster = pytest.importorskip("dagster", reason="Dagster is not installed")
    from weekly_assets import defs, predictions

    assert defs.resolve_schedule_def("weekly").cron_schedule == "15 3 * * 1"
    result = dagster.materialize([predictions], raise_on_error=False)
    (failure,) = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    assert "see the last line of its log" in str(failure.event_specific_data)
    assert not [e for e in result.all_events if "RETR" in e.event_type_value]
