"""Scoring a corpus against the bare model in both precisions, and against fastText.

    python benchmarks/score.py [--rows 1600000] [--models rnn50 lstm128 best]

The corpus is one CSV of ``sentiflow sample``; the models are trained on other tweets, as their
speed depends only on their size. Rates are rows per second over all cores.

- sentiflow: the stage of the command, from CSV to Parquet.
- bare: the same model and batches, a process for each core; texts are in memory, predictions are
  discarded. The imports are not in the time. bf16 is asked for where the CPU computes in it.
- fastText: its ``predict`` in Python, in such processes, with bigrams and 50 dimensions.
"""

import csv
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fasttext
import measuring

PIECE = 100_000
CORES = len(os.sched_getaffinity(0))
MODELS = {
    "rnn50": {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
    | {"vectors": "frozen", "dropout": 0.0},
    "lstm128": {"cell": "lstm", "hidden_size": 128},
    "best": {"cell": "gru", "hidden_size": 128, "ngrams": 3},
}


def read_texts(path: Path) -> list[tuple[str, str]]:
    """Read the labels and texts of a synthetic corpus."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return [(row[0], row[5]) for row in csv.reader(file)]


def train(folder: Path, name: str) -> Path:
    """Train a model for one epoch; returns the config, with the corpus to score."""
    config = measuring.write_config(
        folder / f"{name}.json",
        output=folder / name,
        prepare={"csv": f"{folder}/train.csv"},
        train={"model": MODELS[name], "num_epochs": 1},
        score={"corpus": f"{folder}/corpus.csv"},
    )
    measuring.sentiflow("prepare", config)
    measuring.sentiflow("train", config)
    return config


def train_fasttext(folder: Path) -> str:
    """Train fastText on the training data of the models."""
    rows = read_texts(folder / "train.csv")
    lines = (f"__label__{label} {' '.join(text.split())}" for label, text in rows)
    (folder / "train.txt").write_text("\n".join(lines))
    sizes = {"dim": 50, "wordNgrams": 2, "epoch": 1, "thread": 1, "verbose": 0}
    fasttext.train_supervised(f"{folder}/train.txt", **sizes).save_model(f"{folder}/fasttext.bin")
    return f"{folder}/fasttext.bin"


def score(config: Path) -> measuring.Figures:
    """Score the corpus into a new directory."""
    with tempfile.TemporaryDirectory() as output:
        measuring.sentiflow("score", config, f"score.output_uri={output}/scored")
        record = measuring.read_manifest(f"{output}/scored")
    rate = record["counts"]["accepted"] / record["seconds"]
    return {"rows/s": rate, "MB": record["peak_memory_bytes"] / 1e6}


def load_bare(model: str, *, bf16: bool) -> Callable[[list[str]], Any]:
    """Load the model package only."""
    import pyarrow as pa
    import torch

    from sentiflow.cluster import memory
    from sentiflow.models.package import ModelPackage

    torch.set_num_threads(1)
    memory.keep_freed()
    package = ModelPackage.load(model)
    return lambda texts: package.score(pa.array(texts), bf16=bf16)


def load_fasttext(model: str) -> Callable[[list[str]], Any]:
    """Load a model of fastText."""
    return fasttext.load_model(model).predict


LOADERS = {
    "fp32": partial(load_bare, bf16=False),
    "bf16": partial(load_bare, bf16=True),
    "fasttext": load_fasttext,
}


def run_share(kind: str, model: str, corpus: Path, rank: int) -> float:
    """Score one process's share of the texts, in pieces; returns its rate."""
    texts = [" ".join(text.split()) for _, text in read_texts(corpus)][rank::CORES]
    predict = LOADERS[kind](model)
    predict(texts[:1000])
    pieces = [texts[first : first + PIECE] for first in range(0, len(texts), PIECE)]
    return len(texts) / measuring.seconds_of(lambda: [predict(piece) for piece in pieces])


def run_processes(kind: str, model: str, corpus: Path) -> measuring.Figures:
    """Run a process for each core, each on its share of the texts."""
    calls = [partial(run_share, kind, model, corpus, rank) for rank in range(CORES)]
    return {"rows/s": sum(measuring.in_processes(calls))}


def main() -> None:
    """Make the corpus and the models, and measure in turn."""
    parser = measuring.make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--models", nargs="*", default=["rnn50", "best"], choices=list(MODELS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measuring.make_csv(folder / "train.csv", 20_000, seed=2)
        corpus = measuring.make_csv(folder / "corpus.csv", options.rows, seed=1)
        runs: dict[str, Callable[[], measuring.Figures]] = {}
        runs["fastText"] = partial(run_processes, "fasttext", train_fasttext(folder), corpus)
        for kind in options.models:
            runs[f"sentiflow, {kind}"] = partial(score, train(folder, kind))
            model = f"{folder}/{kind}/trained/model"
            for precision in ("fp32", "bf16"):
                way = partial(run_processes, precision, model, corpus)
                runs[f"bare, {kind}, {precision}"] = way
        measuring.compare(f"{options.rows:,} rows", runs, options)


if __name__ == "__main__":
    main()
