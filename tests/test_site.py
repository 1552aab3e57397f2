"""The site of the pages is built without a warning, and every command has its page."""

import subprocess
import sys

import pytest
import typer
from conftest import PROJECT

from sentiflow.cli.app import app


def commands_of(group, name: str) -> list[str]:
    """List the commands below a group: ``sentiflow config show``."""
    children = getattr(group, "commands", None)
    if children is None:
        return [name]
    return [line for key, child in children.items() for line in commands_of(child, f"{name} {key}")]


@pytest.mark.soak
def test_the_site_has_no_broken_link_or_missing_picture(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "."]
    done = subprocess.run([*command, tmp_path], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "docs/command_line.html").read_text()
    assert "--fail-if-worse" in reference  # an option of a command: the page is made from the code
    assert (tmp_path / "index.html").exists()


def test_every_command_is_shown_on_a_page():
    pages = [PROJECT / "README.md", *PROJECT.glob("docs/*.md")]
    text = "\n".join(page.read_text() for page in pages if page.name != "command_line.md")
    commands = commands_of(typer.main.get_command(app), "sentiflow")
    assert len(commands) > 20
    assert [command for command in commands if command not in text] == []
