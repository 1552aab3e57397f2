"""Tables of many parts -> the rows of one key in one place, a partition at a time.

Each part writes its table as one row group for each partition of the keys. Whoever works on a
partition reads that row group of every part, and so all rows of its keys, in bounded memory.
"""

import concurrent.futures
import functools
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.storage import filesystem

MAX_PARTS = 64
"""A partition has at most as many rows as so many parts: some hundred megabytes."""
_USUAL_PARTS = 16
_MAX_USUAL = 64
"""Up to so many partitions are of the usual size. Beyond, larger ones spare row groups, of which
there is one for each part and partition."""
_FEW = 4
"""Partitions of a corpus that would fit into one: smaller ones are sorted faster, by all cores."""
_READ_AT_ONCE = 16
"""Parts: a piece of a file in an object store takes long to come, but many come as fast as one."""


def count(num_parts: int) -> int:
    """Say how many partitions the keys of a corpus are put into."""
    few = min(_FEW, num_parts // _FEW)
    usual = min(_MAX_USUAL, math.ceil(num_parts / _USUAL_PARTS))
    return max(1, few, usual, math.ceil(num_parts / MAX_PARTS))


def write(uri: str, table: pa.Table, partition: np.ndarray, *, num_partitions: int) -> None:
    """Publish a table, a row group for each partition.

    Args:
        uri: Of the Parquet file.
        table: N rows.
        partition: N numbers from 0.
        num_partitions: Also of the partitions that have no row here.
    """
    with (
        filesystem.publish(uri) as stream,
        pq.ParquetWriter(stream, table.schema, **filesystem.PARQUET_OPTIONS) as writer,
    ):
        for number in range(num_partitions):
            chosen = table if num_partitions == 1 else table.filter(pa.array(partition == number))
            writer.write_table(chosen, row_group_size=max(1, len(chosen)))


def read(uris: Sequence[str], number: int) -> pa.Table:
    """Read the rows of one partition from the files of all parts, in their order."""
    with concurrent.futures.ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        groups = list(pool.map(functools.partial(_read_group, number=number), uris))
    return pa.concat_tables(groups).combine_chunks()


def _read_group(uri: str, *, number: int) -> pa.Table:
    file_system, path = filesystem.locate(uri)
    return pq.ParquetFile(path, filesystem=file_system).read_row_group(number)
