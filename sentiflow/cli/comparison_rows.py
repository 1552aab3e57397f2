"""Comparison of two models -> the cells of its tables, for a terminal and for Markdown."""

from sentiflow.cli.terminal import shorten
from sentiflow.evaluation.comparison import METRIC_NAMES, Comparison
from sentiflow.evaluation.regression import Regression
from sentiflow.metrics.paired import Difference, write_p

Rows = list[tuple[str, ...]]


def list_metrics(found: Comparison) -> Rows:
    """List each metric: its name, both values, the difference, its interval and p."""
    rows = []
    for name, title in METRIC_NAMES.items():
        first, second = (getattr(model.figures, name) for model in (found.first, found.second))
        difference = found.differences[name]
        p_value = difference.p_value if difference else None
        rows.append((title, *_compare(first, second, difference, p_value)))
    return rows


def list_slices(found: Comparison) -> Rows:
    """List the slices whose accuracy differs: name, rows, then as :func:`list_metrics`."""
    return [
        (
            item.name,
            f"{item.num_rows:,}",
            *_compare(item.accuracy_first, item.accuracy_second, item.difference, item.p_adjusted),
        )
        for item in found.slices
        if item.moved
    ]


def list_worse(found: Regression) -> Rows:
    """List the checks that show a regression, as :func:`list_slices`."""
    return [
        (
            check.name,
            f"{check.num_rows:,}",
            *_compare(check.first, check.second, check.difference, check.p_adjusted),
        )
        for check in found.worse
    ]


def list_settings(found: Comparison) -> Rows:
    """List the settings that differ, with both values."""
    return [(s.key, shorten(s.first), shorten(s.second)) for s in found.settings or ()]


def _compare(
    first: float | None, second: float | None, found: Difference | None, p_value: float | None
) -> tuple[str, ...]:
    """Write both values, their difference, its interval and p; empty where there is none."""
    values = ["" if value is None else f"{value:.4f}" for value in (first, second)]
    if found is None:
        return (*values, "", "", "")
    interval = f"{found.low:+.4f} to {found.high:+.4f}"
    return (*values, f"{found.value:+.4f}", interval, "" if p_value is None else write_p(p_value))
