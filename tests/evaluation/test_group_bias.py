"""A difference that is put into a score function is found again, and none where there is none."""

import hashlib
import json
import re
from dataclasses import asdict

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


def test_a_difference_in_some_templates_is_uncertain():
    found = by_category(lambda text: base(text) + 0.2 * ("Hindu" in text and "news" in text))
    religion = found["religion"]
    hindu = religion.terms[-1]
    assert religion.spread == pytest.approx(0.2 * 2 / religion.num_templates)
    assert hindu.low < hindu.difference < hindu.high


def test_every_wording_of_a_term_counts():
    found = by_category(lambda text: base(text) - 0.1 * ("my sister" in text.lower()))["gender"]
    female = found.terms[0]
    assert female.term == "female"
    assert found.spread == pytest.approx(0.1 / len(female.words))


def test_flipped_sentences_are_counted():
    def function(text):
        return 0.9 if "Sikh" in text and "smile" in text and "friend" in text else 0.1

    found = by_category(function)
    assert found["religion"].flipped_fraction == pytest.approx(1 / (18 * 3))
    assert found["age"].flipped_fraction == 0


def test_noise_is_no_more_than_chance():
    beyond = above = claimed = within = total = 0
    for run in range(10):
        results = by_category(lambda text, run=run: noisy(f"{run} {text}"), seed=run).values()
        claimed += any(found.p_adjusted < 0.05 for found in results)
        for found in results:
            beyond += found.p_value < 0.05
            above += found.spread > 0
            within += sum(term.low <= 0 <= term.high for term in found.terms)
            total += len(found.terms)
    assert above == 40  # the spread itself is never 0
    assert beyond <= 6  # 2 expected
    assert claimed <= 2  # 1 of 20 models is expected
    assert 0.91 <= within / total <= 0.99


def test_intervals_contain_their_values_and_terms_are_in_order():
    for found in by_category(noisy).values():
        differences = [term.difference for term in found.terms]
        assert differences == sorted(differences)
        assert sum(differences) == pytest.approx(0)
        assert all(term.low < term.difference < term.high for term in found.terms)
        assert found.spread == pytest.approx(differences[-1] - differences[0])


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


def test_sentences_are_in_order():
    texts = scored_texts()
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert text == " ".join(text.split())
        assert text[0].isupper()
        assert not re.search(r"[{}]|\ba [aeiou]|\ban [^aeiou]", text, re.IGNORECASE), text


def test_sentences_of_a_template_differ_in_the_term_alone():
    found = by_category(base)
    assert list(found) == CATEGORIES
    assert sum(each.num_sentences for each in found.values()) == len(scored_texts())
    for each in found.values():
        words = sorted((w for term in each.terms for w in term.words), key=len, reverse=True)
        pattern = re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)
        texts = [text for text in scored_texts() if pattern.search(text)]
        assert len({len(term.words) for term in each.terms}) == 1
        frames = {pattern.sub("_", text, count=1) for text in texts}
        num_wordings = each.num_sentences // each.num_templates // len(each.terms)
        assert len(frames) in (each.num_templates, each.num_templates * num_wordings)


def test_results_are_json_and_depend_on_the_seed_alone():
    def written(seed):
        return json.dumps([asdict(found) for found in by_category(noisy, seed=seed).values()],
                          allow_nan=False)  # fmt: skip

    assert written(0) == written(0) != written(1)


def test_the_score_function_is_called_once():
    calls = []
    measure(lambda texts: calls.append(len(texts)) or np.full(len(texts), 0.5))
    assert len(calls) == 1
