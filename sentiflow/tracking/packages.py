"""URI of a model -> its package, ready to score: a directory, ``models:/…`` or ``runs:/…``.

Python programs and ``sentiflow predict`` read models here, so this module imports little: MLflow
only for a model of MLflow.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sentiflow.config import yaml_text
from sentiflow.config.types import check_models
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.models import average_files, package_files
from sentiflow.models.package import ModelPackage
from sentiflow.storage.uris import absolute_uri, names_model

_SETTING = "the models"
"""Names several models in error messages."""


def read_uris(value: Any) -> str | tuple[str, ...]:
    """Read one model or several: a string, a list, or a list in YAML, ``[runs/a, runs/b]``.

    Raises:
        UserError: The value is neither a model nor a list of different models.
    """
    try:
        if isinstance(value, str) and value.startswith("["):
            value = yaml_text.parse(value)
        uris: str | tuple[str, ...] = check_models(value)
    except ValueError as error:
        raise UserError(
            f"the list of models {error}", hint="name one model, or several as '[runs/a, runs/b]'"
        ) from error
    return uris


def load(uri: str | Sequence[str], *, tracking: str | None = None) -> ModelPackage:
    """Read a package, or several as their average, on the CPU.

    Raises:
        UserError: A model does not exist or is damaged, or several models cannot be averaged.
        JobError: MLflow cannot be reached.
    """
    if not isinstance(uri, str):
        _check_average([absolute_uri(each) for each in uri], tracking)
        packages = [load(each, tracking=tracking) for each in uri]
        return replace(packages[0], others=tuple(packages[1:]))
    if names_model(uri):
        from sentiflow.tracking import mlflow_store, model_registry

        with tempfile.TemporaryDirectory() as folder:
            store = mlflow_store.default_uri(tracking)
            model_registry.download(uri, to=folder, tracking_uri=store)
            return ModelPackage.load(folder, setting=uri)
    return ModelPackage.load(manifest.find_package(absolute_uri(uri)))


def _check_average(uris: Sequence[str], tracking: str | None) -> None:
    """Check that models can be averaged.

    Raises:
        UserError: A model does not exist, or their classes differ.
    """
    if any(names_model(uri) for uri in uris):
        from sentiflow.tracking import model_sources

        model_sources.describe(uris, tracking=tracking, setting=_SETTING)
        return
    members = []
    for uri in map(manifest.find_package, uris):
        record = manifest.require(uri, stage="model", setting=_SETTING)
        members.append(package_files.to_input(uri, record))
    average_files.describe(members, setting=_SETTING)
