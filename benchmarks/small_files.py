"""``sentiflow prepare`` and ``score`` of many small files, against the same rows in one file.

    python benchmarks/small_files.py [--rows 1600000] [--rows-in-file 800] [--kinds csv csv.gz]

The rows are those of ``sentiflow sample``, shuffled. Kinds: csv, csv.gz, parquet. The model is
trained on other tweets for one epoch.
``stage`` is without the start of Ray; ``files`` are the files that the result has.
"""

import gzip
import random
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import measuring
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from measuring import Table

COLUMNS = ["target", "id", "date", "flag", "user", "text"]
FORMAT = {"kind": "csv", "columns": {"text": "text", "label": "target"}, "labels": "auto"}


def write(folder: Path, kind: str, lines: Sequence[bytes], rows_in_file: int) -> Path:
    """Write the rows to files of one kind; returns their folder."""
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, len(lines), rows_in_file)):
        content = b"".join(lines[start : start + rows_in_file])
        path = folder / f"{number:05d}.{kind}"
        if kind == "parquet":
            options = pyarrow.csv.ReadOptions(column_names=COLUMNS)
            types = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
            readable = content.decode(errors="replace").encode()
            table = pyarrow.csv.read_csv(pa.BufferReader(readable), options, None, types)
            pq.write_table(table, path, row_group_size=100_000)
        else:
            path.write_bytes(gzip.compress(content, 1) if kind.endswith("gz") else content)
    return folder


def measure(verb: str, folder: Path, kind: str, model: Path) -> measuring.Figures:
    """Run a stage on the files of a folder."""
    settings: dict[str, object] = {
        "prepare.csv": f"{folder}/*.{kind}",
        "score.corpus": [f"{folder}/*.{kind}"],
        "score.model_uri": model,
    }
    if kind == "parquet":
        settings["format"] = FORMAT
    with measuring.open_folder() as work:
        record = measuring.run_job(verb, work / "run", settings)
    return {"stage, seconds": record["seconds"], "files": len(record["files"]) + 1}


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Give a table for each stage and kind of files; the first row is one file."""
    sample = measuring.make_csv(folder / "train.csv", 20_000, seed=2)
    for verb in ("prepare", "train"):
        measuring.run_job(verb, folder / "model", {"prepare.csv": sample, "train.num_epochs": 1})
    path = measuring.make_csv(folder / "all.csv", options.rows)
    lines = path.read_bytes().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    for kind in options.kinds:
        one = write(folder / kind / "one", kind, lines, len(lines))
        many = write(folder / kind / "many", kind, lines, options.rows_in_file)
        for verb in ("prepare", "score"):
            runs = {}
            for files in (one, many):
                num_files = len(list(files.iterdir()))
                run = partial(measure, verb, files, kind, folder / "model")
                runs[f"{num_files:,} {kind}"] = run
            yield f"{verb}, {options.rows:,} rows", runs


if __name__ == "__main__":
    measuring.main(
        __doc__, list_tables, rows=1_600_000, rows_in_file=800, kinds=["csv", "csv.gz", "parquet"]
    )
