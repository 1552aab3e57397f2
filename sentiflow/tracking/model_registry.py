"""Model package -> a version in MLflow's registry; URI of a model in MLflow -> its package."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.exceptions import MlflowException

from sentiflow.data import manifest, manifest_content
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.models import average_files, package_files
from sentiflow.progress import Progress
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking import artifact_sources, logged_model, mlflow_store
from sentiflow.tracking.logged_model import PACKAGE, list_files
from sentiflow.tracking.runs import FINGERPRINT_TAG

CANDIDATE = "candidate"
"""Alias of the version that was registered last."""
CHAMPION = "champion"
"""Alias of the version that was promoted."""

_MODEL = "model"
"""Name of the logged model in its run."""
_VERSIONS_TAG = "mlflow.modelVersions"
"""Tag by which the UI shows the versions of a logged model."""
_OWN_DESCRIPTION = re.compile(r"\d+\.\d% \w+ accuracy ")
"""Beginning of a description by sentiflow, such as "81.2% test accuracy": it may be replaced."""
_MAX_DESCRIPTION_LENGTH = 5000
"""Maximum number of characters of a description in MLflow."""

# models:/m-ID; runs:/RUN/MODEL; models:/NAME@ALIAS, models:/NAME/NUMBER or models:/NAME/latest
_URI = re.compile(
    r"models:/(?P<id>m-[0-9a-f]{32})|runs:/(?P<run>[^/]+)/(?P<model>.+)"
    r"|models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+|latest))"
)
_URI_HINT = "write models:/NAME@champion, models:/NAME/VERSION, models:/m-ID or runs:/RUN_ID/model"
_UI_HINT = "; sentiflow ui shows the models that there are"


@dataclass(frozen=True)
class Version:
    """A version of a registered model: one package."""

    name: str
    """Name of the registered model."""
    number: int
    """Number of the version."""

    def __str__(self) -> str:
        return f"models:/{self.name}/{self.number}"


class ResolvedModel(NamedTuple):
    """A model package in MLflow."""

    uri: str
    """The URI of the model; an alias is replaced by its version."""
    source: str
    """Where MLflow keeps the files; unlike an alias, it never changes."""
    record: Manifest
    """The package's manifest."""


def register(
    package_uri: str,
    *,
    name: str,
    tracking_uri: str,
    run_id: str,
    tags: Mapping[str, str] | None = None,
    keeps_newer: bool = False,
) -> Version:
    """Log a model package to a training's run, register it, and make it the candidate.

    If a version of ``name`` already has this package, it only becomes the candidate.

    Args:
        package_uri: The package.
        name: Name of the registered model.
        tracking_uri: The store.
        run_id: The run of the training.
        tags: Tags of a new version, in the order in which MLflow lists them.
        keeps_newer: Leave the alias with a version whose run began later than this run.

    Raises:
        UserError: There is no such package, it is damaged, or there is no such store.
        JobError: MLflow refuses.
        UnavailableError: The store does not answer; the next call does the missing steps.
    """
    for place in average_files.list_packages(package_uri):
        # Raises if the package is damaged: a manifest may name files outside of the package.
        package_files.read(place)
    record = manifest.require(package_uri, stage="model", setting="the model")
    hint = "; tracking.register_model=false trains without it"
    with mlflow_store.asking(tracking_uri, f"register {name}", hint=hint) as client:
        version = find(name, record["fingerprint"], tracking_uri=tracking_uri)
        if version is None:
            version = _create_version(client, name, run_id, package_uri, record, tags or {})
        if not keeps_newer or _is_newest(client, name, run_id):
            client.set_registered_model_alias(name, CANDIDATE, str(version.number))
    return version


def _is_newest(client: MlflowClient, name: str, run_id: str) -> bool:
    """Say whether no candidate belongs to a run that began later than a run."""
    number = client.get_registered_model(name).aliases.get(CANDIDATE)
    if number is None:
        return True
    candidate = client.get_model_version(name, number)
    try:
        began = client.get_run(candidate.run_id).info.start_time
    except MlflowException:  # the run was deleted
        began = candidate.creation_timestamp
    return bool(client.get_run(run_id).info.start_time >= began)


def resolve(uri: str, *, tracking_uri: str, near: str = "") -> ResolvedModel:
    """Find the model package of ``models:/…`` or ``runs:/…``, and read its manifest.

    Its training is looked up only on this machine, in the store where MLflow keeps the package, and
    in the store of ``near``.

    Args:
        uri: The model.
        tracking_uri: The store.
        near: A directory to which the command writes.

    Raises:
        UserError: There is no such store, model, version, alias or run; or the model is damaged,
            was not made by sentiflow, or its files are on another server.
        JobError: The store cannot be reached, or refuses.
    """
    with mlflow_store.asking(
        tracking_uri, f"look up {uri}", hint=_UI_HINT, refusal=UserError, needed="READ"
    ) as client:
        source, version = _find_source(client, uri)
        artifact_sources.check(source, uri=uri, tracking_uri=tracking_uri)
        files = list_artifacts(_locate(source), tracking_uri=tracking_uri)
        names = [Path(file.path).name for file in files]
        if manifest.MANIFEST not in names:
            raise UserError(
                f"{uri} is not a model of sentiflow", hint=f"there is no model package in {source}"
            )
        content = _read_file(source, manifest.MANIFEST, tracking_uri)
        directories = ["/", source]  # the root stands for this machine
        if near:
            directories.append(near)
        record = manifest_content.parse(
            content, f"{manifest.MANIFEST} of {uri}", directories=directories
        )
    listed = {item["path"] for item in record["files"]}
    if record["stage"] != "model" or listed != set(average_files.list_files(record)):
        raise UserError(f"{uri} is damaged", hint="its manifest names files of no model package")
    return ResolvedModel(str(version or uri), source, record)


