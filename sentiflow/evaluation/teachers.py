"""Evaluated rows + the answers of the teachers -> how much of them a distilled model keeps."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import HELD_OUT, SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.baselines import ModelComparison
from sentiflow.evaluation.evaluated_rows import predicted_of, spread
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import Predicted
from sentiflow.tracking import model_sources
from sentiflow.tracking.model_sources import TEACHER

if TYPE_CHECKING:
    from sentiflow.models.package import ModelPackage

AGREES = "of the texts get the label of the "
"""Begins the meaning of the highlight about the teachers."""
_ROUNDS, _WARM_UP = 7, 1
"""Rounds in which both are timed, one after the other, and rounds before that."""
_MAX_TEXTS = 2000
"""Texts that are scored in a round."""


@dataclass(frozen=True)
class Speed:
    """Texts per second on one core, from text to probabilities, of the same texts in turn."""

    num_texts: int
    of_teachers: float
    """Of all teachers, one after the other."""
    of_model: float
    ratio: float
    """How many times as fast the model is: the geometric mean over the rounds."""
    low: float
    """Lower end of the 95 % interval, by Student's t of the logarithms."""
    high: float


@dataclass(frozen=True)
class TeacherComparison(ModelComparison):
    """The mean of the teachers beside a distilled model, on rows that a teacher has answered."""

    num_teachers: int
    agreement: float
    """Share of the rows with the same prediction."""
    agreement_low: float
    """Lower end of the exact 95 % interval."""
    agreement_high: float
    speed: Speed | None
    no_speed: str
    """Why there is none; empty if there is one."""

    @property
    def name(self) -> str:
        """Name the teachers."""
        return "teacher" if self.num_teachers == 1 else f"mean of {self.num_teachers} teachers"

    @property
    def verdict(self) -> str:
        """Say in words how the model compares in accuracy, and in speed."""
        points = [100 * value for value in (self.accuracy_difference.value,
                                            self.accuracy_difference.low,
                                            self.accuracy_difference.high)]  # fmt: skip
        text = (
            f"accuracy {self.accuracy_of_model:.1%} against {self.accuracy:.1%}, a difference of "
            f"{points[0]:+.1f} points (95% interval {points[1]:+.1f} to {points[2]:+.1f})"
        )
        if self.speed is None:
            return text
        return (
            f"{text}, at {self.speed.ratio:.2g} times the speed "
            f"({self.speed.low:.2g} to {self.speed.high:.2g})"
        )

    def to_metrics(self) -> dict[str, float | None]:
        """Name the metrics for MLflow."""
        return {
            "teacher/agreement": self.agreement,
            "teacher/accuracy": self.accuracy,
            "teacher/accuracy_difference": self.accuracy_difference.value,
            "teacher/f1_macro": self.f1_macro,
            "teacher/speed_ratio": self.speed.ratio if self.speed else None,
        }


def compare(
    rows: pa.Table, scored: Manifest, *, split: str, tracking: str | None
) -> tuple[TeacherComparison | None, str]:
    """Compare a distilled model with its teachers.

    Args:
        rows: Evaluated rows of one split, as ``evaluated_rows.read`` returns them.
        scored: Manifest of the predictions.
        split: The split.
        tracking: The setting ``tracking.uri``.

    Returns:
        The comparison, if the model is distilled and no average; or why there is none.

    Raises:
        JobError: A teacher is in MLflow, which cannot be reached.
    """
    training = lineage.training_of(scored)
    is_average = "members" in scored["inputs"]["model"]
    if training is None or "taught" not in training or is_average:
        return None, ""
    if training["inputs"]["prepared"]["fingerprint"] != scored["inputs"]["corpus"]["fingerprint"]:
        return None, "the teachers have answered the rows of the model's own prepared data alone"
    try:
        answers = _read_answers(training["taught"], split)
    except UserError as error:
        return None, str(error)
    place = pc.index_in(rows["row_id"].combine_chunks(), value_set=answers["row_id"])
    rows, place = rows.filter(place.is_valid()), place.drop_null()
    if not len(rows):
        return None, "no teacher has answered one of these texts"
    lists = answers["teacher"].take(place)
    teacher = lists.flatten().to_numpy().reshape(len(rows), -1)
    teachers = {k: v for k, v in training["inputs"].items() if k.startswith(TEACHER)}
    speed, no_speed = _measure_speed(rows, scored, [*teachers.values()], tracking)
    return _compare(predicted_of(rows), teacher, len(teachers), speed, no_speed), ""


