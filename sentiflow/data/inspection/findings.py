"""Input files of unknown form -> what their columns mean, and a config that reads them."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from sentiflow.config.class_names import MIN_CLASS_ROWS, UNLABELLED, check_names
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, input_files, row_checks, table_files, table_plans, times
from sentiflow.data.inspection import columns, samples
from sentiflow.data.inspection.column_names import split_name
from sentiflow.data.inspection.columns import Column, Roles
from sentiflow.errors import UserError
from sentiflow.storage.uris import display_uri, split_member

_SENTIMENT140_ROLES = Roles(
    text=5, label=0, id=1, user=4, time=2, time_format=csv_format.SENTIMENT140_TIME
)
_SENTIMENT140_CLASSES = {"negative": ["0"], "positive": ["4"], "neutral": ["2"]}


@dataclass(frozen=True)
class Inspection:
    """What was found out about input files."""

    sample: samples.Sample
    columns: tuple[Column, ...]
    roles: Roles
    is_sentiment140: bool
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The values of each class; ``unlabelled`` has the values that mean no label."""
    unnamed: Mapping[str, int] = field(default_factory=dict)
    """Values of the label column that are too rare for a class, with their rows."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Rows of the sample that the reader rejects, by reason."""

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
        label: The same of the label column.
        scores_only: Whether the files will only be scored. Then no column is taken for the label
            unless ``label`` names it.

    Raises:
        UserError: A file cannot be read, or it is not clear which column is the text or the label.
    """
    source = display_uri(uris[0])
    sample = samples.read(uris)
    described = tuple(columns.describe(name, sample.column(name)) for name in sample.names)
    is_any_format = text is None and label is None and not scores_only
    if is_any_format and _is_sentiment140(sample, described):
        inspection = Inspection(
            sample=sample,
            columns=described,
            roles=_SENTIMENT140_ROLES,
            is_sentiment140=True,
            classes=_SENTIMENT140_CLASSES,
        )
    else:
        roles = columns.find_roles(
            described, source=source, text=text, label=label, finds_label=not scores_only
        )
        inspection = Inspection(
            sample=sample, columns=described, roles=roles, is_sentiment140=False
        )
        if roles.label is not None:
            classes, unnamed = _find_classes(inspection.column(roles.label), source)
            inspection = replace(inspection, classes=classes, unnamed=unnamed)
    settings = FormatSettings.model_validate(to_format(inspection))
    if sample.dialect is None:  # check here what `prepare` checks first in Parquet files
        table_plans.plan_preparation(
            input_files.as_found(uris)["files"],
            settings=settings,
            keep_columns=inspection.roles.keep,
        )
    return replace(inspection, rejected=_count_rejected(inspection, settings))


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
    if inspection.classes:
        section["labels"] = {
            name: _one_or_list(values) for name, values in inspection.classes.items()
        }
    return section


def _one_or_list(values: Sequence[str]) -> str | list[str]:
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
    form = table_files.TableFormat(labels=csv_format.written_labels(settings))
    rules = replace(row_checks.RowRules.of_texts(settings), required=required)
    checked = row_checks.check(pa.table(rows), form, rules)
    reasons = checked["reason"].drop_null().to_pylist()
    return dict(Counter(reasons).most_common())


_SMALL_ROWS = 1000
"""Below this number of rows, batches of 32 are better than batches of 64, which are faster."""
_MEDIUM_ROWS = 20_000
"""Above this number of rows, batches of 128 are as good as batches of 64, and faster."""
_LARGE_ROWS = 100_000
"""Above this number of rows, the config has the preset ``best``, which pretrains."""
_MIN_FOLDLESS_ROWS = 3000
"""Below this number of labelled rows, cross-validation is used: the test rows are too few."""
_STEPS = 250
"""Optimizer steps that a network needs with any number of classes: see benchmarks/LOG.md."""
_STEPS_PER_CLASS = 15
"""Additional optimizer steps for each class."""
_MIN_EPOCHS = 4
"""Minimum of ``train.num_epochs``."""
_MAX_EPOCHS = 20
"""Maximum of ``train.num_epochs``."""
_MIN_DAYS = {"month": 90, "week": 21, "day": 2, "hour": 0}
"""Minimum number of days between first and last time for each unit of ``trends.by``."""
_LANGUAGE = {"language", "lang", "sprache", "langue", "idioma", "lingua", "locale", "taal", "язык"}
"""Words in the name of a column that holds the language of a text."""
MAX_REJECTED = 0.2
"""Maximum share of rejected rows that the config allows."""
_WORD_CATEGORIES = ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd")
"""Unicode categories of letters, digits, and marks of letters, which Python's ``\\w`` lacks."""
_SUFFIXES = re.compile(r"(\.(csv|tsv|txt|tab|parquet|gz|zst|zip))+$", re.IGNORECASE)


def name_after(uri: str) -> str:
    """Derive the name of an experiment from the name of a file.

    Example:
        >>> name_after("s3://bucket/inbox/Messages 2024.csv.gz"), name_after("a.zip::b/c.csv")
        ('Messages_2024', 'c')
        >>> name_after("ข้อความ (1).csv")
        'ข้อความ_1'
    """
    archive, member = split_member(uri)
    file_name = (member or archive).rpartition("/")[2]
    kept = ""
    for character in _SUFFIXES.sub("", file_name):
        is_kept = character in ".-" or unicodedata.category(character) in _WORD_CATEGORIES
        kept += character if is_kept else "_"
    return re.sub("_+", "_", kept).strip("_.-") or "messages"


