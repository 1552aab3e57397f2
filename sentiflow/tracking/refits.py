"""``train.refit`` -> the training to repeat: its settings, epochs, calibration and figures."""

import json
from dataclasses import dataclass
from typing import Any

from sentiflow.config.sections import Config
from sentiflow.config.settings import flatten
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, Manifest, RefitRecord
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.storage.uris import display_uri, names_model
from sentiflow.tracking import model_sources

SETTING = "train.refit.of"
TEST = SPLITS[2]


@dataclass(frozen=True)
class Refit:
    """A finished training that is repeated on all labelled rows of its data."""

    input: dict[str, Any]
    """Its model as an input: ``uri`` and ``fingerprint`` of the package, and its ``training``."""
    package: Manifest
    """Manifest of its package, which has the calibration, the threshold and the profile."""
    first: Input | None
    """The model that it was initialized from, if any."""
    num_epochs: int
    """The epoch that it kept; its schedule is that of ``train.num_epochs``."""
    record: RefitRecord
    """What the manifests of the training and of its package say. Its splits are all but given test
    rows, its metrics those of the chosen epoch, and of the test rows if it was evaluated."""


def apply(config: Config) -> tuple[Config, Refit | None]:
    """Find the run to repeat, and replace the settings of ``train`` by its own.

    Workers and locations stay those of the config.

    Returns:
        The config with the settings of the run; what else is taken from it.

    Raises:
        UserError: There is no such model, its training or its prepared data are gone, or the config
            has other settings than it.
        JobError: MLflow cannot be reached.
    """
    if config.train.refit is None:
        return config, None
    of = config.train.refit.of
    uri, package = model_sources.find(of, tracking=config.tracking.uri, setting=SETTING)
    training = _require_training(of, uri, package)
    settings = TrainSettings.model_validate(training["settings"])
    _check_same(config.train, settings, of)
    named, prepared_uri = training["inputs"]["prepared"], config.train.prepared_uri
    prepared_uri = prepared_uri if manifest.read(prepared_uri) else named["uri"]
    prepared = manifest.require(prepared_uri, stage="prepare", setting="train.prepared_uri")
    if prepared["fingerprint"] != named["fingerprint"]:
        raise UserError(
            f"train.prepared_uri: {display_uri(prepared_uri)} are not the data of the run to "
            "repeat",
            hint=f"name those with the fingerprint {named['fingerprint']}",
        )
    first = training["inputs"].get("init_from")
    update = {name: getattr(config.train, name) for name in TrainSettings.NOT_DECISIVE} | {
        "init_from": config.train.init_from or (first["uri"] if first else None),
        "prepared_uri": prepared_uri,
    }
    settings, model = settings.model_copy(update=update), package_files.to_input(uri, package)
    record: RefitRecord = {
        "splits": [*(SPLITS[:2] if TEST in prepared.get("fixed_splits", ()) else SPLITS)],
        "of": {"uri": model["uri"], "fingerprint": model["fingerprint"]},
        "prepared": package["inputs"]["prepared"],
        "metrics": package.get("metrics", {}) | model_sources.find_test_metrics(package, uri),
    }
    return config.model_copy(update={"train": settings}), Refit(
        input={name: model[name] for name in ("uri", "fingerprint", "training")},
        package=package,
        first=first,
        num_epochs=training["chosen_epoch"],
        record=record,
    )


def _require_training(of: str, uri: str, package: Manifest) -> Manifest:
    """Return the manifest of the training of a model that can be repeated.

    Args:
        of: The model or its run, as the setting names it.
        uri: The model.
        package: Its manifest.

    Raises:
        UserError: Its training is gone, or cannot be repeated.
    """
    place = uri.rpartition("/")[0]
    if names_model(uri):
        place = (package["inputs"].get("training") or {}).get("uri", "")
    training = manifest.read(place) if place else None
    if "refit" in package:
        original = display_uri(package["refit"]["of"]["uri"])
        problem, hint = "is a refit", f"name the run that it repeats, {original}"
    elif training is None or training.get("model_fingerprint") != package["fingerprint"]:
        problem = "is a model whose training is gone or was redone"
        hint = "a refit needs its manifest: name a run whose directory is whole"
    elif any(name.startswith(model_sources.TEACHER) for name in training["inputs"]):
        problem = "is distilled, and its teachers answer train rows only"
        hint = "refit its teachers, and distill them again"
    else:
        return training
    raise UserError(f"{SETTING}: {display_uri(of)} {problem}", hint=hint)


def _check_same(ours: TrainSettings, theirs: TrainSettings, of: str) -> None:
    """Check that a config has no other settings than the run to repeat.

    Raises:
        UserError: It has.
    """
    given = flatten(ours.dump_decisive(only_given=True))
    kept = flatten(theirs.dump_decisive())
    if differing := [name for name, value in given.items() if kept.get(name, {}) != value]:
        named, instead = (
            ", ".join(f"train.{name}={json.dumps(each.get(name))}" for name in differing)
            for each in (given, kept)
        )
        raise UserError(
            f"{SETTING}: {display_uri(of)} was trained with other settings than {named}",
            hint=f"a refit repeats it as it was: leave them out, or give {instead}",
        )


def has_seen_test(record: RefitRecord) -> bool:
    """Say whether a refit was trained on the test rows of its data, as these were not given."""
    return TEST in record["splits"]


def describe(record: RefitRecord) -> str:
    """Say in a sentence what a refit is, and which figures its run has."""
    splits = "validation rows too, but no given test row"
    if has_seen_test(record):
        splits = "validation and test rows too; no held-out figure belongs to these weights"
    return (
        f"the model is a refit of {name_run(record)}: it was trained on all labelled rows of the "
        f"data, {splits}; {describe_figures(record)}"
    )


def describe_figures(record: RefitRecord) -> str:
    """Write the accuracy of the run that a refit repeats, with its interval if it is known."""
    metrics = record["metrics"]
    for split in ("test", "validation"):
        if (accuracy := metrics.get(f"{split}/accuracy")) is not None:
            text = f"{name_run(record)} has a {split} accuracy of {accuracy:.4f}"
            low, high = (metrics.get(f"{split}/accuracy_{end}") for end in ("low", "high"))
            has_interval = low is not None and high is not None
            return f"{text} (95 % interval {low:.4f} to {high:.4f})" if has_interval else text
    return f"{name_run(record)} was not measured either"


def name_run(record: RefitRecord) -> str:
    """Name the run that a refit repeats by its folder, or by its name in MLflow.

    Example:
        >>> name_run({"of": {"uri": "/home/ann/runs/quickstart/trained/model"}})
        'quickstart'
    """
    uri = record["of"]["uri"]
    if names_model(uri):
        return uri
    folder = uri.removesuffix(f"/{manifest.MODEL}").removesuffix(f"/{manifest.TRAINED}")
    return folder.rpartition("/")[2]
