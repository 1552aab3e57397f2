"""Input files of unknown form -> what their columns mean, and the section ``format``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import MIN_CLASS_ROWS, UNLABELLED, check_names
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.ordered_classes import read_value
from sentiflow.data import (
    csv_format,
    input_files,
    row_checks,
    table_files,
    table_plans,
    time_readings,
    times,
)
from sentiflow.data.inspection import columns, samples
from sentiflow.data.inspection.columns import Column
from sentiflow.data.inspection.roles import Roles, find_roles
from sentiflow.errors import UserError
from sentiflow.storage.uris import display_uri

_SENTIMENT140_ROLES = Roles(
    text=5, label=0, id=1, user=4, time=2, time_format=csv_format.SENTIMENT140_TIME
)
"""Columns of Sentiment140 by position; it has no header."""
_SENTIMENT140_CLASSES = {"negative": ["0"], "positive": ["4"], "neutral": ["2"]}
"""Values of each class in Sentiment140."""
_SMALL_CLASS_ROWS = 30
"""Number of rows below which a class that is much smaller than the largest one is named."""


@dataclass(frozen=True)
class TimeSpan:
    """The times of the sample as their format reads them."""

    example: str
    """The first written time that is read, shortened."""
    read_as: str
    """Its day, with the name of the month."""
    first: datetime
    last: datetime
    future_fraction: float
    """Share of the times that are in the future."""
    unusual: str
    """How many times are in the future or before 1990; empty if none is."""


@dataclass(frozen=True)
class Inspection:
    """What was found out about input files."""

    sample: samples.Sample
    columns: tuple[Column, ...]
    roles: Roles
    is_sentiment140: bool
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The values of each class; ``unlabelled`` has the values that mean no label."""
    is_ordered: bool = False
    """Whether the classes are ratings, such as 1 to 5 stars."""
    unnamed: Mapping[str, int] = field(default_factory=dict)
    """Values of the label column that are too rare for a class, with their rows."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Rows of the sample that the reader rejects, by reason."""
    times: TimeSpan | None = None
    """The times; None without a column of times, or if none is read."""

    @property
    def has_sure_times(self) -> bool:
        """Whether there are times, their format is beyond doubt, and few are in the future."""
        if self.times is None or self.roles.is_time_doubtful:
            return False
        return self.times.future_fraction <= time_readings.FEW_FUTURE

    @property
    def scale(self) -> float:
        """Number of rows of all files for each row of the sample."""
        return self.sample.num_rows / max(1, len(self.sample.rows))

    @property
    def label_counts(self) -> dict[str, int]:
        """Rows of the sample by class, without unlabelled rows and without empty classes."""
        if self.roles.label is None:
            return {}
        rows_by_value = self.column(self.roles.label).counts
        rows_by_class = {}
        for name, values in self.classes.items():
            num_rows = sum(rows_by_value.get(value, 0) for value in values)
            if num_rows and name != UNLABELLED:
                rows_by_class[name] = num_rows
        return rows_by_class

    @property
    def num_unlabelled(self) -> int:
        """Rows of the sample without a label; 0 without a column of labels."""
        if self.roles.label is None:
            return 0
        column = self.column(self.roles.label)
        num_rows = len(self.sample.rows) - column.num_filled
        for value in self.classes.get(UNLABELLED, ()):
            num_rows += column.counts.get(value, 0)
        return num_rows

    @property
    def rejected_fraction(self) -> float:
        """Share of the rows of the sample that the reader rejects."""
        return sum(self.rejected.values()) / max(1, len(self.sample.rows))

    def column(self, name: str | int) -> Column:
        """Return the statistics of a column."""
        return next(column for column in self.columns if column.name == name)


