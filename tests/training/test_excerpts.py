"""Excerpts are what is left of a text when words are left out."""

import re

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.training import excerpts
from sentiflow.training.learned_classes import LearnedClasses

SPLIT = {"validation_fraction": 0.1, "test_fraction": 0.1}
TEXTS = ["so good, thanks a lot", "今天天气很好", "ok", "", "   "]


@given(st.text(alphabet="ab今ก่\u0301 \n,", max_size=30))
def test_an_excerpt_has_words_of_the_text_in_their_order(text):
    for excerpt in excerpts.make(pa.array([text]), 5).to_pylist():
        assert excerpt
        pattern = ".*".join(map(re.escape, re.findall(r"\S", excerpt)))
        assert re.search(pattern, text, re.DOTALL), "letters in the order of the text"
        words = re.findall(r"[ab,]+", text)
        assert all(word in words for word in re.findall(r"[ab,]+", excerpt)), "whole words"


def test_equal_texts_have_equal_excerpts_and_more_of_them_begin_with_these():
    alone, together = (excerpts.make(pa.array(each), 6).to_pylist() for each in (TEXTS[:1], TEXTS))
    assert len(alone) > 3
    assert together[: len(alone)] == alone
    assert excerpts.make(pa.array([TEXTS[0].upper()]), 1).to_pylist() == [alone[0].upper()]
    assert excerpts.make(pa.array(TEXTS[:1]), 4).to_pylist() == alone[:4]


def test_no_excerpt_is_made_of_many_texts():
    learned = LearnedClasses(("bad", "good"), np.array([1, 1]), np.array([0, 1, -1]), weights=None)
    counts = []
    for number in (10, 3_000, 5_000, 12_001):
        labels = {"train": {"bad": number - 1, "other": 9_000}, "validation": {"good": 1}}
        prepared = {"counts": {"labels": labels}, "settings": {"split": SPLIT}}
        counts.append(excerpts.count(prepared, learned))
    assert counts == [4, 4, 2, 0]
    assert excerpts.make(pa.array(TEXTS), 0).to_pylist() == []
