"""Shares of a model that was trained on its own sample of labels: do the intervals hold the truth?

    python benchmarks/retrained.py CORPUS.csv [--repetitions 20] [--labelled 2500] [--size 300]

CORPUS is ``airline_tweets.csv``. Each repetition takes these steps:

1. Keep the labels of some random rows, and hide the others.
2. Train a model.
3. Draw ``trends --sample``, label it from the truth, and measure ``trends`` with this file.
4. Train again with the same file as ``prepare.corrections``.
5. Measure ``trends`` with the file, and without it.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import sentiflow
from sentiflow.config import settings
from sentiflow.data import label_files
from sentiflow.shares import next_draw

CLASSES = ["negative", "neutral", "positive"]
PLAIN: dict[str, Any] = {
    "format": {
        "kind": "csv",
        "columns": {"text": "text", "label": "sentiment", "user": "author", "time": "created"},
        "labels": {name: name for name in CLASSES},
    },
    "train": {
        "model": {"cell": "gru", "hidden_size": 16},
        "batching": {"global_batch_size": 64},
        "num_epochs": 2,
        "learning_rate": 5.0e-3,
    },
    "score": {"keep_columns": ["airline", "text"]},
    "trends": {"by": "airline"},
}
"""Settings of both models."""
NAMES = ("sample", "retrained, file", "retrained, corpus")
"""What :func:`repeat` measures."""


class Hits(NamedTuple):
    """How good the shares of all rows are."""

    fraction: float
    """Share of the classes whose interval holds the truth."""
    num_labelled: float
    """Labelled rows in the sample."""


def run(folder: Path, corpus: Path, seed: int, **corrections: list[str]) -> dict:
    """Prepare, train and score; return the settings."""
    raw = {
        **PLAIN,
        "name": "retrained",
        "output_uri": str(folder),
        "prepare": {"csv": str(corpus), "keep_columns": ["airline"], **corrections},
        "train": {**PLAIN["train"], "seed": seed},
    }
    sentiflow.prepare(raw)
    sentiflow.train(raw)
    sentiflow.score(raw)
    return raw


def measure(raw: dict, truth: pd.Series, **changes: str) -> Hits:
    """Measure the shares of all rows, and compare them with the truth."""
    found = sentiflow.trends(raw | {"trends": raw["trends"] | changes}, overwrite=True)
    shares = found.shares[found.shares["by"] == "all"].set_index("class")
    true = truth.value_counts(normalize=True)[shares.index]
    inside = (shares["low"] <= true) & (true <= shares["high"])
    print(*found.manifest["notes"], sep="\n")
    return Hits(fraction=inside.mean(), num_labelled=shares["labelled"].iloc[0])


def repeat(corpus: Path, seed: int, num_labelled: int, size: int, folder: Path) -> list[Hits]:
    """Run both models once; returns the hits in the order of NAMES."""
    rows = pd.read_csv(corpus, dtype=str)
    truth = rows["sentiment"].copy()
    order = np.random.default_rng(seed).permutation(len(rows))
    rows.loc[order[num_labelled:], "sentiment"] = ""
    path = folder / "corpus.csv"
    to_label = folder / "to_label.csv"
    rows.to_csv(path, index=False)
    first = run(folder / "first", path, seed)
    drawn, _ = next_draw.draw_rows(settings.load(first, command="trends"), size)
    label = truth[drawn["row_id"]].to_numpy()
    to_label.write_bytes(label_files.to_csv(drawn.assign(label=label)))
    sample = measure(first, truth, labels=str(to_label))
    second = run(folder / "second", path, seed, corrections=[str(to_label)])
    retrained_file = measure(second, truth, labels=str(to_label))
    retrained_corpus = measure(second, truth)
    return [sample, retrained_file, retrained_corpus]


def main() -> None:
    """Print the share of the intervals that hold the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--labelled", type=int, default=2500)
    parser.add_argument("--size", type=int, default=300)
    given = parser.parse_args()
    rounds = []
    for seed in range(given.repetitions):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(repeat(given.corpus, seed, given.labelled, given.size, Path(folder)))
        means = np.mean(rounds, axis=0)
        for name, mean in zip(NAMES, means, strict=True):
            fraction, num_labelled = mean
            print(f"{seed + 1} rounds; {name}: {fraction:.3f} hold; {num_labelled:.0f} labels")


if __name__ == "__main__":
    main()
