"""URI of a model, a directory or a name in MLflow -> its manifest, or its package."""

from typing import Any

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, join, names_model
from sentiflow.tracking.provenance import FOLDERS

SETTING = "score.model_uri"
REPORT = FOLDERS[3]


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
    described: ModelInput = {
        "uri": uri,
        "fingerprint": record["fingerprint"],
        "reference": record.get("reference"),
        "calibration": record.get("calibration"),
        "settings": record["settings"],
        "training": record["inputs"].get("training"),
    }
    if "refit" in record:
        described["refit"] = record["refit"]
    return described


def find_evaluation(model: ModelInput, uri: str) -> tuple[str, Manifest] | None:
    """Find the evaluation of a model in the run that trained it: its location and its manifest.

    Args:
        model: The model.
        uri: Where it was found: a directory of the run, or a name in MLflow.
    """
    training = model["training"]
    inside = (training["uri"] if training else "") if names_model(uri) else uri
    above = [inside.rsplit("/", level)[0] for level in range(3)]
    for place in (join(run, REPORT) for run in above if run and run[-1] not in ":/"):
        record = manifest.read(place)
        is_evaluation = record is not None and record["stage"] == "evaluate"
        if record and is_evaluation and record.get("model_fingerprint") == model["fingerprint"]:
            return place, record
    return None


def find_test_metrics(model: ModelInput, uri: str) -> dict[str, float]:
    """Return the metrics of a model on the test rows of its data; none if it was not evaluated.

    Args:
        model: The model.
        uri: As :func:`find_evaluation` takes it.
    """
    found = find_evaluation(model, uri)
    run = found[1].get("run") if found else None
    return dict(run["training"]["metrics"]) if run and "training" in run else {}


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
