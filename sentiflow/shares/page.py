"""Shares -> one self-contained HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import jinja2
import numpy as np

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
class Line:
    """A line of a table: the share of a class in a group."""

    name: str
    rows: int
    predicted: float
    share: float
    """The corrected one; the predicted one where there is none."""
    low: float
    high: float
    labelled: int
    method: str
    is_higher: bool
    """Whether it is higher than that of all other groups together, beyond chance."""

    @property
    def is_corrected(self) -> bool:
        """Say whether there is an interval."""
        return self.method != UNCORRECTED


@dataclass(frozen=True)
class Section:
    """A table of the page: the shares of one class, by group or period."""

    title: str
    lines: list[Line]
    num_left_out: int
    axis: Axis
    reference: float
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
    lines = [_line(trends.whole, 0, number, name) for number, name in enumerate(trends.classes)]
    return Section("Shares", lines, 0, _axis(lines), 0)


def _list_groups(trends: Trends, item: Breakdown, number: int) -> Section:
    shown = range(len(item.groups))
    if item.periods[0] is None:
        shown = np.argsort(-best(item)[:, number], kind="stable").tolist()
    reference = float(best(trends.whole)[0, number])
    lines = [_line(item, at, number, _name(item, at), reference) for at in shown]
    title = f"By {item.by.replace(', ', ' and ')}"
    left_out = max(len(lines) - MAX_ROWS, 0)
    lines = lines[-MAX_ROWS:] if item.periods[0] is not None else lines[:MAX_ROWS]
    is_open = len(lines) <= MAX_OPEN or "," not in item.by
    return Section(title, lines, left_out, _axis(lines), reference, is_open)


def _name(item: Breakdown, at: int) -> str:
    group, period = item.groups[at], item.periods[at]
    when = write_period(period, item.unit) if period else None
    return ", ".join(part for part in (group, when) if part is not None)


def _line(item: Breakdown, at: int, number: int, name: str, reference: float = 0) -> Line:
    found = item.shares
    p_value = item.p_adjusted[at, number]
    return Line(
        name,
        int(found.rows[at]),
        float(found.predicted[at, number]),
        float(best(item)[at, number]),
        float(np.nan_to_num(found.low[at, number])),
        float(np.nan_to_num(found.high[at, number])),
        int(found.labelled[at]),
        str(found.method[at]),
        bool(p_value < SURE and best(item)[at, number] > reference),
    )


def _axis(lines: Sequence[Line]) -> Axis:
    """Choose an axis that holds every share and interval."""
    ends = [v for x in lines for v in (x.share, x.predicted, *((x.low, x.high) * x.is_corrected))]
    return Axis(np.floor(10 * min(ends)) / 10, np.ceil(10 * max(ends)) / 10)
