"""Shares of a model that was trained on its own sample of labels: do the intervals hold the truth?

    python benchmarks/retrained.py CORPUS.csv [--repetitions 20] [--labelled 2500] [--size 300]

CORPUS is ``airline_tweets.csv``. In each repetition the labels of some random rows are left and the
others hidden; a model is trained, ``trends --sample`` drawn and labelled from the truth, ``trends``
measured, the model trained anew with the same file as ``prepare.corrections``, and ``trends``
measured again, with the file and without it.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import sentiflow

CLASSES = ["negative", "neutral", "positive"]
PLAIN = {
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


def run(folder: Path, corpus: Path, seed: int, **corrections: list[str]) -> dict:
    """Prepare, train and score; return the settings."""
    raw = PLAIN | {"name": "retrained", "output_uri": str(folder)}
    raw["prepare"] = {"csv": str(corpus), "keep_columns": ["airline"], **corrections}
    raw["train"] = PLAIN["train"] | {"seed": seed}
    for stage in (sentiflow.prepare, sentiflow.train, sentiflow.score):
        stage(raw)
    return raw


def count_hits(raw: dict, truth: pd.Series, **labels: str) -> np.ndarray:
    """Measure the shares of all rows; return which intervals hold the truth, and the sample."""
    found = sentiflow.trends(raw | {"trends": raw["trends"] | labels}, overwrite=True)
    shares = found.shares[found.shares["by"] == "all"].set_index("class")
    true = truth.value_counts(normalize=True)[shares.index]
    inside = (shares["low"] <= true) & (true <= shares["high"])
    print(*found.manifest["notes"], sep="\n")
    return np.array([*inside, shares["labelled"].iloc[0]], float)


def repeat(corpus: Path, seed: int, num_labelled: int, size: int, folder: Path) -> np.ndarray:
    """Run both models once."""
    rows = pd.read_csv(corpus, dtype=str)
    truth, rng = rows["sentiment"].copy(), np.random.default_rng(seed)
    rows.loc[rng.permutation(len(rows))[num_labelled:], "sentiment"] = ""
    path, to_label = folder / "corpus.csv", folder / "to_label.csv"
    rows.to_csv(path, index=False)
    from sentiflow.config import settings
    from sentiflow.data import label_files
    from sentiflow.shares import labels

    first = run(folder / "first", path, seed)
    drawn, _ = labels.draw(settings.load(first, command="trends"), size)
    label = truth[drawn["row_id"]].to_numpy()
    to_label.write_bytes(label_files.to_csv(drawn.assign(label=label)))
    found = [count_hits(first, truth, labels=str(to_label))]
    second = run(folder / "second", path, seed, corrections=[str(to_label)])
    found += [count_hits(second, truth, labels=str(to_label)), count_hits(second, truth)]
    return np.stack(found)


def main() -> None:
    """Print the part of intervals that hold the truth."""
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
        mean = np.mean(rounds, axis=0)
        for name, line in zip(
            ("sample", "retrained, file", "retrained, corpus"), mean, strict=True
        ):
            print(f"{seed + 1} rounds; {name}: {line[:3].mean():.3f} hold; {line[3]:.0f} labels")


if __name__ == "__main__":
    main()
