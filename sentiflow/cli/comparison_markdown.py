"""Comparison of two models -> Markdown for a pull request."""

from collections.abc import Sequence

from sentiflow.cli.terminal import shorten
from sentiflow.evaluation.comparison import METRIC_NAMES, Comparison
from sentiflow.evaluation.regression import Check, Regression
from sentiflow.metrics.paired import Difference, write_p


def to_markdown(found: Comparison) -> str:
    """Write the verdict, what is worse, the metrics, slices that differ, and settings."""
    first, second = (_escape(model.name) for model in (found.first, found.second))
    rows = f"{found.num_rows:,} labelled {'' if found.split == 'all' else found.split + ' '}rows"
    blocks = [
        f"### {second} compared with {first}",
        _escape(found.verdict),
        *(_describe(found.regression) if found.regression else []),
        _table(
            (rows, first, second, "difference", "95 % interval", "p"),
            [_row(found, name, title) for name, title in METRIC_NAMES.items()],
        ),
        r"\* lower is better",
        *_list_slices(found, first, second),
        *_list_settings(found, first, second),
        *(f"> {_escape(note)}." for note in found.notes),
    ]
    return "\n\n".join(blocks) + "\n"


def _describe(regression: Regression) -> list[str]:
    worse, num_checks = regression.worse, len(regression.checks)
    margin = f" by more than {regression.margin:g}" if regression.margin else ""
    if not worse:
        return [f"**Not worse**{margin}: none of {num_checks} checks shows it (Holm)."]
    titles = (f"**Worse**{margin}", "rows", "first", "second", "difference", "95 % interval", "p")
    return [
        _table(titles, [_check(check) for check in worse]),
        f"p is adjusted for {num_checks} checks (Holm).",
    ]


def _check(check: Check) -> tuple[str, ...]:
    values = (f"{check.first:.4f}", f"{check.second:.4f}")
    value, interval = _write(check.difference)
    return (check.name, f"{check.num_rows:,}", *values, value, interval, write_p(check.p_adjusted))


def _row(found: Comparison, name: str, title: str) -> tuple[str, ...]:
    values = [getattr(model.figures, name) for model in (found.first, found.second)]
    written = ("" if value is None else f"{value:.4f}" for value in values)
    difference = found.differences[name]
    p = difference.p_value if difference else None
    return (title, *written, *_write(difference), "" if p is None else write_p(p))


def _write(difference: Difference | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    return f"{difference.value:+.4f}", f"{difference.low:+.4f} to {difference.high:+.4f}"


def _list_slices(found: Comparison, first: str, second: str) -> list[str]:
    moved = [item for item in found.slices if item.moved]
    if not moved:
        return []
    rows = [
        (item.name, f"{item.num_rows:,}", f"{item.accuracy_first:.4f}",
         f"{item.accuracy_second:.4f}", *_write(item.difference), write_p(item.p_adjusted))
        for item in moved
    ]  # fmt: skip
    titles = ("accuracy differs in", "rows", first, second, "difference", "95 % interval", "p")
    return [_table(titles, rows), f"p is adjusted for {len(found.slices)} slices (Holm)."]


def _list_settings(found: Comparison, first: str, second: str) -> list[str]:
    if not found.settings:
        return []
    rows = [(s.key, shorten(s.first), shorten(s.second)) for s in found.settings]
    return [_table(("settings that differ", first, second), rows)]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *map(_escape_all, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape_all(cells: Sequence[str]) -> list[str]:
    return [_escape(cell) for cell in cells]


def _escape(text: str) -> str:
    """Keep Markdown from reading a name as a table, a tag or a style."""
    for mark in "\\`*_<>|[]#@":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
