"""Model package -> a version in MLflow's registry, and back to a directory."""

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sentiflow.data import manifest
from sentiflow.data.manifest import MANIFEST
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.models import package_files
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_files import FILES
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join, without_credentials
from sentiflow.tracking import mlflow_model, mlflow_store, model_uris
from sentiflow.tracking.model_uris import Version

# isort: split
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException

log = logging.getLogger(__name__)

CANDIDATE, CHAMPION = "candidate", "champion"
FINGERPRINT_TAG = "sentiflow.fingerprint"
"""The tag of a version with the fingerprint of its model package."""

_MODEL = "model"
"""Name of the logged model in its run."""
_VERSIONS_TAG = "mlflow.modelVersions"
"""The tag from which the UI shows the versions of a logged model."""


@dataclass(frozen=True)
class ResolvedModel:
    """A model package in MLflow."""

    uri: str
    tracking_uri: str
    source: str
    """Where MLflow keeps the model; unlike an alias, it never changes."""
    run_id: str
    """The training's run."""
    version: Version | None
    """None if it was logged but not registered."""
    record: Manifest
    """The package's manifest."""


def register(
    package_uri: str, *, name: str, tracking_uri: str, run_id: str, alias: str = CANDIDATE
) -> Version:
    """Log a model package to a training's run, register it, and give it the alias.

    If a version of ``name`` has the same package, only its alias is set.

    Raises:
        UserError: There is no such package, it is damaged, or there is no such store.
        JobError: MLflow refuses.
        UnavailableError: The store does not answer; the next call finds what was done.
    """
    package_files.read(package_uri)  # a manifest may name files outside of the package
    record = manifest.require(package_uri, stage="model", setting="the model")
    client = mlflow_store.connect(tracking_uri)
    hint = "; tracking.register_model=false trains without it"
    with _asking(tracking_uri, f"register {name}", hint=hint):
        known = find_version(client, name, record["fingerprint"])
        version = known or _create(client, name, run_id, package_uri, record)
        client.set_registered_model_alias(name, alias, str(version.number))
    return version


def resolve(uri: str, *, tracking_uri: str) -> ResolvedModel:
    """Find the model package of ``models:/…`` or ``runs:/…``, and read its manifest.

    Raises:
        UserError: There is no such store, model, version, alias or run; or it is not a model of
            sentiflow.
        JobError: The store cannot be reached, or refuses.
    """
    client = mlflow_store.connect(tracking_uri)
    with _asking(tracking_uri, f"look up {uri}"):
        source, run_id, version = model_uris.find_source(client, uri)
        if not mlflow_model.holds_package(source, tracking_uri=tracking_uri):
            raise UserError(
                f"{uri} is not a model of sentiflow", hint=f"there is no model package in {source}"
            )
        with tempfile.TemporaryDirectory() as folder:
            mlflow_model.download(source, MANIFEST, Path(folder), tracking_uri=tracking_uri)
            record = manifest.require(folder, stage="model", setting=uri)
    if set(mlflow_model.name_files(record)) != {*FILES, MANIFEST}:
        raise UserError(f"{uri} is damaged", hint="its manifest names files of no model package")
    return ResolvedModel(uri, tracking_uri, source, run_id, version, record)


def download(model: ResolvedModel, *, to: str) -> None:
    """Copy a model package to the directory ``to``; its manifest comes last.

    Raises:
        JobError: A file cannot be read.
    """
    uri, what = model.tracking_uri, f"download {model.uri}"
    with _asking(uri, what), tempfile.TemporaryDirectory() as folder:
        for name in mlflow_model.name_files(model.record):
            path = mlflow_model.download(model.source, name, Path(folder), tracking_uri=uri)
            filesystem.write_bytes(join(to, name), path.read_bytes())


def load(model: ResolvedModel) -> ModelPackage:
    """Download a model package and read it, on the CPU.

    Raises:
        UserError: It is damaged, or needs a newer sentiflow.
        JobError: A file cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        download(model, to=folder)
        return ModelPackage.load(folder, setting=model.uri)


def read_aliases(name: str, *, tracking_uri: str) -> dict[str, int]:
    """List the aliases of a registered model, with their versions.

    Raises:
        UserError: There is no such model, or no such store.
        JobError: The store cannot be reached, or refuses.
    """
    client = mlflow_store.connect(tracking_uri)
    with _asking(tracking_uri, f"look up {name}"):
        return model_uris.read_aliases(client, name, uri=f"models:/{name}")


def set_alias(version: Version, alias: str, *, tracking_uri: str) -> None:
    """Give an alias to a version; an earlier version loses it.

    Raises:
        JobError: MLflow refuses.
    """
    client = mlflow_store.connect(tracking_uri)
    with _asking(tracking_uri, f"set the alias {alias}"):
        client.set_registered_model_alias(version.name, alias, str(version.number))


def set_tags(version: Version, tags: dict[str, str], *, tracking_uri: str) -> None:
    """Tag a version.

    Raises:
        JobError: MLflow refuses.
    """
    client = mlflow_store.connect(tracking_uri)
    with _asking(tracking_uri, f"tag {version}"):
        for key, value in tags.items():
            client.set_model_version_tag(version.name, str(version.number), key, value)


def _create(
    client: MlflowClient, name: str, run_id: str, package_uri: str, record: Manifest
) -> Version:
    run = client.get_run(run_id)
    tags = {FINGERPRINT_TAG: record["fingerprint"]}
    model = client.create_logged_model(
        run.info.experiment_id, name=_MODEL, source_run_id=run_id, tags=tags, params=run.data.params
    )
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow_model.write(package_uri, record, Path(folder), model=model)
        client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # A source models:/<id> would be looked up in the store of MLflow's global state.
    made = client.create_model_version(
        name, source=model.artifact_location, run_id=run_id, tags=tags, model_id=model.model_id
    )
    shown = json.dumps([{"name": name, "version": str(made.version)}])
    client.set_logged_model_tags(model.model_id, {_VERSIONS_TAG: shown})
    return Version(name, int(made.version))


def find_version(client: MlflowClient, name: str, fingerprint: str) -> Version | None:
    """Find the newest version of ``name`` whose package has this fingerprint."""
    found = client.search_model_versions(
        f"name = '{name}' and tag.`{FINGERPRINT_TAG}` = '{fingerprint}'"
    )
    return Version(name, max(int(item.version) for item in found)) if found else None


@contextmanager
def _asking(tracking_uri: str, what: str, *, hint: str = "") -> Iterator[None]:
    """Silence MLflow for the block, unless ``--verbose``; turn its errors into one line.

    Raises:
        JobError: MLflow refuses.
        UnavailableError: It does not answer.
    """
    logger = logging.getLogger("mlflow")
    before = logger.level
    if not log.isEnabledFor(logging.DEBUG):
        logger.setLevel(logging.ERROR)
    try:
        yield
    except (JobError, UserError):
        raise
    except mlflow_store.failures() as error:
        store, reason = without_credentials(tracking_uri), mlflow_store.reason(error)
        kind = JobError if mlflow_store.is_refusal(error) else UnavailableError
        raise kind(f"cannot {what} in {store}: {reason}{hint}") from error
    finally:
        logger.setLevel(before)
