"""``sentiflow trends``: how often its intervals hold the truth, and its time and memory.

    python benchmarks/trends.py [RUN] [--rows 4000000 16000000]

RUN is ``sentiflow run configs/airline.yaml output_uri=runs/half prepare.split.test_fraction=0.5``.
The model has not seen its test rows. The labels of a random half of them are shown and the others
hidden, 200 times. The table compares coverage and width of the intervals with two rivals: an
estimate from the shown labels alone, and the share of predicted labels with its binomial error.

Then the stage runs on predictions for a synthetic corpus, by hour, in a new process. It is compared
with a bare read of the same columns by pyarrow. The package is imported only where it is used, so
that the process of the bare read does not have its memory.
"""

import statistics
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import measuring
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from measuring import Table

if TYPE_CHECKING:
    from sentiflow.metrics.shares import Shares

NUM_DRAWS = 200
"""Draws of the labels that are shown."""


@dataclass(frozen=True)
class TestRows:
    """The test rows of a run: N rows, C classes, A airlines."""

    airline: np.ndarray
    """N positions, from 0 to A - 1."""
    label: np.ndarray
    """N positions, from 0 to C - 1."""
    prediction: np.ndarray
    """N positions, from 0 to C - 1."""
    probabilities: np.ndarray
    """``(N, C)``."""

    @classmethod
    def read(cls, uri: Path) -> "TestRows":
        """Read the test rows of a run."""
        import sentiflow

        run = sentiflow.load_run(uri)
        rows = run.predictions.to_pandas(filters=[("split", "==", "test")])
        airline, _ = pd.factorize(rows["airline"])
        columns = [f"probability_{name}" for name in run.scored.classes]
        return cls(
            airline=airline,
            label=rows["label"].to_numpy(int),
            prediction=rows["prediction"].to_numpy(int),
            probabilities=rows[columns].to_numpy(float),
        )

    def count_shares(self) -> np.ndarray:
        """Count the true share of each class in each airline, ``(A, C)``."""
        is_class = self.label[:, None] == np.arange(self.probabilities.shape[1])
        num_airlines = self.airline.max() + 1
        return np.array(
            [is_class[self.airline == number].mean(axis=0) for number in range(num_airlines)]
        )

    def estimate(self, probabilities: np.ndarray, is_shown: np.ndarray) -> "Shares":
        """Estimate the shares from the labels that are shown and from probabilities."""
        from sentiflow.metrics import sampling, shares

        sums = sampling.add_up(
            pd.DataFrame({"group": self.airline}),
            prediction=self.prediction,
            probabilities=probabilities,
            label=np.where(is_shown, self.label, -1),
            weight=np.ones(len(self.label)),
        )
        return shares.estimate(sums)


def measure_coverage(uri: Path) -> None:
    """Print coverage and width of the intervals of the airlines' shares, and of their rivals."""
    rows = TestRows.read(uri)
    num_rows = len(rows.label)
    truth = rows.count_shares()
    uniform = np.full_like(rows.probabilities, 1 / truth.shape[1])

    def measure(low: np.ndarray, high: np.ndarray) -> measuring.Figures:
        is_inside = (low <= truth) & (truth <= high)
        return {"coverage": is_inside.mean(), "width": (high - low).mean()}

    rng = np.random.default_rng(0)
    rounds = defaultdict(list)
    for _ in range(NUM_DRAWS):
        is_shown = rng.permutation(num_rows) < num_rows // 2
        labels = rows.estimate(uniform, is_shown)
        ours = rows.estimate(rows.probabilities, is_shown)
        predicted = ours.predicted
        error = 1.96 * np.sqrt(predicted * (1 - predicted) / ours.rows[:, None])
        binomial = measure(predicted - error, predicted + error)
        rounds["labels alone"].append(measure(labels.low, labels.high))
        rounds["predicted labels, binomial"].append(binomial)
        rounds["sentiflow trends"].append(measure(ours.low, ours.high))
    title = f"{num_rows // 2:,} of {num_rows:,} labels shown"
    measuring.show(title, rounds, middle=statistics.mean)


def score(folder: Path, num_rows: int) -> Path:
    """Score a synthetic corpus with a small model; returns the directory of the run."""
    folder.mkdir()
    settings = {
        "prepare.csv": measuring.make_csv(folder / "train.csv", 5_000),
        "train.model": {"cell": "rnn", "hidden_size": 8, "pooling": "last"},
        "train.num_epochs": 1,
        "score.corpus": measuring.make_csv(folder / "corpus.csv", num_rows, seed=2),
        "score.keep_columns": ["time"],
    }
    for verb in ("prepare", "train", "score"):
        measuring.run_job(verb, folder / "run", settings)
    return folder / "run"


def run_trends(output: Path) -> measuring.Figures:
    """Run the stage in this process."""
    from sentiflow.config import settings
    from sentiflow.data.outputs import open_output
    from sentiflow.shares import trends
    from sentiflow.tracking.recorder import Recorder

    given = {"name": "benchmark", "output_uri": output, "trends": {"by": ["time:hour"]}}
    config = settings.load(given)
    plan = trends.resolve(config)
    with open_output(plan.spec, overwrite=True) as target:
        seconds = trends.run(plan, target, Recorder())["seconds"]
    return {"seconds": seconds, "MB": measuring.peak_mb()}


def read_columns(output: Path) -> measuring.Figures:
    """Read the same columns, and do nothing with them."""
    predictions = ds.dataset(output / "scored/predictions")
    names = ["label", "prediction", "probability", "time"]
    batches = predictions.scanner(columns=names, use_threads=False).to_batches()

    def read() -> None:
        for _ in batches:
            pass

    return {"seconds": measuring.seconds_of(read), "MB": measuring.peak_mb()}


WAYS = {"pyarrow, a bare read": read_columns, "sentiflow trends, the stage": run_trends}


def measure(way: str, folder: Path) -> measuring.Figures:
    """Measure in a new process."""
    results = measuring.in_processes([partial(WAYS[way], folder)])
    return results[0]


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Measure coverage; then list a table of time and memory for each number of rows."""
    for run in options.inputs:
        measure_coverage(run)
    for num_rows in options.rows:
        output = score(folder / str(num_rows), num_rows)
        yield f"{num_rows:,} predictions", {way: partial(measure, way, output) for way in WAYS}


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, rows=[4_000_000, 16_000_000])
