"""The published sets are whole, and each word stands in one once."""

import pytest

from sentiflow.words.word_bias import GENDER_PAIRS, PROFESSIONS, TESTS

SIZES = {
    "WEAT 1": (25, 25, 25, 25),
    "WEAT 2": (25, 25, 25, 25),
    "WEAT 3": (32, 32, 25, 25),
    "WEAT 4": (16, 16, 25, 25),
    "WEAT 5": (16, 16, 8, 8),
    "WEAT 6": (8, 8, 8, 8),
    "WEAT 7": (8, 8, 8, 8),
    "WEAT 8": (8, 8, 8, 8),
    "WEAT 9": (6, 6, 7, 7),
    "WEAT 10": (8, 8, 8, 8),
}
"""Of targets and attributes, in table 1 of the paper and its supplement."""


def test_each_set_has_the_size_published():
    assert {test.name: tuple(len(each.words) for each in test.sets) for test in TESTS} == SIZES


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.name)
def test_no_word_is_repeated_in_a_set_or_in_its_counterpart(test):
    for first, second in (test.targets, test.attributes):
        words = [word.lower() for word in first.words + second.words]
        assert len(set(words)) == len(words)
        assert first.name != second.name


def test_ten_pairs_define_gender_the_male_word_first():
    assert len(GENDER_PAIRS) == 10
    assert len({word for pair in GENDER_PAIRS for word in pair}) == 20
    male, female = map(set, zip(*GENDER_PAIRS, strict=True))
    assert "he" in male
    assert "she" in female


def test_professions_are_distinct_single_words_in_order():
    assert list(PROFESSIONS) == sorted(set(PROFESSIONS))
    assert all(word.isalpha() and word.islower() for word in PROFESSIONS)
    assert len(PROFESSIONS) >= 40
