"""The pages that teach hold commands that run from top to bottom, and what they print."""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PROJECT, make_store
from test_cli import invoke

PAGES = ["tutorial", "words"]
OWN_CSV = "your_own_csv"
LANGUAGE_MODEL = "language_model"
LEFT_OUT = "…"


@dataclass(frozen=True)
class Step:
    """A command of a page, and the lines that stand below it."""

    command: str
    lines: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Say whether its output is the same wherever it runs: that of the vectors that ship."""
        return self.command.startswith("sentiflow words") and "runs/" not in self.command


def blocks_of(page: str, language: str) -> list[str]:
    text = (PROJECT / f"docs/{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def steps_of(page: str) -> list[Step]:
    steps: list[Step] = []
    for block in blocks_of(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            steps.append(Step(command, tuple(lines)))
    return steps


def form_of(line: str) -> str:
    """Leave out of a line what hangs on the data and the clock: numbers, labels and blanks."""
    answer = re.sub(r"^(positive|negative)\t", "label ", line)
    numbers = re.sub(r"\d+(?:[,.]\d+)*%?", "#", answer)
    return " ".join(re.sub(r"#(, #)+", "#", numbers).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Make a directory as a user has it."""
    folder = tmp_path_factory.mktemp("project")
    make_store(folder)
    for name in ("configs", "examples"):
        shutil.copytree(PROJECT / name, folder / name)
    return folder


def run(command: str, place: Path) -> list[str]:
    """Run a command of sentiflow in this process, where Ray runs, and others in a shell."""
    if command.startswith("sentiflow ") and "||" not in command:
        result = invoke(*shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
        return result.output.splitlines()
    done = subprocess.run(
        ["bash", "-c", command], cwd=place,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout.splitlines()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page", [pytest.param("tutorial", marks=pytest.mark.soak), "words", OWN_CSV, LANGUAGE_MODEL]
)
def test_each_command_of_a_page_prints_what_stands_below_it(page, place, monkeypatch, resources):
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    steps = steps_of(page)
    assert len(steps) >= 5
    shown = str.rstrip if page == LANGUAGE_MODEL else form_of  # its data and its draws have seeds
    for step in steps:
        printed = run(step.command, place)
        if step.is_exact:
            assert [line.rstrip() for line in printed] == list(step.lines), step.command
            continue
        forms = iter(map(shown, printed))
        for line in step.lines:
            if line.strip() != LEFT_OUT:
                assert shown(line) in forms, f"{step.command}\n{line}\n" + "\n".join(printed)
    if page == OWN_CSV:  # its Python reads what its commands have written
        check_python(page)
    if page == LANGUAGE_MODEL:
        assert blocks_of(page, "yaml") == [(place / "reviews.yaml").read_text()]


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_answers_as_it_stands_there(page):
    check_python(page)


def check_python(page):
    """Run the examples in Python of a page."""
    blocks = blocks_of(page, "python")
    assert blocks
    for block in blocks:
        examples = doctest.DocTestParser().get_doctest(block, {}, page, None, None)
        assert examples.examples
        assert doctest.DocTestRunner().run(examples).failed == 0


def test_a_form_keeps_all_but_numbers_labels_and_blanks():
    one, other = "train  epoch 3: loss 0.64 (0.1 s)", "train epoch 12: loss 1.2 (10.5 s)"
    assert form_of(one) == form_of(other) == "train epoch #: loss # (# s)"
    assert form_of("[1, 22, 3]") == form_of("[4, 5]")
    assert form_of("positive\t0.9\tokay") == form_of("negative\t0.1\tokay")
    assert form_of("rows read 1,000 (10%)") == form_of("rows read 9 (9.5%)")
    assert form_of("rows read 10") != form_of("rows left 10")
