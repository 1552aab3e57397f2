"""``train.refit`` -> the training to repeat: its settings, epochs, calibration and figures."""

import itertools
import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sentiflow.config.sections import Config
from sentiflow.config.settings import flatten
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, Manifest, RefitRecord
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.storage.uris import as_typed, names_model
from sentiflow.tracking import model_sources
from sentiflow.tracking.model_sources import TEACHER

SETTING = "train.refit.of"
TEST = SPLITS[2]


@dataclass(frozen=True)
class Refit:
    """A finished training that is repeated on all labelled rows of its data."""

    input: dict[str, Any]
    """Its model as an input: ``uri`` and ``fingerprint`` of the package, and its ``training``."""
    package: Manifest
    """Manifest of its package, which has the temperature, the neutral margin and the profile."""
    settings: TrainSettings
    """Its settings, with the workers and the locations of the config."""
    first: Input | None
    """The model that it was initialized from, if any."""
    num_epochs: int
    """The epoch that it kept; its schedule is that of ``settings.num_epochs``."""
    num_pretraining_epochs: int
    metrics: dict[str, float]
    """Its figures, as MLflow names them: those of the chosen epoch, and those of the test rows if
    it was evaluated."""
    splits: tuple[str, ...]
    """The splits to learn from: all but given test rows."""

    @property
    def record(self) -> RefitRecord:
        """What the manifests of the training and of its package say."""
        return {
            "splits": list(self.splits),
            "of": {"uri": self.input["uri"], "fingerprint": self.input["fingerprint"]},
            "prepared": self.package["inputs"]["prepared"],
            "metrics": self.metrics,
        }

    def check_first(self, first: Input | None) -> None:
        """Check that the training starts from the same model as the run, or from none.

        Raises:
            UserError: It does not.
        """
        if (first and first["fingerprint"]) != (self.first and self.first["fingerprint"]):
            started = as_typed(self.first["uri"]) if self.first else "random weights"
            raise UserError(
                f"train.init_from: the run to repeat has started from {started}",
                hint="leave train.init_from out, or name that model as it was then",
            )

    def describe(self, num_rows: int) -> str:
        """Describe the training of this refit in a few sentences.

        Args:
            num_rows: The labelled rows that it is trained on.
        """
        epochs = f"{self.num_epochs} of {self.settings.num_epochs} epochs"
        if self.num_pretraining_epochs:
            epochs = f"{self.num_pretraining_epochs} of pretraining and {epochs}"
        return (
            f"Refit of {name_run(self.record)}: its settings, {epochs}, all {num_rows:,} labelled "
            f"rows, {_name_splits(self.record)}; {describe_figures(self.record)}"
        )


def apply(config: Config) -> tuple[Config, Refit | None]:
    """Find the run to repeat, and replace the settings of ``train`` by its own; see :func:`find`.

    Returns:
        The config, the same without ``train.refit``; what is taken from the run.
    """
    found = find(config)
    return (config.model_copy(update={"train": found.settings}) if found else config), found


def find(config: Config) -> Refit | None:
    """Find the training that ``train.refit`` names; None without it.

    Raises:
        UserError: There is no such model, its training or its prepared data are gone, or the config
            has other settings than it.
        JobError: MLflow cannot be reached.
    """
    if config.train.refit is None:
        return None
    of = config.train.refit.of
    uri, package = model_sources.find(of, tracking=config.tracking.uri, setting=SETTING)
    if "refit" in package:
        repeated = package["refit"]["of"]["uri"]
        raise UserError(
            f"{SETTING}: {as_typed(of)} is a refit",
            hint=f"name the run that it repeats, {as_typed(repeated)}",
        )
    training = _find_training(uri, package, config)
    if any(name.startswith(TEACHER) for name in training["inputs"]):
        raise UserError(
            f"{SETTING}: {as_typed(of)} is distilled, and its teachers answer train rows only",
            hint="refit its teachers, and distill them anew",
        )
    known = _read_settings(training, of)
    _check_settings(config.train, known, of)
    first = training["inputs"].get("init_from")
    uri_prepared, prepared = _find_prepared(training, config)
    own = {name: getattr(config.train, name) for name in TrainSettings.NOT_DECISIVE}
    own["init_from"] = own["init_from"] or (first["uri"] if first else None)
    own["prepared_uri"] = uri_prepared
    model = package_files.to_input(uri, package)
    return Refit(
        input={name: model[name] for name in ("uri", "fingerprint", "training")},
        package=package,
        settings=known.model_copy(update=own),
        first=first,
        num_epochs=training["chosen_epoch"],
        num_pretraining_epochs=len(training.get("pretraining", [])),
        metrics=package.get("metrics", {}) | model_sources.find_test_metrics(package, uri),
        splits=SPLITS[:2] if TEST in prepared.get("fixed_splits", ()) else SPLITS,
    )


