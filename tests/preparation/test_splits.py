"""Equal texts are in the same split, new rows move no others, and shares are as requested."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.data.arrays import hash_strings, normalize_text
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.preparation.steps import (
    assign_by_hash,
    assign_by_row_number,
    assign_by_time,
    time_bounds,
)

SETTINGS = settings(max_examples=60, deadline=None)

TEXTS = st.lists(st.text(max_size=12), min_size=1, max_size=12)
BLANKS = "  \t\n\r\x0b\x0c\x1c\x1f\x85\u00a0\u1680\u2003\u2028\u3000"
BLANK_TEXTS = st.lists(
    st.text(st.sampled_from(BLANKS + "aB\x00\x7f\u00a8\u0301") | st.characters(codec="utf-8"))
    | st.lists(st.sampled_from(["a", "B", " ", "  "])).map("".join)
    | st.none(),
    max_size=8,
)
FRACTIONS = {"validation_fraction": 0.1, "test_fraction": 0.2}
SHARES = st.tuples(st.floats(0, 0.9, exclude_min=True), st.floats(0, 0.9, exclude_min=True)).filter(
    lambda shares: sum(shares) < 1
)


def hash_text(texts):
    """Hash texts as preparation does."""
    return hash_strings(normalize_text(texts))


def splits_of(texts, **fractions):
    """Name each text's split."""
    hashes = hash_text(pa.array(texts, pa.string()))
    return [SPLITS[number] for number in assign_by_hash(hashes, **(FRACTIONS | fractions))]


def normalize_plainly(text):
    """Normalize as the first version did: every text through the regular expression."""
    folded = pc.utf8_lower(pc.utf8_normalize(text, form="NFKD"))
    blanks = r"[\s\p{Z}\x{0B}\x{1C}-\x{1F}\x{85}]+"
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(folded, blanks, " "))


def divide(times, validation_fraction, test_fraction):
    """Split rows by time; returns the rows' splits."""
    distinct, counts = np.unique(times, return_counts=True)
    bounds = time_bounds(
        distinct,
        counts,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
    )
    return assign_by_time(np.array(times, np.int64), bounds=bounds)


def normalized(text):
    """Normalize one text."""
    return normalize_text(pa.array([text]))[0].as_py()


@pytest.fixture(scope="module")
def random_texts():
    """20,000 texts, all different."""
    rng = np.random.default_rng(0)
    words = rng.integers(10**6, size=(20_000, 3))
    return [f"word{a} {b} number {row} {c}" for row, (a, b, c) in enumerate(words)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("Good Day", "gOOD dAY", id="case"),
        pytest.param("good day", "  good \t\r\n day ", id="white space"),
        pytest.param("good day", "good\u00a0\u2003day\u3000", id="blanks beyond ASCII"),
        pytest.param("good day", "\uff47\uff4f\uff4f\uff44 day", id="full width"),
        pytest.param("caf\u00e9", "cafe\u0301", id="composed accent"),
        pytest.param("STRA\u1e9eE", "stra\u00dfe", id="case beyond ASCII"),
        pytest.param("\u2460 \ufb01ne", "1 fine", id="compatibility characters"),
    ],
)
def test_texts_that_look_equal_hash_alike(one, other):
    first, second = hash_text(pa.array([one, other]))
    assert first == second


@SETTINGS
@given(TEXTS, st.sampled_from([str.upper, str.lower, " {} ".format, "{}\n".format]))
def test_equal_normalized_texts_are_in_one_split(texts, disguise):
    disguised = [disguise(text) for text in texts]
    split = {}
    for text, found in zip(texts + disguised, splits_of(texts + disguised), strict=True):
        assert split.setdefault(normalized(text), found) == found


@SETTINGS
@given(BLANK_TEXTS, BLANK_TEXTS, BLANK_TEXTS)
def test_texts_are_normalized_as_by_the_regular_expression_alone(before, texts, after):
    whole = pa.array([*before, *texts, *after], pa.string())
    part = whole[len(before) : len(before) + len(texts)]
    expected = normalize_plainly(part)
    assert normalize_text(part).equals(expected)
    assert normalize_text(part).type == pa.string()