def download(uri: str, *, to: str, tracking_uri: str) -> None:
    """Copy a model package to the directory ``to``.

    The manifest comes last: without it, the package counts as unfinished.

    Raises:
        UserError: As :func:`resolve`.
        JobError: A file cannot be read.
    """
    with Progress("tracking", what=f"looking up {uri}"):
        model = resolve(uri, tracking_uri=tracking_uri)
    names = list_files(model.record)
    with (
        Progress("tracking", what=f"downloading {uri}", total=len(names), unit="files") as progress,
        mlflow_store.asking(tracking_uri, f"download {uri}", needed="READ"),
    ):
        for name in names:
            content = _read_file(model.source, name, tracking_uri)
            filesystem.write_bytes(join(to, name), content)
            progress.advance(1)


def read_aliases(name: str, *, tracking_uri: str) -> dict[str, int]:
    """List the aliases of a registered model, with their versions.

    Raises:
        UserError: There is no such model, or no such store.
        JobError: The store cannot be reached, or refuses.
    """
    with mlflow_store.asking(
        tracking_uri, f"look up {name}", hint=_UI_HINT, refusal=UserError, needed="READ"
    ) as client:
        aliases = client.get_registered_model(name).aliases
    return {alias: int(number) for alias, number in aliases.items()}


def set_alias(version: Version, alias: str, *, tracking_uri: str) -> None:
    """Give an alias to a version; MLflow takes it from the version that had it.

    Raises:
        UserError: MLflow's user lacks the permission.
        JobError: MLflow refuses.
    """
    what = f"give {version} the alias {alias}"
    with mlflow_store.asking(tracking_uri, what) as client:
        client.set_registered_model_alias(version.name, alias, str(version.number))


def read_tags(version: Version, *, tracking_uri: str) -> dict[str, str]:
    """Read all tags of a version.

    Raises:
        UserError: There is no such version.
        JobError: The store cannot be reached, or refuses.
    """
    what = f"look up {version}"
    with mlflow_store.asking(
        tracking_uri, what, hint=_UI_HINT, refusal=UserError, needed="READ"
    ) as client:
        tags: dict[str, str] = client.get_model_version(version.name, str(version.number)).tags
    return tags


def find_tagged(name: str, key: str, value: str, *, tracking_uri: str) -> dict[int, dict[str, str]]:
    """Find the versions of a registered model that have a tag with this value.

    Returns:
        For each number of a version: all its tags.

    Raises:
        JobError: MLflow refuses.
    """
    conditions = [
        mlflow_store.to_condition("name", name),
        mlflow_store.to_condition(f"tag.`{key}`", value),
    ]
    with mlflow_store.asking(tracking_uri, f"look up {name}", needed="READ") as client:
        versions = client.search_model_versions(" and ".join(conditions), max_results=1000)
    found = {}
    for version in versions:
        if version.name == name and version.tags.get(key) == value:
            found[int(version.version)] = version.tags
    return found


def find(name: str, fingerprint: str, *, tracking_uri: str) -> Version | None:
    """Find the newest version whose package has this fingerprint.

    Raises:
        JobError: MLflow refuses.
    """
    versions = find_tagged(name, FINGERPRINT_TAG, fingerprint, tracking_uri=tracking_uri)
    return Version(name, max(versions)) if versions else None