def inspect(
    uris: Sequence[str],
    *,
    text: str | None = None,
    label: str | None = None,
    scores_only: bool = False,
) -> Inspection:
    """Find out how files are written and what their columns mean, and count rejected rows.

    Args:
        uris: CSV or Parquet files that are written alike.
        text: Name or position of the text column. Default: it is found.
        label: Name or position of the label column. Default: it is found.
        scores_only: Whether the files will only be scored. Then no column is taken for the label
            unless ``label`` names it.

    Raises:
        UserError: A file cannot be read, or it is not clear which column is the text or the label.
    """
    sample = samples.read(uris)
    described = tuple(columns.describe(name, sample.column(name)) for name in sample.names)
    is_prescribed = text is not None or label is not None or scores_only
    if not is_prescribed and _is_sentiment140(sample, described):
        inspection = Inspection(
            sample=sample,
            columns=described,
            roles=_SENTIMENT140_ROLES,
            is_sentiment140=True,
            classes=_SENTIMENT140_CLASSES,
        )
    else:
        roles = find_roles(
            described,
            source=display_uri(uris[0]),
            read=sample.column,
            text=text,
            label=label,
            finds_label=not scores_only,
        )
        inspection = _add_classes(
            Inspection(sample=sample, columns=described, roles=roles, is_sentiment140=False),
            uris[0],
        )
    settings = FormatSettings.model_validate(to_format(inspection))
    if sample.dialect is None:
        _check_parquet(uris, settings, inspection.roles)
    return replace(
        inspection,
        rejected=_count_rejected(inspection, settings),
        times=_find_span(inspection),
    )


def _add_classes(inspection: Inspection, uri: str) -> Inspection:
    """Add the classes of the label column, if there is one.

    Raises:
        UserError: There are fewer than two classes, or too many.
    """
    name = inspection.roles.label
    if name is None:
        return inspection
    classes, unnamed = _find_classes(inspection.column(name), display_uri(uri))
    named = [name for name in classes if name != UNLABELLED]
    is_ordered = columns.holds_ratings(inspection.column(name)) and None not in map(
        read_value, named
    )
    return replace(inspection, classes=classes, unnamed=unnamed, is_ordered=is_ordered)


def _check_parquet(uris: Sequence[str], settings: FormatSettings, roles: Roles) -> None:
    """Check the columns of Parquet files as ``prepare`` does before it reads them.

    Raises:
        UserError: A file lacks a column, or a column has a type that cannot be read.
    """
    files = input_files.describe_unread(uris)
    table_plans.plan_preparation(files, settings=settings, keep_columns=roles.keep)


def to_format(inspection: Inspection) -> dict[str, object]:
    """Return the section ``format`` of the config, without settings that have their default."""
    if inspection.is_sentiment140:
        return {"kind": "sentiment140"}
    roles = inspection.roles
    column_names: dict[str, str | int] = {}
    for meaning in ("text", "label", "id", "time", "user"):
        name = getattr(roles, meaning)
        if name is not None:
            column_names[meaning] = name
    section: dict[str, object] = {"kind": "csv"}
    dialect = inspection.sample.dialect
    if dialect is not None:
        if dialect.delimiter != ",":
            section["delimiter"] = dialect.delimiter
        if dialect.encoding != "utf-8":
            section["encoding"] = dialect.encoding
        has_names = any(isinstance(name, str) for name in column_names.values())
        if dialect.has_header and not has_names:
            section["header"] = True
    section["columns"] = column_names
    if roles.time_format:
        section["time_format"] = roles.time_format
    if inspection.is_ordered:
        section["ordered"] = True
    if inspection.classes:
        section["labels"] = {
            name: one_or_list(values) for name, values in inspection.classes.items()
        }
    return section


def one_or_list(values: Sequence[str]) -> str | list[str]:
    """Write a single value without a list."""
    return values[0] if len(values) == 1 else list(values)


def _is_sentiment140(sample: samples.Sample, described: Sequence[Column]) -> bool:
    """Say whether files are written as Sentiment140: six columns, no header, targets 0, 2 and 4."""
    dialect = sample.dialect
    if dialect is None or dialect.has_header or len(described) != 6:
        return False
    is_plain = dialect.delimiter == "," and dialect.encoding == "utf-8"
    targets = set(described[0].counts)
    has_targets = bool(targets) and targets <= {"0", "2", "4"}
    return is_plain and has_targets and described[5].mean_words >= 2


