"""Tables of many parts -> the rows of one key in one place, a partition at a time.

Each part writes its table as one row group for each partition of the keys. Whoever works on a
partition reads that row group of every part, and so all rows of its keys, in bounded memory.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow import storage

PARTS_PER_PARTITION = 64
"""As many rows as so many parts have stand in a partition: some hundred megabytes."""


def count(num_parts: int) -> int:
    """Say how many partitions the keys of a corpus are put into."""
    return max(1, -(-num_parts // PARTS_PER_PARTITION))


def write(uri: str, table: pa.Table, partition: np.ndarray, *, num_partitions: int) -> None:
    """Publish a table, a row group for each partition.

    Args:
        uri: Of the Parquet file.
        table: N rows.
        partition: N numbers from 0.
        num_partitions: Also of the partitions that have no row here.
    """
    with (
        storage.publish(uri) as stream,
        pq.ParquetWriter(stream, table.schema, **storage.PARQUET_OPTIONS) as writer,
    ):
        for number in range(num_partitions):
            chosen = table if num_partitions == 1 else table.filter(pa.array(partition == number))
            writer.write_table(chosen, row_group_size=max(1, len(chosen)))


def read(uris: Sequence[str], number: int) -> pa.Table:
    """Read the rows of one partition from the files of all parts."""
    groups = []
    for uri in uris:
        file_system, path = storage.locate(uri)
        groups.append(pq.ParquetFile(path, filesystem=file_system).read_row_group(number))
    return pa.concat_tables(groups).combine_chunks()
