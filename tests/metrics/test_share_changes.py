"""A share that stays is not said to change, at any look; a change that lasts is.

Periods are drawn with a few labels each. The full grid is marked ``soak``::

    pytest -m soak -s tests/metrics/test_share_changes.py
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from test_share_claims import list_pairs

from sentiflow.metrics import share_changes

NUM_ROWS = 500
MODERATE = ("moderate", 1.5, 0.0)


def draw_periods(rng, shares, model, labels, *, num_rows=NUM_ROWS, biases=None):
    """Draw sums of periods with some shares of the class, given the labels of each.

    ``biases``: the bias of a moderate model in each period: its errors change, the shares do not.
    """
    num = len(shares)
    labels = np.broadcast_to(labels, num)
    parts = []
    for number in range(num):
        of_period = model if biases is None else (*model[:2], biases[number])
        often, label, positive = list_pairs(shares[number], of_period)
        p = np.stack([1 - positive, positive], axis=1)
        parts.append((often, label[:, None] == [0, 1], p))
    sums = {}
    for number, (often, y, p) in enumerate(parts):
        drawn = rng.multinomial(labels[number], often)
        rest = rng.multinomial(num_rows - labels[number], often)
        one = np.ones((len(often), 1))
        every = {"rows": one, "population": one, "predicted": p >= 0.5, "p": p, "pp": p**2}
        names = ("labelled", "clusters", "square", "w", "ww")
        sample = dict.fromkeys(names, one) | {"counted": 0 * y}
        sample |= dict.fromkeys(("wy", "wwy", "wwyy"), y) | dict.fromkeys(("wp", "wwp"), p)
        sample |= dict.fromkeys(("wyp", "wwyp"), y * p) | {"wwpp": p**2}
        for name, values in every.items():
            sums.setdefault(name, []).append((drawn + rest) @ values)
        for name, values in sample.items():
            sums.setdefault(name, []).append(drawn @ values)
    return pd.concat({name: pd.DataFrame(each, dtype=float) for name, each in sums.items()}, axis=1)


def look(sums, **options):
    """Look at all periods, predicted by one model."""
    num = len(sums)
    return share_changes.find_changes(
        sums, period=np.arange(num), model=np.zeros(num, int), **options
    )


def test_the_clearest_difference_has_the_interval_of_the_last_look():
    rng = np.random.default_rng(4)
    stays = look(draw_periods(rng, np.full(20, 0.4), MODERATE, 20))
    assert not stays.changes
    for found in stays.clearest.values():
        assert not found.is_beyond_chance
        assert found.look == stays.last
        assert found.low < 0 < found.high
        assert found.low < found.since - found.before < found.high
    changed = look(draw_periods(rng, np.repeat([0.2, 0.6], 10), MODERATE, 20))
    for code, found in changed.changes.items():
        last = changed.clearest[code]
        assert replace(last, claimed=found.claimed) == found
        assert found.is_beyond_chance
    assert changed.changes
    few = look(draw_periods(rng, np.full(4, 0.4), MODERATE, 2))
    assert few.first is None
    assert not few.clearest


def measure(seed, num_draws, shares, model, labels, **options):
    """Return how often a change is claimed at any look, and the mean size of the claimed ones."""
    rng = np.random.default_rng(seed)
    found = [look(draw_periods(rng, shares, model, labels, **options)) for _ in range(num_draws)]
    return np.mean([bool(each.changes) for each in found])


def test_a_share_that_stays_is_not_said_to_change():
    """52 weekly looks with 6 labels each."""
    assert measure(0, 60, np.full(52, 0.3), MODERATE, 6) <= 0.05


def test_a_change_that_lasts_is_told():
    """20 points, 150 labels before and 150 after it."""
    rng = np.random.default_rng(0)
    shares = np.repeat([0.17, 0.37], 25)
    found = [look(draw_periods(rng, shares, MODERATE, 6)) for _ in range(40)]
    changes = [looks.changes[1] for looks in found if looks.changes]
    assert len(changes) > 0.8 * 40
    assert np.abs(np.median([change.first for change in changes]) - 25) <= 3
    assert all(change.low < change.since - change.before < change.high for change in changes)
    assert np.mean([change.low <= 0.2 <= change.high for change in changes]) > 0.9


def test_errors_of_the_model_that_change_are_no_change_of_the_share():
    """Its predictions drift by dozens of points."""
    biases = np.linspace(-3, 3, 52)
    assert measure(1, 40, np.full(52, 0.3), MODERATE, 6, biases=biases) <= 0.05


def test_without_labels_nothing_is_claimed():
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(52) < 10, 6, 0)
    found = look(draw_periods(rng, np.repeat([0.2, 0.9], 26), MODERATE, labels))
    assert (found.first, found.changes) == (None, {})  # all labels are before the change


def test_a_look_does_not_depend_on_later_periods():
    """No state is kept, so every look has to repeat what the looks before it have found."""
    rng = np.random.default_rng(5)
    sums = draw_periods(rng, np.repeat([0.2, 0.5, 0.2], [20, 12, 20]), MODERATE, 8)
    claimed = [look(sums.iloc[: number + 1]).changes.get(1) for number in range(len(sums))]
    first = next(number for number, change in enumerate(claimed) if change)
    for change in claimed[first:]:
        assert change.claimed == first
    assert claimed[-1].look < len(sums) - 1  # the share has changed back


def test_earlier_looks_do_not_count_if_labels_were_added_since():
    """Each run would look at the past anew, with other labels."""
    rng = np.random.default_rng(5)
    sums = draw_periods(rng, np.repeat([0.2, 0.5, 0.2], [20, 12, 20]), MODERATE, 8)
    found = look(sums, in_order=False)
    assert found.first == found.last
    assert found.changes == {}  # the share has changed back
    now = look(sums.iloc[:32], in_order=False).changes[1]
    assert now == replace(look(sums.iloc[:32]).changes[1], claimed=now.look)


def test_two_models_are_tuned_by_their_own_labels():
    """A period that another model predicted is as good as any other."""
    rng = np.random.default_rng(2)
    shares = np.repeat([0.2, 0.6], 15)
    bad = draw_periods(rng, shares[:10], ("moderate", 1.0, 2.0), 20)
    good = draw_periods(rng, shares[10:], ("moderate", 2.5, 0.0), 20)
    sums = pd.concat([bad, good], ignore_index=True)
    model = np.repeat([0, 1], [10, 20])
    change = share_changes.find_changes(sums, period=np.arange(30), model=model).changes[1]
    assert abs(change.first - 15) <= 1
    assert abs(change.before - 0.2) < 0.1


def test_periods_in_parts_are_added_up():
    """Two groups of a period and model are as good as one."""
    rng = np.random.default_rng(3)
    sums = draw_periods(rng, np.repeat([0.2, 0.6], 15), MODERATE, 10)
    halves = pd.concat([sums / 2, sums / 2], ignore_index=True)
    period = np.tile(np.arange(30), 2)
    parts = share_changes.find_changes(halves, period=period, model=np.zeros(60, int))
    whole = look(sums).changes[1]
    assert parts.changes[1].first == whole.first
    assert parts.changes[1].since == pytest.approx(whole.since)


def test_fully_labelled_periods_of_one_text_claim_nothing():
    """A period without an error of estimation has the chance of its texts."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(40):
        sums = draw_periods(rng, np.full(120, 0.1), MODERATE, 1, num_rows=1)
        found.append(bool(look(sums).changes))
    assert np.mean(found) <= 0.05


