"""Model package -> directory of an MLflow model, with code, requirements, signature; and back."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from sentiflow.data.manifest import MANIFEST
from sentiflow.data.manifest_types import Manifest
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking import (
    mlflow_store,  # noqa: F401  MLflow reads what it sets
    store_address,
)

# isort: split
from mlflow import pyfunc
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import LoggedModel
from mlflow.models import Model

INPUT_EXAMPLE = ["I love this so much", "this is not good at all"]

_SERVED_MODEL = Path(__file__).with_name("served_model.py")
_PACKAGE = "package"
"""Name of the artifact, which ``served_model`` reads."""
_FOLDER = Path(__file__).parents[1]
"""The directory of the package sentiflow, whose code is logged with each model."""
REQUIREMENTS = (
    *("mlflow", "numpy", "pyarrow", "pydantic", "safetensors", "torch", "typing_extensions"),
)
"""What ``served_model`` and the modules that it imports need."""


def name_files(record: Manifest) -> Sequence[str]:
    """Name the files of a package, which its manifest lists; the manifest comes last."""
    return [*(item["path"] for item in record["files"]), MANIFEST]


def write(package_uri: str, record: Manifest, folder: Path, *, model: LoggedModel) -> Path:
    """Write an MLflow model below ``folder``; return its directory.

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
    # The local part of a version (``+cpu``) names a build for this machine.
    pins = [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]
    pyfunc.save_model(
        folder / "model",
        python_model=str(_SERVED_MODEL),
        model_config={"classes": list(record["settings"]["classes"])},
        artifacts={_PACKAGE: str(folder / _PACKAGE)},
        code_paths=[str(_FOLDER)],
        pip_requirements=pins,
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
    known = store_address.with_password(tracking_uri)
    found = list_artifacts(_artifact_uri(source, ""), tracking_uri=known)
    return any(Path(file.path).name == MANIFEST for file in found)


def download(source: str, name: str, folder: Path, *, tracking_uri: str) -> Path:
    """Download a file of the package in the MLflow model whose files are at ``source``."""
    uri = _artifact_uri(source, name)
    known = store_address.with_password(tracking_uri)
    return Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=known))


def _artifact_uri(source: str, name: str) -> str:
    return join(source, "artifacts", _PACKAGE, name).rstrip("/")
