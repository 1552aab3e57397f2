"""The intervals of the metrics hold for few rows, rare and many classes, and accurate models.

Draws of rows from populations whose metrics are known; ``make soak``, or this file alone::

    pytest -m soak -s tests/metrics/test_interval_promises.py

It prints the tables of ``docs/evaluation.md``. A cell is a population and a number of rows, and has
5,000 draws (those of probabilities 1,000): a coverage of 95% is seen as 94.4 to 95.6% (two
standard errors). Cells that show an interval in less than 2% of the draws are left out.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import pytest

from sentiflow.metrics import intervals, paired, registry
from sentiflow.metrics.classification import Metrics, measure
from sentiflow.metrics.macro_f1 import MAX_RARE_FRACTION, macro_f1, macro_f1_interval
from sentiflow.metrics.matthews import correlate, matthews_interval
from sentiflow.metrics.one_vs_rest import OneVsRest
from sentiflow.metrics.predicted import Predicted, count_confusion

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

NUM_DRAWS, NUM_DRAWS_OF_PROBABILITIES = 5000, 1000
LEAST = 0.93
NUM_ROWS = (50, 100, 200, 500, 3000)
SHARES = (0.01, 0.03, 0.1, 0.3, 0.5)
RATES = (0.8, 0.9, 0.95, 0.99)
NUM_CLASSES = (3, 10, 30, 77, 100)


Cells = dict[str, list[tuple[float, float, str]]]
"""By metric: of each cell how often its interval holds the truth, how often there is one, name."""


def add_cell(cells: Cells, metric: str, cell: str, held: np.ndarray, num_draws: int) -> None:
    """Add a cell, given for each draw with an interval whether it holds the truth."""
    shown = len(held) / num_draws
    cells[metric].append((float(np.mean(held)), shown, cell) if shown >= 0.02 else (1, 0, cell))


def report(title: str, found: Cells, num_draws: int) -> list[tuple[str, float, float, str]]:
    """Print a table; return the cells that miss the promise by three standard errors.

    The errors are those of the simulation.
    """
    print(f"\n| {title} | cells | shown | worst | lowest tenth | median | worst cell |")
    print("|---|---:|---:|---:|---:|---:|---|")
    wrong = []
    for metric, cells in found.items():
        known = sorted(cell for cell in cells if cell[1])
        shown, worst = np.mean([cell[1] for cell in cells]), known[0]
        tenth, half = (known[int(part * len(known))][0] for part in (0.1, 0.5))
        shares = " | ".join(f"{share:.1%}" for share in (shown, worst[0], tenth, half))
        print(f"| {metric} | {len(cells)} | {shares} | {worst[2]} |")
        room = 3 * (LEAST * (1 - LEAST) / num_draws) ** 0.5
        wrong += [(metric, *cell) for cell in known if cell[0] < LEAST - room / cell[1] ** 0.5]
    return wrong


def of_two(share: float, sensitivity: float, specificity: float) -> np.ndarray:
    """Make the population of two classes, the second of which has the share."""
    return np.array(
        [
            [(1 - share) * specificity, (1 - share) * (1 - specificity)],
            [share * (1 - sensitivity), share * sensitivity],
        ]
    )


def of_many(num_classes: int, shape: str, recall: float, errors: str) -> np.ndarray:
    """Make a population: equal shares or Zipf's; errors go to all other classes, or to one.

    ``absent``: a tenth of the classes has no text, but predictions. ``unequal``: the recall falls
    from one class to the next.
    """
    rank = np.arange(1, num_classes + 1)
    shares = 1 / rank if shape == "Zipf" else np.ones(num_classes)
    if errors == "absent":
        shares[num_classes - num_classes // 10 :] = 0
    recalls = np.full(num_classes, recall)
    if errors == "unequal":
        recalls = np.clip(recall + np.linspace(1, -1, num_classes) * (1 - recall), 0.02, 1)
    others = 1.0 - np.eye(num_classes)
    if errors == "one":
        others = np.roll(np.eye(num_classes), 1, axis=1)
    others /= others.sum(axis=1, keepdims=True)
    rows = np.diag(recalls) + (1 - recalls)[:, None] * others
    return rows * (shares / shares.sum())[:, None]


def draw(population: np.ndarray, num_rows: int) -> Iterator[np.ndarray]:
    """Draw counts by label and prediction, ``(R, C, C)`` at a time."""
    size = population.size
    rng, at_once = np.random.default_rng([size, num_rows]), max(1, 4_000_000 // (size + num_rows))
    for first in range(0, NUM_DRAWS, at_once):
        num_draws = min(at_once, NUM_DRAWS - first)
        if size <= num_rows:
            counts = rng.multinomial(num_rows, population.ravel(), num_draws)
        else:
            cells = rng.choice(size, (num_draws, num_rows), p=population.ravel())
            cells += size * np.arange(num_draws)[:, None]
            counts = np.bincount(cells.ravel(), minlength=size * num_draws)
        yield counts.reshape(num_draws, *population.shape)


def populations() -> Iterator[tuple[str, np.ndarray]]:
    for share, sensitivity, specificity in product(SHARES, RATES, RATES):
        name = f"share {share:.0%}, sensitivity {sensitivity:.0%}, specificity {specificity:.0%}"
        yield f"2 classes, {name}", of_two(share, sensitivity, specificity)
    for size, shape, recall in product(NUM_CLASSES, ("equal", "Zipf"), (0.5, 0.8, 0.95, 0.99)):
        for errors in ("all", "absent", "one", "unequal"):
            if (errors != "absent" or size >= 10) and (
                errors in ("all", "absent") or recall == 0.8
            ):
                name = f"{size} classes, {shape}, recall {recall:.0%}, errors: {errors}"
                yield name, of_many(size, shape, recall, errors)


@np.errstate(invalid="ignore", divide="ignore")
def bound(counts: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Bound the metrics of R draws, those of a class for the last one.

    Returns:
        By name: bounds, and in which draws there is an interval.
    """
    one = OneVsRest(
        num_rows=counts.sum(axis=(1, 2)),
        labelled=counts[:, -1].sum(axis=1),
        predicted=counts[:, :, -1].sum(axis=1),
        right=counts[:, -1, -1],
        area=np.full(len(counts), np.nan),
    )
    bounds = {}
    for metric in registry.CLASS_METRICS:
        if metric.interval:
            bounds[metric.title] = (*metric.interval(one), ~np.isnan(metric.value(one)))
    all_right = counts.trace(axis1=1, axis2=2)
    accuracy = intervals.share_interval(all_right, one.num_rows)
    bounds["accuracy"] = (*accuracy, one.num_rows > 0)
    low, high, num_rare = macro_f1_interval(counts)
    bounds["macro F1"] = (low, high, num_rare <= MAX_RARE_FRACTION * counts.shape[1])
    if counts.shape[1] == 2:
        defined = counts.any(axis=1).all(axis=1) & counts.any(axis=2).all(axis=1)
        bounds["Matthews correlation"] = (*matthews_interval(counts), defined)
    return bounds


