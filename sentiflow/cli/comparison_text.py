"""Comparison of two models -> text of at most 100 columns, and Markdown for a pull request."""

import textwrap
from collections.abc import Sequence

from sentiflow.cli.terminal import fill, shorten
from sentiflow.evaluation.comparison import METRIC_NAMES, Comparison
from sentiflow.metrics.paired import Difference, write_p
from sentiflow.storage.uris import as_typed

Rows = list[tuple[str, ...]]


def to_text(found: Comparison) -> str:
    """Write a comparison: both runs, settings that differ, metrics, slices, the verdict."""
    return fill("comparison.txt.j2", **_list_cells(found))


def to_markdown(found: Comparison) -> str:
    """Write the verdict, what is worse, the metrics, slices that differ, and settings."""
    return fill("comparison.md.j2", **_list_cells(found)) + "\n"


def _list_cells(found: Comparison) -> dict[str, object]:
    """Give the templates a comparison, the cells of its tables, and how to write them."""
    return {
        "c": found,
        "metrics": _list_metrics(found),
        "slices": _list_slices(found),
        "worse": _list_worse(found),
        "settings": [(s.key, shorten(s.first), shorten(s.second)) for s in found.settings or ()],
        "as_typed": as_typed,
        "cut_names": _cut_names,
        "escape": _escape_markdown,
        "table": _markdown_table,
        "write_p": write_p,
    }


def _list_metrics(found: Comparison) -> Rows:
    """List each metric: its name, both values, the difference, its interval and p."""
    rows = []
    for name, title in METRIC_NAMES.items():
        first, second = (getattr(model.figures, name) for model in (found.first, found.second))
        difference = found.differences[name]
        p_value = difference.p_value if difference else None
        rows.append((title, *_compare(first, second, difference, p_value)))
    return rows


def _list_slices(found: Comparison) -> Rows:
    """List the slices whose accuracy differs: name, rows, then as the metrics."""
    return [
        (
            item.name,
            f"{item.num_rows:,}",
            *_compare(item.accuracy_first, item.accuracy_second, item.difference, item.p_adjusted),
        )
        for item in found.slices
        if item.moved
    ]


def _list_worse(found: Comparison) -> Rows:
    """List the checks that show a regression, as the slices."""
    return [
        (
            check.name,
            f"{check.num_rows:,}",
            *_compare(check.first, check.second, check.difference, check.p_adjusted),
        )
        for check in (found.regression.worse if found.regression else ())
    ]


def _compare(
    first: float | None, second: float | None, found: Difference | None, p_value: float | None
) -> tuple[str, ...]:
    """Write both values, their difference, its interval and p; empty where there is none."""
    values = ["" if value is None else f"{value:.4f}" for value in (first, second)]
    if found is None:
        return (*values, "", "", "")
    interval = f"{found.low:+.4f} to {found.high:+.4f}"
    return (*values, f"{found.value:+.4f}", interval, "" if p_value is None else write_p(p_value))


def _cut_names(rows: Rows) -> Rows:
    """Cut long names of parts of the data, in the first column."""
    return [(textwrap.shorten(row[0], 30, placeholder="..."), *row[1:]) for row in rows]


def _markdown_table(titles: Sequence[str], rows: Rows) -> str:
    """Write a table; the titles are Markdown already."""
    cells = [[_escape_markdown(cell) for cell in row] for row in rows]
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape_markdown(text: str) -> str:
    """Keep Markdown from reading a name as a table, a tag or a style."""
    for mark in "\\`*_<>|[]#@":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
