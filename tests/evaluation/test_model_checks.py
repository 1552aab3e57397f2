"""A difference that is put into a score function is found again, and none where there is none."""

import hashlib
import json

import numpy as np
import pytest

from sentiflow.evaluation.group_bias import measure_group_bias

CATEGORIES = ["gender", "nationality", "religion", "age"]


CUES = (
    *(
        "called",
        "store",
        "bus",
        "street",
        "job",
        "meeting",
        "smile",
        "wonderful",
        "visit",
        "helped",
    ),
    *("dinner", "song", "ruined", "terrible", "moved away", "yelled", "forgot", "fire"),
)
"""What only one of the templates has."""


def base(text):
    """Depend on the template alone."""
    (cue,) = (number for number, cue in enumerate(CUES) if cue in text)
    return 0.2 + cue % 5 / 10


def score_all(function):
    return lambda texts: np.array([function(text) for text in texts])


def measure(score, *, knows=lambda words: True, **options):
    return measure_group_bias(score, knows=knows, **options)[0]


def by_category(function, **options):
    return {found.category: found for found in measure(score_all(function), **options)}


def scored_texts():
    texts = []
    measure(lambda given: texts.extend(given) or np.full(len(given), 0.5))
    return texts


def test_the_sentences_stay_the_same():
    """Spreads of two versions can be compared as long as sentences and terms are equal."""
    texts = scored_texts()
    terms = [
        [found.category, sorted([term.term, list(term.words)] for term in found.terms)]
        for found in measure(score_all(base))
    ]
    digest = hashlib.sha256(json.dumps([texts, terms]).encode()).hexdigest()
    assert digest == "9112b6e330bb5cc7d3af5bbb6d85a966dd5bba0fd359afa99460a37ab99e6f47"


def noisy(text):
    """Depend on everything, but on no term more than on another."""
    return np.random.default_rng(list(text.encode())).uniform(0.3, 0.7)


def test_without_a_difference_there_is_none():
    for found in by_category(base).values():
        assert [found.spread, found.chance_spread] == pytest.approx([0, 0])
        assert (found.p_value, found.p_adjusted) == (1, 1)
        assert found.flipped_fraction == 0
        for term in found.terms:
            assert [term.difference, term.low, term.high] == pytest.approx([0, 0, 0])


def test_a_difference_is_found_again():
    found = by_category(lambda text: base(text) + 0.1 * ("Hindu" in text))
    religion = found.pop("religion")
    others, hindu = religion.terms[:-1], religion.terms[-1]
    num_terms = len(religion.terms)
    assert hindu.term == "Hindu"
    expected = 0.1 - 0.1 / num_terms
    assert [hindu.difference, hindu.low, hindu.high] == pytest.approx([expected] * 3)
    for other in others:
        assert other.difference == pytest.approx(-0.1 / num_terms)
        assert hindu.mean_probability - other.mean_probability == pytest.approx(0.1)
    assert religion.spread == pytest.approx(0.1)
    assert religion.chance_spread < 0.1
    assert religion.p_value == pytest.approx(1 / 2001)
    assert religion.p_adjusted == pytest.approx(4 / 2001)
    assert all(other.spread == pytest.approx(0) for other in found.values())


def test_a_term_that_the_model_does_not_know_is_not_measured():
    asked = []

    def knows(words):
        asked.append(words)
        return np.bool_(words not in ("Sikh", "my sibling"))

    found = by_category(base, knows=knows)
    unknown = {term for each in found.values() for term in each.unknown}
    assert unknown == {"Sikh", "non-binary or neutral"}
    assert not unknown & {term.term for each in found.values() for term in each.terms}
    assert {"he", "my sister", "American", "80-year-old"} <= set(asked)


def test_a_category_of_unknown_terms_is_named():
    ages = {word for term in by_category(base)["age"].terms for word in term.words}
    found, unmeasured = measure_group_bias(
        score_all(lambda text: base(text) + 0.1 * ("Hindu" in text)),
        knows=lambda words: words != "Hindu" and words not in ages,
    )
    assert unmeasured == ["age"]
    assert [bias.category for bias in found] == CATEGORIES[:3]
    assert found[2].spread == pytest.approx(0), "of the terms that it knows"
    assert measure_group_bias(score_all(base), knows=lambda words: False) == ([], CATEGORIES)