def add_counts(cells: Cells, name: str, population: np.ndarray, num_rows: int) -> None:
    """Add the cells of a population of counts."""
    of_classes = OneVsRest.of(population)
    truth = {metric.title: metric.value(of_classes)[-1] for metric in registry.CLASS_METRICS}
    truth |= {"accuracy": population.trace(), "macro F1": macro_f1(population)}
    if len(population) == 2:
        truth["Matthews correlation"] = float(correlate(population.ravel()))
    held: dict[str, list[np.ndarray]] = defaultdict(list)
    for counts in draw(population, num_rows):
        for metric, (low, high, has) in bound(counts).items():
            held[metric].append(((low <= truth[metric]) & (truth[metric] <= high))[has])
    for metric, parts in held.items():
        if not np.isnan(truth[metric]):
            add_cell(cells, metric, f"{name}, {num_rows:,} rows", np.concatenate(parts), NUM_DRAWS)


def test_intervals_of_counts_hold_in_every_cell():
    cells: Cells = defaultdict(list)
    for (name, population), num_rows in product(populations(), NUM_ROWS):
        add_counts(cells, name, population, num_rows)
    assert cells
    assert report("intervals of counts", cells, NUM_DRAWS) == []


def draw_two(rng: np.random.Generator, num_rows: int, share: float, skill: float, sure: float):
    """Draw rows of a model of two classes: two normal distributions at a distance of ``skill``.

    Its probabilities are calibrated if ``sure`` is 1; with 2 it is too sure.

    Returns:
        Predictions of two models that err on some of the same rows.
    """
    label = (rng.random(num_rows) < share).astype(np.int8)
    shared = rng.normal(0, 1, num_rows)
    found = []
    for own in (0.0, 0.6):
        noise = (1 - own**2) ** 0.5 * shared + own * rng.normal(0, 1, num_rows)
        logit = skill * (skill * (label - 0.5) + noise) + np.log(share / (1 - share))
        probability = 1 / (1 + np.exp(-sure * logit))
        prediction = (probability >= 0.5).astype(np.int8)
        found.append(
            Predicted.of_positive(label=label, probability=probability, prediction=prediction)
        )
    return found


