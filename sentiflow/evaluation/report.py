"""Evaluation result -> one self-contained HTML page."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
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
from sentiflow.evaluation.charts import NUM_WORST, bin_reliability
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.evaluation.model_checks import CAVEAT, GroupBias
from sentiflow.evaluation.results import EvaluationResult, name_texts
from sentiflow.evaluation.slices import MIN_ROWS, SliceMetrics
from sentiflow.metrics import paired
from sentiflow.metrics.registry import METRICS

MAX_SHOWN = 1000
"""Characters of a text."""


class Axis(NamedTuple):
    """The axis of the pictures in a table."""

    low: float
    high: float

    def place(self, value: float) -> str:
        """Return the distance of a value from the left end, as CSS."""
        return f"{100 * np.clip((value - self.low) / (self.high - self.low), 0, 1):.2f}%"


def render_page(
    result: EvaluationResult,
    plots: dict[str, bytes],
    *,
    created: datetime,
    rows: pa.Table,
    mistakes: pa.Table,
    num_examples: int,
    curve: pd.DataFrame,
    counts: dict[str, int],
    settings: Settings,
    lineage: list[tuple[str, str, str]],
    versions: dict[str, str],
    model: str,
    corpus: str,
) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network. Texts are not
    trusted.

    Args:
        result: The evaluation.
        plots: Those of ``charts.render``; the page does without those that are absent.
        created: In UTC.
        rows: Rows of the headline split, as ``evaluated_rows.read`` returns them.
        mistakes: Has the columns of ``mistakes.COLUMNS``.
        num_examples: Mistakes of each kind to show; 0: the settings show none.
        curve: As for ``charts.render``.
        counts: Rows by kind, in the order to show.
        settings: Nested, as resolved.
        lineage: Name, URI and fingerprint of each step, from the CSV to the predictions.
        versions: Versions of the libraries used, by name.
        model: The model in a line.
        corpus: The texts that were scored, in a line.
    """
    measured, probed = result.measured, result.probed
    predicted = predicted_of(rows)
    positive = predicted.probabilities[:, 1]
    bins = bin_reliability(predicted)
    return open_template("report.html.j2", autoescape=True, lstrip_blocks=True).render(
        result=result,
        created=created,
        num_examples=num_examples,
        counts=counts,
        lineage=lineage,
        versions=versions,
        model=model,
        corpus=corpus,
        measured=measured,
        probed=probed,
        metrics=measured.metrics,
        intervals=measured.intervals[measured.split],
        missing=measured.no_intervals[measured.split],
        registry=METRICS,
        calibration_error=measured.calibration_error[measured.split],
        sure=paired.SURE,
        splits=sorted(measured.figures, key=lambda split: split != measured.split),
        texts=name_texts(measured.split),
        baseline=measured.metrics.most_frequent,
        slice_axis=_slice_axis(measured.slices),
        slice_groups=_group_slices(measured.slices),
        min_rows=MIN_ROWS,
        max_searched=slice_search.MAX_ROWS,
        max_shown=MAX_SHOWN,
        unit_axis=Axis(0, 1),
        mistakes={
            kind: mistakes.filter(pc.equal(mistakes["kind"], kind)).to_pylist()
            for kind in ("confident", "near miss", "label", "pair")
        },
        behavior=[
            (kind, list(tests)) for kind, tests in groupby(probed.behavior, lambda test: test.kind)
        ],
        group_axis=_group_axis(probed.group_bias),
        caveat=CAVEAT,
        classes=measured.classes,
        binary=measured.metrics.is_binary,
        num_right=sum(counts[name] for name, counts in measured.metrics.confusion.items()),
        log_loss_of_chance=np.log(len(measured.classes)),
        pairs=measured.metrics.confused_pairs[:MOST_LISTED],
        num_drawn=NUM_WORST,
        most_listed=MOST_LISTED,
        curve=curve.astype(object).where(curve.notna(), None).to_dict("records"),
        bins=bins[["mean_probability", "positive_fraction"]].to_numpy().tolist(),
        medians=[
            (measured.classes[value], float(np.median(positive[predicted.label == value])))
            for value in np.unique(predicted.label)
        ],
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
        settings=[
            (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for key, value in flatten(settings).items()  # as the command line takes them
        ],
    )


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


def _group_slices(slices: Sequence[SliceMetrics]) -> list[tuple[str, list[SliceMetrics]]]:
    """Group slices under titles, but those of all texts that nobody named."""
    shown = [item for item in slices if item.is_own or item.difference is not None]
    return [
        (title, list(items))
        for title, items in groupby(
            shown,
            lambda s: (
                "Your own"
                if s.is_own
                else "Found by a search, figures of the tested half"
                if s.is_found
                else "Others"
            ),
        )
    ]


def _slice_axis(slices: Sequence[SliceMetrics]) -> Axis:
    """Choose an axis that holds every slice of enough rows."""
    shown = [item for item in slices if item.num_rows >= MIN_ROWS] or slices
    low = np.floor(20 * min((item.low for item in shown), default=0)) / 20
    return Axis(low, np.ceil(20 * max((item.high for item in shown), default=1)) / 20)


def _group_axis(group_bias: Sequence[GroupBias]) -> Axis:
    """Choose an axis around 0 that holds every group; it ends at a multiple of 0.05."""
    ends = [abs(end) for bias in group_bias for term in bias.terms for end in (term.low, term.high)]
    reach = 0.05 * max(1, np.ceil(max(ends, default=0) / 0.05))
    return Axis(-reach, reach)


def fill(form: str, values: object) -> str:
    """Format the fields of ``values`` into ``form``; a dash where one of them is undefined."""
    names = [name for _, name, _, _ in Formatter().parse(form) if name]
    fields = values if isinstance(values, Mapping) else {n: getattr(values, n) for n in names}
    return "—" if any(fields[name] is None for name in names) else form.format(**fields)


def _points(share: float) -> str:
    """Write a difference of shares in points, with its sign."""
    points = round(100 * share, 1) or 0.0  # not -0.0
    return f"{points:+.1f}".replace("-", "\u2212")
