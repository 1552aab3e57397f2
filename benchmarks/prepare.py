"""``sentiflow prepare`` against a bare pyarrow script.

    python benchmarks/prepare.py [--rows 1600000 16000000]

Each runs in a new process, timed from start to end, on rows of ``sentiflow sample``:

- pyarrow: reads the six columns, tokenizes by the tutorial's rule, looks up GloVe's 10,000 most
  frequent words, and writes two Parquet tables. It does not check or split anything.
- sentiflow prepare: the whole command with default settings; ``stage`` is without Ray's start.

MB is the peak memory of the largest process. Several numbers of rows show how it grows. Linux only.
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
from measuring import Table
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

COLUMNS = ["target", "id", "date", "flag", "user", "text"]


def run_pyarrow(path: Path, words: list[str], output: Path) -> int:
    """Prepare a corpus with the least work; returns the number of rows."""
    table = read_csv(
        path,
        ReadOptions(column_names=COLUMNS),
        ParseOptions(newlines_in_values=True),
        ConvertOptions(column_types=dict.fromkeys(COLUMNS, "binary")),
    )
    texts = []
    encoded = []
    for chunk in table["text"].chunks:
        text = decode(chunk)
        texts.append(text)
        encoded.append(encode(text, words))
    row_id = np.arange(len(table))
    label = table["target"].cast("string").cast("int8")
    for name, column in (("text", texts), ("token_ids", encoded)):
        columns = {"row_id": row_id, "label": label, name: pa.chunked_array(column)}
        pq.write_table(pa.table(columns), output / f"{name}.parquet", compression="zstd")
    return len(table)


def decode(chunk: pa.Array) -> pa.Array:
    """Decode bytes, which is faster than to read all of them as latin-1."""
    try:
        return chunk.cast("string")
    except pa.ArrowInvalid:
        return pa.array([text.decode(errors="replace") for text in chunk.to_pylist()])


def encode(text: pa.Array, words: list[str]) -> pa.ListArray:
    """Tokenize texts by the tutorial's rule, and replace the tokens by ids."""
    separated = pc.replace_substring_regex(pc.utf8_lower(text), r"([.,;?])", r" \1 ")
    tokens = pc.utf8_split_whitespace(separated)
    found = pc.index_in(tokens.values, value_set=pa.array(words))
    ids = pc.fill_null(found, len(words))
    return pa.ListArray.from_arrays(tokens.offsets, ids)


def run_rival(path: Path, words: list[str]) -> tuple[int, float]:
    """Run the script in this process; returns the number of rows and the peak memory in MB."""
    with measuring.open_folder() as output:
        num_rows = run_pyarrow(path, words, output)
    return num_rows, measuring.peak_mb()


def measure_rival(path: Path, words: list[str], num_rows: int) -> measuring.Figures:
    """Measure the script in a new process."""
    began = time.perf_counter()
    results = measuring.in_processes([partial(run_rival, path, words)])
    seconds = time.perf_counter() - began
    rows_read, memory = results[0]
    assert rows_read == num_rows, "all rows were read"
    return {"seconds": seconds, "MB": memory}


def measure_prepare(path: Path, num_rows: int) -> measuring.Figures:
    """Measure the command."""
    with measuring.open_folder() as folder:
        began = time.perf_counter()
        record = measuring.run_job("prepare", folder / "run", {"prepare.csv": path})
        seconds = time.perf_counter() - began
    assert record["counts"]["rows_read"] == num_rows, "all rows were read"
    memory = record["run"]["metrics"]["prepare/peak_memory_bytes"] / 1e6
    return {"seconds": seconds, "MB": memory, "stage, seconds": record["seconds"]}


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Give a table for each number of rows."""
    from sentiflow.words import word_vectors  # here, so that a rival's process does not import it

    vectors = word_vectors.load("package:glove.6B.50d", max_words=10_000)
    words = vectors.words.to_pylist()
    for num_rows in options.rows:
        path = measuring.make_csv(folder / f"{num_rows}.csv", num_rows)
        runs = {
            "pyarrow": partial(measure_rival, path, words, num_rows),
            "sentiflow prepare": partial(measure_prepare, path, num_rows),
        }
        yield f"{num_rows:,} rows", runs


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, rows=[1_600_000])
