"""Labels alone, by another program that is off by 10 points: the corrected shares hold the truth.

The full table is marked ``soak``::

    pytest -m soak -s tests/shares/test_given_promises.py
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from corpora import CLASSES, load, score

from sentiflow.data import manifest
from sentiflow.shares import table as shares_table

NUM_ROWS = 24_000
NUM_MONTHS = 12
GIVEN = {
    "uri": "/gone.csv",
    "fingerprint": "c0ffee",
    "training": None,
    "reference": None,
    "settings": {"classes": list(CLASSES), "given": "labels"},
    "given": "labels",
    "files": [],
}


def draw(seed):
    """Draw a year of texts; the program finds 10 points too many of them negative."""
    rng = np.random.default_rng(seed)
    month = rng.integers(0, NUM_MONTHS, NUM_ROWS)
    negative = 0.3 + 0.015 * month
    shares = np.stack([negative, 0.7 * (1 - negative), 0.3 * (1 - negative)], axis=1)
    truth = (shares.cumsum(axis=1)[:, :2] < rng.random((NUM_ROWS, 1))).sum(axis=1)
    answer = truth.copy()
    is_wrong = (truth > 0) & (rng.random(NUM_ROWS) < 0.13 / (1 - negative))
    answer[is_wrong] = 0
    is_missed = (truth == 0) & (rng.random(NUM_ROWS) < 0.03 / negative)
    answer[is_missed] = 1
    created = np.datetime64("2024-01-15", "us") + month * np.timedelta64(30, "D")
    columns = {
        "row_id": np.arange(NUM_ROWS),
        "split": pa.nulls(NUM_ROWS, pa.string()),
        "prediction": answer.astype(np.int8),
        **{
            f"probability_{name}": (answer == number).astype(np.float32)
            for number, name in enumerate(CLASSES)
        },
        "created": created,
    }
    return pa.table(columns), truth


def measure(folder, num_labels, *, num_draws, seed=0):
    """Label random rows again and again; returns coverage, and mean errors in points."""
    rows, truth = draw(seed)
    uri = score(folder, rows, model=GIVEN)
    record = manifest.read(uri)
    period = rows["created"].to_pandas().dt.to_period("M").dt.to_timestamp()
    true_shares = pd.Series(truth == 0).groupby(period).mean()
    rng = np.random.default_rng(seed + 1)
    inside = []
    errors = []
    own_errors = []
    for _ in range(num_draws):
        chosen = rng.choice(NUM_ROWS, num_labels, replace=False)
        labels = pd.DataFrame({"row_id": chosen, "label": np.array(CLASSES)[truth[chosen]]})
        labels.to_csv(folder / "labels.csv", index=False)
        settings = load(folder, by="created:month", labels=str(folder / "labels.csv")).trends
        found = shares_table.tabulate(shares_table.measure(settings, record, uri)).to_pandas()
        lines = found[(found["by"] == "created:month") & (found["class"] == "negative")]
        lines = lines.set_index("period")
        true = true_shares[lines.index]
        inside += list((lines["low"] <= true) & (true <= lines["high"]))
        errors += list((lines["corrected_share"] - true).abs())
        own_errors += list((lines["predicted_share"] - true).abs())
    return np.mean(inside), 100 * np.mean(errors), 100 * np.mean(own_errors)


def test_shares_of_months_are_nearer_to_the_truth_than_those_of_the_program(tmp_path):
    coverage, error, own_error = measure(tmp_path, 600, num_draws=3)
    assert own_error == pytest.approx(10, abs=1)
    assert error < own_error / 2
    assert coverage >= 0.85


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("num_labels", [120, 300, 600, 1200])
def test_intervals_of_months_hold_the_truth(tmp_path, num_labels):
    coverage, error, own_error = measure(tmp_path, num_labels, num_draws=60)
    print(f"| {num_labels} | {coverage:.1%} | {error:.1f} | {own_error:.1f} |")
    assert coverage >= 0.94
    assert error <= own_error / 2
