"""The highlights name what a reader should remember, and nothing that was not measured."""

from dataclasses import replace

import numpy as np

from sentiflow.evaluation import highlights
from sentiflow.evaluation.behavior import BehaviorResult
from sentiflow.evaluation.group_bias import GroupBias, TermResult
from sentiflow.evaluation.mistakes import LabelErrors
from sentiflow.evaluation.results import AnsweredMetrics, Measurements, ProbeResult
from sentiflow.evaluation.slices import SliceMetrics
from sentiflow.metrics.abstention import ThreeClassMetrics
from sentiflow.metrics.classification import binary_metrics

LABEL = np.repeat([1, 1, 0, 0], [40, 10, 10, 40])
PREDICTION = np.repeat([1, 0, 1, 0], [40, 10, 10, 40])
METRICS = binary_metrics(label=LABEL, probability=PREDICTION * 0.8, prediction=PREDICTION)
METRICS = replace(
    METRICS, num_rows=1234, accuracy=0.8, accuracy_low=0.79, accuracy_high=0.81,
    positive_fraction=0.4,
)  # fmt: skip


def slice_of(name, num_rows, accuracy, high):
    return SliceMetrics(name, "", num_rows, 0.1, accuracy, 0.0, high, 0.0, 0.5, 0.5)


def behavior_of(name, pass_rate):
    return BehaviorResult("invariance", name, "", 10, 1, pass_rate, None, None, ())


def gap(category, spread, chance_spread, *, known=(True, False, True)):
    terms = tuple(
        TermResult(term, (), 0.5, 0.0, 0.0, 0.0, knows)
        for term, knows in zip(("elderly", "older", "teenage"), known, strict=True)
    )
    return GroupBias(category, 18, 54, terms, spread, 0.0, 0.0, chance_spread, 0.0)


MEASURED = Measurements(
    split="test",
    figures={"test": METRICS},
    intervals={"test": {"expected_calibration_error": (0.005, 0.0123)}},
    three_class={},
    calibration=None,
    coverage=[],
    neutral=AnsweredMetrics(0.1, 0.8, 987, 0.87, 0.8, 0.9),
    label_errors=LabelErrors(1234, 62, 0.05),
    slices=[slice_of("question", 1200, 0.75, 0.78), slice_of("tiny", 2, 0.0, 0.6)],
    lengths=[],
)
PROBED = ProbeResult(
    behavior=[behavior_of("praise", 0.9), behavior_of("not bad", 0.1), behavior_of("none", None)],
    group_bias=[gap("age", 0.2, 0.1), gap("religion", 0.3, 0.4)],
)


def summarize(probed=PROBED, **changes):
    return highlights.summarize(replace(MEASURED, **changes), probed)


def sections(*arguments, **changes):
    return [section for _, _, section in summarize(*arguments, **changes)]


def test_each_part_gives_the_line_that_a_reader_wants():
    lines = {section: f"{figure} {text}" for figure, text, section in summarize()}
    assert lines["probabilities"].startswith("0.5 to 1.2 points is the average gap between")
    assert lines["certainty"].startswith("87.0% is the accuracy if only the 80.0% of the texts")
    assert lines["slices"] == "75.0% is the lowest accuracy of a slice: question (1,200 texts)"
    assert lines["mistakes"].startswith("5.0% of the labels may be wrong")
    assert lines["behavior"] == "10% is the lowest pass rate of 2 behavior tests: not bad"


def test_a_gap_of_a_term_that_the_model_does_not_know_is_no_highlight():
    for known in ((False, True, True), (True, True, False)):
        assert "groups" not in sections(ProbeResult(group_bias=[gap("age", 0.2, 0.1, known=known)]))


def test_a_gap_within_chance_is_no_highlight():
    lines = {section: f"{figure} {text}" for figure, text, section in summarize()}
    assert lines["groups"] == (
        "20.0 points is the largest gap in probability between groups by age: elderly and teenage, "
        "in the same sentences (chance alone reaches 10.0)"
    )
    assert "groups" not in sections(ProbeResult(group_bias=PROBED.group_bias[1:]))


def test_what_was_not_measured_gives_no_line():
    assert sections(ProbeResult(), neutral=None, slices=[]) == ["figures", "probabilities"]
    nothing = AnsweredMetrics(0.5, 0.0, 0, None, None, None)
    assert "certainty" not in sections(neutral=nothing)


def test_slices_of_few_texts_are_no_highlight():
    assert "slices" not in sections(slices=MEASURED.slices[1:])


def test_what_may_be_chance_is_no_highlight():
    assert "slices" not in sections(slices=[slice_of("question", 1200, 0.75, 0.81)])
    no_better = replace(METRICS, accuracy_low=0.59)
    assert "mistakes" not in sections(figures={"test": no_better})
    calibrated = {"test": {"expected_calibration_error": (0.0, 0.0123)}}
    assert summarize(intervals=calibrated)[1][0] == "under 1.2 points"


def test_three_labels_are_reported_beside_two():
    neutral = {"neutral": {"negative": 40, "positive": 60, "neutral": 40}}
    three = ThreeClassMetrics(500, 0.55, 0.5, 0.6, 0.5, {}, neutral)
    found = summarize(
        split="all", figures={"all": METRICS}, three_class={"all": three}, intervals={"all": {}}
    )
    first, second = (f"{figure} {text}" for figure, text, _ in found[:2])
    assert first.startswith("80.0% of 1,234 texts are labelled correctly (95 % interval 79.0% to")
    assert second == (
        "55.0% of all 500 texts are labelled correctly with three labels: 140 are neutral "
        "(macro F1 0.500)"
    )
