"""The code of docs/schedulers.md as schedulers run it: Airflow, Dagster, and a plain loop."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from conftest import PROJECT
from test_pages import blocks_of

VENV = PROJECT / "build/schedulers"
"""Environment with Airflow and Dagster, which ``make soak`` makes."""
RETRY_SECONDS = 5
"""Seconds between two tries; on the page they are four minutes."""
NUM_RETRIES = 5

PYTHON = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in blocks_of("schedulers", "python")
}
"""Modules of the page by their file names, which stand in their first lines."""

LOOP = f"""
import subprocess, sys, time
from sentiflow_job import Mistake, run

for number in range({NUM_RETRIES} + 1):
    try:
        found = run("score", "configs/weekly.yaml")
    except Mistake as mistake:
        sys.exit(str(mistake))
    except subprocess.CalledProcessError as error:
        print(f"try {{number}} ended with exit code {{error.returncode}}", flush=True)
        time.sleep({RETRY_SECONDS})
    else:
        print("stages:", *found, flush=True)
        sys.exit()
sys.exit("no try is left")
"""
ASSET = """
import sys
import dagster
from weekly_assets import predictions

sys.exit(not dagster.materialize([predictions], raise_on_error=False).success)
"""
SCHEDULERS = ("loop", "airflow", "dagster")


def lay(place: Path, folder: Path, *, on_cluster: bool = False) -> None:
    """Lay the modules of the page into a place.

    Args:
        place: The directory of the modules.
        folder: The working directory of the commands.
        on_cluster: Submit a whole run, in place of a scoring on this machine.
    """
    changes = {
        '"/srv/sentiment"': repr(str(folder)),
        "timedelta(minutes=4)": f"timedelta(seconds={RETRY_SECONDS})",
        "delay=240": f"delay={RETRY_SECONDS}",
    }
    texts = {**PYTHON, "loop.py": LOOP, "asset.py": ASSET}
    for old in changes:
        assert sum(old in text for text in texts.values()) == 1, old
    if on_cluster:
        changes['run("score", '] = 'run("submit", "run", '
    for name, text in texts.items():
        for old, new in changes.items():
            text = text.replace(old, new)
        (place / name).write_text(text)


def start(
    scheduler: str, place: Path, log: IO[str], environment: dict[str, str]
) -> "subprocess.Popen[str]":
    """Let a scheduler run the code that was laid into a place.

    Args:
        scheduler: One of ``SCHEDULERS``.
        place: The directory of the modules, and of what the scheduler writes.
        log: Takes the output.
        environment: Variables of the process; ``PATH`` must lead to sentiflow.
    """
    environment = environment | {
        "PYTHONPATH": str(place),
        "AIRFLOW_HOME": str(place / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(place),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
    }
    options = {
        "cwd": place, "env": environment, "text": True, "stdout": log, "stderr": log,
        "start_new_session": True,
    }  # fmt: skip
    if scheduler == "loop":
        return subprocess.Popen([sys.executable, "loop.py"], **options)
    program = VENV / "bin" / {"airflow": "airflow", "dagster": "python"}[scheduler]
    if not program.exists():
        pytest.skip(f"{VENV} is missing: `make soak` makes it, if packages can be downloaded")
    if scheduler == "dagster":
        return subprocess.Popen([program, "asset.py"], **options)
    subprocess.run([program, "db", "migrate"], check=True, timeout=300, **options)
    return subprocess.Popen([program, "dags", "test", "weekly"], **options)


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill a scheduler and the commands that it has started, if it has not ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def add_program(place: Path, code: Path) -> str:
    """Put a program ``sentiflow`` into a place, which runs this code; return the ``PATH`` to it."""
    folder = place / "bin"
    folder.mkdir()
    program = folder / "sentiflow"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={code} exec {sys.executable} -m sentiflow "$@"\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
