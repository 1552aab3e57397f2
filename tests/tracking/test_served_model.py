import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from conftest import PROJECT

from sentiflow.tracking import logged_model

PACKAGE = PROJECT / "sentiflow"
MODEL_PACKAGE = PACKAGE / "models/package.py"
OPTIONAL = {"pandas", "torch"}
"""Used where they are installed: for a DataFrame, and for a GPU."""


def find_modules(path: Path) -> list[Path]:
    """List the files of sentiflow that a Python file imports, directly or through others.

    Imports in functions count, too. The file itself is listed only if another imports it.
    """
    found: set[Path] = {PACKAGE / "__init__.py"}
    waiting = [path]
    while waiting:
        new = {file for name in _imports(waiting.pop()) for file in _files(name)} - found
        found |= new
        waiting += new
    return sorted(found)


def _imports(path: Path) -> Iterator[str]:
    """Name everything that a file imports; ``from a import b`` gives ``a`` and ``a.b``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []  # its imports are for editors and type checkers
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str) -> Iterator[Path]:
    """Give the files of a module of sentiflow and of its packages; none for other names."""
    root, *inner = name.split(".")
    path = PACKAGE.joinpath(*inner)
    if root == "sentiflow" and inner:
        packages = [parent / "__init__.py" for parent in (path, *path.parents[: len(inner) - 1])]
        yield from (file for file in (path.with_suffix(".py"), *packages) if file.exists())


def test_a_served_model_requires_what_its_modules_import():
    served = PACKAGE / "tracking/served_model.py"
    names = {name.partition(".")[0] for path in [served, *find_modules(served)]
             for name in _imports(path)}  # fmt: skip
    packages = names - sys.stdlib_module_names - {"sentiflow"} - OPTIONAL
    assert {name.replace("_", "-") for name in packages} <= {*logged_model.REQUIREMENTS}


def test_what_predicts_has_the_bounds_of_the_whole_package():
    lines = (PACKAGE / "models/requirements-predict.txt").read_text().splitlines()
    needed = {line for line in lines if not line.startswith("#")}
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert needed < {*settings["project"]["dependencies"]}
