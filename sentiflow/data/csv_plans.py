"""CSV files -> a plan to read them: the meaning of their columns, from their beginning."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, csv_ranges, partitions, schema
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.manifest_types import InputFile
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import join


@dataclass(frozen=True)
class PlannedFile:
    """A CSV file before it is cut."""

    described: InputFile
    """The file, as described before it is read."""
    csv_format: CsvFormat | None
    """None if the file is blank: it has neither a header nor a record."""
    data_start: int = 0
    """Byte position of the first record, or of a blank line before it."""
    range_bytes: int = 0
    """Approximate size of a range, which becomes a part, in bytes."""
    unpack_to: str = ""
    """For a file that is compressed or in UTF-16: prefix of the URIs of its unpacked ranges."""


@dataclass(frozen=True)
class CsvPlan:
    """CSV files with the format found at their beginning."""

    planned: tuple[PlannedFile, ...]

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The files, as described before they are read."""
        return tuple(file.described for file in self.planned)

    def has_column(self, name: str) -> bool:
        """Say whether every file has a column of this meaning or name; a folder may name it.

        Blank files do not count.
        """
        for uri, form in self._formats:
            if form.position(name) is None and name not in partitions.find(uri):
                return False
        return True

    @property
    def _formats(self) -> list[tuple[str, CsvFormat]]:
        """List URI and format of each file that is not blank."""
        formats = []
        for file in self.planned:
            if file.csv_format:
                formats.append((file.described["uri"], file.csv_format))
        return formats

    @property
    def columns_by_file(self) -> list[tuple[str, Collection[str]]]:
        """List the URI of each file and the columns that may be kept; a blank file has none."""
        by_file: list[tuple[str, Collection[str]]] = []
        for file in self.planned:
            names = ("text", *file.csv_format.names) if file.csv_format else ()
            by_file.append((file.described["uri"], names))
        return by_file

    @property
    def columns(self) -> tuple[str, ...] | None:
        """List the columns that ``score.keep_columns`` may name; None if all files are blank."""
        formats = self._formats
        if not formats:
            return None
        shared = partitions.find_shared((uri, form.names) for uri, form in formats)
        return (*schema.TWEETS.names, *sorted(shared))


def plan_csv(
    files: Sequence[InputFile],
    *,
    settings: FormatSettings,
    rows_per_part: int,
    unpack_to: str,
    needs_all: bool = True,
) -> CsvPlan:
    """Find the format of CSV files from their beginning.

    Args:
        files: The files, plain or compressed, as they were described.
        settings: The section ``format``.
        rows_per_part: Approximate number of records in a part.
        unpack_to: Directory for the unpacked ranges of files that are compressed or in UTF-16.
        needs_all: Whether a header must have all columns of the settings, not just the text.

    Raises:
        UserError: A file lacks a column, or is not text.
    """

    def plan_file(numbered: tuple[int, InputFile]) -> PlannedFile:
        number, described = numbered
        with compression.open_content(described["uri"]) as content:
            head = content.read_block(0, csv_format.HEAD_BYTES)
            is_packed = content.forward_size > 0
        if csv_format.is_blank(head):
            return PlannedFile(described, csv_format=None)
        resolved, start = csv_format.resolve(
            settings, head, source=described["uri"], needs_all=needs_all
        )
        size = csv_ranges.range_size(
            head[start:], rows_per_range=rows_per_part, delimiter=settings.delimiter
        )
        return PlannedFile(
            described=described,
            csv_format=resolved,
            data_start=start,
            range_bytes=size,
            unpack_to=join(unpack_to, f"file-{number:05d}") if is_packed else "",
        )

    return CsvPlan(tuple(filesystem.map_files(plan_file, enumerate(files))))
