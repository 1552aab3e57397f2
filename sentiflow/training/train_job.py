"""Plan of a training -> the job that its workers get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentiflow.cluster.resources import WorkerShare
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import input_files, manifest
from sentiflow.data.manifest_types import Input, Manifest
from sentiflow.data.outputs import Output
from sentiflow.data.schema import SPLITS
from sentiflow.progress import say
from sentiflow.storage.uris import display_uri, join
from sentiflow.tracking import model_sources
from sentiflow.tracking.refits import Refit
from sentiflow.training import soft_targets
from sentiflow.training.reports import CHECKPOINTS, MODEL, PRETRAIN, TRAIN, Phase, Taught
from sentiflow.training.train_plan import STAGE, TrainPlan


@dataclass(frozen=True)
class TrainJob:
    """Everything that a training worker needs; it is sent to other machines."""

    settings: TrainSettings
    checkpoints_uri: str
    """Directory of the checkpoints, which no other training shares."""
    model_uri: str
    """Directory to save the model package in."""
    claim: str
    """The claim of this training to its output, see :attr:`Output.claim`."""
    prepared: Manifest
    """Manifest of the prepared data."""
    lineage: dict[str, Input]
    """Inputs for the model package's manifest."""
    num_threads: int
    """Threads of each worker."""
    watched: Input | None = None
    """The prepared data with the state of their manifest: workers check that they still exist."""
    taught: dict[str, int] | None = None
    """Files with the answers of teachers, which replace the train split, and the rows of each."""
    on_gpu: bool = False
    """Whether each worker was given a GPU. Without one a worker uses no GPU of its node."""
    splits: Sequence[str] = SPLITS[:1]
    """The splits that are trained on."""
    refit: Refit | None = None
    """The run that is repeated on all labelled rows."""
    calibration: Mapping[str, Any] | None = None
    """A ``manifest_types.CalibrationRecord`` by folds, or by the run that is repeated. None: it is
    fitted to the validation rows."""
    reference: Mapping[str, Any] | None = None
    """The profile of texts that the model has not seen, from the same source. None: it is measured
    on the validation rows."""
    neighbor_weights: tuple[float, ...] = (0.0,)
    """Weights of a neighboring class, see :func:`soft_targets.list_weights`."""
    linear_uri: str = ""
    """In a fold: directory to write all linear models to, from which the calibration chooses one.
    Otherwise empty."""
    trains_network: bool = True
    """False if the network cannot change an answer, in a fold or in the model itself: only the
    linear models are trained, and the network keeps the weights that it starts with."""

    @property
    def validation_splits(self) -> Sequence[str]:
        """The splits that epochs are evaluated on, if any."""
        return () if self.refit else SPLITS[1:2]

    @property
    def num_epochs(self) -> dict[Phase, int]:
        """The last epoch of each phase. The schedule of a refit may go beyond it."""
        if not self.trains_network:
            return {PRETRAIN: 0, TRAIN: 0}
        num_epochs = self.refit.num_epochs if self.refit else self.settings.num_epochs
        return {PRETRAIN: self.settings.pretrain.num_epochs, TRAIN: num_epochs}

    def list_train_files(self, table: str) -> dict[str, int]:
        """List the files that the model learns from: ``taught``, or else the splits of a table."""
        if self.taught is not None:
            return self.taught
        return self.list_files(table, self.splits)

    def list_files(self, table: str, splits: Sequence[str]) -> dict[str, int]:
        """List the files of a table in their order, with the rows of each."""
        folders = [f"{table}/split={split}" for split in splits]
        return manifest.rows_by_file(self.prepared, self.settings.prepared_uri, folders)


def describe(
    plan: TrainPlan, output: Output, share: WorkerShare, taught: Taught | None
) -> TrainJob:
    """Make the job of a training; download the first model if it is in MLflow.

    Args:
        plan: The training.
        output: Its output, to which the first model is downloaded.
        share: The share of the cluster that each worker gets.
        taught: The answers of the teachers, if there are any.
    """
    spec = output.spec
    settings = plan.settings
    resolved: dict[str, bool | str] = {"linear": plan.has_linear}
    if plan.first:
        model = plan.first.model
        say(STAGE, f"starting from {display_uri(model['uri'])}")
        for note in plan.first.notes:
            say(STAGE, note)
        resolved["init_from"] = model_sources.download(
            model, to=join(output.uri, "downloaded"), tracking=plan.config.tracking.uri
        )
    calibration = None
    reference = None
    if plan.refit:
        calibration = plan.refit.package.get("calibration")
        reference = plan.refit.package.get("reference")
    return TrainJob(
        settings=settings.model_copy(update=resolved),
        checkpoints_uri=locate_checkpoints(output),
        model_uri=join(output.uri, MODEL),
        claim=output.claim,
        prepared=plan.prepared,
        lineage=spec.inputs | {"training": {"uri": spec.uri, "fingerprint": spec.fingerprint}},
        num_threads=share.threads,
        watched=input_files.watch(spec.inputs["prepared"]),
        on_gpu=share.gpus > 0,
        taught=taught.files if taught else None,
        splits=plan.splits,
        refit=plan.refit,
        calibration=calibration,
        reference=reference,
        neighbor_weights=soft_targets.list_weights(settings.neighbor_weight, plan.learned),
    )


def locate_checkpoints(output: Output) -> str:
    """Name the directory of the checkpoints of a training, which no other training shares."""
    return join(output.spec.uri, CHECKPOINTS, output.spec.fingerprint)
