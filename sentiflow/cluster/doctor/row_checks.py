"""First rows of input files -> which labels, texts and rows do not fit the settings."""

from collections import Counter
from collections.abc import Iterator, Sequence

import yaml

from sentiflow.cluster.doctor.check import Finding
from sentiflow.cluster.doctor.first_look import Look
from sentiflow.config.classes import MAX_CLASSES, UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.sections import Config, PrepareSettings
from sentiflow.data import tweets
from sentiflow.storage.uris import as_typed

_MAX_SHOWN = 10
_USUAL_DAMAGE = 0.01
"""Share of texts with some invalid bytes that is not worth a warning before a run."""


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
    fitting, key = first.fitting_encoding, f"{settings.section}.encoding"
    way_out = f"; {fitting} fits: write {key}: {fitting}" if fitting else ""
    if not first.num_damaged:
        what = f"{as_typed(first.uri)} is {fitting}, and not {settings.encoding}: its characters"
        line = f"{setting}: {what} would be wrong; write {key}: {fitting}"
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
            yield from Finding.of(
                "labels", lambda: tweets.choose_classes(unknown, num_values=len(unknown))
            )
    if num_unknown:
        line = _explain_labels("prepare.csv", looks, unknown, num_rows, form)
        yield Finding("labels", line, "error" if num_unknown > limit else "warning")
    if reasons.total() > limit:
        yield Finding("rows", _explain_rows("prepare.csv", looks, reasons, num_rows, form))


def judge_unlabelled(
    looks: Sequence[Look], settings: PrepareSettings, *, is_all: bool
) -> Iterator[Finding]:
    """Judge whether a preparation would reject too many unlabelled texts.

    Args:
        looks: Files of ``prepare.unlabelled.files``.
        settings: The section ``prepare``.
        is_all: Whether these are all rows of all files.
    """
    name, form = "prepare.unlabelled.files", settings.unlabelled.resolved_format
    num_rows = sum(look.num_rows for look in looks)
    reasons = sum((Counter(look.reasons) for look in looks), Counter[str]())
    if is_all and not num_rows:
        yield Finding("rows", f"{name}: {looks[0].uri} holds no record: it has at most a header")
    elif reasons.total() > settings.max_rejected_fraction * num_rows:
        yield Finding("rows", _explain_rows(name, looks, reasons, num_rows, form))


def _explain_rows(
    setting: str,
    looks: Sequence[Look],
    reasons: Counter[str],
    num_rows: int,
    settings: FormatSettings,
) -> str:
    """Say why rows would be rejected, other than for their labels, and where the first is."""
    num_rejected = reasons.total()
    listed = tweets.list_reasons(reasons)
    bad = [look for look in looks if look.first_rejected is not None]
    first = max(bad, key=lambda look: Counter(look.reasons).total())
    section = settings.section
    way_out = f"correct the file or the section {section}, or raise prepare.max_rejected_fraction"
    if settings.kind == "sentiment140" and num_rejected > num_rows / 2:
        way_out = (
            f"describe the file by the section {section}, with kind: csv; without it the six "
            "columns of Sentiment140 are expected"
        )
    return (
        f"{setting}: {num_rejected:,} of the first {num_rows:,} rows would be rejected, in "
        f"{as_typed(first.uri)} ({listed}; the first is row {first.first_rejected:,}): {way_out}"
    )


def judge_labels(looks: Sequence[Look], settings: FormatSettings) -> Iterator[Finding]:
    """Warn of labels of a corpus to score that become null."""
    unknown = sum((Counter(look.unknown) for look in looks), Counter[str]())
    if unknown and settings.labels not in (None, "auto"):
        num_rows = sum(look.num_rows for look in looks)
        line = _explain_labels("score.corpus", looks, unknown, num_rows, settings)
        yield Finding("labels", f"{line}; they are scored, but not evaluated", "warning")


def _explain_labels(
    setting: str,
    looks: Sequence[Look],
    unknown: Counter[str],
    num_rows: int,
    settings: FormatSettings,
) -> str:
    """Say which values no class names, and which setting names them."""
    num_unknown = unknown.total()
    where = as_typed(max(looks, key=lambda look: sum(look.unknown.values())).uri)
    where += f" and {len(looks) - 1} more files" if len(looks) > 1 else ""
    has = "has" if num_unknown == 1 else "have"
    what = (
        f"{setting}: {num_unknown:,} of the first {num_rows:,} rows {has} a label that "
        f"format.labels does not name, in {where}: {_list_unknown(unknown)}"
    )
    if settings.kind == "sentiment140":
        return (
            f"{what}: describe the file by the section format, with kind: csv; without it the "
            "labels of Sentiment140 are expected"
        )
    is_header = num_unknown == sum(look.begins_unknown for look in looks)
    if is_header and not settings.has_header:
        return f"{what}: if that is the header, write format.header: true"
    if len(unknown) > _MAX_SHOWN or num_unknown == num_rows:
        label = settings.columns.label if settings.columns else None
        return f"{what}: is format.columns.label={label} the right column?"
    labels = suggest_labels(settings, list(unknown))
    return f"{what}: write format.labels: {labels}, or list such values under unlabelled there"


def _list_unknown(unknown: Counter[str]) -> str:
    """List the values; of many, which are no labels, a few."""
    if len(unknown) <= _MAX_SHOWN:
        return tweets.list_unknown(unknown)
    return f"{tweets.list_unknown(dict(unknown.most_common(3)))}, ... ({len(unknown):,} values)"


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
