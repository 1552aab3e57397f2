"""Shares -> one self-contained HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import jinja2
import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.evaluation.report import Axis
from sentiflow.metrics.paired import SURE
from sentiflow.metrics.shares import METHODS, UNCORRECTED
from sentiflow.shares.conclusions import Conclusion, choose_class, write_period
from sentiflow.shares.table import Breakdown, Trends

MAX_OPEN = 20
"""Lines that the table of two columns has without being folded."""
MAX_ROWS = 500
"""Groups or periods in a table of the page."""


@dataclass(frozen=True)
class Section:
    """A table of the page: the shares of one class, by group or period."""

    title: str
    lines: pd.DataFrame
    """As ``Breakdown.of`` returns them, with ``name``, the group or period; ``is_corrected``,
    whether there is an interval; and ``is_higher``, than in all other groups together, beyond
    chance."""
    num_left_out: int = 0
    reference: float = 0
    """The share in all rows; 0 for none."""
    is_open: bool = True
    """Whether the table is shown at once."""

    @property
    def axis(self) -> Axis:
        """Choose an axis that holds every share and interval."""
        ends = self.lines[["share", "predicted_share", "low", "high"]]
        return Axis(np.floor(10 * ends.min().min()) / 10, np.ceil(10 * ends.max().max()) / 10)


def render(
    trends: Trends,
    plots: dict[str, bytes],
    *,
    name: str,
    created: datetime,
    conclusions: Sequence[Conclusion],
    settings: TrendsSettings,
    model: str,
    corpus: str,
) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network. Names of groups are
    not trusted.

    Args:
        trends: The shares.
        plots: Those of ``charts.render``.
        name: That of the experiment.
        created: In UTC.
        conclusions: The results in words.
        settings: The section ``trends``.
        model: The model in a line.
        corpus: The texts in a line.
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
    focus = choose_class(trends)
    methods = set(pd.concat(item.table["method"] for item in trends.breakdowns))
    return environment.get_template("trends.html.j2").render(
        name=name,
        created=created,
        conclusions=conclusions,
        min_labelled=settings.min_labelled,
        is_by_hand=bool(settings.labels),
        time_zone=settings.time_zone,
        model=model,
        corpus=corpus,
        trends=trends,
        focus=focus,
        shares=Section("Shares", _mark(trends.whole, trends.whole["class"])),
        is_corrected=trends.method != UNCORRECTED,
        sections=[
            _list_groups(item, item.of(focus), float(trends.whole["share"][focus]))
            for item in trends.breakdowns[1:]
        ],
        methods={name: text for name, text in METHODS.items() if name in methods},
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
    )


def _list_groups(item: Breakdown, lines: pd.DataFrame, reference: float) -> Section:
    """List the groups with the highest shares, or the last periods."""
    names = lines["group"]
    if item.unit:
        periods = lines["period"].map(lambda period: write_period(period, item.unit))
        names = names + ", " + periods if item.has_groups else periods
    lines = _mark(lines, names, reference)
    shown = lines.tail(MAX_ROWS)
    if not item.unit:
        shown = lines.sort_values("share", ascending=False, kind="stable").head(MAX_ROWS)
    return Section(
        f"By {item.by.replace(', ', ' and ')}",
        shown,
        num_left_out=len(lines) - len(shown),
        reference=reference,
        is_open=len(shown) <= MAX_OPEN or "," not in item.by,
    )


def _mark(lines: pd.DataFrame, names: pd.Series, reference: float = 0) -> pd.DataFrame:
    is_higher = (lines["p_adjusted"] < SURE) & (lines["share"] > reference)
    is_corrected = lines["method"] != UNCORRECTED
    return lines.assign(name=names, is_corrected=is_corrected, is_higher=is_higher)
