"""Versions of a registered model -> the models by which candidate and champion are judged."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.tracking import model_registry, model_sources, training_rows

if TYPE_CHECKING:
    from sentiflow.models.model import Model


class Contender(NamedTuple):
    """The candidate or the champion."""

    version: model_registry.Version
    record: Manifest
    """Manifest of its package."""

    @property
    def has_seen_test(self) -> bool:
        """Say whether it is a refit that was trained on the test rows."""
        return training_rows.has_seen_test(self.record)


def resolve(name: str, number: int, tracking_uri: str, *, near: str) -> Contender:
    """Find a version in the registry and read its manifest.

    Args:
        name: Name of the registered model.
        number: Number of the version.
        tracking_uri: The store.
        near: Directory of the user's data, as for :func:`model_registry.resolve`.
    """
    version = model_registry.Version(name, number)
    resolved = model_registry.resolve(str(version), tracking_uri=tracking_uri, near=near)
    return Contender(version, resolved.record)


class JudgedModel(NamedTuple):
    """The model by which a version is judged."""

    model: "Model"
    input: Mapping[str, Any]
    """The model as an input of a stage, as manifests describe it."""


def load(contender: Contender, tracking_uri: str) -> JudgedModel:
    """Load the model that a version is judged by: itself, or the run that it repeats.

    Raises:
        UserError: The version is a refit, and the run that it repeats is gone.
    """
    # slow to import: a champion without a comparison needs no model
    from sentiflow.models import device
    from sentiflow.models.model import Model
    from sentiflow.tracking import packages

    uri = str(contender.version)
    record = contender.record
    if contender.has_seen_test:
        uri, record = _find_repeated(contender, tracking_uri)
    package = packages.load(uri, tracking=tracking_uri).to(device.choose())
    return JudgedModel(Model(package, uri), package_files.to_input(uri, record))


def _find_repeated(refit: Contender, tracking_uri: str) -> tuple[str, Manifest]:
    """Find the model that a refit repeats: its location and its manifest.

    Raises:
        UserError: The model is gone, or another one is in its place.
    """
    name = refit.version.name
    repeated = refit.record["refit"]["of"]
    description = f"the run that {refit.version} repeats"
    version = model_registry.find(name, repeated["fingerprint"], tracking_uri=tracking_uri)
    location = str(version) if version else repeated["uri"]
    uri, record = model_sources.find(location, tracking=tracking_uri, setting=description)
    if record["fingerprint"] != repeated["fingerprint"]:
        raise UserError(
            f"{description} is gone: {uri} holds another model",
            hint=f"promote another version of {name}",
        )
    return uri, record
