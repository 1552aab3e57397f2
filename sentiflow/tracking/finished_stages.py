"""A run's output -> the finished stages in it, checked: their manifests may be a stranger's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError, shorten
from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed, is_local, join
from sentiflow.tracking.provenance import FOLDERS

_MODEL, _TRIALS = "model", "trials"

Name = Annotated[str, Field(max_length=250)]
Text = Annotated[str, Field(max_length=100_000)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
RunId = Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")]
Metrics = dict[Name, float]


class RunPartInfo(BaseModel):
    """As :class:`manifest_types.RunPart`."""

    metrics: Metrics = Field(max_length=10_000)
    tags: dict[Name, Text] = Field(max_length=1000)


class RunInfo(RunPartInfo):
    """The key ``run`` of a manifest, as :class:`manifest_types.RunRecord`."""

    experiment: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=250)
    group: str = Field(pattern=r"^[0-9a-f]{8}$")
    name: Name
    start: AwareDatetime
    end: AwareDatetime
    params: dict[Name, Text] = Field(max_length=10_000)
    artifacts: list[Text] = Field(max_length=1000)
    registers_model: bool
    mlflow_run_id: RunId
    training: RunPartInfo | None = None


class _File(BaseModel):
    uri: Text
    bytes: int


class InputInfo(BaseModel):
    """An input of a stage."""

    fingerprint: Hash
    uri: Text = ""
    files: list[_File] = Field(default=[], max_length=1_000_000)
    training: "InputInfo | None" = None
    """If the input is a model: the training that made it."""
    members: "list[InputInfo]" = Field(default=[], max_length=1000)
    """If the input is an average of models: these."""


class Epoch(BaseModel):
    """An epoch of a training's ``history`` or ``pretraining``."""

    model_config = {"extra": "allow"}

    epoch: int
    ended: AwareDatetime | None = None


class TrialInfo(BaseModel):
    """A trial of a sweep."""

    name: str = Field(pattern=r"^[0-9]{1,9}-[0-9a-f]{8}$")
    status: Literal["finished", "stopped", "failed"]
    values: dict[Name, Any]
    validation_accuracy: float | None
    validation_loss: float | None
    validation_f1_macro: float | None = None
    test_accuracy: float | None = None
    chosen_epoch: int
    reason: Text = ""


class StageInfo(BaseModel):
    """A stage's manifest, as far as MLflow is concerned."""

    stage: Literal["prepare", "train", "score", "evaluate", "trends", "sweep"]
    fingerprint: Hash
    created: AwareDatetime
    settings: dict[str, Any]
    inputs: dict[Annotated[str, Field(pattern=r"^\w{1,50}$")], InputInfo] = Field(max_length=50)
    run: RunInfo | None = None
    history: list[Epoch] = Field(default=[], max_length=100_000)
    pretraining: list[Epoch] = Field(default=[], max_length=100_000)
    trials: list[TrialInfo] = Field(default=[], max_length=100_000)
    model_fingerprint: Hash = "0"


@dataclass(frozen=True)
class FinishedStage:
    """A stage's directory with its manifest."""

    uri: str
    record: Manifest
    info: StageInfo
    run: RunInfo

    def read(self, path: str) -> bytes:
        """Read a file of the stage."""
        return manifest.read_file(self.uri, self.record, path)

    @property
    def model_uri(self) -> str:
        """The model package of a stage."""
        return join(self.uri, _MODEL)

    def read_trial(self, trial: TrialInfo) -> StageInfo | None:
        """Read the manifest of a trial; None if it has none, as it was not trained to its end."""
        found = _read(self.trial_uri(trial), self.uri)
        return found[1] if found else None

    def trial_uri(self, trial: TrialInfo) -> str:
        """Name the directory of a trial."""
        return join(self.uri, _TRIALS, trial.name)


def find(output_uri: str, *, folders: Sequence[str] = FOLDERS) -> list[FinishedStage]:
    """Read the manifests of a run's output, or of one stage's directory, and check them.

    Args:
        output_uri: Nothing outside of it is read.
        folders: Names of directories in it that may be those of stages.

    Raises:
        UserError: A manifest is wrong, or names files outside of its directory.
    """
    uris = [output_uri, *(join(output_uri, name) for name in folders)]
    read = [(uri, *found) for uri in uris if (found := _read(uri, output_uri))]
    stages = [FinishedStage(uri, record, info, info.run) for uri, record, info in read if info.run]
    for stage in stages:
        listed = {item["path"] for item in stage.record["files"]}
        if missing := [path for path in stage.run.artifacts if path not in listed]:
            raise UserError(
                f"{as_typed(stage.uri)}: {shorten(ascii(missing[0]), 80)} is no file of it"
            )
        if damaged := manifest.find_damaged(stage.uri, stage.record, filesystem.sizes(stage.uri)):
            raise UserError(f"{as_typed(join(stage.uri, damaged))} is missing or damaged")
    return stages


def require(output_uri: str) -> list[FinishedStage]:
    """Find at least one finished stage.

    Raises:
        UserError: There is none; or as :func:`find`.
    """
    found = find(output_uri)
    if not found:
        raise UserError(
            f"{as_typed(output_uri)} has no finished stage that describes its run",
            hint="name a run's output_uri or the directory of a stage",
        )
    return found


def _read(uri: str, output_uri: str) -> tuple[Manifest, StageInfo] | None:
    path = join(uri, manifest.MANIFEST)
    _check_file(path, output_uri)
    record = manifest.read(uri)
    if record is None:
        return None
    try:
        return record, StageInfo.model_validate(record)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise UserError(f"{as_typed(path)}: {where}: {fault['msg']}") from error


def _check_file(uri: str, output_uri: str) -> None:
    """Make sure that a file is no link out of the output.

    Raises:
        UserError: It is.
    """
    if is_local(uri) and not Path(uri).resolve().is_relative_to(Path(output_uri).resolve()):
        raise UserError(f"{as_typed(uri)} is a link out of {as_typed(output_uri)}")
