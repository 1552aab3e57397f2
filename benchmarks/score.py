"""Scoring a corpus against the bare model in both precisions, and against fastText.

    python benchmarks/score.py [--rows 1600000] [--models rnn50 lstm128 best]

The corpus is one CSV of ``sentiflow sample``; the models are trained on other tweets, as their
speed depends only on their size. Rates are rows per second over all cores.

- sentiflow: the stage of the command, from CSV to Parquet.
- bare: the same model and batches, a process for each core; texts are in memory, predictions are
  discarded. The imports are not in the time. bf16 is asked for where the CPU computes in it.
- fastText: its ``predict`` in Python, in such processes, with bigrams and 50 dimensions.
"""

import os
from functools import partial
from pathlib import Path

import measuring
import pandas as pd
from answering import LOADERS, train_fasttext

PIECE = 100_000
CORES = len(os.sched_getaffinity(0))
MODELS = {
    "rnn50": {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
    | {"vectors": "frozen", "dropout": 0.0},
    "lstm128": {"cell": "lstm", "hidden_size": 128},
    "best": {"cell": "gru", "hidden_size": 128, "ngrams": 3},
}


def read(csv: Path) -> pd.DataFrame:
    """Read the labels and texts of a synthetic corpus."""
    rows = pd.read_csv(
        csv,
        usecols=[0, 5],
        names=["label", "text"],
        keep_default_na=False,
        encoding_errors="replace",
    )
    return rows.assign(text=rows["text"].str.split().str.join(" "))


def train(folder: Path, name: str) -> Path:
    """Train a model for one epoch; returns the directory of the run."""
    settings = {"prepare.csv": folder / "train.csv", "train.model": MODELS[name]}
    for verb in ("prepare", "train"):
        measuring.run_job(verb, folder / name, settings | {"train.num_epochs": 1})
    return folder / name


def score(model: Path, corpus: Path) -> measuring.Figures:
    """Score the corpus into a new directory."""
    with measuring.open_folder() as folder:
        settings = {"score.corpus": corpus, "score.model_uri": model}
        record = measuring.run_job("score", folder / "run", settings)
    rate = record["counts"]["accepted"] / record["seconds"]
    return {"rows/s": rate, "MB": record["peak_memory_bytes"] / 1e6}


def run_share(kind: str, model: str, corpus: Path, rank: int) -> float:
    """Score one process's share of the texts, in pieces; returns its rate."""
    texts = read(corpus)["text"].tolist()[rank::CORES]
    answer, _ = LOADERS[kind](model)
    answer(texts[:1000])
    pieces = [texts[first : first + PIECE] for first in range(0, len(texts), PIECE)]
    return len(texts) / measuring.seconds_of(lambda: [answer(piece) for piece in pieces])


def run_processes(kind: str, model: object, corpus: Path) -> measuring.Figures:
    """Run a process for each core, each on its share of the texts."""
    calls = [partial(run_share, kind, str(model), corpus, rank) for rank in range(CORES)]
    return {"rows/s": sum(measuring.in_processes(calls))}


def main() -> None:
    """Make the corpus and the models, and measure in turn."""
    parser = measuring.make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--models", nargs="*", default=["rnn50", "best"], choices=list(MODELS))
    options = parser.parse_args()
    with measuring.open_folder() as folder:
        train_csv = measuring.make_csv(folder / "train.csv", 20_000, seed=2)
        corpus = measuring.make_csv(folder / "corpus.csv", options.rows, seed=1)
        train_fasttext(read(train_csv), folder / "fasttext.bin", dim=50, ngrams=2)
        runs = {"fastText": partial(run_processes, "fasttext", folder / "fasttext.bin", corpus)}
        for name in options.models:
            model = train(folder, name)
            runs[f"sentiflow, {name}"] = partial(score, model, corpus)
            for title, kind in (("fp32", "sentiflow"), ("bf16", "sentiflow-bf16")):
                runs[f"bare, {name}, {title}"] = partial(run_processes, kind, model, corpus)
        measuring.compare(f"{options.rows:,} rows", runs, options)


if __name__ == "__main__":
    main()
