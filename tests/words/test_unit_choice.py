"""A network reads characters where most words occur once and have no vector."""

import numpy as np
import pyarrow as pa

from sentiflow.config.text_units import CHARACTERS, WORDS
from sentiflow.models.tokens import Tokens
from sentiflow.words import unit_choice
from sentiflow.words.word_vectors import WordVectors

VECTORS = WordVectors(pa.array(["film", "good"]), np.zeros((2, 50), np.float32))


def choose(*texts):
    lists = pa.array([text.split() for text in texts], pa.list_(pa.string()))
    return unit_choice.choose(Tokens.from_lists(lists), VECTORS)


def test_many_forms_of_each_word():
    found = choose("영화가 좋다", "영화는 좋고", "영화도 좋은데")
    assert found == (CHARACTERS, 1.0, 0.0)
    assert found.reason_for_characters == "100% of the words occur once, and 0% have a vector"


def test_words_with_a_vector_say_enough():
    found = choose("film good", "film gut", "film schlecht")
    assert (found.unit, found.reason_for_characters) == (WORDS, "")
    assert (found.once_fraction, found.vector_fraction) == (3 / 6, 4 / 6)


def test_words_that_come_back_say_enough():
    assert choose("le film", "le film", "un film est bon").unit == WORDS


def test_marks_are_no_words():
    assert choose("! <user> :) 3.5") == (WORDS, 0.0, 0.0)
    assert choose().unit == WORDS


def test_only_the_first_texts_count():
    many = ["영화가"] * unit_choice._NUM_TEXTS + ["a", "b", "c"]
    assert choose(*many).once_fraction == 0
