"""Module of sentiflow -> the modules and the pinned packages that it needs."""

import ast
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

_OURS = __name__.partition(".")[0]
FOLDER = Path(__file__).parents[1]
"""The directory of the package sentiflow."""
_DISTRIBUTIONS = {"yaml": "pyyaml"}
"""Names of packages whose import has another name."""


def find_modules(path: Path) -> list[Path]:
    """List the files of sentiflow that a Python file imports, directly or through others.

    Imports in functions count, too. The file itself is listed only if another imports it.
    """
    found: set[Path] = {FOLDER / "__init__.py"}
    waiting = [path]
    while waiting:
        new = {file for name in _imports(waiting.pop()) for file in _files(name)} - found
        found |= new
        waiting += new
    return sorted(found)


def pin_requirements(paths: Iterable[Path]) -> list[str]:
    """Name the packages that Python files import, each at the version that is installed here.

    The local part of a version (``+cpu``) is left out: it names a build for this machine.
    """
    roots = {name.partition(".")[0] for path in paths for name in _imports(path)}
    packages = roots - sys.stdlib_module_names - {_OURS}
    distributions = sorted(_DISTRIBUTIONS.get(name, name) for name in packages)
    return [f"{name}=={version(name).partition('+')[0]}" for name in distributions]


def _imports(path: Path) -> Iterator[str]:
    """Name everything that a file imports; ``from a import b`` gives ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str) -> Iterator[Path]:
    """Give the files of a module of sentiflow and of its packages; none for other names."""
    root, *inner = name.split(".")
    path = FOLDER.joinpath(*inner)
    if root == _OURS and inner:
        packages = [parent / "__init__.py" for parent in (path, *path.parents[: len(inner) - 1])]
        yield from (file for file in (path.with_suffix(".py"), *packages) if file.exists())
