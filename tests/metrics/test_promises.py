"""Every interval and p-value of report, ``compare`` and ``promote`` keeps what it promises.

Simulated samples of models whose truth is known; ``make soak``, or this file alone::

    pytest -m soak -s tests/metrics/test_promises.py

It prints the table of ``docs/evaluation.md``. Most lines are 1,000 samples: a coverage of 95% is
seen as 93.6 to 96.4%, a level of 5% as 3.6 to 6.4% (two standard errors).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.evaluation import group_bias, promotion, slice_metrics, slice_search
from sentiflow.evaluation.champion_figures import ChampionTest, HeadlineTest
from sentiflow.evaluation.regression import Check, find_regression
from sentiflow.evaluation.slices import SliceOfRows
from sentiflow.metrics import abstention, paired, registry
from sentiflow.metrics.calibration import calibration_test
from sentiflow.metrics.classification import find_intervals, measure
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import Predicted
from sentiflow.models.tokens import Tokens

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

NUM_SAMPLES, NUM_ROWS = 1000, 500
NUM_FEW = 500
"""Samples of what has many results in each."""
POPULATION = 1_000_000
NUM_SLICES = 20
NUM_TEXTS = 10_000
"""Texts that are searched for slices."""
CLASSES = ("negative", "positive", "neutral")

Draw = dict[str, np.ndarray]


def draw_binary(rng: np.random.Generator, num_rows: int, *noises: float) -> Draw:
    """Draw labels, and the probability that models of different noise give them.

    All models are too sure by a fifth, and err on the same hard texts more often than by chance.
    """
    truth = rng.normal(0.3, 2, num_rows)
    shared = rng.normal(0, 1, num_rows)
    label = (rng.random(num_rows) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    drawn = {"label": label}
    for number, noise in enumerate(noises):
        logit = 1.2 * (truth + shared + rng.normal(0, noise, num_rows))
        drawn[f"{number}"] = 1 / (1 + np.exp(-logit))
    return drawn


def rows_of(drawn: Draw, model: str = "0") -> Draw:
    prediction = (drawn[model] >= 0.5).astype(np.int8)
    return {"label": drawn["label"], "probability": drawn[model], "prediction": prediction}


def draw_classes(rng: np.random.Generator, num_rows: int) -> Draw:
    """Draw labels of three classes of unequal size, and the probabilities of a model."""
    label = rng.choice(3, num_rows, p=[0.5, 0.3, 0.2])
    logits = rng.normal(0, 1, (num_rows, 3)) + 1.6 * (label[:, None] == np.arange(3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    prediction = probabilities.argmax(axis=1)
    return {"label": label, "prediction": prediction, "probabilities": probabilities}


def find(predicted: Predicted) -> dict[str, tuple[float, float]]:
    return find_intervals(predicted, measure(predicted))[0]


def samples(number: int = NUM_SAMPLES) -> Iterator[np.random.Generator]:
    return (np.random.default_rng([sample, 7]) for sample in range(number))


class Shares:
    """Shares of the samples, by line of the table."""

    def __init__(self) -> None:
        self.found: dict[str, list[bool]] = defaultdict(list)

    def add(self, name: str, value: bool) -> None:
        self.found[name].append(bool(value))

    def add_interval(self, name: str, low: float, high: float, truth: float) -> None:
        self.add(name, low <= truth <= high)

    def add_difference(self, name: str, found: paired.Difference | None, truth: float) -> None:
        assert found is not None
        self.add_interval(name, found.low, found.high, truth)

    def print(self, title: str) -> None:
        print(f"\n| {title} | samples | share |\n|---|---:|---:|")
        for name, values in self.found.items():
            print(f"| {name} | {len(values):,} | {100 * np.mean(values):.1f} % |")

    def check(self, low: float, high: float) -> None:
        """Check the shares, with three standard errors for samples fewer than ``NUM_SAMPLES``."""
        wrong = {}
        for name, values in self.found.items():
            share, limit = float(np.mean(values)), min(1 - low, high) if low else high
            room = 3 * (limit * (1 - limit) / len(values)) ** 0.5
            room = room if low == 0 or len(values) < NUM_SAMPLES else 0.0
            if not low - room <= share <= high + room:
                wrong[name] = share
        assert not wrong, wrong


def test_the_intervals_of_the_report_hold_the_truth():
    shares, rng = Shares(), np.random.default_rng(0)
    whole = rows_of(draw_binary(rng, POPULATION, 1.0))
    truth = measure(Predicted.of_positive(**whole)).scalars
    certain = np.abs(whole["probability"] - 0.5)
    right = whole["label"] == whole["prediction"]
    top = right[certain >= np.quantile(certain, 0.2)].mean()
    answered = right[certain >= 0.2].mean()
    sliced = right[whole["probability"] > 0.9].mean()
    of_classes = draw_classes(rng, POPULATION)
    truth_of_classes = measure(Predicted(CLASSES, **of_classes)).scalars
    for sample in samples():
        rows = rows_of(draw_binary(sample, NUM_ROWS, 1.0))
        found = rows["label"] == rows["prediction"]
        certainty = np.abs(rows["probability"] - 0.5)
        for name, expected, chosen in (
            ("accuracy of the texts that are answered", answered, found[certainty >= 0.2]),
            ("accuracy in a slice", sliced, found[rows["probability"] > 0.9]),
        ):
            interval = share_interval(int(chosen.sum()), len(chosen))
            shares.add_interval(name, *interval, expected)
        point = abstention.accuracy_by_coverage(right=found, confidence=certainty + 0.5)[4]
        name = "accuracy of the most certain 80%"
        shares.add_interval(name, point.low, point.high, top)
        intervals = find(Predicted.of_positive(**rows))
        for name, ends in intervals.items():
            shares.add_interval(name, *ends, truth[name])
        intervals = find(Predicted(CLASSES, **draw_classes(sample, NUM_ROWS)))
        for name, ends in intervals.items():
            if name.endswith(("macro", "loss", "brier", "neutral")):
                shares.add_interval(f"{name} of three classes", *ends, truth_of_classes[name])
    for sample in samples(NUM_FEW):
        for result in measure_groups(sample):
            for term in result.terms:
                shares.add_interval("difference of a group (t)", term.low, term.high, 0.0)
    shares.print("intervals of the report: how often they hold the truth")
    shares.check(0.93, 1)


def test_the_intervals_of_compare_and_promote_hold_the_truth():
    shares, rng = Shares(), np.random.default_rng(1)
    whole = draw_binary(rng, POPULATION, 1.0, 1.8)
    both = [Predicted.of_positive(**rows_of(whole, model)) for model in "01"]
    truth = {
        name: differences_of(*(measure(predicted).values for predicted in both), name)
        for name in (metric.name for metric in registry.METRICS if metric.difference)
    }
    is_sliced = whole["0"] > 0.9
    right = [whole["label"] == (whole[model] >= 0.5) for model in "01"]
    in_slice = right[1][is_sliced].mean() - right[0][is_sliced].mean()
    for sample in samples():
        drawn = draw_binary(sample, NUM_ROWS, 1.0, 1.8)
        compare(drawn, lambda name, found: shares.add_difference(name, found, truth[name]))
        right = [drawn["label"] == (drawn[model] >= 0.5) for model in "01"]
        found, _ = paired.compare_accuracy(*(each[drawn["0"] > 0.9] for each in right))
        shares.add_difference("accuracy in a slice", found, in_slice)
    shares.print("intervals of compare and promote: how often they hold the truth")
    shares.check(0.93, 1)


def test_p_values_of_compare_and_promote_raise_few_false_alarms():
    """Two models that differ by chance alone."""
    shares = Shares()
    for sample in samples():
        drawn = draw_binary(sample, NUM_ROWS, 1.0, 1.0)
        found: dict[str, paired.Difference] = {}
        compare(drawn, found.__setitem__)
        for name, difference in found.items():
            shares.add(f"compare: {name}, p < 0.05", difference.p_value < 0.05)
        right = [drawn["label"] == (drawn[model] >= 0.5) for model in "01"]
        members = [sample.random(NUM_ROWS) < sample.uniform(0.05, 0.5) for _ in range(NUM_SLICES)]
        of_slices = [paired.compare_accuracy(*(each[rows] for each in right)) for rows in members]
        adjusted = paired.adjust([counts.p_value for _, counts in of_slices])
        shares.add("compare: any of 20 slices (Holm)", min(adjusted) < 0.05)
        checks = [Check(n, NUM_ROWS, 0, 0, found[n]) for n in ("accuracy", "f1_macro")]
        checks += [Check("slice", NUM_ROWS, 0, 0, difference) for difference, _ in of_slices]
        for margin in (0, 0.01):
            name = f"compare: --fail-if-worse {margin}".removesuffix(" 0")
            shares.add(
                f"{name}, any of 22 checks", bool(find_regression(checks, margin=margin).worse)
            )
        accuracy = found["accuracy"]
        headline = HeadlineTest("accuracy", 0, 0, accuracy)
        test = ChampionTest(NUM_ROWS, 0, 0, 0, 0, accuracy.p_value, headline=headline)
        shares.add(
            "promote: a champion is replaced (at most 2.5%)", not promotion.find_objection(test)
        )
    shares.print("false alarms of compare and promote, at most 5%")
    shares.check(0, 0.05)
    assert np.mean(shares.found["promote: a champion is replaced (at most 2.5%)"]) < 0.04


def test_p_values_of_the_report_raise_few_false_alarms():
    """Calibrated probabilities; a model as good in all slices; no difference between groups."""
    shares = Shares()
    label = np.ones(NUM_ROWS, np.int8)
    for sample in samples():
        for num_rows in (NUM_ROWS, 10 * NUM_ROWS):
            probability = sample.beta(0.7, 0.7, num_rows)
            drawn = sample.random(num_rows) < probability
            found = calibration_test(label=drawn, probability=probability, num_simulations=500)
            shares.add(f"calibration error, {num_rows:,} rows", found.p_value < 0.05)
        probabilities = sample.dirichlet([0.4] * 3, NUM_ROWS)
        drawn = (sample.random((NUM_ROWS, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
        best = probabilities.argmax(axis=1)
        found = calibration_test(
            label=drawn == best, probability=probabilities.max(axis=1), num_simulations=500
        )
        shares.add("calibration error of three classes", found.p_value < 0.05)
        right = (sample.random(NUM_ROWS) < 0.8).astype(np.int8)
        members = [
            SliceOfRows.of("", "", sample.random(NUM_ROWS) < sample.uniform(0.1, 0.5))
            for _ in range(NUM_SLICES)
        ]
        measured = slice_metrics.measure(members, label=label, probability=None, prediction=right)
        shares.add("any of 20 slices is worse (Holm)", any(item.is_worse for item in measured))
    for sample in samples(NUM_FEW):
        found = measure_groups(sample)
        shares.add("a category of groups, unadjusted", found[0].p_value < 0.05)
        shares.add("any of 4 categories of groups (Holm)", any(g.p_adjusted < 0.05 for g in found))
    shares.print("false alarms of the report, at most 5%")
    shares.check(0, 0.05)


def test_a_search_for_slices_says_little_by_chance_and_finds_what_is_there():
    shares, tokens = Shares(), draw_texts(np.random.default_rng(2))
    for sample in samples(NUM_FEW):
        found = search_slices(sample, tokens, np.full(NUM_TEXTS, 0.8))
        shares.add("a slice is found, though none is worse", bool(found))
    shares.print("false alarms of the search for slices, at most 5%")
    shares.check(0, 0.05)
    power, has = Shares(), [has_word(tokens, word) for word in range(200)]
    pairs = {
        f"“word{a:04}” and “word{b:04}”": has[a] & has[b]
        for a in range(30) for b in range(a + 1, 200)
        if 2 * (has[a] & has[b]).sum() < has[b].sum()
    }  # fmt: skip
    words = {f"“word{word:04}”": has_word(tokens, word) for word in range(2000)}
    for num_rows, points in ((100, 20), (200, 10), (200, 20), (500, 10), (1000, 10)):
        for kind, planted in (("word", words), ("pair", pairs)):
            name = min(planted, key=lambda each: abs(planted[each].sum() - num_rows))
            line = f"a {kind} of {num_rows} texts, {points} points worse"
            for sample in samples(NUM_FEW // 5):
                found = search_slices(sample, tokens, 0.8 - 0.01 * points * planted[name])
                hit = next((item for item in found if item.name == name), None)
                power.add(line, hit is not None)
                if hit:
                    truth = 0.8 - 0.01 * points
                    power.add_interval("its interval holds the accuracy", hit.low, hit.high, truth)
    power.print("slices that are worse: how often they are found")
    assert np.mean(power.found["a word of 1000 texts, 10 points worse"]) > 0.9
    assert np.mean(power.found["its interval holds the accuracy"]) > 0.93


def draw_texts(rng: np.random.Generator) -> Tokens:
    """Draw texts of about 13 words; the k-th word has a frequency of about 1 / k (Zipf)."""
    lengths = 1 + rng.poisson(12, NUM_TEXTS)
    share = 1 / np.arange(3, 5003)
    ids = rng.choice(len(share), lengths.sum(), p=share / share.sum()).astype(np.int32)
    words = pa.array([f"word{k:04}" for k in range(len(share))])
    return Tokens(words, ids, np.append(0, np.cumsum(lengths)))


def has_word(tokens: Tokens, word: int) -> np.ndarray:
    """Say which texts have a word."""
    row = np.repeat(np.arange(NUM_TEXTS), np.diff(tokens.offsets))
    return np.bincount(row, tokens.ids == word, minlength=NUM_TEXTS) > 0


def search_slices(
    rng: np.random.Generator, tokens: Tokens, accuracy: np.ndarray
) -> list[slice_metrics.SliceMetrics]:
    """Search for slices, given how probable it is that each text is right."""
    right = rng.random(NUM_TEXTS) < accuracy
    long = SliceOfRows.of("long", "", np.diff(tokens.offsets) > 15)
    draw = rng.integers(0, 2**63, NUM_TEXTS, dtype=np.uint64)
    sampler = slice_search.Sampler()
    sampler.add(np.arange(NUM_TEXTS), draw, tokens)
    found = slice_search.search([long], sample=sampler.finish(), right=right)
    measured = slice_metrics.measure(
        found, label=np.ones(NUM_TEXTS), probability=None, prediction=right.astype(np.int8)
    )
    return [item for item in measured if item.is_found]


def differences_of(first: dict, second: dict, name: str) -> float:
    return second[name] - first[name]


def compare(drawn: Draw, add: Callable[[str, paired.Difference | None], None]) -> None:
    """Compare two models as ``compare`` does."""
    first, second = (Predicted.of_positive(**rows_of(drawn, model)) for model in "01")
    for metric in registry.METRICS:
        if metric.difference:
            add(metric.name, metric.difference(first, second))


def measure_groups(rng: np.random.Generator) -> list[group_bias.GroupBias]:
    """Measure a model that varies with the sentence and the term, but favors none."""
    found, _ = group_bias.measure_group_bias(
        lambda texts: rng.normal(0.5, 0.1, len(texts)), knows=lambda words: True
    )
    return found