def _read_answers(taught: Mapping[str, Any], split: str) -> dict[str, pa.Array]:
    """Read the answers to the rows of a split.

    Raises:
        UserError: They are gone, or were redone.
    """
    record = manifest.read(taught["uri"])
    if record is None or record["fingerprint"] != taught["fingerprint"]:
        raise UserError("the answers of the teachers are gone or were redone")
    folder = (f"split={split}/",) if split in SPLITS[1:] else ()
    columns, hint = HELD_OUT.names, "train again with --overwrite"
    tables = lineage.read_tables(taught["uri"], record, folder, columns=columns, hint=hint)
    read = [HELD_OUT.empty_table(), *(table.cast(HELD_OUT) for table in tables)]
    whole = pa.concat_tables(read).combine_chunks()
    return {name: whole[name].combine_chunks() for name in columns}


def _compare(
    predicted: Predicted,
    teacher: np.ndarray,
    num_teachers: int,
    speed: Speed | None,
    no_speed: str,
) -> TeacherComparison:
    """Compare the predictions for N rows with (N, C) probabilities of the teachers."""
    theirs = teacher.argmax(axis=1)
    if teacher.shape[1] == 2:  # as Scores.prediction
        theirs = (teacher[:, 1] >= 0.5).astype(np.int64)
    num_alike = int((theirs == predicted.prediction).sum())
    low, high = share_interval(num_alike, len(theirs))
    return TeacherComparison.of(
        predicted,
        theirs,
        num_teachers=num_teachers,
        agreement=num_alike / len(theirs),
        agreement_low=low,
        agreement_high=high,
        speed=speed,
        no_speed=no_speed,
    )


def _measure_speed(
    rows: pa.Table,
    scored: Manifest,
    teachers: Sequence[Mapping[str, Any]],
    tracking: str | None,
) -> tuple[Speed | None, str]:
    """Time the teachers and the model on a sample of the texts; or say why that cannot be done."""
    if "text" not in rows.column_names:
        return None, "there are no texts"
    if any("uri" not in teacher for teacher in teachers):
        return None, "a teacher is a file of answers"
    text = rows["text"].take(pa.array(spread(len(rows), _MAX_TEXTS))).combine_chunks()
    try:
        of_model, of_teachers = (
            [
                model_sources.load_described(each, tracking=tracking, setting="a teacher")
                for each in some
            ]
            for some in ([scored["inputs"]["model"]], teachers)
        )
    except UserError as error:
        return None, str(error)
    return _time(text, of_teachers, of_model), ""


def _time(
    text: pa.Array, first: "Sequence[ModelPackage]", second: "Sequence[ModelPackage]"
) -> Speed:
    """Time two lists of models, in turn, on one core."""
    from scipy.stats import t

    from sentiflow.models.cpu import one_thread

    seconds = np.zeros((_ROUNDS + _WARM_UP, 2))
    for taken in seconds:
        for number, packages in enumerate((first, second)):
            began = time.perf_counter()
            with one_thread():
                for package in packages:
                    package.score(text)
            taken[number] = time.perf_counter() - began
    seconds = seconds[_WARM_UP:]
    logarithms = np.log(seconds[:, 0] / seconds[:, 1])
    mean = float(logarithms.mean())
    reach = float(t.ppf(0.975, _ROUNDS - 1) * logarithms.std(ddof=1)) / math.sqrt(_ROUNDS)
    of_each = len(text) / np.median(seconds, axis=0)
    ends = (math.exp(mean - reach), math.exp(mean + reach))
    return Speed(len(text), float(of_each[0]), float(of_each[1]), math.exp(mean), *ends)
