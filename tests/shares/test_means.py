"""The mean rating of ordered classes, by group and period."""

import numpy as np
import pandas as pd
import pytest
from corpora import STARS, draw_stars, load, score
from stages import run_stage

from sentiflow.shares import trends
from sentiflow.tracking.recording import Recorder

NUM_ROWS = 6000
VALUES = (1.0, 2.0, 3.0, 4.0, 5.0)


def run(folder, **options):
    """Run the stage; return its manifest, and its two tables."""
    record = run_stage(trends, load(folder, **options), Recorder(), overwrite=True)
    shares = pd.read_parquet(folder / "trends/trends.parquet")
    path = folder / "trends/means.parquet"
    return record, shares, pd.read_parquet(path) if path.exists() else None


def score_stars(folder, table, label=None, *, values=VALUES):
    score(folder, table, label, classes=STARS, values=values)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus with labels of a tenth of its rows, and the truth."""
    folder = tmp_path_factory.mktemp("stars")
    table, truth = draw_stars(NUM_ROWS)
    label = np.where(np.arange(NUM_ROWS) % 10 == 0, truth, -1)
    score_stars(folder, table, label)
    return folder, table.to_pandas().assign(rating=truth + 1)


@pytest.fixture(scope="module")
def outcome(corpus):
    return run(corpus[0], by=["airline", "created:week"])


def test_x(outcome):
    record, shares, means = outcome
    print(means.to_string())
    for line in record["conclusions"]:
        print(line)
