"""Comparison of two models -> text for a terminal or a file, at most 100 columns wide."""

import textwrap
from collections.abc import Sequence

from sentiflow.cli.terminal import align, shorten, wrap
from sentiflow.evaluation.comparison import (
    METRIC_NAMES,
    Comparison,
    Model,
    SliceDifference,
)
from sentiflow.evaluation.regression import Regression
from sentiflow.evaluation.setting_differences import Setting
from sentiflow.metrics.paired import Difference, write_p
from sentiflow.storage.uris import as_typed


def to_text(found: Comparison) -> str:
    """Write a comparison: both runs, settings that differ, metrics, slices, the verdict."""
    blocks = [
        _describe("first", found.first) + _describe("second", found.second),
        [_count_rows(found)],
        _list_settings(found.settings),
        _list_metrics(found),
        _list_slices(found.slices),
        [wrap(f"Note: {note}.") for note in found.notes],
        [wrap(found.verdict)],
        _list_worse(found.regression) if found.regression else [],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _describe(side: str, model: Model) -> list[str]:
    where = "" if model.run_id is None else f"  (predictions in {as_typed(model.scored_uri)})"
    about = f": {model.about}" if model.about else ""
    return [f"{side:<7} {model.name}{where}", f"        model {model.fingerprint}{about}"]


def _count_rows(found: Comparison) -> str:
    kind = "labelled" if found.split == "all" else f"labelled {found.split}"
    lines = [f"{found.num_rows:,} {kind} rows are compared."]
    for side, other, model in (
        ("first", "second", found.first),
        ("second", "first", found.second),
    ):
        if model.num_rows_only_here:
            lines.append(f"{_rows(model.num_rows_only_here, 'more ')} in the {side} run only.")
        if model.num_rows_seen:
            lines.append(
                f"{_rows(model.num_rows_seen)} left out: test rows of the {other} run that the "
                f"{side} model was trained or chosen by."
            )
    return wrap(" ".join(lines))


def _rows(number: int, which: str = "") -> str:
    return f"{number:,} {which}{'row is' if number == 1 else 'rows are'}"


def _list_settings(settings: Sequence[Setting] | None) -> list[str]:
    if settings is None:
        return []
    if not settings:
        return ["All settings of training and preparation are equal."]
    rows = [(s.key, shorten(s.first), shorten(s.second)) for s in settings]
    return [align([("settings that differ", "first", "second"), *rows], "<<<")]


def _list_metrics(found: Comparison) -> list[str]:
    rows: list[tuple[str, ...]] = [("", "first", "second", "difference", "95 % interval", "")]
    for name, title in METRIC_NAMES.items():
        values = [_write(getattr(m.figures, name)) for m in (found.first, found.second)]
        rows.append((title, *values, *_write_difference(found.differences[name])))
    counts = found.mcnemar
    test = (
        f"Only the first is right on {counts.only_first_right:,} rows, only the second on "
        f"{counts.only_second_right:,}. McNemar's exact test: {write_p(counts.p_value)}."
    )
    return [align(rows, "<>>>>>"), "* lower is better", wrap(test)]


def _list_slices(slices: Sequence[SliceDifference]) -> list[str]:
    moved = [item for item in slices if item.moved]
    if not slices:
        return []
    if not moved:
        return [f"The accuracy differs in none of {len(slices)} slices (Holm)."]
    titles = ("accuracy differs in", "rows", "first", "second", "difference", "95 % interval", "")
    rows: list[tuple[str, ...]] = [titles]
    for item in moved:
        values = [_write(item.accuracy_first), _write(item.accuracy_second)]
        value, interval, _ = _write_difference(item.difference)
        name = textwrap.shorten(item.name, 30, placeholder="...")
        test = write_p(item.p_adjusted)
        rows.append((name, f"{item.num_rows:,}", *values, value, interval, test))
    rest = len(slices) - len(moved)
    last = f"No difference is shown in the other {rest} slices. " if rest else ""
    return [align(rows, "<>>>>>>"), f"{last}p is adjusted for {len(slices)} slices (Holm)."]


def _list_worse(found: Regression) -> list[str]:
    num_checks = len(found.checks)
    margin = f" by more than {found.margin:g}" if found.margin else ""
    lines = [f"Not worse{margin}: none of {num_checks} checks shows it (Holm)."]
    if found.worse:
        titles = (f"worse{margin}", "rows", "first", "second", "difference", "95 % interval", "")
        rows: list[tuple[str, ...]] = [titles]
        for check in found.worse:
            values = (_write(check.first), _write(check.second))
            value, interval, _ = _write_difference(check.difference)
            name = textwrap.shorten(check.name, 30, placeholder="...")
            test = write_p(check.p_adjusted)
            rows.append((name, f"{check.num_rows:,}", *values, value, interval, test))
        lines = [align(rows, "<>>>>>>"), f"p is adjusted for {num_checks} checks (Holm)."]
    if found.not_asked:
        lines.append(wrap(f"Behavior tests are not among them: {found.not_asked}."))
    return lines


def _write(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _write_difference(found: Difference | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    test = "" if found.p_value is None else write_p(found.p_value)
    return f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", test
