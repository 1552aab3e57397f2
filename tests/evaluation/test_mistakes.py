"""The mistakes shown are those most worth reading."""

import described
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sentiflow.data.schema import BINARY
from sentiflow.evaluation import mistakes
from sentiflow.metrics.predicted import Predicted

ROWS = [
    ("I love it", 1, 0.9),
    ("just great", 0, 0.99),
    ("Just  GREAT", 0, 0.98),
    ("meh", 0, 0.51),
    ("so sad", 1, 0.02),
    ("going home", 1, 0.6),
    ("going home", 1, 0.6),
    ("Going home", 0, 0.6),
    ("tired :(", 1, 0.2),
    ("tired :( ", 0, 0.2),
    ("cold :(", 1, 0.3),
    ("warm :(", 1, 0.8),
]


def find(rows):
    text, label, probability = map(list, zip(*rows, strict=True))
    probability = np.array(probability, np.float32)
    columns = {
        "row_id": np.arange(100, 100 + len(rows)),
        "text": text,
        "label": np.array(label, np.int8),
        "probability_negative": 1 - probability,
        "probability_positive": probability,
        "prediction": (probability >= 0.5).astype(np.int8),
    }
    table = described.find_mistakes(pa.table(columns))
    assert table.schema == mistakes.COLUMNS
    return {
        kind: table.filter(pc.equal(table["kind"], kind)).to_pylist()
        for kind in ("confident", "near miss", "label")
    }


def texts(rows):
    return [row["text"] for row in rows]


def test_confident_mistakes_come_surest_first_and_each_text_once():
    found = find(ROWS)["confident"]
    assert texts(found)[:2] == ["just great", "so sad"]
    assert "Just  GREAT" not in texts(found)
    assert "I love it" not in texts(found)
    assert (found[0]["row_id"], found[0]["label"], found[0]["prediction"]) == (101, 0, 1)


def test_contradicting_texts_come_first_on_the_row_of_the_rarer_label():
    first = find(ROWS)["label"][0]
    assert (first["row_id"], first["label"]) == (107, 0)
    assert first["why"] == (
        "this text has both labels in these rows: positive 2 times, negative once"
    )


def test_at_a_tie_the_label_that_the_model_denies_is_doubtful():
    tie = [row for row in find(ROWS)["label"] if "tired" in row["text"]]
    assert [(row["label"], row["row_id"]) for row in tie] == [(1, 108)]


def count_label_errors(label, probability):
    """Estimate those of a model of negative and positive."""
    probabilities = np.stack([1 - probability, probability], axis=1)
    prediction = (probability >= 0.5).astype(int)
    return mistakes.count_label_errors(Predicted(BINARY, label, prediction, probabilities))


def test_planted_label_errors_are_counted():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 5000)
    probability = np.where(truth == 1, rng.beta(9, 2, 5000), rng.beta(2, 9, 5000))
    label = np.where(rng.random(5000) < 0.04, 1 - truth, truth)
    found = count_label_errors(label, probability)
    assert found.num_rows == 5000
    assert found.fraction == pytest.approx(0.04, abs=0.02)
    clean = count_label_errors(truth, probability)
    assert clean.fraction < 0.002


def test_label_errors_equal_hand_counted_ones():
    # Where the label is 1 it has 0.8 on average, where it is 0 the label 0 has 0.5.
    label = np.array([1, 1, 0, 0])
    probability = np.array([0.9, 0.7, 0.85, 0.15])
    found = count_label_errors(label, probability)
    assert found == mistakes.LabelErrors(num_rows=4, num_doubtful=1, fraction=0.25)
