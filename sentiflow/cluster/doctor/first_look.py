"""Input files + format -> the first rows of a few of them, checked as a stage would check them."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster.doctor.check import CheckResult, find_problem
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, csv_format, first_rows, input_files, table_plans, tweets
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.first_rows import FirstRows
from sentiflow.data.manifest_types import InputFile
from sentiflow.data.table_files import TableFormat, TablePlan
from sentiflow.storage import filesystem

MAX_FILES = 5
"""Files of an input that are looked at: the first, the last, and some between them."""


@dataclass(frozen=True)
class Look:
    """The first rows of one file, as a stage would check them."""

    uri: str
    num_rows: int
    is_whole: bool
    """Whether the file has no more rows."""
    plan: corpus.Plan | None
    """Its columns; None if it is blank."""
    begins_unknown: bool = False
    """Whether the label of the first row is unknown."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Rows that a preparation would reject, by reason."""
    first_rejected: int | None = None
    """Number of the first of them, from 0, other than for its label."""
    unknown: Mapping[str, int] = field(default_factory=dict)
    """Rows with each value of an unknown label."""
    num_damaged: int = 0
    """Texts that hold U+FFFD for invalid bytes."""
    fitting_encoding: str = ""
    """As in :class:`FirstRows`."""


@dataclass(frozen=True)
class FirstLook:
    """The first rows of the files of a setting."""

    setting: str
    format: FormatSettings
    files: Sequence[Look]
    """Those that could be read, of a few that were chosen."""
    is_whole: bool
    """Whether these are all rows of all files."""

    @property
    def num_rows(self) -> int:
        """Rows of all these files."""
        return sum(look.num_rows for look in self.files)

    @property
    def reasons(self) -> Counter[str]:
        """Rows that a preparation would reject, other than for their label, by reason."""
        found = sum((Counter(look.reasons) for look in self.files), Counter[str]())
        del found[tweets.UNKNOWN_LABEL]
        return found

    @property
    def unknown(self) -> Counter[str]:
        """Rows with each value of an unknown label."""
        return sum((Counter(look.unknown) for look in self.files), Counter[str]())


def choose(uris: Sequence[str]) -> list[str]:
    """Choose the files to look at.

    Example:
        >>> choose(["a", "b"]), choose([str(i) for i in range(200)])
        (['a', 'b'], ['0', '50', '100', '149', '199'])
    """
    last = len(uris) - 1
    if last < MAX_FILES:
        return list(uris)
    return [uris[round(i * last / (MAX_FILES - 1))] for i in range(MAX_FILES)]


def look_at_all(
    setting: str, patterns: Sequence[str], form: FormatSettings, **how: Any
) -> tuple[FirstLook, list[CheckResult]]:
    """Look at some files of a setting, all at the same time; see :func:`look_at`.

    Returns:
        What was seen, and why other files could not be read.
    """
    uris: list[str] = []
    looks: list[Look] = []

    def expand() -> None:
        uris.extend(input_files.expand(patterns, setting=setting))
        corpus.are_tables(uris, setting=setting)

    def look(uri: str) -> list[CheckResult]:
        return find_problem("columns", lambda: looks.append(look_at(uri, form, **how)))

    problems = find_problem("input", expand)
    if not problems:
        found = filesystem.map_files(look, choose(uris))
        problems = list(dict.fromkeys(itertools.chain.from_iterable(found)))
    looks.sort(key=lambda look: uris.index(look.uri))
    is_whole = len(looks) == len(uris) and all(look.is_whole for look in looks)
    return FirstLook(setting, form, looks, is_whole), problems


def look_at(
    uri: str,
    settings: FormatSettings,
    *,
    required: Iterable[str] = (),
    keep_columns: Sequence[str] = (),
    text_column: str | None = None,
) -> Look:
    """Check the first rows of a file as a stage would.

    Args:
        uri: The file.
        settings: The format.
        required: As for ``tweets.check``.
        keep_columns: Columns that a preparation keeps.
        text_column: The column of the text in Parquet that is scored; None: it is prepared. Of what
            is scored only the text is needed.

    Raises:
        UserError: The file cannot be read, or lacks a column of the format.
    """
    rows = first_rows.read(uri, settings)
    is_table = bool(len(rows.schema))
    if not is_table and csv_format.is_blank(rows.head):
        return Look(uri, 0, True, None)
    form, plan = _plan(uri, rows, settings, keep_columns, text_column)
    if not rows.num_rows:
        return Look(uri, 0, rows.is_whole, plan)
    places = rows.names if is_table else range(rows.rows.num_columns)
    columns = {name: rows.column(at) for name, at in dict(form.columns).items() if at in places}
    wanted = ("text", "label", *(name for name in ("user", "time") if name in required))
    table = {name: columns[name] for name in wanted if name in columns}
    checked = tweets.check(
        pa.table(table | {"reason": rows.faults}),
        labels=form.labels,
        time_format=form.time_format,
        max_text_length=settings.max_text_length,
        required=[name for name in required if name in columns],
    )
    has_damage = rows.is_damaged and not is_table
    holds = (
        pc.match_substring(columns["text"], tweets.REPLACEMENT) if has_damage else pa.array([False])
    )
    return Look(
        uri,
        rows.num_rows,
        rows.is_whole,
        plan,
        begins_unknown=checked["unknown_label"][0].is_valid,
        reasons=Counter(checked["reason"].drop_null().to_pylist()),
        first_rejected=_find_first(checked["reason"]),
        unknown=tweets.count_values(checked["unknown_label"].drop_null()),
        num_damaged=pc.sum(holds).as_py() or 0,
        fitting_encoding=rows.fitting_encoding,
    )


def _find_first(reason: pa.ChunkedArray) -> int | None:
    """Find the first row that is rejected for another reason than its label."""
    is_other = pc.and_kleene(reason.is_valid(), pc.not_equal(reason, tweets.UNKNOWN_LABEL))
    place = pc.index(is_other, True).as_py()
    return place if place >= 0 else None


def _plan(
    uri: str,
    rows: FirstRows,
    settings: FormatSettings,
    keep_columns: Sequence[str],
    text_column: str | None,
) -> tuple[CsvFormat | TableFormat, corpus.Plan]:
    """Find the columns of a file, and how a stage would read it."""
    file: InputFile = {"uri": uri, "bytes": 0, "modified_ns": 0, "tree_sha256": ""}
    if not len(rows.schema):
        needs_all = text_column is None
        found, _ = csv_format.resolve(settings, rows.head, source=uri, needs_all=needs_all)
        return found, corpus.CsvPlan((corpus.PlannedFile(file, found),))
    if text_column is None:
        plan = table_plans.plan_preparation([file], settings=settings, keep_columns=keep_columns)
    else:
        table_plans.check_text(uri, rows.schema, text_column, setting="score.text_column")
        meant = TableFormat(columns=(("text", text_column),))
        plan = TablePlan((), (), meant, tuple(sorted({*rows.names, "row_id", "text"})), ())
    return plan.table_format, plan
