"""Tokens are split into the units that a network reads."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.config.text_units import CHARACTERS, WORDS
from sentiflow.models import units
from sentiflow.models.tokenizer import tokenize


def characters(text):
    tokens = tokenize(pa.array([text]), name="tweet")
    (listed,) = units.split(tokens, CHARACTERS).to_lists().to_pylist()
    return listed


def test_words_stay_as_they_are():
    tokens = tokenize(pa.array(["영화 진짜 재밌다", ""]), name="tweet")
    assert units.split(tokens, WORDS) is tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("영화 진짜", ["영", "화", "진", "짜"]),
        ("güzeldi!", ["g", "ü", "z", "e", "l", "d", "i", "!"]),
        ("அருமை", ["அ", "ரு", "மை"]),  # a letter and its vowel sign are a character
        ("नमस्ते", ["न", "म", "स्", "ते"]),
        ("b2b", ["b", "2", "b"]),
        ("映画", ["映", "画"]),
        ("", []),
    ],
)
def test_words_become_their_characters(text, expected):
    assert characters(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@ann http://t.co/x a@b.com", ["<user>", "<url>", "<email>"]),
        (":) :d t_t 😀 <3", [":)", ":d", "t_t", "😀", "<3"]),
        ("3.5 10:30 2024", ["3.5", "10:30", "2024"]),
        ("can't", ["c", "a", "n't"]),
        ("#대박 대박", ["#", "대박", "대", "박"]),
        ("a # b", ["a", "#", "b"]),
    ],
)
def test_other_tokens_and_hashtags_stay_whole(text, expected):
    assert characters(text) == expected


def test_a_hashtag_begins_in_its_own_text():
    tokens = tokenize(pa.array(["좋다 #", "영화 #대박"]), name="tweet")
    lists = units.split(tokens, CHARACTERS).to_lists().to_pylist()
    assert lists == [["좋", "다", "#"], ["영", "화", "#", "대박"]]


@given(st.lists(st.text(max_size=30), max_size=6))
def test_no_letter_is_lost_or_moved(texts):
    tokens = tokenize(pa.array(texts, pa.string()), name="tweet")
    split = units.split(tokens, CHARACTERS)
    assert ["".join(each) for each in split.to_lists().to_pylist()] == [
        "".join(each) for each in tokens.to_lists().to_pylist()
    ]
    assert not split.words.null_count
    assert "" not in split.words.to_pylist()
