"""Tables of an earlier result -> the tables that still hold, and new ones, for the next result.

The name of a table says all that decides it, so its name tells whether it holds. A table is listed
in the manifest of the result with its hash: files of a killed run are not listed, and not read.
"""

import hashlib
from typing import NamedTuple

import pyarrow as pa

from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.outputs import Output
from sentiflow.errors import ReplacedError, UserError
from sentiflow.storage import parquet

FOLDER = "sums"
"""Folder of the tables in the output of ``trends``."""


class _NewTable(NamedTuple):
    """A table that is not written yet."""

    content: bytes
    rows: int


class KeptTables:
    """The tables of an earlier result, and the tables for the next one.

    New tables are held in memory, as Parquet files, until the next result is written.
    """

    def __init__(self, uri: str = "", record: Manifest | None = None) -> None:
        """List the tables of an earlier result; without a manifest there are none."""
        self._uri = uri
        self._record = record
        self._earlier: dict[str, FileEntry] = {}
        self._kept: dict[str, FileEntry] = {}
        self._new: dict[str, _NewTable] = {}
        for item in record["files"] if record else ():
            if item["path"].startswith(f"{FOLDER}/"):
                self._earlier[item["path"]] = item

    def names(self, kind: str) -> list[str]:
        """List the earlier tables whose names begin with a kind and ``-``."""
        names = []
        for path in self._earlier:
            name = path.removeprefix(f"{FOLDER}/").removesuffix(".parquet")
            if name.startswith(f"{kind}-"):
                names.append(name)
        return names

    def has(self, name: str) -> bool:
        """Say whether the earlier result lists a table."""
        return _find_path(name) in self._earlier

    def find(self, name: str) -> pa.Table | None:
        """Read a table of the earlier result; None if there is none, or if it is damaged."""
        path = _find_path(name)
        if self._record is None or path not in self._earlier:
            return None
        try:
            content = manifest.read_file(self._uri, self._record, path)
        except (OSError, UserError, ReplacedError):
            del self._earlier[path]
            return None
        return parquet.from_bytes(content)

    def keep(self, name: str, table: pa.Table) -> None:
        """Keep a new table for the next result."""
        self._keep_content(name, parquet.to_bytes(table), table.num_rows)

    def keep_again(self, name: str) -> bool:
        """Keep a table of the earlier result for the next one; say whether there is one.

        Call :meth:`find` before, which leaves out damaged tables.
        """
        path = _find_path(name)
        if path not in self._earlier:
            return False
        self._kept[path] = self._earlier[path]
        return True

    def keep_as(self, kind: str, table: pa.Table) -> None:
        """Keep a table whose name is a kind and the hash of its content."""
        content = parquet.to_bytes(table)
        digest = hashlib.sha256(content).hexdigest()
        name = f"{kind}-{digest[:16]}"
        if not self.keep_again(name):
            self._keep_content(name, content, table.num_rows)

    def _keep_content(self, name: str, content: bytes, num_rows: int) -> None:
        self._new[_find_path(name)] = _NewTable(content, num_rows)

    def write(self, output: Output) -> list[FileEntry]:
        """Write the new tables; list all tables of the next result."""
        entries = list(self._kept.values())
        for path, table in self._new.items():
            entries.append(output.write(path, table.content, rows=table.rows))
        return entries


def _find_path(name: str) -> str:
    return f"{FOLDER}/{name}.parquet"
