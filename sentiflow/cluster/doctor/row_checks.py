"""First rows of input files -> which labels, texts and rows do not fit the settings."""

from collections import Counter

from sentiflow.cluster.doctor.check import CheckResult, find_problem
from sentiflow.cluster.doctor.first_look import FirstLook
from sentiflow.config.classes import MAX_CLASSES, UNLABELLED
from sentiflow.data import tweets
from sentiflow.storage.uris import as_typed

_MAX_SHOWN = 10
_USUAL_DAMAGE = 0.01
"""Share of texts with some invalid bytes that is not worth a warning before a run."""


def judge_encoding(seen: FirstLook) -> list[CheckResult]:
    """Warn of bytes that are invalid in the encoding, and of an encoding that would fit better."""
    bad = [
        look
        for look in seen.files
        if look.fitting_encoding or look.num_damaged > _USUAL_DAMAGE * look.num_rows
    ]
    if not bad:
        return []
    first, encoding = max(bad, key=lambda look: look.num_damaged), seen.format.encoding
    uri, fitting = as_typed(first.uri), first.fitting_encoding
    treated = "are dropped from" if seen.format.errors == "ignore" else "become U+FFFD in"
    what = (
        f"bytes that are not {encoding} {treated} {first.num_damaged:,} of the first "
        f"{first.num_rows:,} texts of {uri}"
    )
    if not first.num_damaged:
        what = f"{uri} is {fitting}, and not {encoding}: its characters would be wrong"
    way_out = f"; {fitting} fits: write {seen.format.section}.encoding: {fitting}"
    line = f"{seen.setting}: {what}{way_out if fitting else ''}"
    return [CheckResult("encoding", "warning", line)]


def judge_rows(seen: FirstLook, max_rejected_fraction: float) -> list[CheckResult]:
    """Judge whether a preparation would reject too many rows, other than for their labels."""
    reasons, num_rows = seen.reasons, seen.num_rows
    if seen.is_whole and not num_rows:
        what = f"{as_typed(seen.files[0].uri)} holds no record: it has at most a header"
        return [CheckResult("rows", "error", f"{seen.setting}: {what}")]
    if reasons.total() <= max_rejected_fraction * num_rows:
        return []
    bad = [look for look in seen.files if look.first_rejected is not None]
    first = max(bad, key=lambda look: Counter(look.reasons).total())
    section = seen.format.section
    way_out = f"correct the file or the section {section}, or raise prepare.max_rejected_fraction"
    if seen.format.kind == "sentiment140":
        way_out += (
            f"; without kind: csv in the section {section} the six columns of Sentiment140 are "
            "expected"
        )
    line = (
        f"{seen.setting}: {reasons.total():,} of the first {num_rows:,} rows would be rejected, in "
        f"{as_typed(first.uri)} ({tweets.list_reasons(reasons)}; the first is row "
        f"{first.first_rejected:,}): {way_out}"
    )
    return [CheckResult("rows", "error", line)]


def judge_labels(seen: FirstLook, max_rejected_fraction: float) -> list[CheckResult]:
    """Judge whether a preparation would reject too many rows for their labels."""
    unknown = seen.unknown
    if seen.format.labels == "auto" and seen.num_rows:
        if not seen.is_whole and len(unknown) <= MAX_CLASSES:
            return []
        return find_problem("labels", lambda: tweets.choose_classes(unknown))
    if not unknown:
        return []
    is_bad = unknown.total() > max_rejected_fraction * seen.num_rows
    return [CheckResult("labels", "error" if is_bad else "warning", explain_labels(seen))]


def judge_scored_labels(seen: FirstLook) -> list[CheckResult]:
    """Warn of labels of a corpus to score that become null."""
    if not seen.unknown or seen.format.labels in (None, "auto"):
        return []
    line = f"{explain_labels(seen)}; they are scored, but not evaluated"
    return [CheckResult("labels", "warning", line)]


def explain_labels(seen: FirstLook) -> str:
    """Say which values no class names, and which setting names them."""
    unknown, settings = seen.unknown, seen.format
    num_unknown, num_rows = unknown.total(), seen.num_rows
    where = as_typed(max(seen.files, key=lambda look: sum(look.unknown.values())).uri)
    has = "has" if num_unknown == 1 else "have"
    listed = tweets.list_unknown(dict(unknown.most_common(_MAX_SHOWN)))
    if len(unknown) > _MAX_SHOWN:
        listed += f", ... ({len(unknown):,} values)"
    what = (
        f"{seen.setting}: {num_unknown:,} of the first {num_rows:,} rows {has} a label that "
        f"format.labels does not name, in {where}: {listed}"
    )
    if settings.kind == "sentiment140":
        return (
            f"{what}: describe the file by the section format, with kind: csv; without it the "
            "labels of Sentiment140 are expected"
        )
    is_header = num_unknown == sum(look.begins_unknown for look in seen.files)
    if is_header and not settings.has_header:
        return f"{what}: if that is the header, write format.header: true"
    if len(unknown) > _MAX_SHOWN or num_unknown == num_rows:
        label = settings.columns.label if settings.columns else None
        return f"{what}: is format.columns.label={label} the right column?"
    return f"{what}: name each value in format.labels, at a class or under {UNLABELLED}"
