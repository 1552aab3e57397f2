"""Parquet files of a stage -> a table that is read on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri, join

if TYPE_CHECKING:
    import pandas as pd

Filters = Sequence[tuple[str, str, Any]]
"""Conditions that rows must all meet: column, operator such as ``==`` or ``in``, value."""


@dataclass(frozen=True)
class Table:
    """A table in Parquet files, which is read on demand."""

    uri: str
    """The directory of the files."""
    files: tuple[str, ...]
    """Names of the files in it, in the order of their rows."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._dataset().schema.names)

    def __len__(self) -> int:
        return int(self._dataset().count_rows())

    def to_arrow(self, columns: Sequence[str] | None = None, *, filters: Filters = ()) -> pa.Table:
        """Read some columns, or all, as a table of Arrow.

        Args:
            columns: Names of the columns; None: all columns.
            filters: Conditions: ``[("split", "==", "test"), ("probability", "<", 0.5)]``.

        Raises:
            UserError: The table lacks a column of ``columns`` or ``filters``.
        """
        import pyarrow.parquet as pq

        dataset = self._dataset()
        present = dataset.schema.names
        named = [*(columns or ()), *(name for name, _, _ in filters)]
        missing = [name for name in named if name not in present]
        if missing:
            raise UserError(
                f"{display_uri(self.uri)} has no column {', '.join(missing)}",
                hint=f"there are {', '.join(present)}",
            )
        condition = pq.filters_to_expression(list(filters)) if filters else None
        chosen = None if columns is None else list(columns)
        return dataset.to_table(columns=chosen, filter=condition)

    def to_pandas(
        self, columns: Sequence[str] | None = None, *, filters: Filters = ()
    ) -> "pd.DataFrame":
        """Read as :meth:`to_arrow` does, as a DataFrame."""
        frame: pd.DataFrame = self.to_arrow(columns, filters=filters).to_pandas()
        return frame

    def _dataset(self) -> Any:
        """Open the files as a dataset of Arrow; without files it has no columns."""
        import pyarrow.dataset as ds

        if not self.files:
            return ds.dataset(pa.table({}))
        places = [filesystem.locate(join(self.uri, name)) for name in self.files]
        storage, _ = places[0]  # all files are in the same storage
        _, folder = filesystem.locate(self.uri)
        return ds.dataset(
            [path for _, path in places],
            filesystem=storage,
            partitioning=ds.partitioning(flavor="hive"),
            partition_base_dir=folder,  # folders above, such as day=1, name no columns
        )
