"""Row ids -> the file of each row and its number in the file.

The rows of a corpus are numbered over its files in the order of the manifest, rejected rows
included. So the numbers of rows by file tell where a row is. Files with their own ``row_id`` are
numbered in the same way, but the numbers are not the ids: the parts tell which rows they hold.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.data import lineage
from sentiflow.data.arrays import find_sorted
from sentiflow.data.manifest_types import InputFile, Manifest, PartPlace
from sentiflow.data.parts import Part
from sentiflow.errors import UserError
from sentiflow.storage import parquet
from sentiflow.storage.uris import join


def place_parts(
    parts: Sequence[Part], files: Sequence[InputFile], *, first_part: int = 0
) -> list[PartPlace]:
    """Say for each part where its rows begin, for the manifest.

    Args:
        parts: Consecutive parts.
        files: All files of the corpus, in the order of their rows.
        first_part: Number of the first part in the names of files.
    """
    numbers = {item["uri"]: number for number, item in enumerate(files)}
    places: list[PartPlace] = []
    for number, part in enumerate(parts, first_part):
        first = part.pieces[0]
        places.append(
            {
                "part": number,
                "file": numbers[first.source],
                "start": first.start,
                "first_row": first.first_row,
                "rows": part.num_rows,
            }
        )
    return places


@dataclass(frozen=True)
class RowSources:
    """Files of a corpus, and the rows in each."""

    uris: tuple[str, ...]
    """The files whose rows are known, in the order of their rows."""
    first_rows: np.ndarray
    """Number of the first row of each file, in rising order."""
    end: int
    """Number of rows of all files."""

    @classmethod
    def of(cls, files: Sequence[InputFile], num_rows: int) -> "RowSources":
        """Number the rows of files.

        Earlier versions did not count the rows of a file. Such files, and files before them, are
        left out, unless only the first file is one: it has the rows that are not in the others.

        Args:
            files: All files, in the order of their rows.
            num_rows: Rows of all files.
        """
        uris = []
        first_rows = []
        first_row = num_rows
        for number in reversed(range(len(files))):
            rows = first_row if number == 0 else files[number].get("rows")
            if rows is None:
                break
            first_row -= rows
            uris.append(files[number]["uri"])
            first_rows.append(first_row)
        return cls(
            uris=tuple(reversed(uris)),
            first_rows=np.array(first_rows[::-1], np.int64),
            end=num_rows,
        )

    def locate(self, numbers: np.ndarray) -> pa.Table:
        """Find the file of each row, and its number in the file, counted from 0.

        Args:
            numbers: N numbers of rows over all files.

        Columns:
            ``source`` (dictionary<int32, string>), ``source_row`` (int64): N rows; null for a
            number that belongs to no known file.
        """
        # A file without rows begins with the same number as the next one, which has the row.
        file = np.searchsorted(self.first_rows, numbers, side="right") - 1
        is_unknown = (file < 0) | (numbers >= self.end)
        place = file.clip(min=0)
        in_file = numbers
        if len(self.first_rows):
            in_file = numbers - self.first_rows[place]
        indices = pa.array(place.astype(np.int32), mask=is_unknown)
        source = pa.DictionaryArray.from_arrays(indices, pa.array(self.uris, pa.string()))
        source_row = pa.array(in_file.astype(np.int64), mask=is_unknown)
        return pa.table({"source": source, "source_row": source_row})


def locate(record: Manifest, uri: str, row_ids: np.ndarray) -> pa.Table:
    """Find the file of each row of a result and its number in the file, as ``RowSources.locate``.

    Args:
        record: Manifest of prepared data or of predictions.
        uri: Their directory.
        row_ids: N ids of rows.

    Raises:
        UserError: The prepared data that were scored are gone; or the corpus has its own ids, and
            an earlier version has scored it.
    """
    numbered = record
    if record["stage"] == "score" and "files" not in record["inputs"]["corpus"]:
        prepared = lineage.prepared_of(record)
        if prepared is None:
            raise UserError(
                f"{record['inputs']['corpus']['uri']} is gone or was replaced: it knows the files",
                hint="score the corpus again",
            )
        numbered = prepared
    sources = RowSources.of(_list_inputs(numbered), numbered["counts"]["rows_read"])
    numbers = np.asarray(row_ids, np.int64)
    if has_own_ids(numbered):
        numbers = _number(numbered, uri, sources, numbers)
    return sources.locate(numbers)


def has_own_ids(record: Manifest) -> bool:
    """Say whether the files of a corpus have their own ``row_id``.

    Scored prepared data have no files here, so they have none.
    """
    are_tables = any(item["uri"].lower().endswith(".parquet") for item in _list_inputs(record))
    return are_tables and record.get("has_row_ids", False)  # CSV files have the key, too


def _number(record: Manifest, uri: str, sources: RowSources, row_ids: np.ndarray) -> np.ndarray:
    """Number rows over all files, given the ids that the files have; -1 for an unknown id.

    Raises:
        UserError: An earlier version has not written which rows the parts hold.
    """
    places = record.get("parts", [])
    if len(places) < record["num_parts"]:
        raise UserError(
            f"{uri} is of an earlier version, which did not write which rows its parts hold",
            hint="score the corpus again",
        )
    tables = list(_number_parts(record, uri, sources, {item["part"]: item for item in places}))
    if not tables:
        return np.full(len(row_ids), -1)
    table = pa.concat_tables(tables).sort_by("row_id")
    is_known, place = find_sorted(table["row_id"].to_numpy(), row_ids)
    numbers = table["number"].to_numpy()[place]
    return np.where(is_known, numbers, -1)


def _number_parts(
    record: Manifest, uri: str, sources: RowSources, places: Mapping[int, PartPlace]
) -> Iterator[pa.Table]:
    """Read the ids of the rows of each part, and number the rows over all files.

    Predictions have the rows of a part in their order, without the rejected ones.

    Columns:
        ``row_id``, ``number`` (int64).
    """
    first_rows = dict(zip(sources.uris, sources.first_rows.tolist(), strict=True))
    rejected: dict[int, np.ndarray] = {}
    for path in _list_files(record, "rejected"):
        part = _part_of(path)
        table = parquet.read(join(uri, path), columns=["row_id", "source", "offset"])
        uris = _find_uris(record, part)
        first = [first_rows[uris[source]] for source in table["source"].to_pylist()]
        rejected[part] = np.array(first, np.int64) + table["offset"].to_numpy()
        yield pa.table({"row_id": table["row_id"], "number": rejected[part]})
    for path in _list_files(record, "predictions"):
        place = places[_part_of(path)]
        table = parquet.read(join(uri, path), columns=["row_id"])
        numbers = np.arange(place["first_row"], place["first_row"] + place["rows"])
        if place["part"] in rejected:
            numbers = np.setdiff1d(numbers, rejected[place["part"]], assume_unique=True)
        yield pa.table({"row_id": table["row_id"], "number": numbers})


def _find_uris(record: Manifest, part: int) -> dict[str, str]:
    """Find where the files of a part lie by the manifest, by the URIs that the part has of them.

    One job has read the files of a part, so no two of them had the same URI. The next file may have
    the URI that a file of the part had before it was moved.
    """
    starts = {place["part"]: place["file"] for place in record.get("parts", ())}
    files = _list_inputs(record)
    stop = starts.get(part + 1, len(files)) + 1
    uris: dict[str, str] = {}
    for item in files[starts.get(part, 0) : stop]:
        uris.setdefault(item.get("read_as", item["uri"]), item["uri"])
    return uris


def _list_inputs(record: Manifest) -> Sequence[InputFile]:
    """List the files of a corpus; none if it is prepared data that were scored."""
    name = "corpus" if record["stage"] == "score" else "csv"
    files: Sequence[InputFile] = record["inputs"][name].get("files", [])
    return files


def find_moved(record: Manifest, files: Iterable[str]) -> dict[str, dict[str, str]]:
    """Find where files lie by the manifest that were moved since their parts were written.

    Args:
        record: Manifest of prepared data or of predictions.
        files: Names of files of parts.

    Returns:
        For each part with a file that was moved, by the name of the part's file: the URIs of its
        files by the manifest, by the URIs that the part has.
    """
    if not any("read_as" in item for item in _list_inputs(record)):
        return {}
    moved = {}
    for file in files:
        uris = _find_uris(record, _part_of(file))
        if any(now != read for read, now in uris.items()):
            moved[file] = uris
    return moved


def _list_files(record: Manifest, folder: str) -> list[str]:
    """List the files of a folder of a result, relative to its directory."""
    return [item["path"] for item in record["files"] if item["path"].startswith(f"{folder}/")]


def _part_of(path: str) -> int:
    """Read the number of a part from the name of a file, ``part-00012-...``."""
    return int(path.rpartition("/")[2].split("-")[1])
