"""Answers of a teacher are found by text, and a wrong one is refused with its row."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiflow.data.answers import Answers, read_answers
from sentiflow.data.arrays import hash_texts
from sentiflow.errors import UserError

CLASSES = ("negative", "positive")


def write(folder, name="a.parquet", **columns):
    """Write a file; ``p`` is the probability of positive."""
    if "p" in columns:
        positive = np.array(columns.pop("p"), np.float64)
        columns |= {"probability_positive": positive, "probability_negative": 1 - positive}
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


def read(*uris, classes=CLASSES):
    return read_answers(uris, classes)


def find(found, texts):
    """Look texts up; None where there is no answer."""
    is_known, probabilities = found.find(hash_texts(pa.array(texts)))
    return [p[1] if known else None for known, p in zip(is_known, probabilities, strict=True)]


def test_an_answer_is_found_by_its_text_without_case_and_surplus_blanks(tmp_path):
    found = read(write(tmp_path, text=["Good  day", "bad"], p=[0.75, 0.25]))
    assert find(found, ["good day", "BAD ", "else"]) == [0.75, 0.25, None]
    found.save(str(tmp_path / "saved.arrow"))
    again = Answers.load(str(tmp_path / "saved.arrow"))
    assert find(again, ["good day", "BAD ", "else"]) == [0.75, 0.25, None]


def test_a_text_that_was_answered_twice_gets_the_mean(tmp_path):
    first = write(tmp_path, text=["good", "bad"], p=[1.0, 0.0])
    second = write(tmp_path, "b.parquet", text=["Good"], p=[0.5])
    assert find(read(first, second), ["good", "bad"]) == [0.75, 0.0]


def test_further_classes_of_a_teacher_are_left_out_and_the_rest_sums_to_1(tmp_path):
    uri = write(
        tmp_path,
        text=["good", "so so"],
        probability_neutral=[0.5, 1.0],
        probability_positive=[0.4, 0.0],
        probability_negative=[0.1, 0.0],
    )
    found = read(uri)
    np.testing.assert_allclose(find(found, ["good"]), [0.8], rtol=1e-6)
    assert find(found, ["so so"]) == [None], "nothing is left of this answer"


def test_few_digits_are_enough_and_hard_answers_too(tmp_path):
    uri = write(
        tmp_path, text=["a", "b"], probability_negative=[0.334, 0.0],
        probability_positive=[0.655, 1.0],
    )  # fmt: skip
    np.testing.assert_allclose(find(read(uri), ["a", "b"]), [0.655 / 0.989, 1], rtol=1e-6)
    whole = write(tmp_path, text=["a"], probability_negative=[0], probability_positive=[1])
    assert find(read(whole), ["a"]) == [1]


def test_a_file_without_rows_answers_nothing(tmp_path):
    uri = write(tmp_path, text=pa.array([], pa.string()), p=[])
    assert find(read(uri), ["good"]) == [None]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"text": ["a"]}, r"has no column probability_negative, probability_positive: it has text"),
        ({"text": ["a"], "probability_positive": [1.0]}, "has no column probability_negative"),
        ({"id": ["a"], "p": [1.0]}, "has no column text of strings"),
        ({"text": [1], "p": [1.0]}, "has no column text of strings"),
        ({"text": ["a", None], "p": [1.0, 1.0]}, "has no text in row 1"),
        ({"text": ["a", "b"], "p": [1, np.nan]}, "has a probability not from 0 to 1 in row 1"),
        ({"text": ["a", "b"], "p": [1, 1.5]}, "has a probability not from 0 to 1 in row 1"),
        ({"text": ["a"], "probability_negative": [None], "probability_positive": [1.0]},
         "probability_negative of type null"),
        ({"text": ["a", "b"], "probability_negative": [0.5, 0.1],
          "probability_positive": [0.5, 0.4]}, "has probabilities that do not sum to 1 in row 1"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line(tmp_path, columns, line):
    uri = write(tmp_path, **columns)
    with pytest.raises(UserError, match=line) as raised:
        read(uri)
    assert "a.parquet" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_row_is_named_by_its_number_in_the_whole_file(tmp_path):
    values = np.full(300_000, 0.5)
    values[290_000] = np.nan
    uri = write(tmp_path, text=["a"] * 300_000, p=values)
    with pytest.raises(UserError, match="from 0 to 1 in row 290,000"):
        read(uri)


def test_what_is_not_parquet_is_refused(tmp_path):
    (tmp_path / "b.parquet").write_text("text")
    with pytest.raises(UserError, match=r"b\.parquet is not Parquet"):
        read(str(tmp_path / "b.parquet"))
