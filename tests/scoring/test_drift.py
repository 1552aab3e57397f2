"""Profiles add up, and equal corpora do not drift."""

import json
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, chi2_contingency

from sentiflow.config.class_names import BINARY
from sentiflow.models.profile import LENGTH_EDGES, NUM_PROBABILITY_BINS, Profile
from sentiflow.models.scores import Scores
from sentiflow.scoring import drift

ROWS = st.lists(
    st.tuples(st.integers(0, 80), st.integers(0, 80), st.floats(0, 1, width=32)), max_size=20
)


def profile(rows):
    """Count rows of length, unknown tokens and probability."""
    lengths = np.array([length for length, _, _ in rows], np.int64)
    unknown = np.array([number for _, number, _ in rows], np.int64)
    probability = np.array([value for _, _, value in rows])
    scores = Scores(
        probabilities=np.stack([1 - probability, probability], axis=1),
        classes=BINARY,
        num_tokens=lengths,
        lengths=lengths,
        num_unknown=np.minimum(unknown, lengths),
    )
    return scores.profile()


@settings(deadline=None)
@given(rows=ROWS, cut=st.integers(0, 20))
def test_profiles_of_parts_add_up_to_that_of_the_whole(rows, cut):
    assert profile(rows[:cut]) + profile(rows[cut:]) == profile(rows)


def test_bins_begin_at_their_edges():
    rows = [(edge, 0, 0.0) for edge in LENGTH_EDGES]
    assert profile(rows).lengths == (1,) * len(LENGTH_EDGES)
    tenths = [(1, 0, (number + 0.5) / 10) for number in range(10)]
    assert profile(tenths).probabilities == (1,) * NUM_PROBABILITY_BINS
    assert profile([(1, 0, 1.0)]).probabilities[-1] == 1


def test_the_index_of_a_known_case():
    """Two bins with shares 0.6 and 0.4 against 0.5 and 0.5: 0.1 ln 1.2 - 0.1 ln 0.8 = 0.0405."""
    found = drift.population_stability_index((600_000, 400_000), (500_000, 500_000))
    assert found == pytest.approx(0.040547, abs=1e-5)


def draw(seed, *, rows=2000, length=10, positive=0.5, unknown=0.0):
    """Draw rows of a corpus."""
    random = np.random.default_rng(seed)
    lengths = random.poisson(length, rows)
    sure = np.where(random.random(rows) < positive, 0.95, 0.05)
    return profile(list(zip(lengths, random.binomial(lengths, unknown), sure, strict=True)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rows", [30, 300, 3000])
def test_chance_is_no_drift(seed, rows):
    assert drift.compare(draw(seed, rows=rows), draw(seed + 100))["warnings"] == []


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        ({"length": 25}, ["length of the texts"]),
        ({"positive": 0.9}, ["probabilities", "predicted positive"]),
        ({"unknown": 0.5}, ["unknown words"]),
    ],
)
def test_a_large_difference_is_warned_of_by_name(change, warned):
    found = drift.compare(draw(1, **change), draw(2))
    assert [line.split(":")[0] for line in found["warnings"]] == warned


def draw_model(rng, rows, share, *, num_classes=2):
    """Draw the profile of rows of which a share is negative, by a model that makes errors.

    It finds 60% of the negative rows, and takes 11% of the others for negative. Of more than two
    classes, the others share the rest.
    """
    edges = np.linspace(0, 1, 11)
    often = share * np.diff(beta.cdf(edges, 2.4, 1.7)) + (1 - share) * np.diff(
        beta.cdf(edges, 0.9, 3.4)
    )
    bins = rng.multinomial(rows, often)  # of the probability of negative
    num_negative = int(bins[5:].sum())
    counts = {"rows": rows, "tokens": 10 * rows, "probabilities": tuple(bins.tolist())}
    if num_classes == 2:
        return Profile(**counts, positive=rows - num_negative)
    others = rng.multinomial(rows - num_negative, np.full(num_classes - 1, 1 / (num_classes - 1)))
    predicted = [num_negative, *others.tolist()]
    names = [f"class {number}" for number in range(num_classes)]
    return Profile(**counts, predicted=dict(zip(names, predicted, strict=True)))