def count_rare(inspection: Inspection) -> dict[str, int]:
    """Return the rows of the sample of each class that has too few rows to be learned."""
    rare = {}
    for name, rows in inspection.label_counts.items():
        if rows * inspection.scale < MIN_CLASS_ROWS:
            rare[name] = rows
    return rare


def render(
    inspection: Inspection,
    *,
    files: Sequence[str],
    name: str,
    origin: str,
    model_uri: str | None,
    test: Sequence[str] = (),
    max_length: int | None = None,
) -> str:
    """Return the text of a config that reads the inspected files.

    Args:
        inspection: The inspected files.
        files: The input files as the user has typed them.
        name: Name of the experiment.
        origin: The first line, a comment.
        model_uri: A model to score with; then nothing is trained.
        test: Files of test rows, as the user has typed them.
        max_length: ``prepare.max_length``, if the default is too low for the texts.
    """
    counts = inspection.label_counts
    trains = bool(counts) and model_uri is None
    time_columns = _name_times(inspection, trains=trains)
    return _load_template().render(
        origin=origin,
        name=name,
        is_table=inspection.sample.dialect is None,
        format=to_format(inspection),
        rows=counts,
        is_exact=inspection.sample.is_whole,
        trains=trains,
        files=_one_or_list(files),
        test=_one_or_list(test) if test else "",
        roles=inspection.roles,
        keep=list(inspection.roles.keep),
        times=time_columns,
        by=_choose_groups(inspection, time_columns),
        max_rejected=_choose_max_rejected(inspection),
        rejected=list_rejected(inspection),
        model_uri=model_uri,
        max_length=max_length,
        **_choose_training(inspection),
    )


def _load_template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentiflow.data.inspection"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701
    )
    environment.filters["flow"] = _flow
    return environment.get_template("new_config.yaml.j2")


def _name_times(inspection: Inspection, *, trains: bool) -> list[str]:
    """List the name that the column of times has in the predictions; empty if there is none."""
    column = inspection.roles.time
    if column is None:
        return []
    is_table = inspection.sample.dialect is None
    if is_table and not trains:
        return [str(column)]  # scored Parquet files keep the names of their columns
    return ["time"]


def _choose_groups(inspection: Inspection, time_columns: Sequence[str]) -> list[str]:
    """Choose ``trends.by``: the column of the language, if there is one, and a unit of time."""
    roles = inspection.roles
    if roles.time is None:
        return []
    written = pa.array(list(inspection.column(roles.time).counts), pa.string())
    span = pc.min_max(times.read(written, roles.time_format)).as_py()
    days = (span["max"] - span["min"]).days if span["max"] else 0
    unit = next(unit for unit, min_days in _MIN_DAYS.items() if days >= min_days)
    languages = [name for name in roles.keep if {*split_name(name)} & _LANGUAGE]
    return [*languages[:1], f"{time_columns[0]}:{unit}"]


def _choose_max_rejected(inspection: Inspection) -> float | None:
    """Choose ``prepare.max_rejected_fraction``, with a margin for rows outside the sample.

    Rows with an unknown label do not count: many of them are a mistake in the config.

    Returns:
        None to keep the default, because few rows are rejected, or more than a config should allow.
    """
    rejected = {**inspection.rejected, row_checks.UNKNOWN_LABEL: 0}
    fraction = replace(inspection, rejected=rejected).rejected_fraction
    if 0.005 < fraction <= MAX_REJECTED:
        return round(1.5 * fraction + 0.005, 2)
    return None


def _choose_training(inspection: Inspection) -> dict[str, Any]:
    """Choose the settings of the training by the number of rows and classes."""
    counts = inspection.label_counts
    rare = count_rare(inspection)
    class_sizes = [rows for name, rows in counts.items() if name not in rare]
    num_rows = inspection.sample.num_rows
    batch_size = 64
    if num_rows < _SMALL_ROWS:
        batch_size = 32
    if num_rows > _MEDIUM_ROWS:
        batch_size = 128
    num_labelled = sum(counts.values()) * inspection.scale
    num_steps = _STEPS + _STEPS_PER_CLASS * len(class_sizes)
    num_epochs = math.ceil(num_steps * batch_size / max(1, num_labelled))
    return {
        "is_large": num_rows > _LARGE_ROWS,
        "has_folds": num_labelled < _MIN_FOLDLESS_ROWS,
        "batch_size": batch_size,
        "num_epochs": min(max(num_epochs, _MIN_EPOCHS), _MAX_EPOCHS),
        "is_unbalanced": bool(class_sizes) and max(class_sizes) >= 1.5 * min(class_sizes),
    }


def list_rejected(inspection: Inspection) -> str:
    """Say how many rows are rejected, and why."""
    num_rejected = sum(inspection.rejected.values())
    num_rows = len(inspection.sample.rows)
    reasons = row_checks.list_reasons(inspection.rejected)
    return f"{num_rejected:,} of {num_rows:,} rows would be rejected: {reasons}"


def _flow(value: Any) -> str:
    """Write a value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf")
    )
    return text.removesuffix("...\n").strip()  # YAML ends a single value with "..."
