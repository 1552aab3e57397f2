"""Names that the user wrote -> scored directories, or files of predictions for their rows."""

from dataclasses import dataclass, replace

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import prediction_files
from sentiflow.storage.uris import absolute_uri, join, names_model

_HOW_TO_NAME = (
    "name a scored directory, or the output_uri of a run, which MLflow shows as a tag of the run"
)


@dataclass(frozen=True)
class ScoredRun:
    """A scored directory that a user named, or a file of predictions for its rows."""

    name: str
    """As the user wrote it."""
    uri: str
    """The scored directory."""
    record: Manifest
    """Manifest of the directory."""
    file: prediction_files.PredictionFile | None = None
    """A file whose predictions replace the predictions of the directory; None without a file."""

    @property
    def has_probabilities(self) -> bool:
        """Say whether the predictions have probabilities: a file may have labels alone."""
        return self.file is None or self.file.has_probabilities


Pair = tuple[ScoredRun, ScoredRun]


def find_pair(first: str, second: str) -> Pair:
    """Find two runs, or a run and a file of predictions for its test rows.

    Raises:
        UserError: Both are files, a run has no predictions, or a file is faulty.
    """
    first_is_file = first.endswith(prediction_files.SUFFIXES)
    second_is_file = second.endswith(prediction_files.SUFFIXES)
    if first_is_file and second_is_file:
        raise UserError(
            f"{first} and {second} are files of predictions",
            hint="one of the two must be a run, which has the labels of the test rows",
        )
    if first_is_file:
        run = _find_run(second)
        return _read_prediction_file(first, run), run
    run = _find_run(first)
    if second_is_file:
        return run, _read_prediction_file(second, run)
    return run, _find_run(second)


def was_replaced(pair: Pair) -> bool:
    """Say whether a job has replaced the predictions of a run since they were found."""
    return any(manifest.was_replaced(scored.uri, scored.record) for scored in pair)


def _find_run(name: str) -> ScoredRun:
    """Find the predictions of a run.

    Raises:
        UserError: It has no finished predictions, or it is a model.
    """
    if names_model(name):
        raise UserError(f"{name} is a model, not a run with predictions", hint=_HOW_TO_NAME)
    uri = absolute_uri(name)
    for location in (uri, join(uri, "scored")):
        if manifest.read(location, stage="score"):
            record = manifest.require(location, stage="score", setting=name)
            return ScoredRun(name=name, uri=location, record=record)
    raise UserError(
        f"{name} holds no finished predictions", hint=f"score it first; or {_HOW_TO_NAME}"
    )


def _read_prediction_file(name: str, run: ScoredRun) -> ScoredRun:
    """Read a file of predictions for the test rows of a run.

    Returns:
        The run under the name of the file, with its predictions.
    """
    file = prediction_files.read(absolute_uri(name), run.record)
    return replace(run, name=name, file=file)
