"""Memory of the driver of ``score``, for corpora of several sizes.

    python benchmarks/driver_memory.py [--rows 2000000 4000000 8000000]

The texts are short and the model is small, so that many rows take little time. The corpora are
files of 500,000 rows:

- ascending: Parquet with ascending row ids, so each id is read once.
- random: Parquet with random row ids, so each id is read again and compared with all others.
- csv: CSV without row ids.

MB is the peak memory of the process of the command. ``row_ids.py`` measures the check of row ids
alone. Linux only.
"""

import json
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measuring
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from measuring import Table

FILE_ROWS = 500_000
WORDS = ["good", "bad", "day", "morning", "train", "late", "love", "hate"]
MODEL = {"cell": "rnn", "hidden_size": 8, "bidirectional": False, "pooling": "last"}
RUN = """
import runpy, sys
sys.argv[0] = "sentiflow"
sys.path.insert(0, {folder!r})
import measuring
try:
    runpy.run_module("sentiflow", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("MB", measuring.peak_mb())
"""
"""Runs a command of sentiflow and prints the peak memory of its process."""


def train(folder: Path) -> Path:
    """Train a small model; returns the directory of its run."""
    corpus = measuring.make_csv(folder / "train.csv", 4000)
    settings = {"prepare.csv": corpus, "train.model": MODEL, "train.num_epochs": 1}
    for verb in ("prepare", "train"):
        measuring.run_job(verb, folder / "model", settings)
    return folder / "model"


def make_corpus(folder: Path, kind: str, num_rows: int) -> str:
    """Write the files of a corpus; returns their glob."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(1)
    for first in range(0, num_rows, FILE_ROWS):
        size = min(FILE_ROWS, num_rows - first)
        words = pa.array(WORDS).take(pa.array(draws.integers(0, len(WORDS), size)))
        path = folder / f"{first:012d}"
        if kind == "csv":
            table = pa.table({"id": np.arange(first, first + size), "text": words})
            pa_csv.write_csv(table, path.with_suffix(".csv"))
            continue
        ids = np.arange(first, first + size)
        if kind == "random":
            ids = draws.integers(0, 1 << 62, size)
        pq.write_table(pa.table({"row_id": ids, "text": words}), path.with_suffix(".parquet"))
    return str(folder / ("*.csv" if kind == "csv" else "*.parquet"))


def score(folder: Path, model: Path, kind: str, num_rows: int) -> measuring.Figures:
    """Score a new corpus; returns the peak memory of the driver."""
    with measuring.open_folder() as work:
        corpus = make_corpus(work / "corpus", kind, num_rows)
        settings = {
            "output_uri": work / "run",
            "tracking.uri": f"sqlite:///{work}/mlflow.db",
            "score.corpus": corpus,
            "score.model_uri": model,
            "score.format": {"kind": "csv", "columns": {"id": "id", "text": "text"}},
        }
        code = RUN.format(folder=str(Path(__file__).parent))
        arguments = ["score", measuring.PLAIN, *measuring.write_settings(settings)]
        printed = measuring.python("-c", code, *arguments)
        record = json.loads((work / "run/scored/manifest.json").read_text())
    assert record["counts"]["accepted"] == num_rows
    assert kind == "csv" or record["has_row_ids"]
    return {"MB": float(printed.split()[-1]), "rows/s": num_rows / record["seconds"]}


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Train the model, then measure each kind of corpus."""
    model = train(folder)
    for kind in options.kinds:
        runs = {f"{rows:,}": partial(score, folder, model, kind, rows) for rows in options.rows}
        yield f"{kind}, rows", runs


if __name__ == "__main__":
    measuring.main(
        __doc__,
        list_tables,
        rows=[2_000_000, 4_000_000, 8_000_000],
        kinds=["ascending", "random", "csv"],
    )
