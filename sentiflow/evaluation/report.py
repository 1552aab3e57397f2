"""Findings -> one self-contained HTML page."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from string import Formatter
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.settings import flatten
from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, POSITIVE
from sentiflow.evaluation.group_bias import CAVEAT
from sentiflow.evaluation.highlights import name_texts
from sentiflow.evaluation.results import Findings
from sentiflow.evaluation.slices import MIN_ROWS
from sentiflow.metrics.classification import Figures, reliability_bins

MAX_SHOWN = 1000
"""Characters of a text."""

_EACH_END = 7
"""Words shown of each end of a direction."""


@dataclass(frozen=True)
class ReportData:
    """Everything that one report shows; texts in it are not trusted."""

    name: str
    """Of the experiment."""

    created: str
    """ISO 8601 time."""

    findings: Findings
    """Of ``findings.measure``, with ``behavior``, ``group_bias``, ``word_bias`` and ``not_asked``
    beside it."""

    rows: pa.Table
    """Of the headline split: ``label``, ``probability`` (of positive)."""

    mistakes: pa.Table
    """As ``mistakes.COLUMNS``."""

    num_examples: int
    """Of each kind, to show; 0: none, by setting."""

    curve: pd.DataFrame | None
    """A row an epoch: ``epoch``, ``train_loss``, ``validation_loss``, ``validation_accuracy``."""

    counts: dict[str, int]
    """Rows by what became of them, in the order to show."""

    settings: dict[str, Any]
    """Nested, as resolved."""

    lineage: list[tuple[str, str, str]]
    """What, its URI and its fingerprint, from the CSV to the predictions."""

    versions: dict[str, str]
    """Of the libraries used."""

    @property
    def split(self) -> str:
        """Name the split that headline and plots are about."""
        return str(self.findings["split"])

    @property
    def figures(self) -> Figures:
        """Give the figures of that split."""
        return dict(self.findings["figures"][self.split])

    @property
    def epochs(self) -> pd.DataFrame:
        """Return the curve; one without rows if there is none."""
        return pd.DataFrame() if self.curve is None else self.curve


def render_page(data: ReportData, plots: dict[str, bytes]) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network. ``plots`` are
    those of ``charts.render``; the page does without those that are absent.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentiflow.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cut": _cut,
        "fill": _fill,
        "points": _points,
        "readable_time": _readable_time,
    }
    found = data.findings
    return environment.get_template("report.html.j2").render(
        data=data,
        found=found,
        figures=data.figures,
        intervals=found["intervals"][data.split],
        splits=sorted(found["figures"], key=lambda split: split != data.split),
        texts=name_texts(data.split),
        headline=_headline(data.figures),
        slices=_lay_out_slices(found["slices"], data.figures),
        min_rows=MIN_ROWS,
        on_unit=lambda share: f"{100 * share:.2f}%",
        mistakes=_choose_mistakes(data),
        behavior=[(kind, list(tests)) for kind, tests in groupby(found["behavior"], _kind)],
        group_bias=_lay_out_bias(found["group_bias"]),
        word_bias=_lay_out_words(found["word_bias"]),
        caveat=CAVEAT,
        label_names=LABEL_NAMES,
        curve=data.epochs.astype(object).where(data.epochs.notna(), None).to_dict("records"),
        facts=_facts(data),
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
        settings=_list_settings(data.settings),
    )


def _headline(figures: Figures) -> dict[str, Any]:
    """Set the accuracy beside that of one answer for every text."""
    known: dict[str, Any] = figures
    positive_fraction = known["positive_fraction"]
    usual = POSITIVE if positive_fraction >= 0.5 else NEGATIVE
    return {
        "num_right": known["true_positive"] + known["true_negative"],
        "usual_label": LABEL_NAMES[usual],
        "usual_fraction": max(positive_fraction, 1 - positive_fraction),
    }


def _lay_out_slices(slices: list[dict[str, Any]], figures: Any) -> dict[str, Any] | None:
    """Choose an axis that holds every slice of enough rows, and where the whole stands on it."""
    if not slices:
        return None
    shown = [item for item in slices if item["num_rows"] >= MIN_ROWS] or slices
    low = np.floor(20 * min(item["low"] for item in shown)) / 20
    high = np.ceil(20 * max(item["high"] for item in shown)) / 20

    def place(value: float) -> str:
        return f"{100 * np.clip((value - low) / (high - low), 0, 1):.2f}%"

    def judge(item: dict[str, Any]) -> str:
        if item["num_rows"] < MIN_ROWS:
            return "few"
        if item["high"] < figures["accuracy"]:
            return "worse"
        return "better" if item["low"] > figures["accuracy"] else ""

    rows = [item | {"verdict": judge(item)} for item in slices]
    return {"rows": rows, "low": low, "high": high, "place": place}


def _lay_out_bias(group_bias: list[dict[str, Any]]) -> dict[str, Any]:
    """Choose one axis around 0 for the terms of all categories."""
    ends = [
        abs(term[end]) for bias in group_bias for term in bias["terms"] for end in ("low", "high")
    ]
    reach = max(0.05, np.ceil(20 * max(ends, default=0)) / 20)

    def place(value: float) -> str:
        return f"{50 + 50 * np.clip(value / reach, -1, 1):.2f}%"

    return {"categories": group_bias, "reach": reach, "place": place}


def _lay_out_words(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Choose the words at both ends of the direction, an axis for them, and count known words."""
    if not found:
        return None
    direction = found["direction"]
    placed = direction["projections"] if direction else ()
    reach = max(0.1, np.ceil(10 * max((abs(each["cosine"]) for each in placed), default=0)) / 10)
    ends = placed if len(placed) <= 2 * _EACH_END else (*placed[:_EACH_END], *placed[-_EACH_END:])

    def count(test: dict[str, Any], name: str) -> int:
        return sum(each[name] for each in (*test["targets"], *test["attributes"]))

    return {
        "direction": direction,
        "no_direction": found["no_direction"],
        "ends": ends,
        "place": lambda cosine: f"{50 + 50 * cosine / reach:.2f}%",
        "tests": [
            test | {name: count(test, name) for name in ("num_known", "num_words")}
            for test in found["associations"]
        ],
    }