def find_alarms(rng, num_looks, *, rows=2000, reference_rows=3000, now=0.17, **options):
    """Return whether any of some looks at new rows finds a drift of predictions."""
    reference = draw_model(rng, reference_rows, 0.17, **options)
    for _ in range(num_looks):
        if drift.compare(draw_model(rng, rows, now, **options), reference)["warnings"]:
            return True
    return False


def test_equal_shares_of_predictions_give_no_alarm_in_a_year():
    rng = np.random.default_rng(0)
    assert np.mean([find_alarms(rng, 52, rows=500) for _ in range(40)]) <= 0.05


def test_another_share_of_negative_gives_an_alarm():
    """Negative from 17 to 37%."""
    rng = np.random.default_rng(0)
    assert np.mean([find_alarms(rng, 1, now=0.37) for _ in range(100)]) >= 0.95


def test_a_small_reference_alone_is_no_drift():
    """By chance 35% of 100 validation texts were predicted positive, and of all texts 45% are."""
    theirs = Profile(rows=100, tokens=1000, positive=35, probabilities=(65, *[0] * 8, 35))
    ours = Profile(
        rows=100_000, tokens=1_000_000, positive=45_000, probabilities=(55_000, *[0] * 8, 45_000)
    )
    assert drift.compare(ours, theirs)["warnings"] == []
    larger = Profile(rows=1000, tokens=10_000, positive=350, probabilities=(650, *[0] * 8, 350))
    found = drift.compare(ours, larger)
    assert "predicted positive: 45.0% here, 35.0% in validation" in found["warnings"]
    assert found["class_p_value"] < 1e-8


def test_a_difference_too_small_to_matter_is_not_told():
    """It is beyond chance, as all differences are with enough rows."""
    ours = Profile(rows=10**6, tokens=10**7, positive=500_000)
    theirs = Profile(rows=10**6, tokens=10**7, positive=520_000)
    found = drift.compare(ours, theirs)
    assert found["class_p_value"] < 1e-100
    assert found["warnings"] == []


def test_the_test_of_equality_is_that_of_scipy():
    ours, theirs = [120, 80, 300], [200, 150, 400]
    expected = chi2_contingency([ours, theirs]).pvalue
    assert drift.compare_counts(ours, theirs) == pytest.approx(expected)
    assert drift.compare_counts([5, 0, 3], [4, 1, 0]) == 1  # too few rows for two pools


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_alarms_of_a_year_of_any_size():
    cells = list(product((300, 2000), (300, 3000), (2, 5)))
    for number, (rows, reference_rows, num_classes) in enumerate(cells):
        rng = np.random.default_rng(number)
        sizes = {"rows": rows, "reference_rows": reference_rows, "num_classes": num_classes}
        false = np.mean([find_alarms(rng, 52, **sizes) for _ in range(2000)])
        true = np.mean([find_alarms(rng, 1, now=0.37, **sizes) for _ in range(2000)])
        print(f"{false:.4f} false, {true:.4f} told, {sizes}", flush=True)
        assert false <= 0.05
        if rows == 2000 and reference_rows == 3000:
            assert true >= 0.9


def test_without_rows_nothing_is_compared():
    assert drift.compare(Profile(), draw(1)) == drift.compare(draw(1), Profile()) == {}
    assert Profile().means == {}


def test_a_profile_of_other_bins_is_refused():
    with pytest.raises(ValueError, match="bins"):
        Profile(lengths=(1, 2))


def test_predictions_of_other_classes_are_counted_by_name():
    def of(probabilities):
        array = np.array(probabilities, np.float32)
        zeros = np.zeros(len(array), np.int64)
        return Scores(array, ("bad", "good", "none"), zeros, zeros, zeros).profile()

    rows = [[0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [0.1, 0.2, 0.7]]
    found = of(rows)
    assert found.predicted == {"bad": 1, "good": 0, "none": 3}
    assert found.means["predicted_none"] == 0.75
    assert Profile() + found == found == of(rows[:2]) + of(rows[2:])
    assert Profile.from_json(json.loads(json.dumps(asdict(found)))) == found
    other = of([[1, 0, 0]] * 400)
    warned = drift.compare(other, of(rows * 100))["warnings"]
    assert "predicted bad: 100.0% here, 25.0% in validation" in warned
    assert "predicted none: 0.0% here, 75.0% in validation" in warned
