"""Measurements and probe results -> the few lines that a reader should remember."""

from sentiflow.data.schema import LABEL_NAMES, NEUTRAL
from sentiflow.evaluation.evaluated_rows import WHOLE
from sentiflow.evaluation.results import Highlight, Measurements, ProbeResult
from sentiflow.evaluation.slices import MIN_ROWS


def name_texts(split: str) -> str:
    """Name the texts of a split, or of a corpus without splits."""
    return "texts" if split == WHOLE else f"{split} texts"


def summarize(measured: Measurements, probed: ProbeResult) -> list[Highlight]:
    """Choose what is worth a line, in the order of the report."""
    found = (
        _of_accuracy(measured), _of_three_labels(measured), _of_calibration(measured),
        _of_coverage(measured), _of_slices(measured), _of_labels(measured),
        _of_behavior(probed), _of_groups(probed),
    )  # fmt: skip
    return [highlight for highlight in found if highlight]


def _of_accuracy(measured: Measurements) -> Highlight:
    metrics = measured.figures[measured.split]
    meaning = f"of {metrics.num_rows:,} {name_texts(measured.split)} are labelled correctly "
    meaning += f"(95 % interval {metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%})"
    return Highlight(f"{metrics.accuracy:.1%}", meaning, "figures")


def _of_three_labels(measured: Measurements) -> Highlight | None:
    three = measured.three_class.get(measured.split)
    if not three:
        return None
    neutral = sum(three.confusion[LABEL_NAMES[NEUTRAL]].values())
    meaning = f"of all {three.num_rows:,} texts are labelled correctly with three labels: "
    meaning += f"{neutral:,} are neutral (macro F1 {three.f1_macro:.3f})"
    return Highlight(f"{three.accuracy:.1%}", meaning, "certainty")


def _of_calibration(measured: Measurements) -> Highlight | None:
    interval = measured.intervals[measured.split].get("expected_calibration_error")
    if interval is None:
        return None
    low, high = (f"{100 * end:.1f}" for end in interval)
    figure = f"under {high} points" if low == "0.0" else f"{low} to {high} points"
    meaning = "is the average gap between probability and outcome (95 % interval)"
    return Highlight(figure, meaning, "probabilities")


def _of_coverage(measured: Measurements) -> Highlight | None:
    neutral = measured.neutral
    if not neutral or neutral.accuracy is None:
        return None
    meaning = "is the accuracy if only the "
    meaning += f"{neutral.coverage:.1%} of the texts with the most certain predictions are answered"
    return Highlight(f"{neutral.accuracy:.1%}", meaning, "certainty")


def _of_slices(measured: Measurements) -> Highlight | None:
    accuracy = measured.figures[measured.split].accuracy
    assert accuracy is not None, "the headline split has rows"
    worse = (s for s in measured.slices if s.num_rows >= MIN_ROWS and s.high < accuracy)
    worst = next(worse, None)
    if not worst:
        return None
    meaning = f"is the lowest accuracy of a slice: {worst.name} ({worst.num_rows:,} texts)"
    return Highlight(f"{worst.accuracy:.1%}", meaning, "slices")


def _of_labels(measured: Measurements) -> Highlight | None:
    fraction, metrics = measured.label_errors.fraction, measured.figures[measured.split]
    assert metrics.positive_fraction is not None, "the headline split has rows"
    assert metrics.accuracy_low is not None, "the headline split has rows"
    baseline = max(metrics.positive_fraction, 1 - metrics.positive_fraction)
    if not fraction or not measured.slices or metrics.accuracy_low <= baseline:
        return None  # a model no better than the baseline cannot question a label
    meaning = "of the labels may be wrong, by an estimate that trusts the model"
    return Highlight(f"{fraction:.1%}", meaning, "mistakes")


def _of_behavior(probed: ProbeResult) -> Highlight | None:
    rates = [(test.pass_rate, test.name) for test in probed.behavior if test.pass_rate is not None]
    if not rates:
        return None
    rate, name = min(rates, key=lambda each: each[0])
    meaning = f"is the lowest pass rate of {len(rates)} behavior tests: {name}"
    return Highlight(f"{rate:.0%}", meaning, "behavior")


def _of_groups(probed: ProbeResult) -> Highlight | None:
    beyond = [
        bias
        for bias in probed.group_bias
        if bias.spread > bias.chance_spread
        and not any(bias.terms[end].known is False for end in (0, -1))
    ]
    if not beyond:
        return None
    widest = max(beyond, key=lambda bias: bias.spread)
    ends = f"{widest.terms[0].term} and {widest.terms[-1].term}"
    meaning = f"is the largest gap in probability between groups by {widest.category}: {ends}, in "
    meaning += f"the same sentences (chance alone reaches {100 * widest.chance_spread:.1f})"
    return Highlight(f"{100 * widest.spread:.1f} points", meaning, "groups")
