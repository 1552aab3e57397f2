"""Made-up sentences are in order, and a changed text differs in what its test says."""

import hashlib
import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.evaluation.behavior_cases import make_tests

TEXTS = [
    "@ann I don't LIKE it, but... http://a.example/b?c=D. ",
    "caf&eacute;s &amp; www.a.example are nice",
    "WE CAN'T wait for Friday!!",
    "The end.",
    "on @ann",
    "'t was nice...",
    "so it goes",
]
TWEETS = st.lists(st.text("abn ANT'\u2019t.,!&;@#:/\n\u00e9", max_size=30), max_size=5)


def cases_by_name(texts, *, seed=0):
    return {test.name: test.cases for test in make_tests(texts, seed=seed)}


def test_the_cases_of_a_seed_stay_the_same():
    """Pass rates of two versions can be compared as long as the cases are equal."""
    tests = [(test.kind, test.name, test.cases) for test in make_tests(TEXTS, seed=0)]
    digest = hashlib.sha256(json.dumps(tests).encode()).hexdigest()
    assert digest == "9996958052da99f89b91b382aeed25ed94b1543a08d544ef7afa291bbb444c0c"


@pytest.fixture(scope="module")
def made_up():
    return list(make_tests([], seed=0))


def test_sentences_are_in_order(made_up):
    for test in made_up:
        for text in {text for case in test.cases for text in case if text}:
            assert text == " ".join(text.split()), test.name
            assert text[0].isupper() or test.name in ("smile", "frown"), text
            assert not re.search(r"[{}]|\ba [aeiou]|\ban [^aeiou]", text, re.IGNORECASE), text


def test_each_test_has_a_good_many_distinct_cases(made_up):
    for test in made_up:
        assert 30 <= len(test.cases) <= 150, test.name
        assert len(set(test.cases)) == len(test.cases), test.name


def test_no_sentence_has_two_labels(made_up):
    functions = [test for test in made_up if test.kind == "minimum function"]
    labels = {text: test.expectation for test in functions for text, _ in test.cases}
    assert len(labels) == sum(len(test.cases) for test in functions)


def test_both_labels_are_tested(made_up):
    ends = Counter(t.expectation.split()[-1] for t in made_up if t.kind == "minimum function")
    assert ends == {"positive.": 7, "negative.": 8}


def test_names_and_expectations_are_distinct_sentences(made_up):
    tests = [*made_up, *make_tests(TEXTS, seed=0)][len(made_up) :]
    assert len({test.name for test in tests}) == len(tests)
    assert len({test.expectation for test in tests}) == len(tests)
    for test in tests:
        assert re.fullmatch(r'["A-Z].*\.', test.expectation)


def test_tests_are_ordered_by_kind():
    kinds = [test.kind for test in make_tests(TEXTS, seed=0)]
    assert kinds == sorted(kinds, key=["minimum function", "invariance", "direction"].index)


@settings(max_examples=100, deadline=None)
@given(texts=TWEETS, seed=st.integers(0, 3))
def test_every_case_is_changed_and_no_text_is_made_up(texts, seed):
    of_sentences = cases_by_name([])
    for name, cases in cases_by_name(texts, seed=seed).items():
        if name in of_sentences:
            assert cases == of_sentences[name]
            continue
        assert {text for text, _ in cases} <= set(texts)
        assert len({text for text, _ in cases}) == len(cases)
        assert all(changed and changed != text for text, changed in cases)


@settings(max_examples=100, deadline=None)
@given(texts=TWEETS, seed=st.integers(0, 3))
def test_a_typo_swaps_two_neighbors_within_a_word(texts, seed):
    for text, changed in cases_by_name(texts, seed=seed).get("typo", ()):
        first, second = (i for i, (a, b) in enumerate(zip(text, changed, strict=True)) if a != b)
        assert second == first + 1
        assert (text[first], text[second]) == (changed[second], changed[first])
        assert text[first - 1 : second + 2].isalpha()
        assert len(text[first - 1 : second + 2]) == 4


def test_a_typo_swaps_two_different_letters():
    made = {cases_by_name(["steEl"], seed=seed)["typo"][0][1] for seed in range(20)}
    assert made == {"setEl"}
    assert cases_by_name(["look, a cooool b2b-word"])["typo"] == []


def test_typos_follow_the_seed():
    made = [tuple(cases_by_name(TEXTS, seed=seed)["typo"]) for seed in (0, 0, 1, 2, 3, 4)]
    assert made[0] == made[1]
    assert len(set(made)) > 1
    assert all("ann" in changed for typos in made for text, changed in typos if "ann" in text)


def test_each_change_is_the_one_it_says():
    changed = {name: dict(cases) for name, cases in cases_by_name(TEXTS).items()}
    first, second, third, fourth, fifth, sixth, last = TEXTS
    assert changed["mention"][last] == "@somebody so it goes"
    assert changed["link"][first] == f"{first.strip()} http://example.com/a1b2c3"
    assert changed["white space"][first].split() == first.split()
    assert changed["white space"][last] == "  so  it  goes"
    assert changed["apostrophe"] == {
        first: first.replace("don't", "dont"),
        third: "WE CANT wait for Friday!!",
    }
    assert changed["upper case"] == {
        first: "@ann I DON'T LIKE IT, BUT... http://a.example/b?c=D. ",
        second: "CAF&eacute;S &amp; www.a.example ARE NICE",
        third: "WE CAN'T WAIT FOR FRIDAY!!",
        fourth: "THE END.",
        fifth: "ON @ann",
        sixth: "'T WAS NICE...",
        last: "SO IT GOES",
    }
    assert changed["full stop"] == {
        first: first.strip()[:-1],
        second: f"{second}.",
        fourth: "The end",
        last: "so it goes.",
    }
    assert changed["added praise"][last] == "so it goes. I love it"
    assert changed["added praise"][sixth] == "'t was nice... I love it"
    assert changed["added praise"][fifth] == "on @ann I love it"
    assert changed["added complaint"][third] == "WE CAN'T wait for Friday!! I hate it"
    assert changed["added complaint"][fourth] == "The end. I hate it"
