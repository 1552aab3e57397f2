"""Counts of parts add up, class by class, and name the predictions; a profile has unseen rows."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.data import column_checks
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError
from sentiflow.models.scores import Scores
from sentiflow.scoring import tasks
from sentiflow.scoring.tasks import RowCounts


def counts(*rows, names=("negative", "positive", "neutral")):
    """Count so many rows predicted to be of each class."""
    predicted = dict(zip(names, rows, strict=False))
    return RowCounts(rows_read=sum(rows), accepted=sum(rows), predicted=predicted)


def test_counts_of_parts_add_up():
    parts = [counts(1, 2, 3), replace(counts(4, 0, 1), peak_memory_bytes=9)]
    assert RowCounts.sum(parts) == replace(counts(5, 2, 4), peak_memory_bytes=9)
    assert RowCounts.sum([]) == RowCounts()


@pytest.mark.parametrize(
    ("found", "brief"),
    [
        (counts(1, 3), "75.0% positive, "),
        (counts(5, 3, 2), "50.0% negative, 30.0% positive, 20.0% neutral, "),
        (counts(5, 3, 2, 0, 10, names="abcde"), "50.0% e, 25.0% a, 15.0% b, "),
        (counts(1, 3, names=("ham", "spam")), "25.0% ham, 75.0% spam, "),
        (counts(0, 0), ""),
    ],
)
def test_a_line_names_a_few_classes(found, brief):
    assert found.brief == brief


@pytest.mark.parametrize("names", [("negative", "positive"), ("ham", "spam")])
def test_counts_are_read_back_and_positive_is_there_with_its_class(names):
    found = counts(1, 3, names=names)
    expected = 3 if "positive" in names else None
    assert found.counts.get("positive") == expected
    assert RowCounts.from_json(json.loads(json.dumps(asdict(found)))) == found


def test_the_profile_describes_rows_outside_of_train_and_validation():
    counts = np.arange(1, 6)
    scores = Scores(
        probabilities=np.full((5, 2), 0.5),
        classes=BINARY,
        num_tokens=counts,
        lengths=counts,
        num_unknown=counts,
    )
    splits = ["train", "validation", "test", None, "test"]
    rows = pa.table({"label": [0, 0, 0, 0, 1], "split": splits})
    job = SimpleNamespace(classes=BINARY, labels=(0, 1))
    found = tasks.describe_unseen(rows, scores, job)
    assert (found.rows, found.tokens) == (3, 3 + 4 + 5)
    assert found.confusion == {"negative": {"positive": 2}, "positive": {"positive": 1}}


def check_kept(columns, name):
    """Check a column to keep of a corpus that a model of two classes scores."""
    rows = SimpleNamespace(columns=columns, columns_by_file=())
    column_checks.check_scored(rows, [name], classes=["joy", "anger"])


@pytest.mark.parametrize("name", ["predicted_label", "Probability", "probability_JOY"])
def test_a_kept_column_cannot_have_the_name_of_a_column_of_predictions(name):
    own = f"predictions have their own column {name.lower()}"
    with pytest.raises(UserError, match=own):
        check_kept(["text", name], name)
    check_kept(["probability_fear"], "probability_fear")


@pytest.mark.parametrize(
    ("setting", "earlier", "on_gpu", "precision"),
    [
        ("auto", "", True, "bf16"),
        ("auto", "", False, "fp32"),
        ("auto", "bf16", False, "bf16"),
        ("auto", "fp32", True, "fp32"),
        ("fp32", "", True, "fp32"),
    ],
)
def test_an_extended_scoring_keeps_its_precision(setting, earlier, on_gpu, precision):
    found = tasks.choose_precision(setting, earlier=earlier, on_gpu=on_gpu)
    assert found == precision
