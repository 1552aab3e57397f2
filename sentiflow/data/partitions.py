"""Path of a file -> the columns that its folders name: ``brand=A/day=2026-12-01/x.parquet``.

Hive, Spark, DuckDB and pandas write such partition columns. All rows of a file have the same value.
The values are strings, so that their type does not depend on which files are there.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from sentiflow.config.format_sections import ColumnsSettings
from sentiflow.data import manifest, schema
from sentiflow.data.manifest_types import InputFile
from sentiflow.errors import UserError
from sentiflow.storage.uris import display_uri, split_member

_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The value of a folder whose rows have no value."""
_RESERVED = frozenset({"", *ColumnsSettings.model_fields, *schema.TWEETS.names})
"""Names that folders cannot give to a column: our tables have their own columns of these names."""


def find(uri: str) -> dict[str, str | None]:
    """Find the partition columns of a file and their values.

    Every folder of the path counts, also in an archive. If two folders name the same column, the
    inner folder counts, and :func:`note_repeated` says so.

    Example:
        >>> find("s3://bucket/brand=A%26B/day=2026-12-01/x.parquet")
        {'brand': 'A&B', 'day': '2026-12-01'}
    """
    if "=" not in uri:  # fast, because a job asks several times for each file
        return {}
    columns: dict[str, str | None] = {}
    for name, value in _list_pairs(uri):
        columns[name] = None if value in ("", _NULL) else unquote(value)
    return columns


def _list_pairs(uri: str) -> list[tuple[str, str]]:
    """List the names and values in the folders of a path, the outermost folder first."""
    archive, member = split_member(uri)
    folders = [*archive.split("/")[:-1], *member.split("/")[:-1]]
    pairs = []
    for folder in folders:
        key, mark, value = folder.partition("=")
        name = unquote(key)
        if mark and name not in _RESERVED:
            pairs.append((name, value))
    return pairs


def note_repeated(uris: Iterable[str]) -> list[str]:
    """Say which column two folders of a path name with different values; at most one line.

    Example:
        >>> note_repeated(["/x=A/a.csv", "/x=A/x=B/a.csv"])
        ["two folders of /x=A/x=B/a.csv name the column x: the inner one counts, 'B'"]
    """
    for uri in uris:
        if uri.count("=") < 2:
            continue
        values: dict[str, str] = {}
        for name, value in _list_pairs(uri):
            if values.setdefault(name, value) != value:
                return [
                    f"two folders of {display_uri(uri)} name the column {name}: the inner one "
                    f"counts, {find(uri)[name]!r}"
                ]
    return []


def identify(item: InputFile) -> str:
    """Identify the rows of a file by its content and the columns of its folders."""
    content = manifest.identify_file(item)
    columns = find(item["uri"])
    return manifest.fingerprint([content, columns]) if columns else content


def read(uri: str, name: str, num_rows: int) -> pa.Array:
    """Make a partition column of some rows of a file."""
    return pa.repeat(pa.scalar(find(uri)[name], pa.string()), num_rows)


def find_shared(columns_by_file: Iterable[tuple[str, Collection[str]]]) -> set[str]:
    """Find the columns that all files have, in the file or by its folders.

    Args:
        columns_by_file: URI and columns of each file.
    """
    columns_of_files = [{*columns, *find(uri)} for uri, columns in columns_by_file]
    return set.intersection(*columns_of_files) if columns_of_files else set()


class Lacking(NamedTuple):
    """A file that lacks a column."""

    uri: str
    """The file."""
    columns: list[str]
    """The columns that it has, in the file or by its folders."""
    is_in_others: bool
    """Whether another file has the column that is lacking."""


def find_lacking(
    columns_by_file: Iterable[tuple[str, Collection[str]]], name: str
) -> Lacking | None:
    """Find the first file that lacks a column: neither the file nor a folder has it.

    Args:
        columns_by_file: URI and columns of each file; a file without columns is blank, and lacks
            nothing.
        name: The column.

    Returns:
        The file; None if there is no such file.
    """
    is_in_others = False
    first: tuple[str, set[str]] | None = None
    for uri, columns in columns_by_file:
        found = {*columns, *find(uri)}
        if name in found:
            is_in_others = True
        elif columns and first is None:
            first = (uri, found)
    if first is None:
        return None
    uri, found = first
    return Lacking(uri=uri, columns=sorted(found), is_in_others=is_in_others)


def check_unique(
    columns_by_file: Iterable[tuple[str, Collection[str]]],
    names: Collection[str],
    *,
    setting: str,
) -> None:
    """Check that no file has a column that its folders name, too, as the values may differ.

    Args:
        columns_by_file: URI and columns of each file.
        names: The columns that are read.
        setting: The setting that names them, for messages.

    Raises:
        UserError: A file has one of the columns twice.
    """
    for uri, columns in columns_by_file:
        folders = find(uri)
        for name in names:
            if name in columns and name in folders:
                raise UserError(
                    f"{setting}: {uri} has a column {name}, and its folder is "
                    f"{name}={folders[name]}",
                    hint="rename the folder or the column, or leave it out",
                )
