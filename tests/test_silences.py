"""A command says what it does and how far it is, whatever part of it takes long."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import PROJECT, make_store
from typer.testing import CliRunner

from sentiflow import progress
from sentiflow.cli.app import app

MODULES = sorted((PROJECT / "sentiflow").rglob("*.py"))


@pytest.fixture
def talkative(monkeypatch):
    """Let each task speak when it begins, as if it had been silent for long."""
    begin = progress._Screen.begin

    def begin_and_tell(self, task):
        begin(self, task)
        self.tell_if_due(task)

    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(progress._Screen, "begin", begin_and_tell)


@pytest.fixture
def earlier(tmp_path, monkeypatch) -> Path:
    """Copy a finished run to a directory to work in."""
    shutil.copytree(PROJECT / "tests/format_3", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_store(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("card run", "card      reading the run, "),
        ("compare run run", "compare   step 1 of 3, reading the predictions of both runs, "),
        ("compare run run", "compare   step 2 of 3, "),
        ("doctor reviews.yaml", "doctor    step 2 of 3, "),
        ("doctor reviews.yaml", "doctor    step 3 of 3, asking the MLflow store, "),
        ("init reviews.csv --output new.yaml", "init      step 1 of 3, "),
        ("predict run good", "predict   loading the model, "),
        ("words nearest good --vectors run", "words     reading the vectors, "),
        ("tracking import run", "tracking  run 1 of "),
        ("tracking import run", "tracking  opening the MLflow store, "),
    ],
)
def test_a_command_without_a_terminal_shows_its_steps_in_lines(earlier, talkative, command, said):
    result = CliRunner().invoke(app, command.split())
    assert said in result.stderr
    assert " so far" in result.stderr
    assert "so far" not in result.stdout, "results alone"


def test_every_step_that_is_named_is_shown():
    found = []
    for module in MODULES:
        text = module.read_text()
        if "STEPS = Steps(" not in text:
            continue
        block = text.split("STEPS = Steps(")[1].split("\n)")[0]
        names = re.findall(r"^    (\w+)=", block, re.MULTILINE)
        users = [text]
        if "_STEPS = Steps(" not in text:  # other modules of the package show them, too
            users += [each.read_text() for each in module.parent.glob("*.py")]
        shown = []
        for user in users:
            if user is text or f"from sentiflow.{module.parent.name}.{module.stem} import" in user:
                shown += re.findall(r'STEPS\.show\("(\w+)"\)', user)
        assert set(shown) == set(names), module
        found.append(module.stem)
    assert {"evaluate_plan", "trends", "champion_test", "comparison", "init"} <= set(found)
