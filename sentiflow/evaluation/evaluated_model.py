"""Manifest of predictions -> the model that made them, which is asked again by the evaluation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.tracking import model_sources, packages

if TYPE_CHECKING:
    from sentiflow.models.package import ModelPackage

LoadModel: TypeAlias = Callable[[], "ModelPackage"]
"""Loads the model that made the predictions, see :func:`load`."""


def load(scored: Manifest, tracking: str | None) -> "ModelPackage":
    """Load the package of the model that made predictions.

    Args:
        scored: Manifest of the predictions.
        tracking: The MLflow store; None: the default.

    Raises:
        UserError: The model is gone or was replaced.
        JobError: MLflow cannot be reached.
    """
    described = scored["inputs"]["model"]
    uri = described["uri"]
    package = packages.load(uri, tracking=tracking)
    # This check comes after the loading, as the package may have been replaced meanwhile.
    if model_sources.describe(uri, tracking=tracking)["fingerprint"] != described["fingerprint"]:
        raise UserError(f"{uri} holds another model now")
    return package
