"""First rows of input files + format -> labels, texts and columns that do not fit."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from sentiflow.cluster.doctor.check import Finding, count
from sentiflow.config.classes import MAX_CLASSES, UNLABELLED
from sentiflow.config.sections import Config, FormatSettings
from sentiflow.data import corpus, csv_format, first_rows, table_plans, tweets
from sentiflow.data.first_rows import FirstRows
from sentiflow.data.table_files import Labels, TableFormat, TablePlan
from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed

MAX_FILES = 5
"""Files of an input that are looked at: the first, the last, and some between them."""
_MAX_SHOWN = 10
_USUAL_DAMAGE = 0.01
"""Share of texts with some invalid bytes that is not worth a warning before a run."""


@dataclass(frozen=True)
class Look:
    """The first rows of one file, as a stage would check them."""

    uri: str
    num_rows: int
    is_whole: bool
    """Whether the file has no more rows."""
    plan: corpus.CsvPlan | TablePlan | None
    """Its columns; None if it is blank."""
    labels: Mapping[int, int] = field(default_factory=dict)
    """Rows with each label."""
    begins_unknown: bool = False
    """Whether the label of the first row is unknown."""
    label_column: str = ""
    """The column that has the labels, if that of the settings has none of them."""
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
    uris: Sequence[str], settings: FormatSettings, **how: Any
) -> tuple[list[Look], list[Finding]]:
    """Look at some of the files, all at the same time; see :func:`look_at`.

    Returns:
        What was seen, and what is wrong with the other files.
    """
    looks: list[Look] = []

    def look(uri: str) -> Finding | None:
        return Finding.of("columns", lambda: looks.append(look_at(uri, settings, **how)))

    found = filesystem.map_files(look, choose(uris))
    looks.sort(key=lambda look: uris.index(look.uri))
    return looks, list(dict.fromkeys(filter(None, found)))


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
    if is_table:
        columns, form, plan = _find_in_table(uri, rows, settings, keep_columns, text_column)
    else:
        columns, form, plan = _find_in_csv(uri, rows, settings, needs_all=text_column is None)
    if not rows.num_rows:
        return Look(uri, 0, rows.is_whole, plan)
    wanted = ("text", "label", *(name for name in ("user", "time") if name in required))
    table = {name: columns[name] for name in wanted if name in columns}
    checked = tweets.check(
        pa.table(table | {"reason": rows.faults}),
        max_text_length=settings.max_text_length,
        required=[name for name in required if name in columns],
        **form,
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
        Counter(checked["label"].drop_null().to_pylist()),
        checked["unknown_label"][0].is_valid,
        "" if checked["label"].null_count < rows.num_rows else _find_labels(rows, form["labels"]),
        Counter(checked["reason"].drop_null().to_pylist()),
        _find_first(checked["reason"]),
        first_rows.count_values(checked["unknown_label"].drop_null().combine_chunks()),
        pc.sum(holds).as_py() or 0,
        rows.fitting_encoding,
    )


def _find_first(reason: pa.ChunkedArray) -> int | None:
    """Find the first row that is rejected for another reason than its label."""
    is_other = pc.and_kleene(reason.is_valid(), pc.not_equal(reason, tweets.UNKNOWN_LABEL))
    place = pc.index(is_other, True).as_py()
    return place if place >= 0 else None


def _find_labels(rows: FirstRows, labels: Labels) -> str:
    """Find the column most of whose values are labels."""
    known = pa.array([value for value, _ in labels if value], pa.string())
    for number, name in enumerate(rows.rows.column_names):
        written = pc.utf8_trim_whitespace(rows.column(number))
        num_known = pc.sum(pc.is_in(written, value_set=known)).as_py() or 0
        if num_known > rows.num_rows / 2:
            return repr(name) if rows.names else f"column {number}"
    return ""


_Found = tuple[dict[str, pa.Array], dict[str, Any], corpus.CsvPlan | TablePlan]
"""Columns by their meaning; the arguments of ``tweets.check`` for them; and the plan."""


def _find_in_csv(uri: str, rows: FirstRows, settings: FormatSettings, *, needs_all: bool) -> _Found:
    found, _ = csv_format.resolve(settings, rows.head, source=uri, needs_all=needs_all)
    places = dict(found.columns).items()
    columns = {name: rows.column(place) for name, place in places if place is not None}
    plan = corpus.CsvPlan((corpus.PlannedFile(_describe(uri), found),))
    return columns, {"labels": found.labels, "time_format": found.time_format}, plan


def _find_in_table(
    uri: str,
    rows: FirstRows,
    settings: FormatSettings,
    keep_columns: Sequence[str],
    text_column: str | None,
) -> _Found:
    if text_column is None:
        plan = table_plans.plan_preparation(
            [_describe(uri)], settings=settings, keep_columns=keep_columns
        )
    else:
        table_plans.check_text(uri, rows.schema, text_column, setting="score.text_column")
        meant = TableFormat(columns=(("text", text_column),))
        names = tuple(sorted({*rows.names, "row_id", "text"}))
        plan = TablePlan((), (), meant, names, ())
    form = plan.table_format
    known = dict(form.columns).items()
    columns = {name: rows.column(column) for name, column in known if column in rows.names}
    return columns, {"labels": form.labels, "time_format": form.time_format}, plan


def _describe(uri: str) -> Any:
    return {"uri": uri, "bytes": 0, "modified_ns": 0, "tree_sha256": ""}


def judge_encoding(looks: Sequence[Look], settings: FormatSettings, setting: str) -> list[Finding]:
    """Warn of bytes that are invalid in the encoding, and of an encoding that would fit better."""
    bad = [
        look
        for look in looks
        if look.fitting_encoding or look.num_damaged > _USUAL_DAMAGE * look.num_rows
    ]
    if not bad:
        return []
    first = max(bad, key=lambda look: look.num_damaged)
    fitting = first.fitting_encoding
    way_out = f"; {fitting} fits: write format.encoding: {fitting}" if fitting else ""
    if not first.num_damaged:
        what = f"{as_typed(first.uri)} is {fitting}, and not {settings.encoding}: its characters"
        line = f"{setting}: {what} would be wrong; write format.encoding: {fitting}"
        return [Finding("encoding", line, "warning")] if fitting else []
    treated = "are dropped from" if settings.errors == "ignore" else "become U+FFFD in"
    what = (
        f"bytes that are not {settings.encoding} {treated} {first.num_damaged:,} of the first "
        f"{first.num_rows:,} texts of {as_typed(first.uri)}"
    )
    return [Finding("encoding", f"{setting}: {what}{way_out}", "warning")]


def judge_rows(looks: Sequence[Look], config: Config, *, is_all: bool) -> Iterator[Finding]:
    """Judge whether a preparation would reject too many rows, and for what.

    Args:
        looks: Files of ``prepare.csv``.
        config: The experiment.
        is_all: Whether these are all rows of all files.
    """
    form = config.format
    num_rows = sum(look.num_rows for look in looks)
    reasons = sum((Counter(look.reasons) for look in looks), Counter[str]())
    unknown = sum((Counter(look.unknown) for look in looks), Counter[str]())
    if is_all and not num_rows:
        yield Finding("rows", f"{looks[0].uri} holds no record: it has at most a header")
        return
    limit = config.prepare.max_rejected_fraction * num_rows
    num_unknown = reasons.pop(tweets.UNKNOWN_LABEL, 0)
    if form.labels == "auto":
        num_unknown = 0
        if is_all or len(unknown) > MAX_CLASSES:
            found = Finding.of(
                "labels", lambda: tweets.choose_classes(unknown, num_values=len(unknown))
            )
            yield from [found] if found else []
    num_others = reasons.total()
    is_too_many = num_unknown + num_others > limit
    if form.labels != "auto" and is_all and not is_too_many:
        yield from _judge_classes(looks, config)
    if num_unknown:
        is_error = num_unknown > limit or (is_too_many and num_others <= limit)
        line = _explain_labels(looks, unknown, num_unknown, num_rows, form)
        yield Finding("labels", line, "error" if is_error else "warning")
    if num_others and (num_others > limit or (is_too_many and num_unknown <= limit)):
        listed = ", ".join(f"{number:,} {reason}" for reason, number in reasons.most_common())
        bad = [look for look in looks if look.first_rejected is not None]
        first = max(bad, key=lambda look: Counter(look.reasons).total())
        way_out = "correct the file or the section format, or raise prepare.max_rejected_fraction"
        if form.kind == "sentiment140" and num_others > num_rows / 2:
            way_out = (
                "describe the file by the section format, with kind: csv; without it the six "
                "columns of Sentiment140 are expected"
            )
        yield Finding(
            "rows",
            f"prepare.csv: {num_others:,} of the first {num_rows:,} rows would be rejected, in "
            f"{as_typed(first.uri)} ({listed}; the first is row {first.first_rejected:,}): "
            f"{way_out}",
        )


def _judge_classes(looks: Sequence[Look], config: Config) -> Iterator[Finding]:
    """Find out whether two classes have rows, if all rows were seen."""
    labels = sum((Counter(look.labels) for look in looks), Counter[int]())
    names = config.format.classes or ()
    learned = config.train.classes or config.format.learnable
    missing = [name for name in learned if name in names and not labels[names.index(name)]]
    if len(learned) - len(missing) < 2:
        yield Finding(
            "labels",
            f"prepare.csv: none of the {sum(look.num_rows for look in looks):,} rows is "
            f"{' or '.join(missing)}: a classifier needs two classes or more; are "
            "format.columns.label and format.labels right, or is the file cut short?",
        )


def _explain_labels(
    looks: Sequence[Look],
    unknown: Counter[str],
    num_unknown: int,
    num_rows: int,
    settings: FormatSettings,
) -> str:
    """Say which values no class names, and which setting names them."""
    where = as_typed(max(looks, key=lambda look: sum(look.unknown.values())).uri)
    where += f" and {len(looks) - 1} more files" if len(looks) > 1 else ""
    has = "has" if num_unknown == 1 else "have"
    what = (
        f"prepare.csv: {num_unknown:,} of the first {num_rows:,} rows {has} a label that "
        f"format.labels does not name, in {where}: {_list_unknown(unknown)}"
    )
    if settings.kind == "sentiment140":
        return (
            f"{what}: describe the file by the section format, with kind: csv (the labels of "
            "kind: sentiment140 are 0, 2 and 4)"
        )
    is_header = num_unknown == sum(look.begins_unknown for look in looks)
    if is_header and not settings.has_header:
        return f"{what}: if that is the header, write format.header: true"
    if len(unknown) > _MAX_SHOWN or num_unknown == num_rows:
        right = next((look.label_column for look in looks if look.label_column), "")
        known = f" {right} has the labels of format.labels" if right else ""
        return f"{what}: is format.columns.label={_label_of(settings)} the right column?{known}"
    labels = suggest_labels(settings, list(unknown))
    return f"{what}: write format.labels: {labels}, or list such values under unlabelled there"


def _list_unknown(unknown: Counter[str]) -> str:
    """List the values; of many, which are no labels, a few."""
    if len(unknown) <= _MAX_SHOWN:
        return tweets.list_unknown(unknown)
    return f"{tweets.list_unknown(dict(unknown.most_common(3)))}, ... ({len(unknown):,} values)"


def _label_of(settings: FormatSettings) -> int | str | None:
    return settings.columns.label if settings.columns else None


def suggest_labels(settings: FormatSettings, unknown: Sequence[str]) -> str:
    """Write labels that also name unknown values.

    A value that is a known one but for its case belongs to that class; the others are classes of
    their own.

    Example:
        >>> columns = {"text": 0, "label": 1}
        >>> labels = {"negative": "neg", "positive": "pos"}
        >>> form = FormatSettings(kind="csv", columns=columns, labels=labels)
        >>> suggest_labels(form, ["Pos", "neutral"])
        '{negative: neg, positive: [pos, Pos], neutral: neutral}'
    """
    assert isinstance(settings.labels, dict), "other labels know every value"
    labels = {name: list(values) for name, values in settings.labels.items()}
    if labels[UNLABELLED] == [""]:
        del labels[UNLABELLED]
    for value in unknown:
        alike = (
            name
            for name, values in labels.items()
            if value.casefold() in (name.casefold(), *map(str.casefold, values))
        )
        labels.setdefault(next(alike, value or UNLABELLED), []).append(value)
    brief = {name: values[0] if len(values) == 1 else values for name, values in labels.items()}
    return yaml.safe_dump(brief, default_flow_style=True, sort_keys=False, width=10_000).strip()


def name_looked_at(uris: Sequence[str]) -> str:
    """Say which files of an input are looked at."""
    names = [as_typed(uri).rpartition("/")[2] for uri in choose(uris)]
    if len(names) == len(uris):
        return count(len(uris), "file")
    return f"{len(names)} of {len(uris):,} files ({', '.join(names)})"
