"""Shares -> one self-contained HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from sentiflow.evaluation.report import Axis
from sentiflow.metrics.paired import SURE
from sentiflow.metrics.shares import METHODS, UNCORRECTED
from sentiflow.shares.conclusions import Conclusion, best, choose_class, write_period
from sentiflow.shares.table import Breakdown, Trends

MAX_OPEN = 20
"""Lines that the table of two columns has without being folded."""
MAX_ROWS = 500
"""Groups or periods in a table of the page."""


@dataclass(frozen=True)
class PageData:
    """Everything that one page shows; names of groups in it are not trusted."""

    name: str
    created: datetime
    """In UTC."""
    trends: Trends
    conclusions: Sequence[Conclusion]
    min_labelled: int
    is_by_hand: bool
    """Whether the labels are those of ``trends.labels``."""
    model: str
    corpus: str


@dataclass(frozen=True)
class Section:
    """A table of the page: the shares of one class, by group or period."""

    title: str
    lines: list[Any]
    """Rows of :func:`_list_lines`."""
    axis: Axis
    num_left_out: int = 0
    reference: float = 0
    """The share in all rows; 0 for none."""
    is_open: bool = True
    """Whether the table is shown at once."""


def render(data: PageData, plots: dict[str, bytes]) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("sentiflow.shares"), jinja2.PackageLoader("sentiflow.evaluation")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    trends = data.trends
    focus = choose_class(trends)
    methods = {method for item in trends.breakdowns for method in item.shares.method}
    return environment.get_template("trends.html.j2").render(
        data=data,
        trends=trends,
        focus=trends.classes[focus],
        shares=_list_classes(trends),
        is_corrected=trends.whole.shares.method[0] != UNCORRECTED,
        sections=[_list_groups(trends, item, focus) for item in trends.breakdowns[1:]],
        methods={name: text for name, text in METHODS.items() if name in methods},
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
    )


def _list_classes(trends: Trends) -> Section:
    lines = [_list_lines(trends.whole, n, [name]) for n, name in enumerate(trends.classes)]
    return _make_section("Shares", pd.concat(lines))


def _list_groups(trends: Trends, item: Breakdown, number: int) -> Section:
    times = [write_period(period, item.unit) if period else None for period in item.periods]
    names = [
        ", ".join(part for part in parts if part is not None)
        for parts in zip(item.groups, times, strict=True)
    ]
    reference = float(best(trends.whole)[0, number])
    lines = _list_lines(item, number, names, reference)
    shown = lines.tail(MAX_ROWS)
    if item.periods[0] is None:
        shown = lines.sort_values("share", ascending=False, kind="stable").head(MAX_ROWS)
    return _make_section(
        f"By {item.by.replace(', ', ' and ')}",
        shown,
        num_left_out=len(lines) - len(shown),
        reference=reference,
        is_open=len(shown) <= MAX_OPEN or "," not in item.by,
    )


def _list_lines(
    item: Breakdown, number: int, names: Sequence[str], reference: float = 0
) -> pd.DataFrame:
    """List the share of a class in each group: predicted, and corrected where it is.

    Columns:
        added: ``name``, ``rows``, ``predicted``, ``share`` (the corrected one, if there is one),
            ``low``, ``high``, ``labelled``, ``method``, ``is_corrected`` (whether there is an
            interval), ``is_higher`` (than in all other groups together, beyond chance).
    """
    found, share = item.shares, best(item)[:, number]
    return pd.DataFrame(
        {
            "name": names,
            "rows": found.rows.astype(np.int64),
            "predicted": found.predicted[:, number],
            "share": share,
            "low": np.nan_to_num(found.low[:, number]),
            "high": np.nan_to_num(found.high[:, number]),
            "labelled": found.labelled.astype(np.int64),
            "method": found.method,
            "is_corrected": found.method != UNCORRECTED,
            "is_higher": (item.p_adjusted[:, number] < SURE) & (share > reference),
        }
    )


def _make_section(title: str, lines: pd.DataFrame, **details: Any) -> Section:
    """Make a table whose axis holds every share and interval."""
    bounds = lines.loc[lines["is_corrected"], ["low", "high"]].to_numpy()
    ends = np.append(lines[["share", "predicted"]].to_numpy(), bounds)
    axis = Axis(np.floor(10 * ends.min()) / 10, np.ceil(10 * ends.max()) / 10)
    return Section(title, list(lines.itertuples(index=False)), axis, **details)
