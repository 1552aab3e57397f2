"""Input files + format -> findings in their first rows, which are checked as in a stage.

A few files of each input are read, so a wrong column, label or delimiter is found in a moment.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pyarrow.compute as pc

from sentiflow.config.class_names import MAX_CLASSES, UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, input_files, row_checks
from sentiflow.data.schema import SPLIT_VALUES
from sentiflow.errors import few
from sentiflow.pipeline.preflight.check import CheckResult, Level, attempt, find_problem
from sentiflow.pipeline.preflight.file_previews import FilePreview, Preview, preview_file
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri

MAX_FILES = 5
"""Maximum number of files of an input that are read: the first, the last, and some between them."""
_MAX_SHOWN_LABELS = 10
"""Maximum number of unknown labels in a message."""
_USUAL_DAMAGED_FRACTION = 0.01
"""Up to this fraction of texts with invalid bytes, there is no warning before a run."""


def check(
    setting: str,
    patterns: Sequence[str],
    format_settings: FormatSettings,
    check_columns: Callable[[corpus.Plan, str], object] = lambda plan, source: None,
    *,
    rules: row_checks.RowRules,
    text_column: str | None = None,
    max_rejected_fraction: float = 1,
    uris: Sequence[str] | None = None,
) -> Iterator[CheckResult]:
    """Check the first rows of some files of a setting as in a stage; threads read the files.

    Args:
        setting: Name of the setting.
        patterns: Files or globs.
        format_settings: The format.
        check_columns: Takes the plan to read a file, and the name of the file; raises ``UserError``
            if the plan lacks a column.
        rules: The stage's rules for rows.
        text_column: As for :func:`file_previews.preview_file`.
        max_rejected_fraction: Maximum share of rejected rows. With 1, all rows may be rejected, so
            rows and labels are not checked.
        uris: The files to check, if they are known. Default: the files that match ``patterns``.
    """

    def expand() -> list[str]:
        found = list(uris or input_files.expand(patterns, setting=setting))
        corpus.are_tables(found, setting=setting)  # raises if there are both CSV and Parquet
        return found

    found, problems = attempt("input", expand)
    found = found or []
    read_preview = functools.partial(
        preview_file, format_settings=format_settings, rules=rules, text_column=text_column
    )

    def attempt_file(uri: str) -> tuple[FilePreview | None, list[CheckResult]]:
        return attempt("columns", read_preview, uri)

    results = filesystem.map_files(attempt_file, _choose_files(found))
    files = []
    for file, faults in results:
        if file:
            files.append(file)
        problems += [fault for fault in faults if fault not in problems]
    yield from problems
    for file in files:
        if file.plan:
            faults = find_problem("columns", check_columns, file.plan, display_uri(file.first.uri))
            yield from faults
            if faults:  # one finding is enough: other files lack the same columns
                return
    preview = Preview(
        setting=setting,
        format=format_settings,
        files=files,
        is_whole=len(files) == len(found) and all(file.first.is_whole for file in files),
    )
    yield from _check_encoding(preview)
    yield from _check_times(preview)
    if max_rejected_fraction < 1 and not problems:
        yield from _check_rows(preview, max_rejected_fraction)
        if "label" in rules.required:
            yield from _check_labels(preview, max_rejected_fraction)


def _choose_files(uris: Sequence[str]) -> list[str]:
    """Choose a few files at equal distances, the first and the last included."""
    if not uris:
        return []
    step = (len(uris) - 1) / (MAX_FILES - 1)
    places = dict.fromkeys(round(number * step) for number in range(MAX_FILES))
    return [uris[place] for place in places]


def _check_encoding(preview: Preview) -> list[CheckResult]:
    """Warn of bytes that are invalid in the encoding, and of an encoding that would fit better."""

    def is_bad(file: FilePreview) -> bool:
        is_damaged = file.num_damaged > _USUAL_DAMAGED_FRACTION * file.checked.num_rows
        return is_damaged or bool(file.first.fitting_encoding)

    bad = [file for file in preview.files if is_bad(file)]
    if not bad:
        return []
    worst = max(bad, key=lambda file: file.num_damaged)
    treated = "are dropped" if preview.format.errors == "ignore" else "become U+FFFD"
    what = (
        f"{preview.setting}: {display_uri(worst.first.uri)} is not {preview.format.encoding}: "
        f"invalid bytes {treated} in {worst.num_damaged:,} of the first "
        f"{worst.checked.num_rows:,} texts"
    )
    fitting = worst.first.fitting_encoding
    if fitting:
        what += f"; {fitting} fits: write {preview.format.section}.encoding: {fitting}"
    return [CheckResult("encoding", "warning", what)]


def _check_times(preview: Preview) -> list[CheckResult]:
    """Check that times are read, are usual, and no month is a day; report the worst file."""
    faulty = [file for file in preview.files if file.time_fault.text]
    if not faulty:
        return []
    # The first of equally bad files.
    worst = max(faulty, key=lambda file: file.time_fault.is_error)
    fault = worst.time_fault
    where = f"times of {display_uri(worst.first.uri)} ({preview.format.section}.time_format)"
    can_be_set = preview.format.kind != "sentiment140"
    level: Level = "error" if fault.is_error and can_be_set else "warning"
    return [CheckResult("times", level, f"{preview.setting}: {where}: {fault.text}")]


def _check_rows(preview: Preview, max_rejected_fraction: float) -> list[CheckResult]:
    """Check whether a preparation would reject too many rows, other than for their labels."""
    if preview.is_whole and not preview.num_rows:
        what = f"{display_uri(preview.files[0].first.uri)} holds no record: it has at most a header"
        return [CheckResult("rows", "error", f"{preview.setting}: {what}")]
    reasons: Counter[str] = Counter()
    first_uri = ""
    first_row = 0
    for file in preview.files:
        for row, reason in enumerate(file.checked["reason"].to_pylist()):
            if reason not in (None, row_checks.UNKNOWN_LABEL):
                if not reasons:
                    first_uri = display_uri(file.first.uri)
                    first_row = row
                reasons[reason] += 1
    num_bad = reasons.total()
    if num_bad <= max_rejected_fraction * preview.num_rows:
        return []
    section = preview.format.section
    way_out = f"correct the file or the section {section}, or raise prepare.max_rejected_fraction"
    if row_checks.UNKNOWN_SPLIT in reasons:
        way_out = f"write one of {', '.join(SPLIT_VALUES)} in the column of splits, {way_out}"
    if preview.format.kind == "sentiment140":
        way_out += (
            f"; without kind: csv in the section {section} the six columns of Sentiment140 are "
            "expected"
        )
    return [
        CheckResult(
            "rows",
            "error",
            f"{preview.setting}: {num_bad:,} of the first {preview.num_rows:,} rows would be "
            f"rejected, in {first_uri} ({row_checks.list_reasons(reasons)}; the first is "
            f"row {first_row:,}): {way_out}",
        )
    ]


def _check_labels(preview: Preview, max_rejected_fraction: float) -> list[CheckResult]:
    """Check whether a preparation would reject too many rows for their labels."""
    unknown = preview.unknown
    if preview.is_whole and not unknown and _has_no_label(preview):
        files = ", ".join(few([display_uri(file.first.uri) for file in preview.files]))
        return [CheckResult("labels", "error", f"{preview.setting}: no row of {files} has a label")]
    if preview.format.labels == "auto" and preview.num_rows:
        # Every label is unknown; more classes than these may follow further down.
        if not preview.is_whole and len(unknown) <= MAX_CLASSES:
            return []
        return find_problem("labels", lambda: _name_classes(preview))
    if not unknown:
        return []
    is_bad = unknown.total() > max_rejected_fraction * preview.num_rows
    level: Level = "error" if is_bad else "warning"
    return [CheckResult("labels", level, _explain_labels(preview))]


def _name_classes(preview: Preview) -> None:
    """Name the classes of ``labels: auto`` by all labels, as the preparation would.

    Raises:
        UserError: There are too few or too many, or one has a wrong name or no number.
    """
    row_checks.name_classes(preview.format, row_checks.choose_classes(preview.unknown))


def _has_no_label(preview: Preview) -> bool:
    """Say whether rows are accepted, but none of them has a label."""
    num_accepted = 0
    for file in preview.files:
        accepted = file.checked.filter(pc.is_null(file.checked["reason"]))
        num_accepted += len(accepted)
        if len(accepted) and accepted["label"].null_count < len(accepted):
            return False
    return num_accepted > 0


def _explain_labels(preview: Preview) -> str:
    """Say which labels are unknown, and which setting names them."""
    unknown = preview.unknown
    settings = preview.format
    num_unknown = unknown.total()
    worst = max(preview.files, key=lambda file: len(file.unknown))
    listed = row_checks.list_unknown(dict(unknown.most_common(_MAX_SHOWN_LABELS)))
    if len(unknown) > _MAX_SHOWN_LABELS:
        listed += f", ... ({len(unknown):,} values)"
    what = (
        f"{preview.setting}: {num_unknown:,} of the first {preview.num_rows:,} rows have a label "
        f"that format.labels does not name, in {display_uri(worst.first.uri)}: {listed}"
    )
    if settings.kind == "sentiment140":
        return (
            f"{what}: describe the file by the section format, with kind: csv; without it the "
            "labels of Sentiment140 are expected"
        )
    if len(unknown) > _MAX_SHOWN_LABELS or num_unknown == preview.num_rows:
        label = settings.columns.label if settings.columns else None
        return f"{what}: is format.columns.label={label} the right column?"
    return f"{what}: name each value in format.labels, at a class or under {UNLABELLED}"
