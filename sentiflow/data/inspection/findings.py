"""Input files of unknown form -> the section ``format`` for them, and how well it reads them."""

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
    """The values of each class, and under ``unlabelled`` those that mean no label."""
    unnamed: Mapping[str, int] = field(default_factory=dict)
    """Rows by value of the label that so few rows have that it is left out."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Rows of the sample that the reader rejects, by reason."""

    @property
    def scale(self) -> float:
        """Rows of all files for each row of the sample."""
        return self.sample.num_rows / max(1, len(self.sample.rows))

    @property
    def label_counts(self) -> dict[str, int]:
        """Rows of the sample by class, unlabelled ones aside."""
        if self.roles.label is None:
            return {}
        counts = self.column(self.roles.label).counts
        named = {name: values for name, values in self.classes.items() if name != UNLABELLED}
        return {n: sum(counts.get(v, 0) for v in values) for n, values in named.items()}

    def column(self, name: str | int) -> Column:
        """Return what is known of a column."""
        return next(column for column in self.columns if column.name == name)


def inspect(
    uris: Sequence[str],
    *,
    text: str | None = None,
    label: str | None = None,
    scores_only: bool = False,
) -> Inspection:
    """Find out how files are written and what their columns mean, and judge it by our reader.

    Args:
        uris: CSV or Parquet files that are written alike.
        text: Name or position of the column of texts; by default it is found.
        label: The same of the column of labels.
        scores_only: Whether the files are to be scored: then no column is that of labels unless
            ``label`` names it.

    Raises:
        UserError: A file cannot be read, or what a column means cannot be decided.
    """
    source = display_uri(uris[0])
    sample = samples.read(uris)
    described = tuple(columns.describe(name, sample.column(name)) for name in sample.names)
    is_free = text is None and label is None and not scores_only
    if is_free and _is_sentiment140(sample, described):
        inspection = Inspection(sample, described, _SENTIMENT140_ROLES, True, _SENTIMENT140_CLASSES)
    else:
        roles = columns.find_roles(
            described, source=source, text=text, label=label, finds_label=not scores_only
        )
        inspection = Inspection(sample, described, roles, False)
        if roles.label is not None:
            named, unnamed = _find_classes(inspection.column(roles.label), source)
            inspection = replace(inspection, classes=named, unnamed=unnamed)
    settings = FormatSettings.model_validate(to_format(inspection))
    if sample.dialect is None:
        table_plans.plan_preparation(
            input_files.as_found(uris)["files"],
            settings=settings,
            keep_columns=inspection.roles.keep,
        )
    return replace(inspection, rejected=_count_rejected(inspection, settings))


def to_format(inspection: Inspection) -> dict[str, object]:
    """Write the section ``format``; settings that are as by default are left out."""
    if inspection.is_sentiment140:
        return {"kind": "sentiment140"}
    roles, dialect = inspection.roles, inspection.sample.dialect
    columns = {
        name: place
        for name in ("text", "label", "id", "time", "user")
        if (place := getattr(roles, name)) is not None
    }
    has_names = any(isinstance(place, str) for place in columns.values())
    section: dict[str, object] = {
        "kind": "csv",
        "delimiter": dialect and dialect.delimiter,
        "encoding": dialect and dialect.encoding,
        "header": dialect and dialect.has_header and not has_names,
        "columns": columns,
        "time_format": roles.time_format,
        "labels": {
            name: values[0] if len(values) == 1 else list(values)
            for name, values in inspection.classes.items()
        },
    }
    usual = {"delimiter": ",", "encoding": "utf-8"}
    return {key: value for key, value in section.items() if value and value != usual.get(key)}


def _is_sentiment140(sample: samples.Sample, columns: Sequence[Column]) -> bool:
    """Say whether files are written as Sentiment140: six columns, no header, targets 0, 2 and 4."""
    dialect = sample.dialect
    if not dialect or dialect.has_header or len(columns) != 6:
        return False
    is_plain = (dialect.delimiter, dialect.encoding) == (",", "utf-8")
    targets = set(columns[0].counts)
    return is_plain and bool(targets) and targets <= {"0", "2", "4"} and columns[5].mean_words >= 2


