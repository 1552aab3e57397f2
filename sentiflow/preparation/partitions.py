"""Tables of many parts -> all rows of the same key together, one partition at a time.

Each part writes its table with one row group for each partition of the keys. The task of a
partition reads this row group of every part, and so gets all rows of its keys, in bounded memory.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.storage import filesystem

MAX_PARTS = 64
"""Maximum size of a partition in parts: some hundred megabytes."""
_USUAL_PARTS = 16
_MAX_USUAL = 64
"""Maximum number of partitions of the usual size. Beyond it partitions are larger, to limit the
number of row groups: there is one for each part and partition."""
_FEW = 4
"""Partitions of a corpus that would fit into one, so that all cores share the sorting."""


def count(num_parts: int) -> int:
    """Choose the number of partitions for a corpus."""
    few = min(_FEW, num_parts // _FEW)
    usual = min(_MAX_USUAL, math.ceil(num_parts / _USUAL_PARTS))
    return max(1, few, usual, math.ceil(num_parts / MAX_PARTS))


def write(uri: str, table: pa.Table, partition: np.ndarray, *, num_partitions: int) -> None:
    """Publish a table with a row group for each partition.

    Args:
        uri: The Parquet file.
        table: N rows.
        partition: Partition of each row, N numbers from 0.
        num_partitions: Number of partitions, including those without rows here.
    """
    with (
        filesystem.publish(uri) as stream,
        pq.ParquetWriter(stream, table.schema, **filesystem.PARQUET_OPTIONS) as writer,
    ):
        for number in range(num_partitions):
            chosen = table if num_partitions == 1 else table.filter(pa.array(partition == number))
            writer.write_table(chosen, row_group_size=max(1, len(chosen)))


def read(uris: Sequence[str], number: int) -> pa.Table:
    """Read the rows of one partition from the files of all parts, in the order of the parts."""
    groups = filesystem.map_files(functools.partial(_read_group, number=number), uris)
    return pa.concat_tables(groups).combine_chunks()


def _read_group(uri: str, *, number: int) -> pa.Table:
    file_system, path = filesystem.locate(uri)
    return pq.ParquetFile(path, filesystem=file_system).read_row_group(number)
