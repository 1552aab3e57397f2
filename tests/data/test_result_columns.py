"""Columns that are not what their readers expect are refused; the user's own are not checked."""

import pyarrow as pa
import pytest

from sentiflow.data import result_columns
from sentiflow.errors import UserError

GOOD = {
    "row_id": pa.array([1, 2]),
    "label": pa.array([0, None], pa.int8()),
    "prediction": pa.array([0, 1], pa.int8()),
    "num_tokens": pa.array([0, 9], pa.int32()),
    "split": pa.array(["test", None]),
    "model_version": pa.array(["1", "2"]),
    "unsure": pa.array([True, False]),
    "probability_good": pa.array([0.5, 0.25], pa.float32()),
    "probability_of_the_user": pa.array(["a", None]),
    "brand": pa.array(["a", None]),
}
RECORD = {"stage": "score", "classes": ["bad", "good"]}
PREPARED = {"stage": "prepare", "classes": ["bad", "good"]}


def test_good_columns_are_accepted():
    result_columns.check(pa.table(GOOD), RECORD, "a.parquet")
    result_columns.check(pa.table(GOOD | {"split": pa.nulls(2)}), RECORD, "a.parquet")
    result_columns.check(pa.table(GOOD).slice(0, 0), RECORD, "a.parquet")
    own = {name: pa.array(["a", "b"]) for name in GOOD if name not in ("row_id", "label")}
    result_columns.check(pa.table(GOOD | own), PREPARED, "a.parquet")


@pytest.mark.parametrize(
    ("name", "column", "fault"),
    [
        ("row_id", ["a", "b"], "row_id of type string"),
        ("row_id", [1, None], "row_id with nulls"),
        ("row_id", [0.5, 1.5], "row_id of type double"),
        ("row_id", [None, None], "row_id of type null"),
        ("label", [[1], [2]], "label of type list"),
        ("label", [-1, 0], "label from -1 to 0, which are no positions"),
        ("prediction", [0, 2], "prediction from 0 to 2, which are no positions"),
        ("prediction", [0, None], "prediction with nulls"),
        ("split", [1, 2], "split of type int64"),
        ("unsure", ["a", "b"], "unsure of type string"),
        ("probability_good", ["a", "b"], "probability_good of type string"),
        ("probability_good", [0.5, None], "probability_good with nulls"),
        ("num_tokens", [{"a": 1}, {"a": 2}], "num_tokens of type struct"),
        ("model_version", [1, 2], "model_version of type int64"),
    ],
)
def test_other_columns_are_refused(name, column, fault):
    table = pa.table(GOOD | {name: pa.array(column)})
    with pytest.raises(UserError) as error:
        result_columns.check(table, RECORD, "a.parquet")
    assert str(error.value).startswith(f"a.parquet has {fault}")