def _find_classes(column: Column, source: str) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Find the classes of the label column.

    Returns:
        The values of each class; and the values that are too rare for a class, with their rows.

    Raises:
        UserError: There are fewer than two classes, or too many.
    """
    classes = columns.classes_of(column)
    try:
        check_names([name for name in classes if name != UNLABELLED])
    except ValueError as error:
        shown = [columns.brief(value) for value in list(column.counts)[:5]]
        if column.num_distinct > 5:
            shown.append("…")
        raise UserError(
            f"{source}: column {columns.brief(column.name)} cannot be the label "
            f"({column.num_distinct:,} values: {', '.join(shown)})",
            hint=f"{error}; rename such values in the file, or choose another column with --label",
        ) from error
    values = columns.main_values(column)
    unnamed = {value: rows for value, rows in column.counts.items() if value not in values}
    return classes, unnamed


def _count_rejected(inspection: Inspection, settings: FormatSettings) -> dict[str, int]:
    """Check the sampled rows as ``prepare`` does, and count the rejected ones by reason."""
    sample = inspection.sample
    roles = inspection.roles
    rows = {"text": sample.column(roles.text), "reason": sample.faults}
    required: tuple[str, ...] = ()
    if roles.label is not None:
        rows["label"] = pc.fill_null(sample.column(roles.label), "")
        required = ("label",)
    # The sample is a table, whatever its files are.
    form = table_files.TableFormat(labels=csv_format.written_labels(settings))
    rules = replace(row_checks.RowRules.of_texts(settings), required=required)
    checked = row_checks.check(pa.table(rows), form, rules)
    reasons = checked["reason"].drop_null().to_pylist()
    return dict(Counter(reasons).most_common())


def _find_span(inspection: Inspection) -> TimeSpan | None:
    """Read the times of the sample; None without times."""
    roles = inspection.roles
    if roles.time is None:
        return None
    written = inspection.sample.column(roles.time)
    moments = times.parse(written, roles.time_format)
    span = pc.min_max(moments).as_py()
    if span["max"] is None:
        return None
    place = pc.index(moments.is_valid(), True).as_py()
    unusual = times.count_unusual(moments)
    num_times = len(moments) - moments.null_count
    return TimeSpan(
        example=columns.brief(written[place].as_py().strip()),
        read_as=time_readings.write_day(moments[place].as_py()),
        first=span["min"],
        last=span["max"],
        future_fraction=unusual.future / num_times,
        unusual=unusual.describe(num_times),
    )


def count_rare(inspection: Inspection) -> dict[str, int]:
    """Return the rows of the sample of each class that has too few rows to be learned."""
    rare = {}
    for name, rows in inspection.label_counts.items():
        if rows * inspection.scale < MIN_CLASS_ROWS:
            rare[name] = rows
    return rare


def count_small(inspection: Inspection) -> dict[str, int]:
    """Return the rows of the sample of each class that is learned from few rows.

    Such a class has fewer than ``_SMALL_CLASS_ROWS`` rows, and fewer than a tenth of the largest
    class: its values are often no class, such as "unclear".
    """
    counts = inspection.label_counts
    rare = count_rare(inspection)
    largest = max(counts.values(), default=0)
    small = {}
    for name, rows in counts.items():
        is_small = rows * inspection.scale < _SMALL_CLASS_ROWS and rows < largest / 10
        if is_small and name not in rare:
            small[name] = rows
    return small


def list_rejected(inspection: Inspection) -> str:
    """Say how many rows are rejected, and why."""
    num_rejected = sum(inspection.rejected.values())
    num_rows = len(inspection.sample.rows)
    reasons = row_checks.list_reasons(inspection.rejected)
    return f"{num_rejected:,} of {num_rows:,} rows would be rejected: {reasons}"
