"""Parts -> a datasource of Ray Data, which has one task for each part.

It is imported when a dataset is made: Ray Data takes half a second, in which Ray may start.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from ray.data import DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata


class PartsDatasource(Datasource):
    """Parts, each read as one Arrow table by one task."""

    def __init__(self, parts: Sequence[Any], read: Callable[[Any], pa.Table], *, name: str) -> None:
        """Describe the parts.

        Args:
            parts: What ``read`` takes.
            read: Reads the table of a part, on a worker.
            name: Name in Ray's dashboard.
        """
        super().__init__()
        self.parts, self.read, self.name = parts, read, name

    def get_name(self) -> str:
        """Return the name, before which Ray puts "Read"."""
        return self.name.removeprefix("read_").title()

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: it is not known."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """Make one task for each part, whatever the parallelism; Ray Data asks several times."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(functools.partial(_read_block, self.read, part), unknown)
            for part in self.parts
        ]


def _read_block(read: Callable[[Any], pa.Table], part: Any) -> list[pa.Table]:
    return [read(part)]
