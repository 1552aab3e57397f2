"""Evaluation result -> one self-contained HTML page."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from string import Formatter
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.settings import flatten
from sentiflow.data.manifest_types import Settings
from sentiflow.errors import MOST_LISTED, few
from sentiflow.evaluation import slice_search
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.evaluation.measurements import NUM_WORST, EvaluationResult, Measurements, name_texts
from sentiflow.evaluation.model_checks import CAVEAT, GroupBias
from sentiflow.evaluation.slices import MIN_ROWS, SliceMetrics
from sentiflow.metrics import paired
from sentiflow.metrics.calibration import reliability_bins
from sentiflow.metrics.registry import METRICS


class Axis(NamedTuple):
    """The axis of the pictures in a table."""

    low: float
    high: float

    def place(self, value: float) -> str:
        """Return the distance of a value from the left end, as CSS."""
        return f"{100 * np.clip((value - self.low) / (self.high - self.low), 0, 1):.2f}%"


def render_page(
    result: EvaluationResult,
    plots: Mapping[str, bytes],
    *,
    rows: pa.Table,
    mistakes: pa.Table,
    curve: pd.DataFrame,
    settings: Settings,
    **origin: Any,
) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network. Texts are not
    trusted.

    Args:
        result: The evaluation.
        plots: Those of ``charts.render``; the page does without those that are absent.
        rows: Rows of the headline split, as ``evaluated_rows.read`` returns them.
        mistakes: Has the columns of ``mistakes.COLUMNS``.
        curve: As for ``charts.render``.
        settings: Nested, as resolved.
        origin: ``created``, in UTC; ``num_examples``, the mistakes of each kind to show;
            ``counts``, rows by kind; ``lineage``, name, URI and fingerprint of each step;
            ``versions`` of libraries by name; ``model`` and ``corpus`` in a line each.
    """
    measured, probed = result.measured, result.probed
    metrics, split = measured.metrics, measured.split
    kinds = groupby(probed.behavior, lambda test: test.kind)
    template = open_template("report.html.j2", autoescape=True, lstrip_blocks=True)
    return template.render(
        **(_describe_plots(measured, rows) | _describe_axes(measured.slices, probed.group_bias)),
        **origin,
        result=result,
        measured=measured,
        probed=probed,
        metrics=metrics,
        intervals=measured.intervals[split],
        missing=measured.no_intervals[split],
        registry=METRICS,
        calibration_error=measured.calibration_error[split],
        sure=paired.SURE,
        splits=sorted(measured.figures, key=lambda name: name != split),
        texts=name_texts(split),
        min_rows=MIN_ROWS,
        max_searched=slice_search.MAX_ROWS,
        max_shown=1000,  # characters of a text
        mistakes={
            kind: mistakes.filter(pc.equal(mistakes["kind"], kind)).to_pylist()
            for kind in ("confident", "near miss", "label", "pair")
        },
        behavior=[(kind, list(tests)) for kind, tests in kinds],
        caveat=CAVEAT,
        classes=measured.classes,
        binary=metrics.is_binary,
        pairs=metrics.confused_pairs[:MOST_LISTED],
        num_drawn=NUM_WORST,
        most_listed=MOST_LISTED,
        curve=curve.astype(object).where(curve.notna(), None).to_dict("records"),
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
        settings=[
            (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for key, value in flatten(settings).items()  # as the command line takes them
        ],
    )


def _describe_plots(measured: Measurements, rows: pa.Table) -> dict[str, Any]:
    """Give the numbers in the texts beside plots."""
    predicted = predicted_of(rows)
    bins = reliability_bins(label=predicted.outcome, probability=predicted.probability)
    return {
        "num_right": predicted.right.sum(),
        "bins": bins[["mean_probability", "positive_fraction"]].to_numpy().tolist(),
    }


def _describe_axes(
    slices: Sequence[SliceMetrics], group_bias: Sequence[GroupBias]
) -> dict[str, Any]:
    """Group slices under titles, but those of all texts that nobody named; choose all axes.

    That of slices holds every slice of enough rows; that of groups is around 0, holds every group,
    and ends at a multiple of 0.05.
    """
    shown = [item for item in slices if item.is_own or item.difference is not None]
    large = [item for item in slices if item.num_rows >= MIN_ROWS] or slices
    low = np.floor(20 * min((item.low for item in large), default=0)) / 20
    high = np.ceil(20 * max((item.high for item in large), default=1)) / 20
    ends = [abs(end) for bias in group_bias for term in bias.terms for end in (term.low, term.high)]
    reach = 0.05 * max(1, np.ceil(max(ends, default=0) / 0.05))
    return {
        "slice_groups": [(title, list(s)) for title, s in groupby(shown, lambda s: s.title)],
        "slice_axis": Axis(low, high),
        "group_axis": Axis(-reach, reach),
        "unit_axis": Axis(0, 1),
    }


def open_template(
    name: str,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    *,
    package: str = "sentiflow.evaluation",
    **options: Any,
) -> jinja2.Template:
    """Open a template of a package, which may include those of this one, with our filters."""
    packages = dict.fromkeys([package, "sentiflow.evaluation"])
    environment = jinja2.Environment(  # noqa: S701  not all are HTML
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(each) for each in packages]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        **options,
    )
    environment.filters |= {
        "fill": fill, "points": _points, "p": paired.write_p, "few": few, **(filters or {})
    }  # fmt: skip
    return environment.get_template(name)


def fill(form: str, values: object) -> str:
    """Format the fields of ``values`` into ``form``; a dash where one of them is undefined."""
    names = [name for _, name, _, _ in Formatter().parse(form) if name]
    fields = values if isinstance(values, Mapping) else {n: getattr(values, n) for n in names}
    return "—" if any(fields[name] is None for name in names) else form.format(**fields)


def _points(share: float) -> str:
    """Write a difference of shares in points, with its sign."""
    return f"{round(100 * share, 1) or 0.0:+.1f}".replace("-", "\u2212")  # not -0.0
