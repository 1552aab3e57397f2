"""Findings -> the few lines that a reader should take along."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sentiflow.data.schema import LABEL_NAMES, NEUTRAL
from sentiflow.evaluation.evaluated_rows import WHOLE
from sentiflow.evaluation.results import Findings
from sentiflow.evaluation.slices import MIN_ROWS


class Conclusion(NamedTuple):
    """A figure in words: ``76.1% is its accuracy where it is worst``."""

    figure: str
    meaning: str
    """Goes on where the figure ends."""
    section: str
    """Of the report, which tells more."""


def name_texts(split: str) -> str:
    """Name the texts of a split, or of a corpus without splits."""
    return "texts" if split == WHOLE else f"{split} texts"


def draw(findings: Findings) -> list[Conclusion]:
    """Draw what can be drawn from findings, with what the model said when asked.

    Args:
        findings: Of ``findings.measure``, with ``behavior`` and ``group_bias``.
    """
    sources: tuple[Callable[[Findings], Conclusion | None], ...] = (
        _of_accuracy, _of_three_labels, _of_calibration, _of_coverage,
        _of_slices, _of_labels, _of_behavior, _of_groups,
    )  # fmt: skip
    return [conclusion for source in sources if (conclusion := source(findings))]


def _of_accuracy(findings: Findings) -> Conclusion | None:
    figures, split = findings["figures"][findings["split"]], findings["split"]
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    meaning = f"of {figures['num_rows']:,} {name_texts(split)} are labelled correctly "
    meaning += f"(95 % interval {low:.1%} to {high:.1%})"
    return Conclusion(f"{figures['accuracy']:.1%}", meaning, "figures")


def _of_three_labels(findings: Findings) -> Conclusion | None:
    three = findings["three_class"].get(findings["split"])
    if not three:
        return None
    neutral = sum(three["confusion"][LABEL_NAMES[NEUTRAL]].values())
    meaning = f"of all {three['num_rows']:,} are, with {neutral:,} that are labelled neutral and a "
    meaning += f"neutral band (macro F1 {three['f1_macro']:.3f})"
    return Conclusion(f"{three['accuracy']:.1%}", meaning, "certainty")


def _of_calibration(findings: Findings) -> Conclusion | None:
    interval = findings["intervals"][findings["split"]].get("expected_calibration_error")
    if interval is None:
        return None
    low, high = (f"{100 * end:.1f}" for end in interval)
    figure = f"under {high} points" if low == "0.0" else f"{low} to {high} points"
    meaning = "is how far its probabilities are from what happens, on average (95 % interval)"
    return Conclusion(figure, meaning, "probabilities")


def _of_coverage(findings: Findings) -> Conclusion | None:
    neutral = findings["neutral"]
    if not neutral or neutral["accuracy"] is None:
        return None
    meaning = "of its answers are right if it answers only the "
    meaning += f"{neutral['coverage']:.1%} of the texts of which it is most certain"
    return Conclusion(f"{neutral['accuracy']:.1%}", meaning, "certainty")


def _of_slices(findings: Findings) -> Conclusion | None:
    accuracy = findings["figures"][findings["split"]]["accuracy"]
    worse = (
        item
        for item in findings["slices"]
        if item["num_rows"] >= MIN_ROWS and item["high"] < accuracy
    )
    worst: dict[str, Any] | None = next(worse, None)
    if not worst:
        return None
    meaning = f"is its accuracy where it is worst: {worst['name']} ({worst['num_rows']:,} texts)"
    return Conclusion(f"{worst['accuracy']:.1%}", meaning, "slices")


def _of_labels(findings: Findings) -> Conclusion | None:
    fraction = findings["label_errors"]["fraction"]
    known = findings["figures"][findings["split"]]
    usual = max(known["positive_fraction"], 1 - known["positive_fraction"])
    if not fraction or not findings["slices"] or known["accuracy_low"] <= usual:
        return None  # a model that tells nothing apart cannot doubt a label
    meaning = "of the labels look wrong themselves, by an estimate that trusts the model"
    return Conclusion(f"{fraction:.1%}", meaning, "mistakes")


def _of_behavior(findings: Findings) -> Conclusion | None:
    tests = [test for test in findings["behavior"] if test["pass_rate"] is not None]
    if not tests:
        return None
    worst = min(tests, key=lambda test: test["pass_rate"])
    meaning = f"is the lowest pass rate of {len(tests)} behavior tests: {worst['name']}"
    return Conclusion(f"{worst['pass_rate']:.0%}", meaning, "behavior")


def _of_groups(findings: Findings) -> Conclusion | None:
    beyond = [
        bias
        for bias in findings["group_bias"]
        if bias["spread"] > bias["chance_spread"]
        and not any(bias["terms"][end]["known"] is False for end in (0, -1))
    ]
    if not beyond:
        return None
    widest = max(beyond, key=lambda bias: bias["spread"])
    terms = widest["terms"]
    ends = f"{terms[0]['term']} and {terms[-1]['term']}"
    meaning = f"of probability lie between {ends}, in the same sentences: the widest gap by "
    meaning += f"{widest['category']} (chance reaches {100 * widest['chance_spread']:.1f})"
    return Conclusion(f"{100 * widest['spread']:.1f} points", meaning, "groups")
