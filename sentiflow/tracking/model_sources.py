"""What a user calls a model, a directory or a name in MLflow -> its manifest, or its package."""

from typing import Any

from sentiflow.data import manifest
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, names_model

SETTING = "score.model_uri"


def describe(uri: str, *, tracking: str | None) -> dict[str, Any]:
    """Name a model as an input, with what it was made from and what it was made for.

    Args:
        uri: A directory, ``models:/…`` or ``runs:/…``.
        tracking: The setting ``tracking.uri``.

    Returns:
        ``uri``, in which the version stands for an alias of today; ``fingerprint``; ``training``,
        ``reference``, ``calibration`` and ``settings`` as the package's manifest has them, or None.

    Raises:
        UserError: There is no such model, or it is no finished package.
        JobError: MLflow cannot be reached.
    """
    if names_model(uri):
        located = _locate(uri, tracking)
        record, uri = located.record, str(located.version or uri)
    else:
        record = manifest.require(uri, stage="model", setting=SETTING)
    more = {name: record.get(name) for name in ("reference", "calibration", "settings")}
    more["training"] = record["inputs"].get("training")
    return manifest.reference(uri, record) | more


def bring(model: dict[str, Any], *, to: str, tracking: str | None) -> str:
    """Say where every node finds the package of a model that :func:`describe` has described.

    One in MLflow is copied to the directory ``to``, unless it is there already.
    """
    if not names_model(model["uri"]):
        return model["uri"]
    from sentiflow.tracking import registry

    present = manifest.read(to)
    if present is None or present["fingerprint"] != model["fingerprint"]:
        filesystem.delete(to)  # a kill may have left half of it
        registry.fetch(_locate(model["uri"], tracking), to=to)
    return to


def load(uri: str, *, tracking: str | None = None) -> Any:
    """Read the package, a :class:`model_package.ModelPackage`, on the CPU.

    Raises:
        UserError: There is no such model, or it is damaged.
        JobError: MLflow cannot be reached.
    """
    if names_model(uri):
        from sentiflow.tracking import registry

        return registry.load(_locate(uri, tracking))
    from sentiflow.models.package import ModelPackage

    return ModelPackage.load(absolute_uri(uri), setting="MODEL_URI")


def _locate(uri: str, tracking: str | None) -> Any:
    """Look a model up by the names that it has now; MLflow is imported for that alone."""
    from sentiflow.tracking import registry
    from sentiflow.tracking.mlflow_store import default_uri

    return registry.locate(uri, tracking_uri=default_uri(tracking))
