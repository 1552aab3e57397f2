"""Shares and conclusions -> one self-contained HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.evaluation.page_templates import open_template
from sentiflow.evaluation.report import Axis
from sentiflow.metrics.paired import SIGNIFICANCE
from sentiflow.metrics.shares import METHODS, MIN_LABELLED, UNCORRECTED
from sentiflow.shares.breakdowns import MAX_SHOWN, Breakdown
from sentiflow.shares.conclusions import (
    BELOW_MINIMUM,
    Conclusion,
    tells_nothing,
)
from sentiflow.shares.table import ShareTable
from sentiflow.shares.wording import Wording, write_period

MAX_OPEN = 20
"""A table by both of ``trends.by`` is folded if it has more than this number of lines."""
MAX_ROWS = 500
"""Maximum number of periods in a table of the page."""


@dataclass(frozen=True)
class Section:
    """A table of the page: the shares of one class, or mean ratings, by group or period."""

    title: str
    wording: Wording
    """How its numbers are written."""
    lines: pd.DataFrame
    """Lines of the table, as ``Breakdown.of`` returns them, with four more columns: ``name``, the
    group or period; ``has_interval``; ``is_worse``, whether the share is higher, or the mean rating
    lower, than in all other groups together, beyond chance; ``is_known``, whether the interval is
    narrower than 0 to 1."""
    num_left_out: int = 0
    """Lines that are not shown."""
    reference: float = 0
    """The share in all rows, which the page marks; 0 if the page marks nothing."""
    is_open: bool = True
    """Whether the table is shown at once."""
    is_by_time: bool = False
    """Whether its lines are periods, or periods of groups."""

    @property
    def axis(self) -> Axis:
        """Choose an axis that holds every share and interval.

        It ends at multiples of 0.1, or of a power of ten for mean ratings.
        """
        lines = self.lines
        if lines["is_known"].any():
            lines = lines[lines["is_known"]]
        ends = lines[["share", "predicted_share", "low", "high"]]
        if self.wording.scale is not None:
            return Axis(*self.wording.scale.round_outward(ends.min().min(), ends.max().max()))
        low = np.floor(10 * ends.min().min()) / 10
        high = np.ceil(10 * ends.max().max()) / 10
        return Axis(low, high)

    def write_end(self, value: float) -> str:
        """Write an end of the axis."""
        return f"{value:.0%}" if self.wording.scale is None else self.wording.write(value)


def render(
    trends: ShareTable,
    plots: dict[str, bytes],
    *,
    name: str,
    created: datetime,
    conclusions: Sequence[Conclusion],
    settings: TrendsSettings,
    model: str,
    corpus: str,
    is_of_others: bool = False,
) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network. Names of groups are
    not trusted.

    Args:
        trends: The shares.
        plots: Results of ``share_charts.render``.
        name: The name of the experiment.
        created: When the page is made, in UTC.
        conclusions: The results in words.
        settings: The section ``trends``.
        model: The model in a line.
        corpus: The texts in a line.
        is_of_others: Whether another program has made the predictions.
    """
    used: set[str] = set()
    for each in (trends, trends.means):
        for item in each.breakdowns if each else ():
            used.update(item.table["method"].unique())
    template = open_template(
        "trends.html.j2", package="sentiflow.shares", autoescape=True, lstrip_blocks=True
    )
    return template.render(
        name=name,
        created=created,
        conclusions=conclusions,
        min_labelled=MIN_LABELLED,
        below_minimum=BELOW_MINIMUM,
        is_by_hand=bool(settings.labels),
        time_zone=settings.time_zone,
        model=model,
        corpus=corpus,
        is_of_others=is_of_others,
        trends=trends,
        focus=trends.focus,
        shares=_list_classes(trends),
        means=_list_classes(trends.means) if trends.means else None,
        is_corrected=trends.method != UNCORRECTED,
        sections=_list_sections(trends),
        mean_sections=_list_sections(trends.means) if trends.means else [],
        methods={method: meaning for method, meaning in METHODS.items() if method in used},
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
    )


def _list_classes(trends: ShareTable) -> Section:
    """List the shares of all classes, or the mean rating, in all rows."""
    lines = _mark(trends.whole, names=trends.whole["class"])
    return Section("Shares", trends.wording(trends.focus), lines)


def _list_sections(trends: ShareTable) -> list[Section]:
    """List the tables of the class in focus, or of the mean rating, by each column and time."""
    sections = []
    for item in trends.breakdowns[1:]:
        sections.append(_list_groups(trends, item))
    return sections


def _list_groups(trends: ShareTable, item: Breakdown) -> Section:
    """List the largest groups and the other ones together, or the last periods.

    Args:
        trends: The shares, of which those of the class in focus are listed.
        item: A breakdown by column or time.
    """
    lines = item.of(trends.focus)
    reference = float(trends.whole["share"][trends.focus])
    is_mean = trends.scale is not None
    if not item.unit:
        shown = _mark(arrange_groups(lines), reference, is_mean=is_mean)
        num_left_out = 0
        if item.other is not None:
            other = item.other[item.other["class"] == lines["class"][0]]
            shown = pd.concat([shown, _mark(other, is_mean=is_mean)])
            num_left_out = len(lines) - MAX_SHOWN
    else:
        chosen = _choose_periods(lines)
        periods = chosen["period"].map(lambda period: write_period(period, item.unit))
        names = chosen["group"] + ", " + periods if item.has_groups else periods
        shown = _mark(chosen, reference, names, is_mean=is_mean)
        num_left_out = len(lines) - len(shown)
    return Section(
        f"By {item.by.replace(', ', ' and ')}",
        trends.wording(trends.focus),
        shown,
        num_left_out=num_left_out,
        reference=reference,
        is_open=len(shown) <= MAX_OPEN or not item.is_by_both,
        is_by_time=bool(item.unit),
    )


def arrange_groups(lines: pd.DataFrame) -> pd.DataFrame:
    """Arrange the ``MAX_SHOWN`` groups with the most texts.

    First those with enough texts and labels, the highest share first; then the others, the largest
    first.
    """
    largest = lines.nlargest(MAX_SHOWN, "rows")
    ranked = largest[largest["is_comparable"]]
    ranked = ranked.sort_values("share", ascending=False, kind="stable")
    return pd.concat([ranked, largest[~largest["is_comparable"]]])


def _choose_periods(lines: pd.DataFrame) -> pd.DataFrame:
    """Choose the last ``MAX_ROWS`` periods; or all periods of the groups with the most texts."""
    if len(lines) <= MAX_ROWS or lines["group"].isna().all():
        return lines.tail(MAX_ROWS)
    of_group = lines.groupby("group")["rows"].agg(["sum", "size"])
    largest = of_group.sort_values("sum", ascending=False, kind="stable")
    is_shown = largest["size"].cumsum() <= MAX_ROWS
    is_shown.iloc[0] = True  # even if it has more periods
    return lines[lines["group"].isin(largest.index[is_shown])].tail(MAX_ROWS)


def _mark(
    lines: pd.DataFrame,
    reference: float = 0,
    names: pd.Series | None = None,
    *,
    is_mean: bool = False,
) -> pd.DataFrame:
    """Add the columns of ``Section.lines``; names are by default the groups."""
    differs = lines["p_adjusted"] < SIGNIFICANCE
    is_beyond = lines["share"] < reference if is_mean else lines["share"] > reference
    return lines.assign(
        name=lines["group"] if names is None else names,
        has_interval=lines["low"].notna(),
        is_worse=differs & is_beyond,
        is_known=~tells_nothing(lines),
    )
