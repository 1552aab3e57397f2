"""The words named are those that the fewest edits lead to."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.words.geometry import find_similar

SHORT_WORDS = st.text("abcé", max_size=6)


def count_edits(a: str, b: str) -> int:
    """Count edits letter by letter, as the formula has it."""
    if not a or not b:
        return len(a) + len(b)
    best = min(
        count_edits(a[:-1], b) + 1,
        count_edits(a, b[:-1]) + 1,
        count_edits(a[:-1], b[:-1]) + (a[-1] != b[-1]),
    )
    if a[-2:] == b[-2:][::-1] and len(a) > 1:
        best = min(best, count_edits(a[:-2], b[:-2]) + 1)
    return best


@given(SHORT_WORDS, st.lists(SHORT_WORDS, unique=True, max_size=12))
def test_similar_words_are_sorted_by_edits_then_by_order(word, known):
    edits = {other: count_edits(word, other) for other in known if other}
    near = [other for other in edits if edits[other] <= min(2, len(word) // 2)]
    expected = sorted(near, key=lambda other: edits[other])[:3]
    assert find_similar(word, pa.array(known, pa.string())) == expected


@pytest.mark.parametrize(
    ("word", "first"),
    [("receieve", "receive"), ("womna", "woman"), ("Amsterdam", "amsterdam"), ("NAÏVE", "naïve")],
)
def test_the_intended_word_is_first(glove, word, first):
    assert find_similar(word, glove.words)[0] == first


@pytest.mark.parametrize("word", ["", "q", "qqxxqqxx", "x" * 300])
def test_a_word_like_no_other_gets_no_suggestion(word):
    assert find_similar(word, pa.array(["the", "", "a", "ab"])) == []


def test_no_words_give_no_suggestion():
    assert find_similar("the", pa.array([], pa.string())) == []
