"""Profiles add up, and equal corpora do not drift."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.config.class_names import BINARY
from sentiflow.models import drift
from sentiflow.models.drift import LENGTH_EDGES, NUM_PROBABILITY_BINS, Profile
from sentiflow.models.scores import Scores

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
