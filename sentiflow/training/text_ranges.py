"""Files of prepared texts -> ranges of the rows that a teacher answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.config.class_names import UNLABELLED
from sentiflow.data import schema
from sentiflow.storage import parquet
from sentiflow.training.excerpts import EXCERPTS
from sentiflow.training.prepared_files import PreparedFiles

_ROWS_PER_RANGE = 4096
"""Rows of a range. Encoding them takes about 10 s: a killed job loses no more of each task."""
MAX_TRAIN_ROWS = 100_000
"""Train rows that a teacher is fitted to, at most."""


@dataclass(frozen=True)
class TextRange:
    """Some rows of a file of prepared texts."""

    split: str
    uri: str
    start: int
    """The first row, counted from 0."""
    stop: int
    """The row after the last one."""
    step: int
    """Distance between two rows that are used. More than 1 if there are more train rows than
    ``MAX_TRAIN_ROWS``: then every second, third, … row is enough."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(range(self.start, self.stop, self.step))


def list_ranges(prepared: PreparedFiles, excerpts: Mapping[str, int]) -> list[TextRange]:
    """List the ranges of texts to answer; many train rows are thinned evenly.

    Args:
        prepared: The files of the prepared data.
        excerpts: Files of further texts, with the rows of each.
    """
    tables = {**prepared.tweets, UNLABELLED: prepared.unlabelled, EXCERPTS: excerpts}
    ranges = list[TextRange]()
    for split, files in tables.items():
        step = 1
        if split == schema.TRAIN:
            step = find_step(sum(files.values()))
        for path, num_rows in files.items():
            size = _ROWS_PER_RANGE * step
            for start in range(0, num_rows, size):
                stop = min(start + size, num_rows)
                ranges.append(TextRange(split=split, uri=path, start=start, stop=stop, step=step))
    return ranges


def find_step(num_rows: int) -> int:
    """Find the distance between the rows to take, so that they are at most ``MAX_TRAIN_ROWS``."""
    return math.ceil(num_rows / MAX_TRAIN_ROWS)


def read_texts(text_range: TextRange, *, columns: Sequence[str]) -> pa.Table:
    """Read the rows of a range."""
    rows = parquet.read_rows(text_range.uri, text_range.start, text_range.stop, columns=columns)
    return rows.take(pa.array(np.arange(0, len(rows), text_range.step)))
