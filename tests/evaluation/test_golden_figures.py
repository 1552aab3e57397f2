"""Figures do not depend on how many rows are computed with at a time.

``golden_figures.json`` was written by the code that held all texts and computed with all rows at
once.
"""

import json
from dataclasses import asdict
from pathlib import Path

import described
import numpy as np
import pyarrow as pa
import pytest

from sentiflow.evaluation import evaluated_rows, measurements, slice_search
from sentiflow.evaluation.evaluated_rows import AUTHOR
from sentiflow.evaluation.slices import OWN
from sentiflow.metrics import row_ranges

GOLDEN = json.loads(Path(__file__).with_name("golden_figures.json").read_text())
NUM_ROWS = 1500
PATTERNS = {"weather": "word1"}
CLASSES = {
    "binary": ("negative", "positive"),
    "by author": ("negative", "positive"),
    "three classes": ("negative", "neutral", "positive"),
}
MODEL = {
    "settings": {
        "tokenizer": "tweet",
        "max_length": 12,
        "unsure": {"max_error": 0.1, "threshold": 0.7},
    },
    "calibration": {"temperature": 2.0},
}


def rows_of(kind):
    """Make rows of two splits, with copies of texts that have several labels."""
    rng = np.random.default_rng(7)
    classes = CLASSES[kind]
    label = rng.integers(0, len(classes), NUM_ROWS).astype(np.int8)
    logits = rng.normal(size=(NUM_ROWS, len(classes)))
    logits[np.arange(NUM_ROWS), label] += 1.2
    scores = np.exp(logits).round(2)  # rounded: some probabilities are equal
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    number = rng.integers(0, 1200, NUM_ROWS)
    texts = [f"@user{k % 7} not word{k % 40} WORD{k} {'so ' * (k % 13)}?" for k in number.tolist()]
    columns = {
        "row_id": rng.permutation(NUM_ROWS),
        "split": np.where(np.arange(NUM_ROWS) % 4, "test", "validation"),
        "label": label,
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        "num_tokens": rng.integers(0, 12, NUM_ROWS).astype(np.int32),
        "text": pa.array(texts, pa.string()),
        "unsure": probabilities.max(axis=1) <= 0.7,
        OWN + "airline": rng.choice(["Delta", "United", "Virgin"], NUM_ROWS),
        OWN + "place": rng.choice([f"place {k}" for k in range(60)], NUM_ROWS),
    }
    for name, column in zip(classes, probabilities.T, strict=True):
        columns[f"probability_{name}"] = column
    if kind == "by author":
        columns[AUTHOR] = rng.integers(0, 600, NUM_ROWS).astype(np.uint64)
    return pa.table(columns)


def to_json(found, table):
    """Return measurements and mistakes as JSON has them."""
    figures = {split: metrics.to_json() for split, metrics in found.figures.items()}
    content = asdict(found) | {"figures": figures, "mistakes": table.to_pylist()}
    return json.loads(json.dumps(content))


def flatten(value, name=""):
    """List the values of nested JSON, each with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, f"{name}/{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from flatten(item, f"{name}/{place}")
    else:
        yield name, value


@pytest.mark.parametrize("num_at_a_time", [row_ranges.RANGE_ROWS, 97])
@pytest.mark.parametrize("kind", CLASSES)
def test_figures_equal_those_of_all_rows_at_once(monkeypatch, kind, num_at_a_time):
    monkeypatch.setattr(row_ranges, "RANGE_ROWS", num_at_a_time)
    monkeypatch.setattr(slice_search, "MAX_ROWS", 700)  # fewer than there are test texts
    rows = rows_of(kind)
    by_split, sample = described.describe(rows, MODEL["settings"], patterns=PATTERNS)
    found = measurements.measure(
        by_split, sample, model=MODEL, patterns=PATTERNS, columns=["airline"], searched=["place"]
    )
    test = rows.filter(pa.array(np.array(rows["split"]) == "test"))
    given = dict(flatten(to_json(found, described.find_mistakes(test))))
    expected = dict(flatten(GOLDEN[kind]))
    assert given.keys() == expected.keys()
    differing = {}
    for name, value in expected.items():
        if isinstance(value, float):
            if given[name] != pytest.approx(value, rel=1e-12, abs=1e-15):
                differing[name] = (given[name], value)
        elif given[name] != value:
            differing[name] = (given[name], value)
    assert not differing


def test_numbers_of_authors_give_exactly_the_figures_of_their_hashes():
    by_split, sample = described.describe(
        rows_of("by author"), MODEL["settings"], patterns=PATTERNS
    )
    numbered = {name: evaluated_rows.replace_hashes(part) for name, part in by_split.items()}
    assert numbered["test"].schema.field(AUTHOR).type == pa.int32()
    found = [
        measurements.measure(tables, sample, model=MODEL, patterns=PATTERNS, searched=["place"])
        for tables in (by_split, numbered)
    ]
    assert repr(found[0]) == repr(found[1])
