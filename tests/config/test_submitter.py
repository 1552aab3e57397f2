"""The name of the person who runs a job: a setting, a variable, or the user of this machine."""

# ruff: noqa: F401, F811 - fixtures of another file

import getpass

import pytest
from test_settings import faults_of, load, path

from sentiflow.config import submitter
from sentiflow.errors import UserError


def test_the_setting_comes_before_the_variable_and_that_before_the_user_of_the_machine(
    load, monkeypatch
):
    monkeypatch.delenv(submitter.VARIABLE, raising=False)
    assert submitter.find(load().tracking.user) == getpass.getuser()
    monkeypatch.setenv(submitter.VARIABLE, " ")
    assert submitter.find(None) == getpass.getuser()
    monkeypatch.setenv(submitter.VARIABLE, "ann@example.org")
    assert submitter.find(None) == "ann@example.org"
    assert submitter.find(load("tracking.user=Ben Œhler").tracking.user) == "Ben Œhler"


@pytest.mark.parametrize("name", ["a\x1b[2J", "x" * 101, "a\nb"])
def test_a_variable_that_holds_no_name_is_one_line(monkeypatch, name):
    monkeypatch.setenv(submitter.VARIABLE, name)
    with pytest.raises(UserError, match=r"^SENTIFLOW_USER='.*: must be a name of 1 to") as error:
        submitter.find(None)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ['""', '" "', f"{'x' * 101}", r'"a\tb"'])
def test_a_setting_that_is_no_name_is_one_line(load, name):
    (line,) = faults_of(load, f"tracking.user={name}")
    assert "command line: tracking.user=" in line
    assert "must be a name of 1 to 100 printable characters" in line
