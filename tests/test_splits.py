"""Equal texts stay together, new rows move none, and the shares are about those asked for."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.schema import SPLITS
from sentiflow.splits import assign_by_hash, assign_by_row_number, hash_text, normalize_text

SETTINGS = settings(max_examples=100, deadline=None)

TEXTS = st.lists(st.text(max_size=12), min_size=1, max_size=12)
FRACTIONS = {"validation_fraction": 0.1, "test_fraction": 0.2}


def splits_of(texts, **fractions):
    """Name each text's split."""
    numbers = assign_by_hash(pa.array(texts, pa.string()), **(FRACTIONS | fractions))
    return [SPLITS[number] for number in numbers]


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


@pytest.mark.parametrize(
    "other", ["good  days", "goodday", "good day!", "@ann good day", "g\u00f6od day"]
)
def test_texts_that_differ_hash_apart(other):
    assert len(set(hash_text(pa.array(["good day", other])))) == 2


@SETTINGS
@given(TEXTS, st.sampled_from([str.upper, str.lower, " {} ".format, "{}\n".format]))
def test_equal_normalized_texts_never_part(texts, disguise):
    disguised = [disguise(text) for text in texts]
    split = {}
    for text, found in zip(texts + disguised, splits_of(texts + disguised), strict=True):
        assert split.setdefault(normalized(text), found) == found


@pytest.mark.parametrize("text", ["caf\u00e9", "cafe\u0301", "\uac00", "\ufb01\u00f6"])
def test_normalized_text_is_in_form_nfkd(text):
    assert normalized(text) == unicodedata.normalize("NFKD", text)


@pytest.mark.parametrize("blank", ["\x0b", "\x1c", "\x85", "\u1680", "\u2028", "\u2029"])
def test_any_white_space_collapses(blank):
    assert normalized(f"good{blank}day") == "good day"


@SETTINGS
@given(st.text(max_size=20))
def test_normalizing_twice_changes_nothing(text):
    assert normalized(normalized(text)) == normalized(text)


@SETTINGS
@given(TEXTS, TEXTS, st.randoms(use_true_random=False))
def test_adding_rows_moves_nothing(texts, more, random):
    mixed = [*texts, *more]
    random.shuffle(mixed)
    together = dict(zip(mixed, splits_of(mixed), strict=True))
    assert [together[text] for text in texts] == splits_of(texts)
    assert [splits_of([text])[0] for text in texts] == splits_of(texts)


def test_more_validation_or_test_takes_rows_from_train_alone(random_texts):
    before = splits_of(random_texts)
    after = splits_of(random_texts, validation_fraction=0.3)
    moves = {pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]}
    assert moves == {("train", "validation")}


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


def test_a_slice_of_texts_is_assigned_as_a_copy(random_texts):
    texts = pa.array(random_texts[:200])
    whole = assign_by_hash(texts, **FRACTIONS)
    assert assign_by_hash(texts[50:120], **FRACTIONS).tolist() == whole[50:120].tolist()


def test_no_rows_have_no_splits():
    assert splits_of([]) == []
    assert assign_by_row_number(np.arange(0)).tolist() == []


def test_the_tutorial_splits_by_row_number_modulo_5():
    # Part B of the tutorial: `if i % 5 < 3` train, `elif i % 5 == 4` validation, else test.
    rows = np.array([0, 1, 2, 3, 4, 5, 8, 9, 1_599_999])
    names = [SPLITS[number] for number in assign_by_row_number(rows)]
    assert names == ["train"] * 3 + ["test", "validation", "train", "test"] + ["validation"] * 2
