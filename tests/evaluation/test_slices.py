"""Each text is in the slices that a reader would expect, and in no other."""

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.errors import UserError
from sentiflow.evaluation import slices, text_traits


def names_of(text, **more):
    """Name the slices of one text, but for those by length and by unknown tokens."""
    return {item for item in slices_of([text], **more) if "token" not in item}


def slices_of(texts, num_tokens=None, *, patterns=None):
    rows = {"text": pa.array(texts, pa.string()), "num_tokens": num_tokens or [1] * len(texts)}
    table = describe(pa.table(rows), patterns or {})
    found = slices.find(table, patterns=patterns or {})
    return {item.name: np.flatnonzero(item.mask).tolist() for item in found}


def describe(table, patterns):
    settings = {"tokenizer": "tweet", "max_length": 64}
    return text_traits.describe_table(table, settings=settings, patterns=patterns).rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("good morning", set()),
        ("I do NOT like it", {"negation"}),
        ("i don't know", {"negation"}),
        ("I dont know", {"negation"}),
        ("ain\u2019t it nice", {"negation"}),
        ("a knot in another note", set()),
        ("@sam hi", {"mention"}),
        ("see http://a.b/c?d=e", {"link", "question"}),
        ("www.example.com is up", {"link"}),
        ("love #friday", {"hashtag"}),
        ("we are #1 a#b", {"hashtag"}),
        ("a#b", set()),
        ("sooo nice", {"elongation"}),
        ("soo nice", set()),
        ("NOOOO", {"elongation"}),
        ("nice :)", {"happy emoticon"}),
        ("nice :-D", {"happy emoticon"}),
        ("love you <3", {"happy emoticon"}),
        ("oh :(", {"sad emoticon"}),
        ("oh :'(", {"sad emoticon"}),
        ("</3", {"sad emoticon"}),
        ("http://a.b:/c", {"link"}),
        ("it is 3:(4)", set()),
        ("cold (-5 degrees)", set()),
        ("go :Done", set()),
        ("8) item", set()),
        ("mail me@home.org", set()),
        ("nice :), really", {"happy emoticon"}),
        ("THIS IS LOUD", {"shouting"}),
        ("THIS IS quiet", set()),
        ("really?", {"question"}),
    ],
)
def test_a_text_is_in_the_slices_that_its_words_say(text, expected):
    assert names_of(text) == expected


def test_lengths_are_the_tokenizers_and_every_text_has_one():
    found = slices_of(["a", "a b c d e", " ".join("x" * 14), "x " * 400, ""])
    by_length = {name: rows for name, rows in found.items() if "unknown" not in name}
    assert by_length["0 to 4 tokens"] == [0, 4]
    assert by_length["5 to 9 tokens"] == [1]
    assert by_length["10 to 14 tokens"] == [2]
    assert by_length["30 tokens or more"] == [3]


def test_shares_of_unknown_tokens_part_the_texts():
    text = "a b c d e f g h i j"
    found = slices_of([text] * 5, num_tokens=[10, 9, 8, 2, 0])
    assert found["no unknown token"] == [0]
    assert found["unknown tokens, up to a tenth"] == [1]
    assert found["unknown tokens, a tenth to a quarter"] == [2]
    assert found["unknown tokens, over a quarter"] == [3]
    assert found["no known token"] == [4]


def test_repeats_are_equal_but_for_case_and_white_space():
    assert slices_of(["Good  day", "good day", "a good day"])["repeated"] == [0, 1]


def test_a_users_slice_takes_the_place_of_one_of_its_name():
    assert slices_of(["why?", "so"], patterns={"question": "so"})["question"] == [1]


def test_a_column_has_a_slice_for_each_value_and_one_for_rare_values():
    airline = ["Delta"] * 100 + ["United"] * 60 + [None] * 31 + ["Virgin"] * 5 + ["Southwest"] * 4
    rows = pa.table({slices.OWN + "airline": airline})
    found = slices.find(rows, patterns={}, columns=["airline"])
    counts = {item.name: int(item.mask.sum()) for item in found}
    assert counts == {
        "airline: Delta": 100,
        "airline: United": 60,
        "airline: (empty)": 31,
        "airline: other": 9,
    }
    assert found[-1].about == "2 values of fewer rows"


def test_own_slices_need_a_text():
    table = pa.table({"row_id": [0, 1], "text": ["Rain", "dry"]})

    def check(patterns):
        slices.check_patterns(describe(table, patterns), patterns)

    check({"weather": "(?i)rain"})
    without_texts = table.drop_columns("text")
    slices.check_patterns(without_texts, {})
    with pytest.raises(UserError, match=r"^no text is in the slice a \(rain\), b \(sun\): 2 eval"):
        check({"a": "rain", "b": "sun", "c": "dry"})
    with pytest.raises(UserError, match=r"^the slices a need the texts.*keep_columns=\[text\]$"):
        slices.check_patterns(without_texts, {"a": "rain"})


def test_slices_by_length_are_named_after_what_the_network_reads():
    texts = ["영화가 좋다", "정말 " * 15, "정말 " * 75]
    rows = pa.table({"text": texts, "num_tokens": [5, 30, 0]})
    settings = {"tokenizer": "tweet", "max_length": 256, "unit": "characters"}
    table = text_traits.describe_table(rows, settings=settings, patterns={}).rows
    names = {item.name for item in slices.find(table, patterns={}, unit="characters")}
    assert {"0 to 24 characters", "25 to 49 characters", "150 characters or more"} <= names
    assert "no unknown character" in names
    assert "no known character" in names
    assert not any("token" in name for name in names)
