"""A training as its workers get it: settings, data, and where its results go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.tracking.refits import Refit
from sentiflow.training.reports import PRETRAIN, TRAIN, Phase


@dataclass(frozen=True)
class TrainJob:
    """Everything that a training worker needs; it is sent to other machines."""

    settings: TrainSettings
    checkpoints_uri: str
    """Directory of the checkpoints of this training, and of no other."""
    model_uri: str
    """Directory to save the model package in."""
    claim: str
    """The job's claim to it, see :attr:`Output.claim`."""
    prepared: Manifest
    """Manifest of the prepared data."""
    lineage: dict[str, Input]
    """Inputs for the model package's manifest."""
    num_threads: int
    """Threads of each worker."""
    taught: dict[str, int] | None = None
    """Files with the answers of teachers, and the rows of each, in place of the train split."""
    on_gpu: bool = False
    """Whether each worker was given a GPU. Without one a worker uses no GPU of its node."""
    splits: Sequence[str] = SPLITS[:1]
    """The splits that are trained on."""
    refit: Refit | None = None
    """The run that is repeated on all labelled rows."""
    calibration: Mapping[str, Any] | None = None
    """A ``manifest_types.Calibration`` that folds, or the run that is repeated, have decided."""
    reference: Mapping[str, Any] | None = None
    """Likewise the profile of texts that the model has not seen."""
    linear_uri: str = ""
    """In a fold: where all linear models go that the calibration chooses from."""

    @property
    def validation_splits(self) -> Sequence[str]:
        """The splits that epochs are evaluated on, if any."""
        return () if self.refit else SPLITS[1:2]

    @property
    def num_epochs(self) -> dict[Phase, int]:
        """The last epoch of each phase; the schedule of a refit may go beyond it."""
        num_epochs = self.refit.num_epochs if self.refit else self.settings.num_epochs
        return {PRETRAIN: self.settings.pretrain.num_epochs, TRAIN: num_epochs}

    def list_files(self, table: str, splits: Sequence[str]) -> dict[str, int]:
        """List the files of a table in their order, with the rows of each."""
        folders = [f"{table}/split={split}" for split in splits]
        return manifest.list_tables(self.prepared, self.settings.prepared_uri, folders)
