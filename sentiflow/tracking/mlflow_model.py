"""Model package -> directory of an MLflow model, with code, requirements, signature; and back."""

import ast
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from sentiflow.data.manifest import MANIFEST
from sentiflow.data.manifest_types import Manifest
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking import mlflow_store  # before MLflow, which reads what it sets

# isort: split
from mlflow import pyfunc
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import LoggedModel
from mlflow.models import Model

INPUT_EXAMPLE = ["I love this so much", "this is not good at all"]

_SERVED_MODEL = Path(__file__).with_name("served_model.py")
_PACKAGE = "package"
"""Name of the artifact, which ``served_model`` reads."""
_OURS = __name__.partition(".")[0]
FOLDER = Path(__file__).parents[1]
"""The directory of the package sentiflow."""
_DISTRIBUTIONS = {"yaml": "pyyaml"}
"""Names of packages whose import has another name."""


def name_files(record: Manifest) -> Sequence[str]:
    """Name the files of a package, which its manifest lists; the manifest comes last."""
    return [*(item["path"] for item in record["files"]), MANIFEST]


def write(package_uri: str, record: Manifest, folder: Path, *, model: LoggedModel) -> Path:
    """Write an MLflow model below ``folder``; returns its directory.

    MLflow loads the package and scores the input example, which gives the signature.

    Args:
        package_uri: The model package.
        record: Its manifest.
        folder: An empty directory.
        model: The logged model in the tracking store.
    """
    for name in name_files(record):
        content = filesystem.read_bytes(join(package_uri, name))
        filesystem.write_bytes(join(str(folder), _PACKAGE, name), content)
    modules = find_modules(_SERVED_MODEL)
    code = folder / "sentiflow"
    code.mkdir()
    for path in modules:
        target = code / path.relative_to(FOLDER)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    pyfunc.save_model(
        folder / "model",
        python_model=str(_SERVED_MODEL),
        artifacts={_PACKAGE: str(folder / _PACKAGE)},
        code_paths=[str(code)],
        pip_requirements=pin_requirements([_SERVED_MODEL, *modules]),
        input_example=INPUT_EXAMPLE,
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            run_id=model.source_run_id,
            model_uuid=model.model_id,
            model_id=model.model_id,
        ),
    )
    return folder / "model"


def holds_package(source: str, *, tracking_uri: str) -> bool:
    """Say whether the MLflow model whose files are at ``source`` was written by :func:`write`."""
    known = mlflow_store.with_password(tracking_uri)
    found = list_artifacts(_artifact_uri(source, ""), tracking_uri=known)
    return any(Path(file.path).name == MANIFEST for file in found)


def download(source: str, name: str, folder: Path, *, tracking_uri: str) -> Path:
    """Download a file of the package in the MLflow model whose files are at ``source``."""
    uri = _artifact_uri(source, name)
    known = mlflow_store.with_password(tracking_uri)
    return Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=known))


def _artifact_uri(source: str, name: str) -> str:
    return join(source, "artifacts", _PACKAGE, name).rstrip("/")


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
