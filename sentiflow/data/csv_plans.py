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
    """Approximate size of a part in bytes."""
    unpack_to: str = ""
    """For a file that is compressed or in UTF-16: prefix of the URIs of its unpacked parts."""


@dataclass(frozen=True)
class CsvPlan:
    """CSV files with the format found at their beginning."""

    planned: tuple[PlannedFile, ...]

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The files, as described before they are read."""
        return tuple(file.described for file in self.planned)

    def has_column(self, name: str) -> bool:
        """Say whether every file has a column of this meaning or name; a folder may name it."""
        for file in self.planned:
            form = file.csv_format
            if form is None or form.position(name) is not None:
                continue
            if name not in partitions.find(file.described["uri"]):
                return False
        return True

    @property
    def columns_by_file(self) -> list[tuple[str, Collection[str]]]:
        """List the URI of each file and the columns that may be kept; blank files have none."""
        formats = [(file.described["uri"], file.csv_format) for file in self.planned]
        return [(uri, ("text", *form.names) if form else ()) for uri, form in formats]

    @property
    def columns(self) -> tuple[str, ...] | None:
        """List the columns that ``score.keep_columns`` may name; None if all files are blank."""
        formats = [(file.described["uri"], file.csv_format) for file in self.planned]
        shared = partitions.find_shared((uri, form.names) for uri, form in formats if form)
        if not any(form for _, form in formats):
            return None
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
        unpack_to: A directory for the pieces of files that are compressed, or in UTF-16.
        needs_all: Whether a header must have all columns of the settings, not just the text.

    Raises:
        UserError: A file lacks a column, or is not text.
    """

    def plan_file(file: tuple[int, InputFile]) -> PlannedFile:
        number, described = file
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