def test_labels_that_are_only_counted_are_exact():
    """All texts of a period were training texts: their labels are its share."""
    rng = np.random.default_rng(6)
    sums = draw_periods(rng, np.repeat([0.2, 0.7], 10), MODERATE, 40, num_rows=40)
    labelled = [name for name in sums.columns.unique(level=0) if name[0] == "w"]
    counted = sums.copy()
    counted["counted"] = sums["wy"].to_numpy()
    for name in (*labelled, "population", "labelled", "clusters", "square", "p", "pp"):
        counted[name] = 0.0
    ours = look(counted).changes[1]
    theirs = look(sums).changes[1]
    assert (ours.first, ours.before) == (theirs.first, pytest.approx(theirs.before))


GRID = [
    (0.96, "one side", 0.995), (0.99, "both", 0.995), ("moderate", 2.5, 0.0), ("moderate", 1.0, 0.0)
]  # fmt: skip
"""Models, as in ``test_share_claims``."""
CELLS = list(product((0.05, 0.3, 0.5), GRID, (6, 30)))


@pytest.mark.soak
@pytest.mark.timeout(14400)
def test_a_share_that_stays_is_never_said_to_change():
    found = []
    for number, (share, model, labels) in enumerate(CELLS):
        found.append(measure(number, 2000, np.full(52, share), model, labels))
    for number in np.argsort(found)[::-1][:5]:
        print(f"{found[number]:.4f} {CELLS[number]}")
    assert max(found) <= 0.05


@pytest.mark.soak
@pytest.mark.timeout(14400)
def test_a_share_that_stays_is_never_said_to_change_with_uneven_periods():
    """Years of looks, few and many labels, labels in some periods only, a model that drifts."""
    rng = np.random.default_rng(0)
    some = np.where(np.arange(104) % 4 == 0, 25, 0)
    cells = {
        "104 weeks of 1 to 11 labels": (104, rng.integers(1, 12, 104), {}),
        "25 labels every fourth of 104 weeks": (104, some, {}),
        "365 days of 2 labels": (365, 2, {}),
        "12 months of 100 labels": (12, 100, {}),
        "52 weeks of 6 labels, drifting predictions": (52, 6, {"biases": np.linspace(-3, 3, 52)}),
        "52 weeks of 6 labels, predictions that jump": (52, 6, {"biases": np.repeat([-2, 2], 26)}),
        "52 weeks of 30 texts, all labelled": (52, 30, {"num_rows": 30}),
    }
    found = {}
    for number, (name, (num, labels, options)) in enumerate(cells.items()):
        for share in (0.1, 0.3):
            claimed = measure(number, 2000, np.full(num, share), MODERATE, labels, **options)
            found[name, share] = claimed
            print(f"{claimed:.4f} share {share}, {name}", flush=True)
    assert max(found.values()) <= 0.05


@pytest.mark.soak
@pytest.mark.timeout(14400)
def test_a_change_of_20_points_is_told_within_a_year():
    found = {}
    for quality in (1.0, 1.5, 2.5):
        for low in (0.17, 0.4):
            shares = np.repeat([low, low + 0.2], 25)
            told = measure(0, 2000, shares, ("moderate", quality, 0.0), 6)
            found[quality, low] = told
            print(f"{told:.4f} from {low:.0%}, quality {quality}", flush=True)
    assert min(told for (quality, _), told in found.items() if quality > 1) >= 0.8
