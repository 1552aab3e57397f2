"""Intervals are those of a plain bootstrap over rows, and hold what they promise."""

import numpy as np
import pytest
import scipy.special

from sentiflow.metrics import bootstrap
from sentiflow.metrics.classification import measure
from sentiflow.metrics.predicted import Predicted


def rows_of(num_rows, *, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.7, 0.7, num_rows)
    if decimals is not None:
        probability = probability.round(decimals)
    label = (rng.random(num_rows) < probability).astype(np.int8)
    prediction = (probability >= 0.5).astype(np.int8)
    return {"label": label, "probability": probability, "prediction": prediction}


def take(rows, chosen):
    return {name: values[chosen] for name, values in rows.items()}


def metrics_of(rows):
    return measure(Predicted.of_positive(**rows)).scalars


def intervals(*, label, probability, prediction, **options):
    rows = {"label": label, "probability": probability, "prediction": prediction}
    return bootstrap.intervals(Predicted.of_positive(**rows), **options)


@pytest.mark.parametrize("decimals", [1, 2, None])
def test_the_metrics_of_a_draw_are_those_of_its_rows(decimals):
    rows = rows_of(400, decimals=decimals)
    groups = bootstrap._Groups(Predicted.of_positive(**rows))
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 400, 400)
    key = (bootstrap._rank(rows["probability"]) * 2 + rows["label"]) * 2 + rows["prediction"]
    _, member = np.unique(key, return_inverse=True)
    counts = np.bincount(member[drawn], minlength=len(groups.num_rows))[None]
    expected = metrics_of(take(rows, drawn))
    found = groups.measure(counts)
    for name, values in found.items():
        assert values[0] == pytest.approx(expected[name]), name


def test_many_probabilities_are_grouped_without_changing_a_metric():
    rows = rows_of(20_000)
    groups = bootstrap._Groups(Predicted.of_positive(**rows))
    assert groups.rank.max() < bootstrap.MAX_GROUPS
    expected, widths = metrics_of(rows), intervals(**rows)
    for name, values in groups.measure(groups.num_rows[None]).items():
        low, high = widths[name]
        assert values[0] == pytest.approx(expected[name], abs=0.05 * (high - low)), name


def test_intervals_equal_those_of_a_plain_bootstrap():
    rows = rows_of(300, seed=3)
    rng = np.random.default_rng(5)
    plain = [metrics_of(take(rows, rng.integers(0, 300, 300))) for _ in range(200)]
    found = intervals(**rows)
    for name in ("f1_macro", "roc_auc", "log_loss", "brier", "matthews"):
        low, high = np.quantile([draw[name] for draw in plain], [0.025, 0.975])
        width = high - low
        assert found[name] == pytest.approx((low, high), abs=0.2 * width), name
    reach = 1.96 * scipy.special.logit([draw["average_precision"] for draw in plain]).std()
    middle = scipy.special.logit(metrics_of(rows)["average_precision"])
    ends = scipy.special.logit(found["average_precision"])
    assert ends == pytest.approx([middle - reach, middle + reach], abs=0.24 * reach)


def test_an_interval_holds_the_truth_about_57_times_of_60():
    truth = metrics_of(rows_of(400_000, seed=99))
    hits = {"roc_auc": 0, "brier": 0, "f1_macro": 0}
    for seed in range(60):
        found = intervals(**rows_of(250, seed=seed), num_resamples=400)
        for name in hits:
            low, high = found[name]
            hits[name] += low <= truth[name] <= high
    assert all(51 <= count <= 60 for count in hits.values()), hits


def test_what_is_undefined_has_no_interval():
    ones = np.ones(30, np.int8)
    found = intervals(label=ones, probability=ones * 0.9, prediction=ones)
    assert "roc_auc" not in found
    assert "precision_negative" not in found
    assert found["recall_positive"] == (1, 1)
    assert found["brier"] == pytest.approx((0.01, 0.01))


def test_the_same_seed_gives_the_same_intervals():
    rows = rows_of(500)
    assert intervals(**rows) == intervals(**rows)
    assert intervals(**rows) != intervals(**rows, seed=1)
