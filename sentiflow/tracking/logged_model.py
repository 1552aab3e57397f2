"""Model package -> an MLflow model: package, code in one archive, signature, requirements."""

import re
import zipfile
from importlib.metadata import version as version_of
from pathlib import Path

from mlflow import pyfunc
from mlflow.entities import LoggedModel
from mlflow.models import Model

from sentiflow.data.manifest import MANIFEST
from sentiflow.data.manifest_types import Manifest
from sentiflow.models import package_files
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking.runs import CODE_SUFFIXES

_CODE = Path(__file__).parents[1]
"""The package sentiflow."""
_REQUIREMENTS_FILE = _CODE / "models/requirements-predict.txt"
REQUIREMENTS = ("mlflow", *re.findall(r"^[a-z-]+", _REQUIREMENTS_FILE.read_text(), re.MULTILINE))
"""Packages that ``served_model`` and the modules that it imports need."""
PACKAGE = "package"
"""Name of the artifact with the package, which ``served_model`` reads."""
ARCHIVE = "sentiflow.zip"
"""File with the code, from which ``served_model`` imports sentiflow where it is not loaded."""
_CODE_ARTIFACT = "code"
"""Name of the artifact with the code."""
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""Time of all files in the archive: equal code gives an equal archive."""


def write(package_uri: str, record: Manifest, folder: Path, *, model: LoggedModel) -> Path:
    """Write a package as an MLflow model into an empty folder; return the model's folder.

    The code is one archive, because a server with users makes several queries for each file of an
    artifact. MLflow loads the package and scores the input example, which gives the
    signature.

    Args:
        package_uri: The package.
        record: Its manifest.
        folder: The folder, which also gets a copy of the package.
        model: The model in MLflow.
    """
    described = package_files.to_input(package_uri, record)
    for name in list_files(record):
        content = filesystem.read_bytes(join(package_uri, name))
        filesystem.write_bytes(join(str(folder), PACKAGE, name), content)
    archive_code(folder / ARCHIVE)
    written = folder / "model"
    pyfunc.save_model(
        written,
        python_model=str(Path(__file__).with_name("served_model.py")),
        model_config={
            "classes": list(package_files.classes_of(described)),
            "has_unsure": bool(record["settings"].get("unsure")),
            "is_ordered": package_files.class_values_of(described) is not None,
        },
        artifacts={PACKAGE: str(folder / PACKAGE), _CODE_ARTIFACT: str(folder / ARCHIVE)},
        pip_requirements=[_pin(name) for name in REQUIREMENTS],
        input_example=["I love this so much", "this is not good at all"],
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            run_id=model.source_run_id,
            model_uuid=model.model_id,
            model_id=model.model_id,
        ),
    )
    return written


def archive_code(path: Path) -> None:
    """Write the modules and data files of sentiflow into an archive that Python imports from."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(_CODE.rglob("*")):
            if file.suffix in CODE_SUFFIXES and file.is_file():
                name = file.relative_to(_CODE.parent).as_posix()
                archive.writestr(
                    zipfile.ZipInfo(name, _OLDEST), file.read_bytes(), zipfile.ZIP_DEFLATED
                )


def list_files(record: Manifest) -> list[str]:
    """List the files of a package: those in its manifest, then the manifest."""
    names = [item["path"] for item in record["files"]]
    return [*names, MANIFEST]


def _pin(name: str) -> str:
    """Require the installed version of a package, without its local part (``+cpu``)."""
    version, _, _ = version_of(name).partition("+")
    return f"{name}=={version}"