@SETTINGS
@given(TEXTS, TEXTS, st.randoms(use_true_random=False))
def test_adding_rows_moves_nothing(texts, more, random):
    mixed = [*texts, *more]
    random.shuffle(mixed)
    together = dict(zip(mixed, splits_of(mixed), strict=True))
    assert [together[text] for text in texts] == splits_of(texts)
    assert [splits_of([text])[0] for text in texts] == splits_of(texts)


@pytest.mark.parametrize(
    ("validation", "test"), [(0.1, 0.1), (0.05, 0.3), (0.0, 0.2), (0.2, 0.0), (0.5, 0.5)]
)
def test_fractions_are_about_right(random_texts, validation, test):
    found = splits_of(random_texts, validation_fraction=validation, test_fraction=test)
    shares = [found.count(split) / len(found) for split in SPLITS]
    assert shares == pytest.approx([1 - validation - test, validation, test], abs=0.01)


def test_hashes_are_the_same_everywhere():
    texts = pa.array(["", "good day", "Good  Day", "caf\u00e9 \u2665"])
    # SipHash-2-4 under the key b"sentiflow-splits", then the finalizer of SplitMix64.
    assert [f"{number:016x}" for number in hash_text(texts)] == [
        "d3dbed648b29a772",
        "bc5e3eb78f12993b",
        "bc5e3eb78f12993b",
        "f9f06b376ec07423",
    ]


@SETTINGS
@given(st.lists(st.sampled_from(["ann", "Ann", "bob", "ann ", "\u00c5nn", ""]), min_size=1))
def test_rows_of_one_user_are_in_one_split(users):
    numbers = assign_by_hash(hash_strings(pa.array(users)), **FRACTIONS)
    assert len(set(zip(users, numbers.tolist(), strict=True))) == len(set(users))


def test_the_tutorial_splits_by_row_number_modulo_5():
    # Part B of the tutorial: `if i % 5 < 3` train, `elif i % 5 == 4` validation, else test.
    rows = np.array([0, 1, 2, 3, 4, 5, 8, 9, 1_599_999])
    names = [SPLITS[number] for number in assign_by_row_number(rows)]
    assert names == ["train"] * 3 + ["test", "validation", "train", "test"] + ["validation"] * 2


TIMES = st.lists(st.integers(-5, 9), min_size=3).filter(lambda times: len(set(times)) >= 3)


@SETTINGS
@given(TIMES, SHARES)
def test_rows_of_one_time_are_in_one_split_and_splits_are_in_order(times, shares):
    split = divide(times, *shares)
    times = np.array(times)
    train, validation, test = (times[split == number] for number in range(3))
    assert min(len(train), len(validation), len(test)) > 0
    assert max(train) < min(validation)
    assert max(validation) < min(test)


@SETTINGS
@given(TIMES, SHARES)
def test_no_bounds_come_nearer_to_the_fractions_than_those_chosen(times, shares):
    validation, test = shares

    def distance(first, second):
        until_first = sum(time <= first for time in times)
        until_second = sum(time <= second for time in times)
        exact_first = len(times) * (1 - validation - test)
        exact_second = len(times) * (1 - test)
        return abs(until_first - exact_first) + abs(until_second - exact_second)

    distinct, counts = np.unique(times, return_counts=True)
    chosen = time_bounds(distinct, counts, validation_fraction=validation, test_fraction=test)
    possible = itertools.combinations(distinct[:-1].tolist(), 2)
    assert distance(*chosen) == pytest.approx(min(distance(*pair) for pair in possible))


def test_a_frequent_time_is_in_one_split_and_leaves_no_split_empty():
    assert np.bincount(divide([1] * 90 + [2] * 5 + [3] * 5, 0.3, 0.3)).tolist() == [90, 5, 5]
    assert np.bincount(divide([1] * 5 + [2] * 5 + [3] * 90, 0.3, 0.3)).tolist() == [5, 5, 90]
    assert np.bincount(divide([1] * 5 + [2] * 90 + [3] * 5, 0.1, 0.1)).tolist() == [5, 90, 5]


@pytest.mark.parametrize("times", [[], [7], [7, 7, 8, 8, 8]])
def test_fewer_than_three_times_are_refused(times):
    with pytest.raises(UserError, match=rf"needs three distinct times.*have {len(set(times))}: "):
        divide(times, 0.1, 0.1)
