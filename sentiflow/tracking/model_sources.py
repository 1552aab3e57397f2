"""URI of a model, a directory or a name in MLflow, or several -> its manifest, or its package."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.errors import UserError
from sentiflow.models import average_files, package_files
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, join, names_model
from sentiflow.tracking.runs import FOLDERS

SETTING = "score.model_uri"
REPORT = FOLDERS[3]


def describe(
    uri: str | Sequence[str], *, tracking: str | None, setting: str = SETTING, to: str = ""
) -> ModelInput:
    """Describe a model, or the average of several, as an input of a stage.

    Args:
        uri: A directory of a package or of the run that trained it, ``models:/…`` or ``runs:/…``;
            or several of them.
        tracking: The setting ``tracking.uri``.
        setting: The setting that names ``uri``, for error messages.
        to: The directory that an average will have.

    Returns:
        An alias in the URI is replaced by its version. What the package's manifest does not have
        is None.

    Raises:
        UserError: There is no such model, it is not a finished package, or several have no
            average.
        JobError: MLflow cannot be reached.
    """
    if isinstance(uri, str):
        return package_files.to_input(*find(uri, tracking=tracking, setting=setting))
    members = [describe(each, tracking=tracking, setting=setting) for each in uri]
    return average_files.describe(members, uri=to, setting=setting)


def find(uri: str, *, tracking: str | None, setting: str = SETTING) -> tuple[str, Manifest]:
    """Find a model: return the location of its package, and the manifest; as :func:`describe`."""
    if names_model(uri):
        model = _resolve(uri, tracking)
        return str(model.version or uri), model.record
    uri = manifest.find_package(uri)
    return uri, manifest.require(uri, stage="model", setting=setting)


def find_evaluation(package: Manifest, uri: str) -> tuple[str, Manifest] | None:
    """Find the evaluation of a model in the run that made it: its location and its manifest.

    Args:
        package: Manifest of the model.
        uri: Where it was found: a directory of the run, or a name in MLflow.
    """
    made = package["inputs"].get("training") or package["inputs"].get("members")
    inside = (made["uri"] if made else "") if names_model(uri) else uri
    above = [inside.rsplit("/", level)[0] for level in range(3)]
    for place in (join(run, REPORT) for run in above if run and run[-1] not in ":/"):
        record = manifest.read(place)
        is_evaluation = record is not None and record["stage"] == "evaluate"
        if record and is_evaluation and record.get("model_fingerprint") == package["fingerprint"]:
            return place, record
    return None


def find_test_metrics(package: Manifest, uri: str) -> dict[str, float]:
    """Return the metrics of a model on the test rows of its data; none if it was not evaluated.

    Args:
        package: Manifest of the model.
        uri: As :func:`find_evaluation` takes it.
    """
    found = find_evaluation(package, uri)
    run = found[1].get("run") if found else None
    return dict(run["training"]["metrics"]) if run and "training" in run else {}


def download(model: ModelInput, *, to: str, tracking: str | None) -> str:
    """Return a directory with the package of a described model, which every node can read.

    A model in MLflow is copied to ``to``, unless it is there already.
    """
    if not names_model(model["uri"]):
        return model["uri"]
    if not _is_there(model, to):
        from sentiflow.tracking import registry

        registry.download(_resolve(model["uri"], tracking), to=to)
    return to


def gather(model: ModelInput, *, to: str, work: str, tracking: str | None) -> str:
    """Copy the models of a described average into one package, unless it is there; return ``to``.

    Models in MLflow are downloaded to the directory ``work`` first.
    """
    if not _is_there(model, to):
        packages = [
            download(member, to=join(work, str(number)), tracking=tracking)
            for number, member in enumerate(model["members"])
        ]
        average_files.save(model, packages, to=to)
    return to


def _is_there(model: ModelInput, uri: str) -> bool:
    """Say whether a directory has the package of a model; if not, it is deleted."""
    present = manifest.read(uri)
    is_it = present is not None and present["fingerprint"] == model["fingerprint"]
    if present and is_it and not manifest.find_damaged(uri, present, filesystem.sizes(uri)):
        return True
    filesystem.delete(uri)  # a killed job may have copied a part, or moved one to its place
    return False


def load(uri: str | Sequence[str], *, tracking: str | None = None) -> Any:
    """Read a package or the average of several, a :data:`models.average.Model`, on the CPU.

    Raises:
        UserError: There is no such model, it is damaged, or several have no average.
        JobError: MLflow cannot be reached.
    """
    from sentiflow.models import average

    if not isinstance(uri, str):
        describe([absolute_uri(each) for each in uri], tracking=tracking, setting="the models")
        return average.Average.of([load(each, tracking=tracking) for each in uri])
    if names_model(uri):
        from sentiflow.tracking import registry

        return registry.load(_resolve(uri, tracking))
    return average.load(manifest.find_package(absolute_uri(uri)))


def load_described(
    model: Mapping[str, Any], *, tracking: str | None, setting: str = SETTING
) -> Any:
    """Read a package that was described as an input, as :func:`load`.

    Raises:
        UserError: It is gone or damaged, or another model is in its place.
    """
    uri = model["uri"]
    if describe(uri, tracking=tracking, setting=setting)["fingerprint"] != model["fingerprint"]:
        raise UserError(f"{uri} holds another model now")
    return load(uri, tracking=tracking)


def _resolve(uri: str, tracking: str | None) -> Any:
    """Look a model up in MLflow, which is imported only for that."""
    from sentiflow.tracking import registry
    from sentiflow.tracking.mlflow_store import default_uri

    return registry.resolve(uri, tracking_uri=default_uri(tracking))
