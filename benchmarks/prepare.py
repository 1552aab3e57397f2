"""``sentiflow prepare`` against a bare pyarrow script.

    python benchmarks/prepare.py [--rows 1600000 16000000]

Each runs in a process of its own, timed from start to end, on rows of ``sentiflow sample``:

- pyarrow: reads the six columns, tokenizes by the tutorial's rule, looks up GloVe's 10,000 most
  frequent words, writes two Parquet tables. It does not check or split anything.
- sentiflow prepare: the whole command with default settings; ``stage`` is without Ray's start.

MB is the peak of the largest process. Several numbers of rows show how it grows. Linux only.
"""

import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measuring
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from measuring import Way
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

COLUMNS = ["target", "id", "date", "flag", "user", "text"]


def run_pyarrow(path: Path, words: list[str], output: Path) -> int:
    """Prepare a corpus with the least work; returns the number of rows."""

    def decode(chunk: pa.Array) -> pa.Array:  # faster than to read all of it as latin-1
        try:
            return chunk.cast("string")
        except pa.ArrowInvalid:
            return pa.array([text.decode(errors="replace") for text in chunk.to_pylist()])

    texts, encoded = [], []
    read, parse = ReadOptions(column_names=COLUMNS), ParseOptions(newlines_in_values=True)
    convert = ConvertOptions(column_types=dict.fromkeys(COLUMNS, "binary"))
    table = read_csv(path, read, parse, convert)
    for chunk in table["text"].chunks:
        texts.append(decode(chunk))
        apart = pc.replace_substring_regex(pc.utf8_lower(texts[-1]), r"([.,;?])", r" \1 ")
        tokens = pc.utf8_split_whitespace(apart)
        ids = pc.fill_null(pc.index_in(tokens.values, value_set=pa.array(words)), len(words))
        encoded.append(pa.ListArray.from_arrays(tokens.offsets, ids))
    row_id, label = np.arange(len(table)), table["target"].cast("string").cast("int8")
    for name, column in (("text", texts), ("token_ids", encoded)):
        columns = {"row_id": row_id, "label": label, name: pa.chunked_array(column)}
        pq.write_table(pa.table(columns), output / f"{name}.parquet", compression="zstd")
    return len(table)


def run_rival(path: Path, words: list[str]) -> tuple[int, float]:
    """Run the script in this process; returns the number of rows, and its peak of memory."""
    with measuring.open_folder() as output:
        return run_pyarrow(path, words, output), measuring.peak_mb()


def measure_rival(path: Path, words: list[str], num_rows: int) -> measuring.Figures:
    """Measure the script in a process of its own."""
    began = time.perf_counter()
    ((rows_read, memory),) = measuring.in_processes([partial(run_rival, path, words)])
    assert rows_read == num_rows, "all rows were read"
    return {"seconds": time.perf_counter() - began, "MB": memory}


def measure_prepare(path: Path, num_rows: int) -> measuring.Figures:
    """Measure the command."""
    with measuring.open_folder() as folder:
        began = time.perf_counter()
        record = measuring.run_job("prepare", folder / "run", {"prepare.csv": path})
        seconds = time.perf_counter() - began
    assert record["counts"]["rows_read"] == num_rows, "all rows were read"
    memory = record["run"]["metrics"]["prepare/peak_memory_bytes"] / 1e6
    return {"seconds": seconds, "MB": memory, "stage, seconds": record["seconds"]}


def list_tables(folder: Path, options: Namespace) -> Iterator[tuple[str, dict[str, Way]]]:
    """Give a table for each number of rows."""
    from sentiflow.words import word_vectors  # no part of a rival's time

    words = word_vectors.load("package:glove.6B.50d", max_words=10_000).words.to_pylist()
    for num_rows in options.rows:
        path = measuring.make_csv(folder / f"{num_rows}.csv", num_rows)
        runs = {"pyarrow": partial(measure_rival, path, words, num_rows)}
        runs["sentiflow prepare"] = partial(measure_prepare, path, num_rows)
        yield f"{num_rows:,} rows", runs


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, rows=[1_600_000])
