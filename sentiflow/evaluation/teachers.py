"""Evaluated rows + the answers of the teachers -> how much of them a distilled model keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import HELD_OUT, SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.baselines import ModelComparison
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.metrics.intervals import share_interval
from sentiflow.tracking.teacher_sources import TEACHER

AGREES = "of the texts get the label of the "
"""Begins the meaning of the highlight about the teachers."""


@dataclass(frozen=True)
class TeacherComparison(ModelComparison):
    """The mean of the teachers beside a distilled model, on rows that a teacher has answered."""

    num_teachers: int
    agreement: float
    """Share of the rows with the same prediction."""
    agreement_low: float
    """Lower end of the exact 95 % interval."""
    agreement_high: float

    @property
    def name(self) -> str:
        """Name the teachers."""
        return "teacher" if self.num_teachers == 1 else f"mean of {self.num_teachers} teachers"

    @property
    def verdict(self) -> str:
        """Say in words how the model compares in accuracy."""
        difference = self.accuracy_difference
        points, low, high = (
            100 * value for value in (difference.value, difference.low, difference.high)
        )
        return (
            f"accuracy {self.accuracy_of_model:.1%} against {self.accuracy:.1%}, a difference of "
            f"{points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"
        )

    def to_metrics(self) -> dict[str, float | None]:
        """Name the metrics for MLflow."""
        return {
            "teacher/agreement": self.agreement,
            "teacher/accuracy": self.accuracy,
            "teacher/accuracy_difference": self.accuracy_difference.value,
            "teacher/f1_macro": self.f1_macro,
        }


def compare(
    rows: pa.Table, scored: Manifest, *, split: str
) -> tuple[TeacherComparison | None, str]:
    """Compare a distilled model with its teachers.

    Args:
        rows: Evaluated rows of one split, as ``evaluated_rows.read`` returns them.
        scored: Manifest of the predictions.
        split: The split.

    Returns:
        The comparison, if the model is distilled and no average; or why there is none.
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
    teacher = answers["teacher"].take(place).flatten().to_numpy().reshape(len(rows), -1)
    prediction = teacher.argmax(axis=1)
    if teacher.shape[1] == 2:  # as Scores.prediction
        prediction = (teacher[:, 1] >= 0.5).astype(np.int64)
    predicted = predicted_of(rows)
    num_alike = int((prediction == predicted.prediction).sum())
    low, high = share_interval(num_alike, len(rows))
    found = TeacherComparison.of(
        predicted,
        prediction,
        num_teachers=sum(name.startswith(TEACHER) for name in training["inputs"]),
        agreement=num_alike / len(rows),
        agreement_low=low,
        agreement_high=high,
    )
    return found, ""


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
