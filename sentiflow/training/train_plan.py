"""Config -> the plan of a training: everything that its settings refer to, looked up once.

The plan is made when the output is described, and the training works from it alone. So the model
is always made of the inputs that its manifest names. If prepared data are replaced while a training
reads them, its output is not published (:meth:`Output.publish`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentiflow.config import decisive
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.config.sections import Config
from sentiflow.config.text_units import find_unit
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import lineage, manifest, prepared_data
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.storage.uris import display_uri
from sentiflow.tracking import model_sources, refits
from sentiflow.tracking.refits import Refit
from sentiflow.training import (
    fold_rows,
    initial_model,
    learned_classes,
    own_paths,
    rates,
    soft_targets,
)
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.prepared_files import PreparedFiles
from sentiflow.training.reports import PRETRAIN, TRAIN, Phase

STAGE = "train"


@dataclass(frozen=True)
class FirstModel:
    """The model that ``train.init_from`` names."""

    model: ModelInput
    notes: Sequence[str]
    """Lines about what does not fit the new model and is reinitialized."""


@dataclass(frozen=True)
class Amount:
    """The work of a training, counted in texts, for the time that is left."""

    num_rows: int
    """Texts of an epoch of training."""
    total: int
    """Texts of all epochs, in pretraining and training."""
    linear: int
    """Time for the linear model, as the number of texts that the network reads in that time; 0
    without a linear model."""


@dataclass(frozen=True)
class TrainPlan:
    """A training as it will run."""

    config: Config
    """The experiment. In a refit the section ``train`` is that of the run to repeat."""
    spec: OutputSpec
    """The output. Its inputs are the prepared data and, where the settings name them, the first
    model (``init_from``), the run to repeat (``refit``) and the teachers (``teacher_1``, …)."""
    prepared: Manifest
    """Manifest of the prepared data."""
    splits: Sequence[str]
    """The splits that are trained on."""
    learned: LearnedClasses
    """The classes, with their rows in these splits."""
    has_linear: bool
    """Whether a linear model is trained beside the network."""
    first: FirstModel | None
    """None: random weights."""
    refit: Refit | None
    """The run to repeat on all labelled rows, if this is a refit."""
    teachers: Mapping[str, Any]
    """The teachers of a distillation, if there are any: an ``Input`` for each name, with further
    keys if it is a model or an encoder."""
    files: PreparedFiles
    """Files of the prepared data."""

    @property
    def settings(self) -> TrainSettings:
        """The section ``train``."""
        return self.config.train

    @property
    def num_folds_trained(self) -> int:
        """The folds whose models are trained, the first of ``train.folds``; none in a refit."""
        if self.refit:
            return 0
        return fold_rows.count_trained(self.settings, self.prepared, self.learned.names)

    def count_texts(
        self, taught: Mapping[str, int] | None, num_epochs: Mapping[Phase, int]
    ) -> Amount:
        """Count the work of the training.

        Args:
            taught: Files with the answers of teachers, and the rows of each, if there are any.
            num_epochs: The epochs of each phase.
        """
        num_rows = self.learned.num_rows if taught is None else sum(taught.values())
        num_pretrained = self.learned.num_pretrained
        linear = 0
        if self.has_linear:
            tokens_per_row = prepared_data.find_tokens_per_row(self.prepared)
            seconds = rates.estimate_linear(num_rows, tokens_per_row, len(self.learned.names))
            weights = soft_targets.list_weights(self.settings.neighbor_weight, self.learned)
            seconds *= len(weights)
            row_seconds = rates.estimate_row(self.settings.model, num_tokens=tokens_per_row)
            linear = int(seconds / (rates.NETWORK_FACTOR * row_seconds))
        return Amount(
            num_rows=num_rows,
            total=num_rows * num_epochs[TRAIN] + num_pretrained * num_epochs[PRETRAIN],
            linear=linear,
        )


def resolve(config: Config) -> TrainPlan:
    """Plan a training.

    Raises:
        UserError: The prepared data, the model to start from, a teacher, or the run to repeat are
            missing or incomplete, or the data have no row of a class to learn.
        JobError: MLflow cannot be reached.
    """
    refit = None
    if config.train.refit:
        config, refit, prepared = refits.apply(config)
    else:
        prepared = manifest.require(
            config.train.prepared_uri, stage="prepare", setting="train.prepared_uri"
        )
    settings = config.train
    splits = refit.record["splits"] if refit else SPLITS[:1]
    learned = learned_classes.choose(prepared, settings, splits)
    if settings.neighbor_weight not in ("auto", 0) and learned.values is None:
        raise UserError(
            "train.neighbor_weight: the classes of "
            f"{display_uri(settings.prepared_uri)} have no order",
            hint="set format.ordered=true and prepare again, or leave train.neighbor_weight out",
        )
    if not refit:
        learned_classes.check_unseen(settings, prepared, learned)
    first = _find_first(config, learned, prepared)
    if refit:
        _check_same_first(refit, first)
    teachers = model_sources.describe_teachers(config, learned.names)
    return TrainPlan(
        config=config,
        spec=_describe_output(config, prepared, first, refit, teachers),
        prepared=prepared,
        splits=splits,
        learned=learned,
        has_linear=decide_linear(settings, learned, refit),
        first=first,
        refit=refit,
        teachers=teachers,
        files=PreparedFiles.of(prepared, settings.prepared_uri),
    )


def describe_settings(plan: TrainPlan) -> dict[str, Any]:
    """Return the settings of a training for MLflow; ``linear: auto`` is replaced by its value.

    The settings of the prepared data are included, as they decide the features. The preset comes
    first where parameters are sorted by name, so it is there twice.
    """
    train = plan.settings.model_dump(mode="json")
    train["linear"] = plan.has_linear
    settings = plan.prepared["settings"]
    known = [name for name in PrepareSettings.model_fields if name in settings]
    prepare = {name: settings[name] for name in known if name != "unlabelled"}
    return {"prepare": prepare, "preset": plan.settings.preset, "train": train}


def decide_linear(settings: TrainSettings, learned: LearnedClasses, refit: Refit | None) -> bool:
    """Decide whether there is a linear model; with ``auto`` a refit has one if its run has one."""
    if refit and settings.linear == "auto":
        calibration = refit.package.get("calibration") or {}
        return "linear_weight" in calibration
    return rates.has_linear(settings.linear, learned.num_rows)


def _find_first(config: Config, learned: LearnedClasses, prepared: Manifest) -> FirstModel | None:
    """Find the model that ``train.init_from`` names, and check that it fits.

    Raises:
        UserError: There is no such model, or it has another network or reads other units.
    """
    settings = config.train
    if settings.init_from is None:
        return None
    model = model_sources.describe(
        settings.init_from,
        tracking=config.tracking.uri,
        setting="train.init_from",
        near=settings.output_uri,
    )
    unit = find_unit(prepared["settings"])
    notes = initial_model.check(model, settings.model, learned.names, unit=unit)
    training = lineage.training_of(model)
    if training and not training["history"]:
        notes.append(
            "the training of the first model did not train its network, which had no share in the "
            "logits: it has the weights that this training started with"
        )
    return FirstModel(model, notes)


def _check_same_first(refit: Refit, first: FirstModel | None) -> None:
    """Check that a refit starts from the weights that its run has started from.

    Raises:
        UserError: It starts from other weights.
    """
    ours = first.model["fingerprint"] if first else None
    theirs = refit.first["fingerprint"] if refit.first else None
    if ours != theirs:
        named = display_uri(refit.first["uri"]) if refit.first else "random weights"
        raise UserError(
            f"train.init_from: the run to repeat has started from {named}",
            hint="leave train.init_from out, or name the model it started from",
        )


def _describe_output(
    config: Config,
    prepared: Manifest,
    first: FirstModel | None,
    refit: Refit | None,
    teachers: Mapping[str, Any],
) -> OutputSpec:
    """Describe the output: its location, and the settings and inputs that decide the model."""
    settings = config.train
    listed = settings.dump_decisive()
    del listed["distill"]
    inputs: dict[str, Any] = {"prepared": manifest.reference(settings.prepared_uri, prepared)}
    if first:
        inputs["init_from"] = {
            "uri": first.model["uri"],
            "fingerprint": first.model["fingerprint"],
            "training": first.model["training"],
        }
    if refit:
        inputs["refit"] = refit.input
    if teachers:
        listed["distill"] = decisive.dump(settings.distill, exclude={"teachers"})
        inputs |= teachers
    return OutputSpec(STAGE, settings.output_uri, listed, inputs, owns=own_paths.OF_TRAINING)