def _find_training(uri: str, package: Manifest, config: Config) -> Manifest:
    """Find the training of a model: around its package, or where it was.

    Raises:
        UserError: It is gone, or was redone.
    """
    named = package["inputs"].get("training") or {}
    around = [] if names_model(uri) else [uri.rpartition("/")[0]]
    for place in [*around, *filter(None, [named.get("uri")])]:
        found = manifest.read(place)
        if found and found.get("model_fingerprint") == package["fingerprint"]:
            if place == config.train.output_uri:
                raise UserError(
                    f"train.output_uri: {as_typed(place)} is the training to repeat",
                    hint="choose another directory",
                )
            return found
    raise UserError(
        f"{SETTING}: the training of {as_typed(uri)} is gone or was redone",
        hint="a refit needs its manifest: name a run whose directory is whole",
    )


def _read_settings(training: Manifest, of: str) -> TrainSettings:
    """Read the settings of a training.

    Raises:
        UserError: It has some that this version does not know.
    """
    try:
        return TrainSettings.model_validate(training["settings"])
    except ValidationError as error:
        raise UserError(
            f"{SETTING}: {as_typed(of)} was trained by another version of sentiflow",
            hint="train it again, or repeat it with that version",
        ) from error


def _check_settings(given: TrainSettings, known: TrainSettings, of: str) -> None:
    """Check that no setting of the config differs from that of the run.

    Raises:
        UserError: One does.
    """
    theirs = _write(known.dump_decisive())
    ours = _write(given.dump_decisive(only_given=True))
    differing = [name for name, value in ours.items() if theirs.get(name) != value]
    if differing:
        listed = " ".join(f"{name}={ours[name]}" for name in differing)
        wanted = " ".join(f"{name}={theirs[name]}" for name in differing if name in theirs)
        raise UserError(
            f"{SETTING}: {as_typed(of)} was trained with other settings than {listed}",
            hint=f"a refit repeats it as it was: leave them out{wanted and f', or give {wanted}'}",
        )


def _write(settings: dict[str, Any]) -> dict[str, str]:
    """Write settings of ``train`` as a user types them, by their keys."""
    return {
        f"train.{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in flatten(settings).items()
        if value != {}
    }


def _find_prepared(training: Manifest, config: Config) -> tuple[str, Manifest]:
    """Find the prepared data of a training: those of the config, or where they were.

    Raises:
        UserError: They are gone, or the config has others.
    """
    named, own = training["inputs"]["prepared"], config.train.prepared_uri
    uri = own if manifest.read(own) else named["uri"]
    found = manifest.read(uri)
    if found is None or found["fingerprint"] != named["fingerprint"]:
        problem = "are not the data of the run to repeat" if found else "are gone"
        raise UserError(
            f"train.prepared_uri: the prepared data in {as_typed(uri)} {problem}",
            hint=f"name those with the fingerprint {named['fingerprint']}",
        )
    return uri, found


def describe(record: RefitRecord) -> str:
    """Say in a sentence what a refit is, and which figures its run has."""
    return (
        f"the model is a refit of {name_run(record)}: it was trained on all labelled rows of the "
        f"data, {_name_splits(record)}; {describe_figures(record)}"
    )


def has_seen_test(record: RefitRecord) -> bool:
    """Say whether a refit was trained on the test rows of its data, as these were not given."""
    return TEST in record["splits"]


def _name_splits(record: RefitRecord) -> str:
    """Name the splits that a refit was trained on, and say what follows for its figures."""
    if has_seen_test(record):
        return "validation and test rows too; no held-out figure belongs to these weights"
    return "validation rows too, but no given test row"


def describe_figures(record: RefitRecord) -> str:
    """Write the accuracy of the run that a refit repeats, with its interval if it is known."""
    name, metrics = name_run(record), record["metrics"]
    if "test/accuracy" in metrics:
        text = f"{name} has a test accuracy of {metrics['test/accuracy']:.4f}"
        ends = [metrics.get(f"test/accuracy_{end}") for end in ("low", "high")]
        return text if None in ends else f"{text} (95 % interval {ends[0]:.4f} to {ends[1]:.4f})"
    if "validation/accuracy" in metrics:
        return f"{name} was not tested; its validation accuracy is " + (
            f"{metrics['validation/accuracy']:.4f}"
        )
    return f"{name} was not measured either"


def name_run(record: RefitRecord) -> str:
    """Name the run that a refit repeats by its folder, or by its name in MLflow.

    Example:
        >>> name_run({"of": {"uri": "/home/ann/runs/quickstart/trained/model"}})
        'quickstart'
    """
    uri = record["of"]["uri"]
    if names_model(uri):
        return uri
    folders = reversed(uri.split("/"))
    inside = (manifest.MODEL, manifest.TRAINED)
    return next(itertools.dropwhile(lambda folder: folder in inside, folders), uri)
