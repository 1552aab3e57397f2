"""``train.refit`` -> the training to repeat: its settings, epochs, calibration and metrics."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from sentiflow.config.sections import Config
from sentiflow.config.settings import flatten
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import followed_inputs, json_faults, manifest, other_versions, prepared_data
from sentiflow.data.manifest_types import Input, Manifest, RefitRecord
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError, shorten
from sentiflow.models import package_files
from sentiflow.storage.stores import ForeignUri
from sentiflow.storage.uris import display_uri, names_model
from sentiflow.tracking import model_sources

SETTING = "train.refit.of"
"""The setting that error messages name."""
TEST = SPLITS[2]
"""Name of the test split."""


@dataclass(frozen=True)
class Refit:
    """A finished training that is repeated on all labelled rows of its data."""

    input: dict[str, Any]
    """The model of that training as an input: ``uri`` and ``fingerprint`` of its package, and its
    ``training``."""
    package: Manifest
    """Manifest of that package: the refit takes its calibration, threshold and profile."""
    first: Input | None
    """The model that the training was initialized from, if any."""
    num_epochs: int
    """The epoch that the training chose. The refit ends after it, but its schedule of learning
    rates is for all of ``train.num_epochs``."""
    record: RefitRecord
    """Description for the manifests of the refit and of its package. ``splits``: the splits that
    the refit is trained on. ``metrics``: metrics of the repeated training, in its chosen epoch and,
    if they were evaluated, on the test rows."""


class AppliedRefit(NamedTuple):
    """A config whose training repeats another one."""

    config: Config
    """The config, with the settings of the run to repeat in ``train``."""
    refit: Refit
    """The run to repeat."""
    prepared: Manifest
    """Manifest of the prepared data."""


def apply(config: Config) -> AppliedRefit:
    """Find the run that ``train.refit`` names, and take its settings of ``train``.

    Settings that do not decide the result, such as locations, stay as the config has them.

    Raises:
        UserError: There is no such model, its training or its prepared data are gone, or the config
            has other settings than the training.
        JobError: MLflow cannot be reached.
    """
    assert config.train.refit is not None, "the caller has a run to repeat"
    of = config.train.refit.of
    uri, package = model_sources.find(
        of, tracking=config.tracking.uri, setting=SETTING, near=config.train.output_uri
    )
    training = _require_training(of, uri, package, near=config.train.output_uri)
    repeated = _read_settings(training, of)
    _check_settings(config.train, repeated, of)

    prepared_uri, prepared = _require_prepared(config.train.prepared_uri, training)
    first = training["inputs"].get("init_from")
    own = {name: getattr(config.train, name) for name in TrainSettings.NOT_DECISIVE}
    own["prepared_uri"] = prepared_uri
    own["init_from"] = config.train.init_from
    if first and not config.train.init_from:
        own["init_from"] = first["uri"]
    settings = repeated.model_copy(update=own)

    model = package_files.to_input(uri, package)
    refit = Refit(
        input={name: model[name] for name in ("uri", "fingerprint", "training")},
        package=package,
        first=first,
        num_epochs=training["chosen_epoch"],
        record=_make_record(uri, package, prepared),
    )
    return AppliedRefit(config.model_copy(update={"train": settings}), refit, prepared)


def _require_training(of: str, uri: str, package: Manifest, *, near: str) -> Manifest:
    """Return the manifest of the training of a model that can be repeated.

    Args:
        of: The model or its run, as the setting names it.
        uri: The model.
        package: Its manifest.
        near: The output of the refit, as for :func:`model_sources.find`.

    Raises:
        UserError: The training is gone, or cannot be repeated.
    """
    if names_model(uri):
        maker = package["inputs"].get("training") or {}
        training = followed_inputs.follow_directory(maker["uri"]) if "uri" in maker else None
    else:
        training = manifest.read(uri.rpartition("/")[0], near=[near])
    if "refit" in package:
        original = display_uri(package["refit"]["of"]["uri"])
        problem = "is a refit"
        hint = f"name the run that it repeats, {original}"
    elif training is None or training.get("model_fingerprint") != package["fingerprint"]:
        problem = "is a model whose training is gone or was redone"
        hint = "a refit needs its manifest: name a run whose directory is whole"
    elif not _names_its_data(package, training):
        problem = "has a manifest without what a refit repeats: prepared data and a chosen epoch"
        hint = "it was changed by hand: name another run"
    elif any(name.startswith(model_sources.TEACHER) for name in training["inputs"]):
        problem = "is distilled, and its teachers answer train rows only"
        hint = "refit its teachers, and distill them again"
    else:
        return training
    raise UserError(f"{SETTING}: {display_uri(of)} {problem}", hint=hint)


def _names_its_data(package: Manifest, training: Manifest) -> bool:
    """Say whether two manifests name the data, the epoch and the first model of a training."""
    first = training["inputs"].get("init_from", {"uri": ""})
    has_places = "uri" in first and "uri" in training["inputs"].get("prepared", {})
    return has_places and "chosen_epoch" in training and "prepared" in package["inputs"]


def _read_settings(training: Manifest, of: str) -> TrainSettings:
    """Read the settings of the training to repeat.

    Raises:
        UserError: They are of another version, or name teachers, although no teacher is an input.
    """
    try:
        settings = TrainSettings.model_validate(training["settings"])
    except ValidationError as error:
        raise UserError(
            f"{SETTING}: the settings of {display_uri(of)} cannot be read: "
            f"{json_faults.find_first(error)}",
            hint=other_versions.explain(training),
        ) from error
    if settings.distill.teachers:
        raise UserError(
            f"{SETTING}: the manifest of {display_uri(of)} names teachers in its settings",
            hint="it was changed by hand: name another run",
        )
    return settings


def _check_settings(settings: TrainSettings, repeated: TrainSettings, of: str) -> None:
    """Check that each setting that a config gives has the same value in the run to repeat.

    Raises:
        UserError: A setting differs.
    """
    given = flatten(settings.dump_decisive(only_given=True))
    kept = flatten(repeated.dump_decisive())
    # For a section without settings, ``given`` has the section with the value {}. ``kept`` has only
    # keys of settings, so the default {} makes both equal.
    differing = [name for name, value in given.items() if kept.get(name, {}) != value]
    if differing:
        raise UserError(
            f"{SETTING}: {display_uri(of)} was trained with other settings than "
            f"{_write_settings(differing, given)}",
            hint="a refit repeats the training as it was: leave them out, or write "
            f"{_write_settings(differing, kept)}",
        )


def _write_settings(names: Sequence[str], values: Mapping[str, Any]) -> str:
    """Write settings as on the command line."""
    return ", ".join(f"train.{name}={json.dumps(values.get(name))}" for name in names)


def _require_prepared(uri: str, training: Manifest) -> tuple[str, Manifest]:
    """Find the prepared data of the run to repeat.

    Args:
        uri: The setting ``train.prepared_uri``. If nothing is there, the location of the run's own
            data is used.
        training: Manifest of the training.

    Returns:
        Directory and manifest of the data.

    Raises:
        UserError: The data are gone, or ``uri`` has other data.
    """
    named = training["inputs"]["prepared"]
    if manifest.read(uri) is None:
        if isinstance(named["uri"], ForeignUri):
            raise UserError(
                f"train.prepared_uri: no prepared data are in {display_uri(uri)}",
                hint=f"copy them there from another store: {shorten(named['uri'], 200)}",
            )
        uri = named["uri"]
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    if prepared["fingerprint"] != named["fingerprint"]:
        raise UserError(
            f"train.prepared_uri: {display_uri(uri)} is not the data of the run to repeat",
            hint=f"name the prepared data with the fingerprint {named['fingerprint']}",
        )
    return uri, prepared


def _make_record(uri: str, package: Manifest, prepared: Manifest) -> RefitRecord:
    """Describe the run to repeat for the manifests of the refit and of its package."""
    splits = list(SPLITS)
    if prepared_data.has_given_test(prepared):
        splits.remove(TEST)
    return {
        "splits": splits,
        "of": {"uri": uri, "fingerprint": package["fingerprint"]},
        "prepared": package["inputs"]["prepared"],
        "metrics": package.get("metrics", {}) | model_sources.find_test_metrics(package, uri),
    }


def has_seen_test(record: RefitRecord) -> bool:
    """Say whether a refit was trained on the test rows: yes, if they were drawn from its data."""
    return TEST in record["splits"]


def describe(record: RefitRecord) -> str:
    """Say in a sentence what a refit is, and which figures its run has."""
    if has_seen_test(record):
        splits = "validation and test rows too; no held-out figure belongs to these weights"
    else:
        splits = "validation rows too, but no given test row"
    return (
        f"the model is a refit of {name_run(record)}: it was trained on all labelled rows of the "
        f"data, {splits}; {describe_figures(record)}"
    )


def describe_figures(record: RefitRecord) -> str:
    """Say which accuracy the run that a refit repeats has, with its interval if it is known."""
    metrics = record["metrics"]
    for split in ("test", "validation"):
        accuracy = metrics.get(f"{split}/accuracy")
        if accuracy is None:
            continue
        text = f"{name_run(record)} has a {split} accuracy of {accuracy:.4f}"
        low = metrics.get(f"{split}/accuracy_low")
        high = metrics.get(f"{split}/accuracy_high")
        if low is not None and high is not None:
            text += f" (95% interval {low:.4f} to {high:.4f})"
        return text
    return f"{name_run(record)} was not measured either"


def name_run(record: RefitRecord) -> str:
    """Name the run that a refit repeats: its folder, or its name in MLflow.

    Example:
        >>> name_run({"of": {"uri": "/home/ann/runs/quickstart/trained/model"}})
        'quickstart'
    """
    uri = record["of"]["uri"]
    if names_model(uri):
        return uri
    folder = uri.removesuffix(f"/{manifest.MODEL}").removesuffix(f"/{manifest.TRAINED}")
    return folder.rpartition("/")[2]
