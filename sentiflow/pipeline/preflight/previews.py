"""Input files + format -> their first rows, checked as a stage would; what does not fit settings.

Of each input a few files are read: a wrong column, label or delimiter is found in a moment.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import MAX_CLASSES, UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import (
    corpus,
    csv_format,
    first_rows,
    input_files,
    row_checks,
    table_plans,
    times,
)
from sentiflow.data.manifest_types import InputFile
from sentiflow.data.schema import SPLIT_VALUES
from sentiflow.data.table_files import TableFormat
from sentiflow.errors import few
from sentiflow.pipeline.preflight.check import CheckResult, attempt, find_problem
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri

MAX_FILES = 5
"""Files of an input that are read: the first, the last, and some between them."""
_MAX_SHOWN = 10
_USUAL_DAMAGE = 0.01
"""Share of texts with some invalid bytes that is not worth a warning before a run."""
_NO_ROWS = pa.table(dict.fromkeys(("text", "unknown_label", "reason"), pa.nulls(0, pa.string())))


@dataclass(frozen=True)
class FilePreview:
    """The first rows of one file."""

    first: first_rows.FirstRows
    plan: corpus.Plan | None
    """Its columns; None if it is blank."""
    rows: pa.Table
    """The rows, by ``tweets.check``."""
    time_fault: tuple[str, bool] = ("", False)
    """By ``times.find_fault``, of times that the stage keeps."""

    @property
    def unknown(self) -> pa.ChunkedArray:
        """The unknown labels."""
        return self.rows["unknown_label"].drop_null()

    @property
    def num_damaged(self) -> int:
        """Texts that hold U+FFFD for invalid bytes."""
        if not self.first.is_damaged or len(self.first.schema):
            return 0
        return pc.sum(pc.match_substring(self.rows["text"], row_checks.REPLACEMENT)).as_py() or 0


@dataclass(frozen=True)
class Preview:
    """The first rows of the files of a setting."""

    setting: str
    format: FormatSettings
    files: Sequence[FilePreview]
    """Those that could be read, of a few that were chosen."""
    is_whole: bool
    """Whether these are all rows of all files."""

    @property
    def num_rows(self) -> int:
        """Rows of all these files."""
        return sum(file.rows.num_rows for file in self.files)

    @property
    def unknown(self) -> Counter[str]:
        """Rows with each value of an unknown label."""
        counts = (row_checks.count_values(file.unknown) for file in self.files)
        return sum(map(Counter, counts), Counter[str]())


def check(
    setting: str,
    patterns: Sequence[str],
    form: FormatSettings,
    check_columns: Callable[[corpus.Plan, str], object] = lambda plan, source: None,
    *,
    rules: row_checks.RowRules = row_checks.RowRules(),  # noqa: B008 - it is frozen
    text_column: str | None = None,
    max_rejected_fraction: float = 1,
) -> Iterator[CheckResult]:
    """Check the first rows of some files of a setting, read at the same time, as a stage would.

    Args:
        setting: Its name.
        patterns: Files or globs.
        form: The format.
        check_columns: Takes how a file would be read, and the name of the file.
        rules: What the stage asks of the rows.
        text_column: As for :func:`_read`.
        max_rejected_fraction: More rows must not be rejected; 1: any number.
    """

    def expand() -> list[str]:
        uris = input_files.expand(patterns, setting=setting)
        corpus.are_tables(uris, setting=setting)
        return uris

    read = functools.partial(_read, settings=form, rules=rules, text_column=text_column)
    listed, problems = attempt("input", expand)
    uris = listed or []
    places = (round(i * (len(uris) - 1) / (MAX_FILES - 1)) for i in range(MAX_FILES))
    chosen = [uris[place] for place in dict.fromkeys(places)] if uris else []
    results = filesystem.map_files(functools.partial(attempt, "columns", read), chosen)
    files = [file for file, _ in results if file]
    problems += dict.fromkeys(itertools.chain.from_iterable(faults for _, faults in results))
    yield from problems
    for file in filter(lambda file: file.plan, files):
        faults = find_problem("columns", check_columns, file.plan, display_uri(file.first.uri))
        yield from faults
        if faults:  # other files lack the same
            return
    is_whole = len(files) == len(uris) and all(file.first.is_whole for file in files)
    seen = Preview(setting, form, files, is_whole)
    yield from _check_encoding(seen)
    yield from _check_times(seen)
    if max_rejected_fraction < 1 and not problems:
        yield from _check_rows(seen, max_rejected_fraction)
        if rules.required:  # others are unlabelled
            yield from _check_labels(seen, max_rejected_fraction)


def _read(
    uri: str,
    settings: FormatSettings,
    *,
    rules: row_checks.RowRules,
    text_column: str | None,
) -> FilePreview:
    """Check the first rows of a file as a stage would.

    Args:
        uri: The file.
        settings: The format.
        rules: What the stage asks of the rows.
        text_column: The column of the text in Parquet that is scored; None: it is prepared. Of what
            is scored only the text is needed.

    Raises:
        UserError: The file cannot be read, or lacks a column of the format.
    """
    first = first_rows.read(uri, settings)
    is_table = bool(len(first.schema))
    if not is_table and csv_format.is_blank(first.head):
        return FilePreview(first, None, _NO_ROWS)
    form, plan = _plan(first, settings, (*rules.keep, rules.split_column), text_column)
    if not first.rows.num_rows:
        return FilePreview(first, plan, _NO_ROWS)
    places = first.names if is_table else range(first.rows.num_columns)
    columns = {name: first.column(at) for name, at in dict(form.columns).items() if at in places}
    names = {"text"} if is_table and text_column else {"text", "label", *rules.required}
    table = {name: column for name, column in columns.items() if name in names}
    if (name := rules.split_column) and plan.has_column(name):
        at = form.position(name) if isinstance(form, csv_format.CsvFormat) else name
        table["split"] = first.column(at if at is not None else name)
    required = tuple(
        name
        for name in rules.required
        if name in columns and (name, settings.labels) != ("label", "auto")
    )
    checked = pa.table(table | {"reason": first.faults})
    rows = row_checks.check(checked, form, replace(rules, required=required))
    is_kept = "time" in columns and "time" in (*rules.required, *rules.keep)
    if not is_kept or (
        is_table and pa.types.is_temporal(first.schema.field(dict(form.columns)["time"]).type)
    ):
        return FilePreview(first, plan, rows)
    return FilePreview(first, plan, rows, times.find_fault(columns["time"], form.time_format))


def _plan(
    first: first_rows.FirstRows,
    settings: FormatSettings,
    keep_columns: Sequence[str],
    text_column: str | None,
) -> tuple[csv_format.CsvFormat | TableFormat, corpus.Plan]:
    """Find the columns of a file, and how a stage would read it."""
    file: InputFile = {"uri": first.uri, "bytes": 0, "modified_ns": 0, "tree_sha256": ""}
    if not len(first.schema):
        form, _ = csv_format.resolve(
            settings, first.head, source=first.uri, needs_all=text_column is None
        )
        return form, corpus.CsvPlan((corpus.PlannedFile(file, form),))
    if text_column is None:
        plan = table_plans.plan_preparation([file], settings=settings, keep_columns=keep_columns)
    else:
        longest = FormatSettings(max_text_length=settings.max_text_length)
        plan = table_plans.plan_scoring(
            [file], text_column=text_column, keep_columns=(), settings=longest
        )
    return plan.table_format, plan


def _check_encoding(seen: Preview) -> list[CheckResult]:
    """Warn of bytes that are invalid in the encoding, and of an encoding that would fit better."""
    bad = [
        file
        for file in seen.files
        if file.first.fitting_encoding or file.num_damaged > _USUAL_DAMAGE * file.rows.num_rows
    ]
    if not bad:
        return []
    worst, section = max(bad, key=lambda file: file.num_damaged), seen.format.section
    treated = "are dropped" if seen.format.errors == "ignore" else "become U+FFFD"
    what = (
        f"{seen.setting}: {display_uri(worst.first.uri)} is not {seen.format.encoding}: invalid "
        f"bytes {treated} in {worst.num_damaged:,} of the first {worst.rows.num_rows:,} texts"
    )
    if fitting := worst.first.fitting_encoding:
        what += f"; {fitting} fits: write {section}.encoding: {fitting}"
    return [CheckResult("encoding", "warning", what)]


def _check_times(seen: Preview) -> list[CheckResult]:
    """Check that the times that are kept can be read, and no month as a day."""
    for file in seen.files:
        fault, is_wrong = file.time_fault
        if fault:
            where = f"times of {display_uri(file.first.uri)} ({seen.format.section}.time_format)"
            is_fixed = seen.format.kind == "sentiment140"
            return [
                CheckResult(
                    "times",
                    "error" if is_wrong and not is_fixed else "warning",
                    f"{seen.setting}: {where}: {fault}",
                )
            ]
    return []


def _check_rows(seen: Preview, max_rejected_fraction: float) -> list[CheckResult]:
    """Check whether a preparation would reject too many rows, other than for their labels."""
    if seen.is_whole and not seen.num_rows:
        what = f"{display_uri(seen.files[0].first.uri)} holds no record: it has at most a header"
        return [CheckResult("rows", "error", f"{seen.setting}: {what}")]
    bad = [
        (file.first.uri, row, reason)
        for file in seen.files
        for row, reason in enumerate(file.rows["reason"].to_pylist())
        if reason not in (None, row_checks.UNKNOWN_LABEL)
    ]
    if len(bad) <= max_rejected_fraction * seen.num_rows:
        return []
    reasons = Counter(reason for *_, reason in bad)
    uri, row, _ = bad[0]
    section = seen.format.section
    way_out = f"correct the file or the section {section}, or raise prepare.max_rejected_fraction"
    if row_checks.UNKNOWN_SPLIT in reasons:
        way_out = f"write one of {', '.join(SPLIT_VALUES)} in the column of splits, {way_out}"
    if seen.format.kind == "sentiment140":
        way_out += (
            f"; without kind: csv in the section {section} the six columns of Sentiment140 are "
            "expected"
        )
    return [
        CheckResult(
            "rows",
            "error",
            f"{seen.setting}: {len(bad):,} of the first {seen.num_rows:,} rows would be "
            f"rejected, in {display_uri(uri)} ({row_checks.list_reasons(reasons)}; the first is "
            f"row {row:,}): {way_out}",
        )
    ]


def _check_labels(seen: Preview, max_rejected_fraction: float) -> list[CheckResult]:
    """Check whether a preparation would reject too many rows for their labels."""
    unknown = seen.unknown
    accepted = [file.rows.filter(pc.is_null(file.rows["reason"])) for file in seen.files]
    labels = [rows["label"] for rows in accepted if len(rows)]
    is_unlabelled = labels and all(each.null_count == len(each) for each in labels)
    if seen.is_whole and is_unlabelled and not unknown:
        files = ", ".join(few([display_uri(file.first.uri) for file in seen.files]))
        return [CheckResult("labels", "error", f"{seen.setting}: no row of {files} has a label")]
    if seen.format.labels == "auto" and seen.num_rows:
        if not seen.is_whole and len(unknown) <= MAX_CLASSES:
            return []
        return find_problem("labels", lambda: row_checks.choose_classes(unknown))
    if not unknown:
        return []
    is_bad = unknown.total() > max_rejected_fraction * seen.num_rows
    return [CheckResult("labels", "error" if is_bad else "warning", _explain_labels(seen))]


def _explain_labels(seen: Preview) -> str:
    """Say which values no class names, and which setting names them."""
    unknown, settings = seen.unknown, seen.format
    num_unknown, num_rows = unknown.total(), seen.num_rows
    where = display_uri(max(seen.files, key=lambda file: len(file.unknown)).first.uri)
    listed = row_checks.list_unknown(dict(unknown.most_common(_MAX_SHOWN)))
    if len(unknown) > _MAX_SHOWN:
        listed += f", ... ({len(unknown):,} values)"
    what = (
        f"{seen.setting}: {num_unknown:,} of the first {num_rows:,} rows have a label that "
        f"format.labels does not name, in {where}: {listed}"
    )
    if settings.kind == "sentiment140":
        return (
            f"{what}: describe the file by the section format, with kind: csv; without it the "
            "labels of Sentiment140 are expected"
        )
    if len(unknown) > _MAX_SHOWN or num_unknown == num_rows:
        label = settings.columns.label if settings.columns else None
        return f"{what}: is format.columns.label={label} the right column?"
    return f"{what}: name each value in format.labels, at a class or under {UNLABELLED}"
