"""Input files + format -> their first rows, read and checked as in a stage."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import (
    corpus,
    csv_format,
    csv_plans,
    first_rows,
    partitions,
    row_checks,
    table_plans,
    time_faults,
)
from sentiflow.data.manifest_types import InputFile
from sentiflow.data.table_files import TableFormat

_NO_ROWS = pa.table(dict.fromkeys(("text", "unknown_label", "reason"), pa.nulls(0, pa.string())))


@dataclass(frozen=True)
class FilePreview:
    """The first rows of one file."""

    first: first_rows.FirstRows
    """The rows as they are written."""
    plan: corpus.Plan | None
    """How a stage would read the columns of the file; None if the file is blank."""
    checked: pa.Table
    """The same rows, as ``row_checks.check`` returns them."""
    time_fault: time_faults.TimeFault = time_faults.NO_FAULT
    """The fault in the times; ``NO_FAULT`` also if the times are not kept."""

    @property
    def unknown(self) -> pa.ChunkedArray:
        """The unknown labels."""
        return self.checked["unknown_label"].drop_null()

    @property
    def num_damaged(self) -> int:
        """Number of texts that hold U+FFFD in place of invalid bytes."""
        if not self.first.is_damaged or _is_parquet(self.first):
            return 0
        is_damaged = pc.match_substring(self.checked["text"], row_checks.REPLACEMENT)
        return pc.sum(is_damaged).as_py() or 0


@dataclass(frozen=True)
class Preview:
    """The first rows of the files of a setting."""

    setting: str
    format: FormatSettings
    files: Sequence[FilePreview]
    """The files that could be read, of a few that were chosen."""
    is_whole: bool
    """Whether ``files`` are all files of the setting, with all their rows."""

    @property
    def num_rows(self) -> int:
        """Number of rows of ``files``."""
        return sum(file.checked.num_rows for file in self.files)

    @property
    def unknown(self) -> Counter[str]:
        """Number of rows by value of an unknown label."""
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(row_checks.count_values(file.unknown))
        return total


def preview_file(
    uri: str,
    format_settings: FormatSettings,
    *,
    rules: row_checks.RowRules,
    text_column: str | None,
) -> FilePreview:
    """Check the first rows of a file as in a stage.

    Args:
        uri: The file.
        format_settings: The format.
        rules: The stage's rules for rows.
        text_column: ``score.text_column`` for a file to score; None for a file to prepare. To be
            scored, a Parquet file needs only this column.

    Raises:
        UserError: The file cannot be read, or lacks a column of the format.
    """
    first = first_rows.read(uri, format_settings)
    is_parquet = _is_parquet(first)
    if not is_parquet and csv_format.is_blank(first.head):
        return FilePreview(first, None, _NO_ROWS)
    keep_columns = list(rules.keep)
    if rules.split_column:
        keep_columns.append(rules.split_column)
    form, plan = _make_plan(first, format_settings, keep_columns, text_column)
    if not first.rows.num_rows:
        return FilePreview(first, plan, _NO_ROWS)
    columns = _read_columns(first, form)
    to_check = {"text", "label", *rules.required}
    if is_parquet and text_column:  # its labels may be classes of the model, which are unknown here
        to_check = {"text"}
    table = {name: column for name, column in columns.items() if name in to_check}
    if rules.split_column and plan.has_column(rules.split_column):
        table["split"] = _read_splits(first, form, rules.split_column)
    table["reason"] = first.faults
    required = [name for name in rules.required if name in columns]
    if format_settings.labels == "auto" and "label" in required:
        required.remove("label")  # without classes every label is unknown, which is no fault
    checked = row_checks.check(pa.table(table), form, replace(rules, required=tuple(required)))
    are_times_read = "time" in rules.required or "time" in rules.keep
    if not are_times_read or "time" not in columns:
        return FilePreview(first, plan, checked)
    time_format = None if _has_typed_times(first, form) else form.time_format
    fault = time_faults.find_fault(columns["time"], time_format)
    return FilePreview(first, plan, checked, time_fault=fault)


def _is_parquet(first: first_rows.FirstRows) -> bool:
    """Say whether the rows are from a Parquet file; a CSV has no types of columns."""
    return len(first.schema) > 0


def _read_columns(
    first: first_rows.FirstRows, form: csv_format.CsvFormat | TableFormat
) -> dict[str, pa.Array]:
    """Read the columns of the format that the file has, by meaning."""
    present = first.names if _is_parquet(first) else range(first.rows.num_columns)
    columns = {}
    for meaning, name_or_position in dict(form.columns).items():
        if name_or_position in present:
            columns[meaning] = first.column(name_or_position)
    return columns


def _has_typed_times(first: first_rows.FirstRows, form: csv_format.CsvFormat | TableFormat) -> bool:
    """Say whether times have one of Parquet's types for times, so that they need no parsing."""
    if not _is_parquet(first):
        return False
    field = first.schema.field(dict(form.columns)["time"])
    return bool(pa.types.is_temporal(field.type))


def _read_splits(
    first: first_rows.FirstRows, form: csv_format.CsvFormat | TableFormat, name: str
) -> pa.Array:
    """Read the column that names the split of each row."""
    place: int | str | None = name
    if isinstance(form, csv_format.CsvFormat):
        place = form.position(name)
    elif name not in first.names:
        place = None
    if place is None:  # the plan has the column, so a folder names it
        return partitions.read(first.uri, name, first.rows.num_rows)
    return first.column(place)


def _make_plan(
    first: first_rows.FirstRows,
    settings: FormatSettings,
    keep_columns: Sequence[str],
    text_column: str | None,
) -> tuple[csv_format.CsvFormat | TableFormat, corpus.Plan]:
    """Find the columns of a file, and the plan by which a stage would read it.

    The columns to keep are planned only for a preparation; ``check_columns`` checks a scoring's.
    """
    # A plan needs no more of a file than its URI.
    file: InputFile = {"uri": first.uri, "bytes": 0, "modified_ns": 0, "tree_sha256": ""}
    if not _is_parquet(first):
        form, _ = csv_format.resolve(
            settings, first.head, source=first.uri, needs_all=text_column is None
        )
        return form, csv_plans.CsvPlan((csv_plans.PlannedFile(file, form),))
    if text_column is None:
        plan = table_plans.plan_preparation([file], settings=settings, keep_columns=keep_columns)
    else:
        plan = table_plans.plan_scoring([file], text_column=text_column, keep_columns=())
    return plan.table_format, plan