def describe(
    version: Version,
    *,
    tags: Mapping[str, str],
    tracking_uri: str,
    text: str = "",
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Tag a version, describe it in Markdown, and add files to its model.

    A description that a user has written stays.

    Args:
        version: The version.
        tags: Its new tags.
        tracking_uri: The store.
        text: The description; empty: it stays as it is.
        files: Contents by name, such as a model card.

    Raises:
        UserError: A file cannot be added, as the run of the training is gone; or MLflow's user
            lacks a permission.
        JobError: MLflow refuses.
        UnavailableError: The store does not answer.
    """
    name = version.name
    number = str(version.number)
    with mlflow_store.asking(tracking_uri, f"describe {version}") as client:
        for key, value in tags.items():
            client.set_model_version_tag(name, number, key, value)
        known = client.get_model_version(name, number)
        if text and (not known.description or _OWN_DESCRIPTION.match(known.description)):
            client.update_model_version(name, number, text[:_MAX_DESCRIPTION_LENGTH])
        for file_name, content in (files or {}).items():
            model = _find_output(client, known.run_id, _MODEL)
            artifact_sources.check(
                model.artifact_location, uri=str(version), tracking_uri=tracking_uri
            )
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, file_name)
                path.write_bytes(content)
                client.log_model_artifact(model.model_id, str(path))


def read_file(version: Version, name: str, *, tracking_uri: str) -> bytes | None:
    """Read a file that :func:`describe` has added to the model of a version; None if it is gone.

    Raises:
        UserError: It is on another server.
        JobError: The store cannot be reached.
    """
    with mlflow_store.asking(tracking_uri, f"read {name} of {version}") as client:
        source = client.get_model_version_download_uri(version.name, str(version.number))
        artifact_sources.check(source, uri=str(version), tracking_uri=tracking_uri)
        files = list_artifacts(source, tracking_uri=tracking_uri)
        if name not in [Path(file.path).name for file in files]:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = download_artifacts(
                f"{source}/{name}", dst_path=folder, tracking_uri=tracking_uri
            )
            return Path(path).read_bytes()


def log_model(client: MlflowClient, run_id: str, package_uri: str, record: Manifest) -> LoggedModel:
    """Log a model package to a run, unless the run has already logged it; return the model."""
    run = client.get_run(run_id)
    for model in find_models(client, run_id):
        if model.tags.get(FINGERPRINT_TAG) == record["fingerprint"]:
            return model
    model = client.create_logged_model(
        run.info.experiment_id,
        name=_MODEL,
        source_run_id=run_id,
        tags={FINGERPRINT_TAG: record["fingerprint"]},
        params=run.data.params,
    )
    artifact_sources.check(
        model.artifact_location,
        uri=f"runs:/{run_id}/{_MODEL}",
        tracking_uri=client.tracking_uri,
        hint=artifact_sources.OTHER_RUN,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = logged_model.write(package_uri, record, Path(folder), model=model)
        client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def find_models(client: MlflowClient, run_id: str) -> list[LoggedModel]:
    """Find the models that a run has logged, in their order."""
    outputs = client.get_run(run_id).outputs
    if not outputs:
        return []
    return [client.get_logged_model(output.model_id) for output in outputs.model_outputs]


def _create_version(
    client: MlflowClient,
    name: str,
    run_id: str,
    package_uri: str,
    record: Manifest,
    tags: Mapping[str, str],
) -> Version:
    """Log a model package to a run, and register it as a version."""
    model = log_model(client, run_id, package_uri, record)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # A source models:/<id> would be looked up in the store of MLflow's global state.
    made = client.create_model_version(
        name,
        source=model.artifact_location,
        run_id=run_id,
        tags={**tags, FINGERPRINT_TAG: record["fingerprint"]},
        model_id=model.model_id,
    )
    shown = json.dumps([{"name": name, "version": str(made.version)}])
    client.set_logged_model_tags(model.model_id, {_VERSIONS_TAG: shown})
    return Version(name, int(made.version))


def _locate(source: str, name: str = "") -> str:
    """Return the location of the package, or of one of its files, in an MLflow model."""
    return join(source, "artifacts", PACKAGE, name).rstrip("/")


def _read_file(source: str, name: str, tracking_uri: str) -> bytes:
    """Read a file of the package in the MLflow model ``source``."""
    with tempfile.TemporaryDirectory() as folder:
        path = download_artifacts(_locate(source, name), dst_path=folder, tracking_uri=tracking_uri)
        return Path(path).read_bytes()


def _find_source(client: MlflowClient, uri: str) -> tuple[str, Version | None]:
    """Find the location of a model's files, and the version if the URI names one.

    Raises:
        UserError: There is no such model, version, alias or run.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise UserError(f"cannot read {uri}", hint=_URI_HINT)
    if match["id"]:
        return client.get_logged_model(match["id"]).artifact_location, None
    if match["run"]:
        return _find_output(client, match["run"], match["model"]).artifact_location, None
    version = _look_up_version(client, match)
    source = client.get_model_version_download_uri(version.name, str(version.number))
    return source, version


def _look_up_version(client: MlflowClient, match: re.Match[str]) -> Version:
    """Find the version that a URI names by its alias or its number."""
    name = match["name"]
    if match["alias"]:
        found = client.get_model_version_by_alias(name, match["alias"])
        return Version(found.name, int(found.version))
    number = match["version"]
    if number == "latest":
        versions = client.get_registered_model(name).latest_versions
        number = str(max((int(each.version) for each in versions), default=0))
    found = client.get_model_version(name, number)
    return Version(found.name, int(found.version))


def _find_output(client: MlflowClient, run_id: str, name: str) -> LoggedModel:
    """Find the model that a run has logged under a name.

    Raises:
        UserError: There is none.
    """
    named = [model for model in find_models(client, run_id) if model.name == name]
    if not named:
        raise UserError(f"the run {run_id} has no model {name}", hint=_URI_HINT)
    return named[-1]
