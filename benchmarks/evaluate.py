"""``sentiflow evaluate``: seconds, memory, and bytes of memory a labelled row.

    python benchmarks/evaluate.py [--rows 400000 1600000 6400000] [--classes 2] [--authors 0]

The stage runs on predictions for synthetic texts, which the predictions keep, in a new process for
each number of rows. Few rows take most memory while texts are read, which does not grow; many rows
take most where metrics are computed. The bytes a row are the growth of this part. There is no
baseline and there are no checks of the model, as the model is gone: neither grows with the rows.
With ``--authors 3`` each author has three texts.
"""

import io
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import pyarrow as pa
from measuring import Table
from pyarrow import csv

NAMES = ("negative", "positive", "neutral", "mixed")
PART_ROWS = 100_000
PACKAGE = {
    "model": {"cell": "gru", "hidden_size": 64, "bidirectional": True, "pooling": "last"},
    "tokenizer": "tweet",
    "max_length": 64,
    "vocabulary_size": 10_000,
}
COUNTS = ("rows_read", "accepted", "labelled")
FILES = [{"uri": "/tweets.csv", "bytes": 1, "modified_ns": 1, "tree_sha256": "ab12"}]
CORPUS = {"fingerprint": "ab12", "files": FILES}


def make_texts(num_rows: int) -> Iterator[pa.Array]:
    """Make synthetic texts, part by part."""
    from sentiflow.data import sample

    names = ["target", "id", "time", "query", "user", "text"]
    options = csv.ReadOptions(column_names=names, encoding="latin-1")
    chunks: list[bytes] = []
    num_lines = 0
    for chunk in sample.generate(num_rows=num_rows, seed=1):
        chunks.append(chunk)
        num_lines += chunk.count(b"\n")
        if num_lines >= PART_ROWS:
            table = csv.read_csv(io.BytesIO(b"".join(chunks)), read_options=options)
            yield table["text"].combine_chunks()
            chunks = []
            num_lines = 0
    if chunks:
        table = csv.read_csv(io.BytesIO(b"".join(chunks)), read_options=options)
        yield table["text"].combine_chunks()


def make_part(text: pa.Array, first_row: int, options: Namespace) -> pa.Table:
    """Make predictions that are right in three of four rows."""
    num_rows = len(text)
    rng = np.random.default_rng(first_row)
    label = rng.integers(0, options.classes, num_rows).astype(np.int8)
    logits = rng.normal(size=(num_rows, options.classes))
    logits[np.arange(num_rows), label] += 1
    odds = np.exp(logits)
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    columns = {
        "row_id": np.arange(first_row, first_row + num_rows),
        "split": pa.nulls(num_rows, pa.string()),
        "label": label,
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        "num_tokens": rng.integers(0, 12, num_rows).astype(np.int32),
        "text": text,
    }
    for name, column in zip(NAMES, probabilities.T, strict=False):
        columns[f"probability_{name}"] = column
    if options.authors:
        author = columns["row_id"] // options.authors
        columns["user"] = pa.array(author).cast(pa.string())
    return pa.table(columns)


def score(folder: Path, num_rows: int, options: Namespace) -> Path:
    """Write what a scoring leaves behind; returns its directory."""
    from sentiflow.data.output_spec import OutputSpec
    from sentiflow.data.outputs import open_output
    from sentiflow.storage import parquet

    uri = str(folder / f"{num_rows}/scored")
    keep_columns = ["text", "user"] if options.authors else ["text"]
    settings = {"text_column": "text", "keep_columns": keep_columns, "format": {}}
    classes = [*NAMES[: options.classes]]
    model = {
        "uri": str(folder / "gone"),
        "fingerprint": "cd34",
        "settings": PACKAGE | {"classes": classes, "left_out": []},
        "training": {"uri": str(folder / "gone"), "fingerprint": "ef56"},
    }
    spec = OutputSpec("score", uri, settings, {"model": model, "corpus": CORPUS})
    with open_output(spec) as output:
        output.begin()
        files = []
        first_row = 0
        for text in make_texts(num_rows):
            path = f"predictions/part-{first_row:010}.parquet"
            files += parquet.write_part(uri, path, make_part(text, first_row, options))
            first_row += len(text)
        counts = dict.fromkeys(COUNTS, first_row) | {"rejected": 0, "prior_only": 0}
        output.publish(counts=counts, files=files, seconds=1.0, classes=classes)
    return Path(uri)


def evaluate(scored: Path) -> measuring.Figures:
    """Run the stage in this process."""
    from sentiflow.config import settings
    from sentiflow.data.outputs import open_output
    from sentiflow.evaluation import evaluate, measurements
    from sentiflow.tracking.recorder import Recorder

    measure = measurements.measure
    peaks = []

    def measure_alone(*arguments: Any, **options: Any) -> Any:
        peaks.append(measuring.peak_mb())
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        found = measure(*arguments, **options)
        peaks.append(measuring.peak_mb())
        return found

    measurements.measure = measure_alone
    config = settings.load({"name": "benchmark", "output_uri": scored.parent})
    plan = evaluate.resolve(config)
    with open_output(plan.spec, overwrite=True) as output:
        seconds = evaluate.run(plan, output, Recorder())["seconds"]
    peak = max(*peaks, measuring.peak_mb())
    return {"seconds": seconds, "MB": peak, "MB while metrics are computed": peaks[1]}


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Compare numbers of rows, and print the bytes that each further row takes."""
    found: dict[int, float] = {}

    def run(num_rows: int, scored: Path) -> measuring.Figures:
        figures = measuring.in_processes([partial(evaluate, scored)])[0]
        found[num_rows] = figures["MB while metrics are computed"]
        return figures

    ways = {}
    for num_rows in options.rows:
        ways[f"{num_rows:,} rows"] = partial(run, num_rows, score(folder, num_rows, options))
    yield "sentiflow evaluate", ways
    fewest = min(found)
    for num_rows in sorted(found)[1:]:
        slope = 1e6 * (found[num_rows] - found[fewest]) / (num_rows - fewest)
        print(f"{slope:.0f} bytes a row from {fewest:,} to {num_rows:,} rows")


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, rows=[400_000, 1_600_000, 6_400_000], classes=2, authors=0)
