"""Evaluated rows of a distilled model, and what its teachers answered -> their comparison."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import followed_inputs, lineage
from sentiflow.data.arrays import one_array, to_matrix
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import HELD_OUT, SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.evaluation.other_models import TeacherComparison
from sentiflow.metrics.intervals import right_interval
from sentiflow.models.scores import choose_classes
from sentiflow.tracking.model_sources import TEACHER


def compare(
    rows: pa.Table, scored: Manifest, *, split: str
) -> tuple[TeacherComparison | None, str]:
    """Compare a distilled model with its teachers.

    Args:
        rows: Evaluated rows of one split, as ``evaluated_rows.read`` returns them.
        scored: Manifest of the predictions.
        split: The split.

    Returns:
        The comparison and an empty text; or None and why there is no comparison. The reason is
        also empty if the model is not distilled, or is an average.
    """
    model = scored["inputs"]["model"]
    training = lineage.training_of(model)
    if training is None or "taught" not in training or "members" in model:
        return None, ""
    if not lineage.is_of_training(scored, training):
        return None, "the teachers have answered only the rows of the model's prepared data"
    try:
        answers = _read_answers(training["taught"], split)
    except UserError as error:
        return None, str(error)
    place = pc.index_in(one_array(rows["row_id"]), value_set=one_array(answers["row_id"]))
    rows = rows.filter(place.is_valid())
    if not len(rows):
        return None, "no teacher has answered any of these texts"
    probabilities = to_matrix(one_array(answers["teacher"]).take(place.drop_null()))
    prediction = choose_classes(probabilities).astype(np.int64)
    predicted = predicted_of(rows)
    is_alike = prediction == predicted.prediction
    low, high = right_interval(is_alike, predicted.groups)
    compared = TeacherComparison.of(
        predicted,
        prediction,
        num_teachers=sum(name.startswith(TEACHER) for name in training["inputs"]),
        agreement=int(is_alike.sum()) / len(rows),
        agreement_low=low,
        agreement_high=high,
    )
    return compared, ""


def _read_answers(taught: Mapping[str, Any], split: str) -> pa.Table:
    """Read what the teachers have answered to the rows of a split; to all rows without a split.

    Raises:
        UserError: The answers are gone, or were redone.
    """
    record = followed_inputs.follow({"taught": taught}, "taught")
    if record is None:
        raise UserError("the answers of the teachers are gone or were redone")
    folder = (f"split={split}/",) if split in SPLITS[1:] else ()
    tables = [HELD_OUT.empty_table()]
    for table in lineage.read_tables(taught["uri"], record, folder, HELD_OUT.names):
        tables.append(table.cast(HELD_OUT))
    return pa.concat_tables(tables).combine_chunks()
