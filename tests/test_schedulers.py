"""What the page for schedulers shows runs: the script, the function, Airflow, Dagster, Argo."""

import os
import re
import subprocess
import sys
import time

import pytest
import scheduler_runs
import yaml
from conftest import PROJECT, write_config
from scheduler_runs import PYTHON
from test_cli import invoke
from test_pages import blocks_of

from sentiflow.cli import exits
from sentiflow.storage import lease

PAGE = (PROJECT / "docs/schedulers.md").read_text()
AWAY = ["evaluate.output_uri=new", "tracking.required=true", "tracking.uri=http://127.0.0.1:9"]
"""Settings with which a job fails as long as a server does not answer."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Lay the page's Python into a directory from which it is imported, with sentiflow on PATH."""
    scheduler_runs.lay(tmp_path, tmp_path)
    monkeypatch.setenv("PATH", scheduler_runs.add_program(tmp_path, PROJECT))
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
def test_the_script_retries_only_what_a_retry_can_help(place, sample_csv, overrides, code, pauses):
    """A retry can help if another job is in the same directory; the script of this test has two."""
    (script,) = blocks_of("schedulers", "sh")
    assert script.count("240 ") == 5
    script = script.replace("240 240 240 240 240 0", "240 0")
    (place / "configs").mkdir()
    write_config(place, sample_csv).rename(place / "configs/weekly.yaml")
    for name, text in {
        "weekly.sh": script.replace("sentiflow score", "sentiflow prepare"),
        "bin/sleep": f"#!/bin/sh\necho $1 >> {place}/pauses\n",
    }.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (place / "pauses").touch()
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
    assert list(rows) == ["0", "1", "2", str(exits.NOT_BETTER), "129, 130, 137, 143"]
    assert [rows[code].partition(":")[0] for code in rows] == ["", "yes", "no", "no", "yes"]


@pytest.mark.parametrize("name", PYTHON)
def test_the_python_of_the_page_compiles(name):
    compile(PYTHON[name], name, "exec")
    assert name in {"sentiflow_job.py", "weekly_dag.py", "weekly_assets.py"}


with_each_scheduler = pytest.mark.parametrize("scheduler", scheduler_runs.SCHEDULERS)


@pytest.mark.soak
@pytest.mark.timeout(900)
@with_each_scheduler
def test_a_scheduler_does_not_retry_a_mistake(place, scheduler):
    (place / "configs").mkdir()
    (place / "configs/weekly.yaml").write_text("score: {num_workers: none}\n")
    process, log = start(scheduler, place)
    assert process.wait(timeout=300) != 0
    said = log.read_text()
    assert "--json: see the last line of its log" in said
    assert said.count("\nsentiflow: ") + said.startswith("sentiflow: ") == 1, "it was tried once"


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(900)
@with_each_scheduler
def test_a_scheduler_retries_while_another_job_is_in_the_directory(place, finished_run, scheduler):
    settings = yaml.safe_load((finished_run / "config.yaml").read_text())
    settings["output_uri"] = str(place / "run")
    settings["score"]["model_uri"] = str(finished_run / "run/trained/model")
    settings["score"]["prepared_uri"] = str(finished_run / "run/prepared")
    (place / "configs").mkdir()
    (place / "configs/weekly.yaml").write_text(yaml.safe_dump(settings))
    with lease.hold(str(place / "run/scored"), job="score"):
        process, log = start(scheduler, place)
        while "is in use by another job (score, process" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    assert process.wait(timeout=300) == 0, log.read_text()
    assert (place / "run/scored/manifest.json").exists()


def start(scheduler, place):
    """Start a scheduler; return its process and the file of its output."""
    log = place / "log.txt"
    with log.open("w") as output:
        return scheduler_runs.start(scheduler, place, output, dict(os.environ)), log