def _choose_mistakes(data: ReportData) -> dict[str, list[dict[str, Any]]]:
    """Take the first rows of each kind."""
    chosen: dict[str, list[dict[str, Any]]] = {"confident": [], "near miss": [], "label": []}
    for row in data.mistakes.to_pylist():
        if len(chosen[row["kind"]]) < data.num_examples:
            chosen[row["kind"]].append(row)
    return chosen


def _kind(test: dict[str, Any]) -> str:
    return str(test["kind"])


def _facts(data: ReportData) -> dict[str, Any]:
    """Collect the numbers that alternative texts need and the findings do not hold."""
    label = data.rows["label"].to_numpy().astype(np.int64)
    probability = data.rows["probability"].to_numpy().astype(np.float64)
    bins = reliability_bins(label=label, probability=probability)
    return {
        "bins": bins[bins["num_rows"] > 0].to_dict("records"),
        "medians": [
            (LABEL_NAMES[value], float(np.median(probability[label == value])))
            for value in np.unique(label)
        ],
    }


def _fill(form: str, figures: Figures) -> str:
    """Format ``figures`` into ``form``; a dash where one that it names is undefined."""
    names = [name for _, name, _, _ in Formatter().parse(form) if name]
    return "—" if any(figures[name] is None for name in names) else form.format(**figures)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _points(share: float) -> str:
    """Write a difference of shares in points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "\u2212")


def _list_settings(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """List settings by dotted key, as the command line takes them."""
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in flatten(settings).items()
    ]


def _readable_time(created: str) -> str:
    time = datetime.fromisoformat(created)
    if time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M}"
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
