"""The check of ``score`` that row ids are distinct, in one process.

    python benchmarks/row_ids.py [--rows 16000000 32000000 64000000]

Ids are ascending or random, in files of a million rows. CPU s are the seconds of the process, which
does the work of all tasks; MB is its peak memory. Linux only.
"""

import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measuring
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Table

from sentiflow.data import row_ids, table_files

FILE_ROWS = 1_000_000


def write_ids(folder: Path, kind: str, num_rows: int) -> Path:
    """Write files of ids; returns their folder."""
    place = folder / f"{kind}-{num_rows}"
    place.mkdir()
    draws = np.random.default_rng(1)
    for first in range(0, num_rows, FILE_ROWS):
        ids = np.arange(first, first + FILE_ROWS)
        if kind == "random":
            ids = draws.integers(0, 1 << 62, FILE_ROWS)
        pq.write_table(pa.table({"row_id": ids}), place / f"{first:012d}.parquet")
    return place


def check(folder: Path) -> measuring.Figures:
    """Check ids in this process."""
    tables = [table_files.read_footer(str(path)) for path in sorted(folder.iterdir())]
    began = time.process_time()
    fault = row_ids.find_fault(tables, [], map_tasks=lambda name, work, parts: map(work, parts))
    assert fault is None, fault
    return {"CPU s": time.process_time() - began, "MB": measuring.peak_mb()}


def check_alone(folder: Path) -> measuring.Figures:
    """Check ids in a new process."""
    (figures,) = measuring.in_processes([partial(check, folder)])
    return figures


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Write the ids, then check them."""
    for rows in options.rows:
        runs = {}
        for kind in ("ascending", "random"):
            runs[kind] = partial(check_alone, write_ids(folder, kind, rows))
        yield f"{rows:,} ids", runs


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, rows=[16_000_000, 32_000_000, 64_000_000])