def populations_of_two() -> Iterator[tuple[str, tuple[float, float, float]]]:
    for share, (accuracy, skill), sure in product(
        (0.5, 0.1, 0.03), ((80, 1.68), (95, 3.29), (99, 4.65)), (1.0, 2.0)
    ):
        sure_of = "calibrated" if sure == 1 else "too sure"
        yield f"share {share:.0%}, skill of {accuracy} %, {sure_of}", (share, skill, sure)


@cache
def measure_population(drawn: tuple[float, float, float]) -> Metrics:
    return measure(draw_two(np.random.default_rng(1), 1_000_000, *drawn)[0])


def add_probabilities(
    cells: Cells, name: str, drawn: tuple[float, float, float], num_rows: int
) -> None:
    """Add the cells of a model of two classes: of its metrics, and of differences of equal ones."""
    whole = measure_population(drawn)
    held: dict[str, list[bool]] = defaultdict(list)
    rng = np.random.default_rng(num_rows)
    for _ in range(NUM_DRAWS_OF_PROBABILITIES):
        first, second = draw_two(rng, num_rows, *drawn)
        has_both = 0 < first.label.sum() < num_rows
        for metric in registry.METRICS:
            if metric.of_probabilities and has_both:
                ends = metric.interval(first)
                if not isinstance(ends, str):
                    held[metric.title].append(ends[0] <= whole.values[metric.name] <= ends[1])
            if metric.difference and metric.name != "f1_macro":
                found = metric.difference(first, second)
                if found:
                    held[f"difference: {metric.title}"].append(found.low <= 0 <= found.high)
    for metric_name, values in held.items():
        cell = f"{name}, {num_rows:,} rows"
        add_cell(cells, metric_name, cell, np.array(values), NUM_DRAWS_OF_PROBABILITIES)


def test_intervals_of_probabilities_hold_in_every_cell():
    cells: Cells = defaultdict(list)
    for (name, drawn), num_rows in product(populations_of_two(), NUM_ROWS[:4]):
        add_probabilities(cells, name, drawn, num_rows)
    assert cells
    assert report("intervals of probabilities", cells, NUM_DRAWS_OF_PROBABILITIES) == []


def draw_pair(
    rng: np.random.Generator, num_classes: int, shape: str, recalls: tuple[float, float], rows: int
) -> np.ndarray:
    """Draw labels and the predictions of two models, half of whose errors are the same."""
    shares = 1 / np.arange(1, num_classes + 1) if shape == "Zipf" else np.ones(num_classes)
    label = rng.choice(num_classes, rows, p=shares / shares.sum())
    hard, same = rng.random(rows), rng.random(rows) < 0.5
    first, second = ((label + rng.integers(1, num_classes, rows)) % num_classes for _ in "12")
    of_second = np.where(same, hard, rng.random(rows))
    return np.stack(
        [
            label,
            np.where(hard > recalls[0], first, label),
            np.where(of_second > recalls[1], np.where(same, first, second), label),
        ]
    )


@cache
def subtract_population(num_classes: int, shape: str, recalls: tuple[float, float]) -> float:
    rng = np.random.default_rng(0)
    label, *predictions = draw_pair(rng, num_classes, shape, recalls, 1_000_000)
    first, second = (
        macro_f1(count_confusion(label, each, num_labels=num_classes)) for each in predictions
    )
    return second - first


def add_pairs(cells: Cells, num_classes: int, shape: str, recalls: tuple[float, float], rows: int):
    """Add the cell of a difference in macro F1."""
    truth, rng = subtract_population(num_classes, shape, recalls), np.random.default_rng(rows)
    held = []
    for _ in range(NUM_DRAWS_OF_PROBABILITIES):
        label, first, second = draw_pair(rng, num_classes, shape, recalls, rows)
        found = paired.f1_macro_difference(
            label=label, first=first, second=second, num_classes=num_classes, num_resamples=1
        )
        held.append(found.low <= truth <= found.high)
    name = f"{num_classes} classes, {shape}, recall {recalls[0]:.0%} and {recalls[1]:.0%}"
    add_cell(cells, "difference: Macro F1", f"{name}, {rows:,} rows", np.array(held), len(held))


def pairs() -> Iterator[tuple[int, str, tuple[float, float], int]]:
    recalls = ((0.8, 0.8), (0.8, 0.9), (0.95, 0.99), (0.99, 0.99))
    for size, shape, both, rows in product(
        (2, 3, 10, 30, 77), ("equal", "Zipf"), recalls, (50, 200, 500)
    ):
        if rows > 3 * size:
            yield size, shape, both, rows


def test_intervals_of_differences_hold_in_every_cell():
    cells: Cells = defaultdict(list)
    for pair in pairs():
        add_pairs(cells, *pair)
    assert cells
    assert report("intervals of differences", cells, NUM_DRAWS_OF_PROBABILITIES) == []
