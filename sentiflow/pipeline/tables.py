"""Parquet files of a stage -> a table that is read on demand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from sentiflow.errors import ReplacedError, UserError
from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import display_uri, join

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

Filters = Sequence[tuple[str, str, Any]]
"""Conditions that rows must all meet: column, operator such as ``==`` or ``in``, value."""


@dataclass(frozen=True)
class Table:
    """A table in Parquet files, which is read on demand."""

    uri: str
    """The directory of the files."""
    files: tuple[str, ...]
    """Names of the files in it, in the order of their rows."""
    moved: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    """For some of the files, where the files that their column ``source`` names lie now: by the
    URIs in the column. These files are read as a whole."""
    renew: Callable[[], "Table | None"] = field(default=lambda: None, compare=False, repr=False)
    """Returns the table of the result that has replaced this one meanwhile, if there is one."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self._read(lambda table: list(table._dataset().schema.names))

    def __len__(self) -> int:
        return self._read(lambda table: int(table._dataset().count_rows()))

    def to_arrow(self, columns: Sequence[str] | None = None, *, filters: Filters = ()) -> pa.Table:
        """Read some columns, or all, as a table of Arrow.

        If a job has replaced the result meanwhile, the new result is read.

        Args:
            columns: Names of the columns; None: all columns.
            filters: Conditions: ``[("split", "==", "test"), ("probability", "<", 0.5)]``.

        Raises:
            UserError: The table lacks a column of ``columns`` or ``filters``.
            ReplacedError: Jobs replace the result again and again, or it was deleted.
        """
        return self._read(lambda table: table._to_arrow(columns, filters))

    def _to_arrow(self, columns: Sequence[str] | None, filters: Filters) -> pa.Table:
        """Read these files as :meth:`to_arrow` does."""
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

    def _read(self, read: Callable[["Table"], T]) -> T:
        """Read this table; if it was replaced meanwhile, the table that has replaced it."""
        return read_current(self, read, self.renew, display_uri(self.uri))

    def _dataset(self) -> Any:
        """Open the files as a dataset of Arrow; without files it has no columns."""
        import pyarrow.dataset as ds

        if not self.files:
            return ds.dataset(pa.table({}))
        as_written = [name for name in self.files if name not in self.moved]
        datasets = [self._open_files(as_written)] if as_written else []
        if self.moved:
            tables = [self._read_moved(name, uris) for name, uris in self.moved.items()]
            datasets.append(ds.dataset(pa.concat_tables(tables)))
        return ds.dataset(datasets) if len(datasets) > 1 else datasets[0]

    def _open_files(self, names: Sequence[str]) -> Any:
        """Open some of the files, one at least, as a dataset of Arrow."""
        import pyarrow.dataset as ds

        places = [filesystem.locate(join(self.uri, name)) for name in names]
        storage, _ = places[0]  # all files are in the same storage
        _, folder = filesystem.locate(self.uri)
        return ds.dataset(
            [path for _, path in places],
            filesystem=storage,
            partitioning=ds.partitioning(flavor="hive"),
            partition_base_dir=folder,  # folders above, such as day=1, name no columns
        )

    def _read_moved(self, name: str, uris: Mapping[str, str]) -> pa.Table:
        """Read a file whose column ``source`` names files that were moved, see :attr:`moved`."""
        table = self._open_files([name]).to_table()
        now = [uris.get(uri, uri) for uri in table["source"].to_pylist()]
        place = table.schema.get_field_index("source")
        return table.set_column(place, table.schema.field(place), pa.array(now, pa.string()))


R = TypeVar("R")


def read_current(result: R, read: Callable[[R], T], renew: Callable[[], R | None], name: str) -> T:
    """Read a result; if a job has replaced its files meanwhile, read the new result instead.

    Args:
        result: The result.
        read: Reads it.
        renew: Reads its manifest again; returns the new result, or None if it is still the same.
        name: Its name for the message.

    Raises:
        ReplacedError: The new result was replaced, too, or the result was deleted.
    """
    try:
        return read(result)
    except (OSError, ReplacedError) as error:
        renewed = renew()
        if renewed is None:
            if errors.is_gone(error):
                raise _explain_gone(name) from error
            raise
    try:
        return read(renewed)
    except OSError as error:
        if errors.is_gone(error):
            raise _explain_gone(name) from error
        raise


def _explain_gone(name: str) -> ReplacedError:
    """Make the error for a result whose files are gone."""
    return ReplacedError(
        f"{name} was replaced by another job, or deleted, while it was read: read it again"
    )
