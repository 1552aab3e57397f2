"""The structure that README.md promises: a few rooms, and what goes into and comes out of each."""

import ast
import re

from conftest import PROJECT

PACKAGE = PROJECT / "sentiflow"
ROOMS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.startswith("__"))


def docstring(path):
    return ast.get_docstring(ast.parse(path.read_text()))


def test_the_readme_describes_each_room_as_the_room_does():
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.+?) \|$", (PROJECT / "README.md").read_text(), re.M))
    assert rows == {room.name: docstring(room / "__init__.py") for room in ROOMS}


def test_the_package_has_few_entries_and_all_its_modules_are_in_rooms():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert len(entries) <= 21
    loose = {path.name for path in MODULES if path.parent == PACKAGE}
    assert loose == {"errors.py", "plotting.py", "progress.py"}


def test_rooms_hold_no_code_of_their_own():
    rooms = {*PACKAGE.glob("*/**/__init__.py")}
    for path in rooms - {
        PACKAGE / "tracking/__init__.py"
    }:  # sets what MLflow reads as it is imported
        assert [type(node).__name__ for node in ast.parse(path.read_text()).body] == ["Expr"], path


def test_tests_have_the_rooms_of_the_package():
    rooms = {path.parent.relative_to(PROJECT / "tests") for path in PROJECT.glob("tests/*/**/*.py")}
    assert all((PACKAGE / room).is_dir() for room in rooms)
