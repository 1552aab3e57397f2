"""URI of a model, a directory or a name in MLflow -> its manifest, or its package."""

from typing import Any

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, names_model

SETTING = "score.model_uri"


def describe(uri: str, *, tracking: str | None, setting: str = SETTING) -> ModelInput:
    """Describe a model as an input of a stage.

    Args:
        uri: A directory of a package or of the run that trained it, ``models:/…`` or ``runs:/…``.
        tracking: The setting ``tracking.uri``.
        setting: The setting that names ``uri``, for error messages.

    Returns:
        An alias in the URI is replaced by its version. What the package's manifest does not have
        is None.

    Raises:
        UserError: There is no such model, or it is not a finished package.
        JobError: MLflow cannot be reached.
    """
    return to_input(*find(uri, tracking=tracking, setting=setting))


def find(uri: str, *, tracking: str | None, setting: str = SETTING) -> tuple[str, Manifest]:
    """Find a model: return the location of its package, and the manifest; as :func:`describe`."""
    if names_model(uri):
        model = _resolve(uri, tracking)
        return str(model.version or uri), model.record
    uri = manifest.find_package(uri)
    return uri, manifest.require(uri, stage="model", setting=setting)


def to_input(uri: str, record: Manifest) -> ModelInput:
    """Describe a model as an input of a stage, given the manifest of its package."""
    return {
        "uri": uri,
        "fingerprint": record["fingerprint"],
        "reference": record.get("reference"),
        "calibration": record.get("calibration"),
        "settings": record["settings"],
        "training": record["inputs"].get("training"),
    }


def download(model: ModelInput, *, to: str, tracking: str | None) -> str:
    """Return a directory with the package of a described model, which every node can read.

    A model in MLflow is copied to ``to``, unless it is there already.
    """
    if not names_model(model["uri"]):
        return model["uri"]
    from sentiflow.tracking import registry

    present = manifest.read(to)
    if present is None or present["fingerprint"] != model["fingerprint"]:
        filesystem.delete(to)  # a killed job may have copied a part
        registry.download(_resolve(model["uri"], tracking), to=to)
    return to


def load(uri: str, *, tracking: str | None = None) -> Any:
    """Read the package, a :class:`models.package.ModelPackage`, on the CPU.

    Raises:
        UserError: There is no such model, or it is damaged.
        JobError: MLflow cannot be reached.
    """
    if names_model(uri):
        from sentiflow.tracking import registry

        return registry.load(_resolve(uri, tracking))
    from sentiflow.models.package import ModelPackage

    return ModelPackage.load(manifest.find_package(absolute_uri(uri)))


def _resolve(uri: str, tracking: str | None) -> Any:
    """Look a model up in MLflow, which is imported only for that."""
    from sentiflow.tracking import registry
    from sentiflow.tracking.store_address import default_uri

    return registry.resolve(uri, tracking_uri=default_uri(tracking))
