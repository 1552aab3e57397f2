"""What ``submit`` refuses and shows before it asks a cluster; its signals."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import PROJECT
from test_cli import invoke, one_line
from test_job_client import FakeRayClient, state

from sentiflow.cli import submit
from sentiflow.cluster.submission import OUTPUT_KEY
from sentiflow.errors import JobError, UserError


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give VERB and CONFIG, or a job to --attach"),
        (["run"], "give VERB and CONFIG, or a job to --attach"),
        (["--attach", ""], "--attach: the job has no name: `ray job list` shows the names"),
        (["--attach", "x", "--dry-run"], "--dry-run is for a job to submit: leave out --dry-run,"),
        (
            ["--attach", "x", "--overwrite", "--no-wait"],
            "--no-wait is for a job to submit: leave out --no-wait and --overwrite, or --attach",
        ),
        (["run", "a.yaml", "--attach", "x"], "VERB is for a job to submit: leave out VERB, or"),
    ],
)
def test_what_contradicts_itself_is_refused_before_a_cluster_is_asked(arguments, problem):
    assert problem in one_line(invoke("submit", *arguments))


def test_a_dry_run_shows_the_command_with_the_option_for_json(clone, monkeypatch):
    monkeypatch.chdir(clone)
    settings = ["output_uri=s3://b/run", "prepare.csv=s3://b/x.csv", "tracking.uri=http://t:5000"]
    command = ["submit", "run", "configs/quickstart.yaml", *settings, "--dry-run", "--json"]
    result = invoke(*command)
    assert result.exit_code == 0, result.stderr
    entrypoint = result.stdout.splitlines()[0]
    assert entrypoint.startswith("entrypoint  python jobs/run.py configs/quickstart.yaml output")
    assert entrypoint.endswith(" --json")


JSON = '{"score": {"ran": true}}\n'


def follow(entrypoint, log, *, code=0, uri="", was_known=True, as_json=True):
    """Follow a job that has ended; return the exit code of the command."""
    ended = state(
        "FAILED" if code else "SUCCEEDED",
        code=code,
        message=f"exit code {code}",
        entrypoint=entrypoint,
        metadata={OUTPUT_KEY: uri},
    )
    client = FakeRayClient([ended], [log])
    return submit._follow_job(client, "job", as_json=as_json, was_known=was_known)


def test_the_json_of_a_job_is_printed_alone(capsys, said):
    assert follow("python jobs/run.py a.yaml --json", f"log\n{JSON}", uri="s3://b/run") == 0
    written = capsys.readouterr()
    assert written.out == JSON
    assert written.err.startswith("log\n")
    assert JSON not in written.err
    assert said.messages == ["submit    job is done: s3://b/run"]


def test_a_check_that_fails_prints_its_json_and_names_no_results(capsys, said):
    assert follow("python jobs/doctor.py --json", "[]\n", code=2) == 2
    assert follow("python jobs/doctor.py", "all is well\n", as_json=False) == 0
    assert capsys.readouterr().out == "[]\nall is well\n"
    assert said.messages == [
        "submit    job failed with exit code 2: exit code 2",
        "submit    job is done",
    ]


def test_a_job_without_json_is_refused_or_worth_a_second_try(capsys):
    """A command that attached by itself finds the work done when it is given again."""
    with pytest.raises(UserError, match=r"job was submitted without --json, .*: attach without"):
        follow("python jobs/run.py a.yaml", "log\n", was_known=False)
    with pytest.raises(JobError, match="run the same command again, which prints it"):
        follow("python jobs/run.py a.yaml", "log\n")
    assert capsys.readouterr().out == ""


FOLLOWING = """
import time
from sentiflow.cli import exits

def command():
    with exits.reporting(is_remote=True) as interruption:
        interruption.line = "submit    detached"
        print("following", flush=True)
        time.sleep(60)

exits.run_alone(command)
"""
"""A command that follows a job of another machine."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_of_two_signals_the_first_detaches_and_the_second_is_ignored(number):
    """As ``timeout`` does, which sends one to the command and one to its process group."""

    def restore() -> None:
        for each in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    with subprocess.Popen(
        [sys.executable, "-c", FOLLOWING], cwd=PROJECT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, preexec_fn=restore,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "following\n"
        for _ in range(2):
            os.kill(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert err == "submit    detached\n"
    assert process.returncode == 128 + number


def test_a_signal_ends_it_also_while_it_waits_for_an_answer():
    """Ray's client must not take it for an error of the network."""
    script = FOLLOWING.replace(
        "time.sleep(60)",
        "\n        while True:\n            try:\n                time.sleep(60)\n"
        "            except (RuntimeError, OSError):\n                pass",
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        process.stdout.readline()
        time.sleep(0.1)
        process.terminate()
        assert process.wait(timeout=60) == 143
