"""``sentiflow trends``: do its intervals hold the truth, and what do its time and memory depend on?

    python benchmarks/trends.py [RUN] [--rows 4000000 16000000]

RUN is ``sentiflow run configs/airline.yaml output_uri=runs/half prepare.split.test_fraction=0.5``:
of its test rows, which the model has not seen, the labels of a random half are shown and the others
hidden, 200 times. Beside coverage and width of the intervals: those of the labels that are shown
alone, and of the share of predicted labels with its binomial error.

Then the stage on predictions for a synthetic corpus, by hour, in a process of its own, beside a
bare read of the same columns by pyarrow.
"""

import statistics
from argparse import Namespace
from collections import defaultdict, deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from measuring import Way

NUM_DRAWS = 200


def measure_coverage(uri: Path) -> None:
    """Print coverage and width of the intervals of the airlines' shares, and of their rivals'."""
    import sentiflow
    from sentiflow.metrics import sampling, shares

    run = sentiflow.load_run(uri)
    rows = run.predictions.to_pandas(filters=[("split", "==", "test")])
    classes = run.scored.classes
    probabilities = rows[[f"probability_{name}" for name in classes]].to_numpy(float)
    label, (group, airlines) = rows["label"].to_numpy(int), pd.factorize(rows["airline"])
    of_class = label[:, None] == np.arange(len(classes))
    truth = np.array([of_class[group == one].mean(axis=0) for one in range(len(airlines))])

    def estimate(found: np.ndarray, shown: np.ndarray) -> shares.Shares:
        sums = sampling.add_up(
            pd.DataFrame({"group": group}),
            prediction=rows["prediction"].to_numpy(int),
            probabilities=found,
            label=np.where(shown, label, -1),
            weight=np.ones(len(rows)),
        )
        return shares.estimate(sums)

    def figures(low: np.ndarray, high: np.ndarray) -> measuring.Figures:
        return {"coverage": ((low <= truth) & (truth <= high)).mean(), "width": (high - low).mean()}

    rng, rounds = np.random.default_rng(0), defaultdict(list)
    for _ in range(NUM_DRAWS):
        shown = rng.permutation(len(rows)) < len(rows) // 2
        labels = estimate(np.full_like(probabilities, 1 / len(classes)), shown)
        ours = estimate(probabilities, shown)
        error = 1.96 * np.sqrt(ours.predicted * (1 - ours.predicted) / ours.rows[:, None])
        rounds["labels alone"].append(figures(labels.low, labels.high))
        predicted = figures(ours.predicted - error, ours.predicted + error)
        rounds["predicted labels, binomial"].append(predicted)
        rounds["sentiflow trends"].append(figures(ours.low, ours.high))
    title = f"{len(rows) // 2:,} of {len(rows):,} labels shown"
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
    from sentiflow.tracking.recording import Recorder

    given = {"name": "benchmark", "output_uri": output, "trends": {"by": ["time:hour"]}}
    config = settings.load(given)
    plan = trends.resolve(config)
    with open_output(plan.spec, overwrite=True) as target:
        seconds = trends.run(plan, target, Recorder())["seconds"]
    return {"seconds": seconds, "MB": measuring.peak_mb()}


def read_columns(output: Path) -> measuring.Figures:
    """Read the same columns, and do nothing with them."""
    names = ["label", "prediction", "probability", "time"]
    rows = ds.dataset(output / "scored/predictions").scanner(columns=names, use_threads=False)
    read = partial(deque, rows.to_batches(), maxlen=0)
    return {"seconds": measuring.seconds_of(read), "MB": measuring.peak_mb()}


WAYS = {"pyarrow, a bare read": read_columns, "sentiflow trends, the stage": run_trends}


def measure(way: str, folder: Path) -> measuring.Figures:
    """Measure in a process of its own."""
    return measuring.in_processes([partial(WAYS[way], folder)])[0]


def list_tables(folder: Path, options: Namespace) -> Iterator[tuple[str, dict[str, Way]]]:
    """Measure coverage; then give a table of time and memory for each number of rows."""
    for run in options.inputs:
        measure_coverage(run)
    for num_rows in options.rows:
        output = score(folder / str(num_rows), num_rows)
        yield f"{num_rows:,} predictions", {way: partial(measure, way, output) for way in WAYS}


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, rows=[4_000_000, 16_000_000])