def _find_classes(column: Column, source: str) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Find the classes of a column of labels, and values that are left out.

    Raises:
        UserError: There are fewer than two classes, or too many.
    """
    values, classes = columns.main_values(column), columns.classes_of(column)
    try:
        check_names([name for name in classes if name != UNLABELLED])
    except ValueError as error:
        values_shown = ", ".join(
            [*map(columns.brief, list(column.counts)[:5]), *"…"[: column.num_distinct > 5]]
        )
        raise UserError(
            f"{source}: column {columns.brief(column.name)} cannot be the label "
            f"({column.num_distinct:,} values: {values_shown})",
            hint=f"{error}; rename such values in the file, or choose another column with --label",
        ) from error
    return classes, {v: rows for v, rows in column.counts.items() if v not in values}


def _count_rejected(inspection: Inspection, settings: FormatSettings) -> dict[str, int]:
    """Check the sampled rows as ``prepare`` does, and count the rejected ones by reason."""
    sample, roles = inspection.sample, inspection.roles
    rows = {"text": sample.column(roles.text), "reason": sample.faults}
    if roles.label is not None:
        rows["label"] = pc.fill_null(sample.column(roles.label), "")
    form = table_files.TableFormat(
        labels=csv_format.meanings(settings), max_text_length=settings.max_text_length
    )
    rules = row_checks.RowRules(required=("label",) if roles.label is not None else ())
    checked = row_checks.check(pa.table(rows), form, rules)
    return dict(Counter(checked["reason"].drop_null().to_pylist()).most_common())


_SMALL, _MEDIUM, _LARGE = 1000, 20_000, 100_000
"""Rows from which on larger batches serve as well and faster, and pretraining pays off."""
_STEPS, _STEPS_PER_CLASS = 250, 15
"""Optimizer steps that a network needs: benchmarks/LOG.md has the figures."""
_UNITS = {"month": 90, "week": 21, "day": 2, "hour": 0}
"""Days that times span at least to be cut by this unit."""
_LANGUAGE = {"language", "lang", "sprache", "langue", "idioma", "lingua", "locale", "taal", "язык"}
_FEWEST_EPOCHS, _MOST_EPOCHS = 4, 20
_FEW = 3000
"""Labelled rows below which the test rows are too few to measure a model by."""
MAX_REJECTED = 0.2
"""Share of rejected rows up to which the config allows them."""
_WORDS = ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd")
"""Categories of letters, their marks, which are none of ``\\w`` in Python, and digits."""
_SUFFIXES = re.compile(r"(\.(csv|tsv|txt|tab|parquet|gz|zst|zip))+$", re.IGNORECASE)


def name_after(uri: str) -> str:
    """Make a name for an experiment from that of a file.

    Example:
        >>> name_after("s3://bucket/inbox/Messages 2024.csv.gz"), name_after("a.zip::b/c.csv")
        ('Messages_2024', 'c')
        >>> name_after("ข้อความ (1).csv")
        'ข้อความ_1'
    """
    archive, member = split_member(uri)
    plain = _SUFFIXES.sub("", (member or archive).rpartition("/")[2])
    kept = "".join(c if c in ".-" or unicodedata.category(c) in _WORDS else "_" for c in plain)
    return re.sub("_+", "_", kept).strip("_.-") or "messages"


def count_rare(inspection: Inspection) -> dict[str, int]:
    """Count the rows of the classes that have too few to be learned."""
    counts, scale = inspection.label_counts, inspection.scale
    return {n: rows for n, rows in counts.items() if rows > 0 and rows * scale < MIN_CLASS_ROWS}


def count_rejected(inspection: Inspection) -> float:
    """Return the share of rejected rows."""
    return sum(inspection.rejected.values()) / max(1, len(inspection.sample.rows))


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
    """Write the settings file.

    Args:
        inspection: What was found out.
        files: The input files as the user has typed them.
        name: Name of the experiment.
        origin: The first line, a comment.
        model_uri: A model to score with; then nothing is trained.
        test: Files of test rows, likewise.
        max_length: ``prepare.max_length``, if the default is too low for the texts.
    """
    section, roles = to_format(inspection), inspection.roles
    counts = {name: rows for name, rows in inspection.label_counts.items() if rows}
    trains = bool(counts) and model_uri is None
    # files of Parquet that are scored keep their names
    time = "time" if trains or inspection.sample.dialect else str(roles.time)
    kept = [] if roles.time is None else [time]
    learned = [rows for name, rows in counts.items() if name not in count_rare(inspection)]
    # unknown labels are not allowed for: prepare stops if they are many
    share = count_rejected(
        replace(inspection, rejected={**inspection.rejected, row_checks.UNKNOWN_LABEL: 0})
    )
    batch_size = 32 if inspection.sample.num_rows < _SMALL else 64
    if inspection.sample.num_rows > _MEDIUM:
        batch_size = 128
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentiflow.data.inspection"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701
    )
    environment.filters["flow"] = _flow
    return environment.get_template("new_config.yaml.j2").render(
        origin=origin,
        name=name,
        is_table=inspection.sample.dialect is None,
        format=section,
        rows=counts,
        is_exact=inspection.sample.is_whole,
        trains=trains,
        files=list(files) if len(files) > 1 else files[0],
        test=list(test) if len(test) > 1 else "".join(test),
        roles=inspection.roles,
        keep=list(inspection.roles.keep),
        times=kept,
        by=_choose_groups(inspection, kept),
        max_rejected=round(1.5 * share + 0.005, 2) if 0.005 < share <= MAX_REJECTED else None,
        rejected=list_rejected(inspection),
        is_large=inspection.sample.num_rows > _LARGE,
        has_folds=sum(counts.values()) * inspection.scale < _FEW,
        batch_size=batch_size,
        num_epochs=_choose_num_epochs(inspection, len(learned), batch_size),
        is_unbalanced=bool(learned) and max(learned) >= 1.5 * min(learned),
        model_uri=model_uri,
        max_length=max_length,
    )


def _choose_groups(inspection: Inspection, kept: Sequence[str]) -> list[str]:
    """Choose ``trends.by``: the language, if there is one, and times cut by what they span."""
    roles = inspection.roles
    if roles.time is None:
        return []
    written = pa.array(list(inspection.column(roles.time).counts), pa.string())
    span = pc.min_max(times.read(written, roles.time_format)).as_py()
    days = (span["max"] - span["min"]).days if span["max"] else 0
    unit = next(unit for unit, least in _UNITS.items() if days >= least)
    languages = [name for name in roles.keep if {*split_name(name)} & _LANGUAGE]
    return [*languages[:1], f"{kept[0]}:{unit}"]


def _choose_num_epochs(inspection: Inspection, num_classes: int, batch_size: int) -> int:
    """Choose the epochs that make enough optimizer steps, given the rows that are labelled."""
    num_rows = inspection.scale * sum(inspection.label_counts.values())
    steps = _STEPS + _STEPS_PER_CLASS * num_classes
    epochs = math.ceil(steps * batch_size / max(1, num_rows))
    return min(max(epochs, _FEWEST_EPOCHS), _MOST_EPOCHS)


def list_rejected(inspection: Inspection) -> str:
    """Say how many rows are rejected, and why."""
    reasons = row_checks.list_reasons(inspection.rejected)
    num_rejected, num_rows = sum(inspection.rejected.values()), len(inspection.sample.rows)
    return f"{num_rejected:,} of {num_rows:,} rows would be rejected: {reasons}"


def _flow(value: Any) -> str:
    """Write a value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf")
    )
    return text.removesuffix("...\n").strip()
