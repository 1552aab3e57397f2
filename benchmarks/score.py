"""The stage ``score`` against the bare model in both precisions.

    python benchmarks/score.py [--rows 1600000] [--models rnn50 lstm128 best]

The corpus is one CSV of ``sentiflow sample``. The models are trained on other tweets: their speed
depends only on their size. Rates are rows per second over all cores.

- sentiflow: the stage of the command, from CSV to Parquet.
- bare: the same model and batches, in one process for each core. Texts are in memory, predictions
  are discarded, and the imports are not timed.

``frontier.py`` compares with fastText.
"""

import os
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measuring
import pandas as pd
from answering import LOADERS
from measuring import Table

PIECE = 100_000
"""Texts that the bare model gets at a time."""
CORES = len(os.sched_getaffinity(0))
MODELS = {
    "rnn50": {
        "cell": "rnn",
        "hidden_size": 50,
        "bidirectional": False,
        "pooling": "last",
        "vectors": "frozen",
        "dropout": 0.0,
    },
    "lstm128": {"cell": "lstm", "hidden_size": 128},
    "best": {"cell": "gru", "hidden_size": 128},
}


def train(folder: Path, name: str) -> Path:
    """Train a model for one epoch; returns the directory of the run."""
    settings = {
        "prepare.csv": folder / "train.csv",
        "train.model": MODELS[name],
        "train.num_epochs": 1,
    }
    for verb in ("prepare", "train"):
        measuring.run_job(verb, folder / name, settings)
    return folder / name


def score(model: Path, corpus: Path) -> measuring.Figures:
    """Score the corpus into a new directory."""
    with measuring.open_folder() as folder:
        settings = {"score.corpus": corpus, "score.model_uri": model}
        record = measuring.run_job("score", folder / "run", settings)
    rate = record["counts"]["accepted"] / record["seconds"]
    return {"rows/s": rate, "MB": record["peak_memory_bytes"] / 1e6}


def run_share(kind: str, model: str, corpus: Path, rank: int) -> float:
    """Score the share of one process, in pieces; returns its rows per second."""
    rows = pd.read_csv(corpus, header=None, keep_default_na=False, encoding_errors="replace")
    texts = rows[5].tolist()[rank::CORES]
    answer = LOADERS[kind](model).answer
    answer(texts[:1000])
    pieces = [texts[first : first + PIECE] for first in range(0, len(texts), PIECE)]
    seconds = measuring.seconds_of(lambda: [answer(piece) for piece in pieces])
    return len(texts) / seconds


def run_processes(kind: str, model: object, corpus: Path) -> measuring.Figures:
    """Score the corpus in one process for each core; each has a share of the texts."""
    calls = [partial(run_share, kind, str(model), corpus, rank) for rank in range(CORES)]
    return {"rows/s": sum(measuring.in_processes(calls))}


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Make the corpus, then each model and its table."""
    measuring.make_csv(folder / "train.csv", 20_000, seed=2)
    corpus = measuring.make_csv(folder / "corpus.csv", options.rows, seed=1)
    for name in options.models:
        model = train(folder, name)
        runs = {
            "bare": partial(run_processes, "sentiflow", model, corpus),
            "sentiflow": partial(score, model, corpus),
        }
        yield f"{name}, {options.rows:,} rows", runs


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, rows=1_600_000, models=["rnn50", "best"])
