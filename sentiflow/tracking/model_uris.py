"""URI of a model in MLflow -> the location of its files, its run, its version."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sentiflow.errors import UserError
from sentiflow.storage.uris import without_credentials

# isort: split
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

_BY_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")
_BY_VERSION = re.compile(r"models:/([^/@]+)/(\d+|latest)")
_BY_ID = re.compile(r"models:/(m-[0-9a-f]{32})")
_BY_RUN = re.compile(r"runs:/([^/]+)/(.+)")
_FORMS = "write models:/NAME@champion, models:/NAME/VERSION, models:/m-ID or runs:/RUN_ID/model"


@dataclass(frozen=True)
class Version:
    """A registered model package."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"models:/{self.name}/{self.number}"


def find_source(client: MlflowClient, uri: str) -> tuple[str, str, Version | None]:
    """Find the location of a model's files, its run, and its version if it has one.

    Raises:
        UserError: There is no such model, version, alias or run.
    """
    if match := _BY_ALIAS.fullmatch(uri) or _BY_VERSION.fullmatch(uri):
        version = _find_version(client, uri, *match.groups())
        found = client.get_model_version(version.name, str(version.number))
        source = client.get_model_version_download_uri(version.name, str(version.number))
        return source, found.run_id or "", version
    if match := _BY_ID.fullmatch(uri):
        model = _get(client.get_logged_model, match[1], f"{uri}: there is no such model")
    elif match := _BY_RUN.fullmatch(uri):
        model = _find_output(client, uri, *match.groups())
    else:
        raise UserError(f"cannot read {uri}", hint=_FORMS)
    return model.artifact_location, model.source_run_id or "", _find_registered(client, model)


def read_aliases(client: MlflowClient, name: str, *, uri: str) -> dict[str, int]:
    """List the aliases of a registered model, with their versions.

    Raises:
        UserError: There is no such model; the message names ``uri``, which the user wrote.
    """
    return _to_numbers(_find_registered_model(client, name, uri))


def _find_version(client: MlflowClient, uri: str, name: str, wanted: str) -> Version:
    """Find a version by its alias, by its number, or as the latest."""
    registered = _find_registered_model(client, name, uri)
    if "@" in uri:
        aliases = _to_numbers(registered)
        if wanted not in aliases:
            known = ", ".join(f"{alias} (version {n})" for alias, n in sorted(aliases.items()))
            raise UserError(
                f"{uri}: {name} has no alias {wanted}", hint=f"it has {known or 'none'}"
            )
        return Version(name, aliases[wanted])
    numbers = sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'"))
    number = numbers[-1] if wanted == "latest" and numbers else wanted
    if number == "latest" or int(number) not in numbers:
        known = ", ".join(map(str, numbers))
        raise UserError(f"{uri}: {name} has no version {wanted}", hint=f"it has {known or 'none'}")
    return Version(name, int(number))


def _find_registered_model(client: MlflowClient, name: str, uri: str) -> RegisteredModel:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(model.name for model in client.search_registered_models(max_results=20))
        store = without_credentials(client.tracking_uri)
        raise UserError(
            f"{uri}: no model {name} is registered in {store}",
            hint=f"it has {known}" if known else "sentiflow train registers one",
        ) from error


def _find_output(client: MlflowClient, uri: str, run_id: str, name: str) -> LoggedModel:
    """Find the model that a run has logged under a name."""
    run = _get(client.get_run, run_id, f"{uri}: there is no such run")
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    named = [model for model in models if model.name == name]
    if not named:
        known = ", ".join(model.name for model in models)
        raise UserError(f"{uri}: the run has no model {name}", hint=f"it has {known or 'none'}")
    return named[-1]


def _find_registered(client: MlflowClient, model: LoggedModel) -> Version | None:
    """Find the version of a logged model; None if it was not registered."""
    sources = (model.artifact_location, f"models:/{model.model_id}")
    for found in client.search_model_versions(f"run_id = '{model.source_run_id}'"):
        if found.source in sources:
            return Version(found.name, int(found.version))
    return None


def _get(get: Callable[[str], Any], key: str, problem: str) -> Any:
    """Get something from MLflow by an id that the user wrote."""
    try:
        return get(key)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise UserError(problem, hint=_FORMS) from error


def _to_numbers(model: RegisteredModel) -> dict[str, int]:
    return {alias: int(number) for alias, number in model.aliases.items()}
