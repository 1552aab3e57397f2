"""Each text is in the slices that a reader would expect, and in no other."""

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from sentiflow.errors import UserError
from sentiflow.evaluation import slices
from sentiflow.evaluation.slices import SliceOfRows


def names_of(text, **more):
    """Name the slices of one text, but for those by length and by unknown tokens."""
    return {item for item in slices_of([text], **more) if "token" not in item}


def slices_of(texts, num_tokens=None, *, patterns=None):
    rows = {"text": pa.array(texts, pa.string()), "num_tokens": num_tokens or [1] * len(texts)}
    table = pa.table(rows)
    tokens = slices.read_tokens(table, {"tokenizer": "tweet", "max_length": 64})
    found = slices.find(table, tokens, patterns=patterns or {})
    return {item.name: np.flatnonzero(item.mask).tolist() for item in found}


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


def test_the_metrics_of_a_slice_equal_hand_counted_ones():
    label = np.array([1, 1, 0, 0, 1])
    prediction = np.array([1, 0, 0, 0, 0])
    probability = np.array([0.9, 0.4, 0.1, 0.2, 0.3])
    rows = np.array([True, True, True, False, False])
    (found,) = slices.measure(
        [SliceOfRows("three", "", rows)],
        label=label,
        probability=probability,
        prediction=prediction,
    )
    assert (found.num_rows, found.fraction) == (3, 0.6)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.difference == pytest.approx(2 / 3 - 1 / 2)
    assert found.positive_fraction == pytest.approx(2 / 3)
    assert found.mean_probability == pytest.approx(1.4 / 3)
    assert found.low < found.accuracy < found.high
    assert found.f1_macro == pytest.approx(2 / 3)
    assert found.labelled_shares == pytest.approx({"negative": 1 / 3, "positive": 2 / 3})
    assert found.predicted_shares == pytest.approx({"negative": 2 / 3, "positive": 1 / 3})
    name, *shares = found.widest_gap
    assert (name, shares) == ("negative", pytest.approx([1 / 3, 2 / 3]))


def test_the_worst_slice_stands_first_and_tiny_ones_last():
    right = np.repeat([1, 0, 1, 0], [80, 20, 70, 30])
    number = np.arange(200)
    found = slices.measure(
        [
            SliceOfRows("better", "", number < 100),
            SliceOfRows("worse", "", number >= 100),
            SliceOfRows("tiny", "", number >= 200 - slices.MIN_ROWS + 1),
            SliceOfRows("all", "", number >= 0),
        ],
        label=np.ones(200, int), probability=right * 0.9, prediction=right,
    )  # fmt: skip
    assert [item.name for item in found] == ["worse", "all", "better", "tiny"]
    assert found[1].difference is None
    assert [item.p_adjusted is None for item in found] == [False, True, False, True]


def test_a_slice_is_worse_only_beyond_chance_among_all_slices():
    """The whole interval of "some" is below the accuracy on all texts, which proves little."""
    right = np.repeat([1, 0, 1, 0], [72, 28, 760, 140])
    label, number = np.ones(1000, int), np.arange(1000)
    one = [SliceOfRows("some", "", number < 100)]
    others = [SliceOfRows(f"{k}", "", number % 20 == k) for k in range(20)]
    whole = {"label": label, "probability": right * 0.9, "prediction": right}
    (alone,) = slices.measure(one, **whole)
    found = {item.name: item for item in slices.measure(one + others, **whole)}
    assert alone.high < right.mean()
    assert alone.is_worse
    assert found["some"].p_adjusted == pytest.approx(21 * alone.p_adjusted)
    assert not found["some"].is_worse
    expected = scipy.stats.fisher_exact([[72, 28], [760, 140]]).pvalue
    assert alone.p_adjusted == pytest.approx(expected)


def test_a_candidate_of_a_search_is_compared_one_sided_among_the_rows_not_searched():
    right = np.repeat([1, 0, 1, 0, 1], [72, 28, 760, 140, 500])
    number = np.arange(1500)
    found = SliceOfRows("found", "", number < 100, among=number < 1000)
    whole = {"label": np.ones(1500, int), "probability": None, "prediction": right}
    (measured,) = slices.measure([found], **whole)
    expected = scipy.stats.fisher_exact([[72, 28], [760, 140]], "less").pvalue
    assert measured.p_adjusted == pytest.approx(expected)
    assert (measured.fraction, measured.accuracy) == (0.1, 0.72)
    assert measured.difference == pytest.approx(0.72 - 760 / 900)
    better = SliceOfRows("better", "", (number >= 100) & (number < 200), among=number < 1000)
    measured = slices.measure([found, better, SliceOfRows("named", "", number < 100)], **whole)
    assert [item.name for item in measured] == ["found", "named"]
    assert measured[0].p_adjusted == pytest.approx(2 * expected)


def test_a_candidate_that_is_worse_only_by_the_rows_of_another_is_left_out():
    number = np.arange(1000)
    right = number % 10 < np.where(number < 100, 4, 9)
    worse, more = (SliceOfRows(f"{n}", "", number < n, among=number >= 0) for n in (100, 150))
    whole = {"label": np.ones(1000, int), "probability": None, "prediction": right}
    assert [item.name for item in slices.measure([more], **whole)] == ["150"]
    assert [item.name for item in slices.measure([worse, more], **whole)] == ["100"]


def test_a_column_has_a_slice_for_each_value_and_one_for_rare_values():
    airline = ["Delta"] * 100 + ["United"] * 60 + [None] * 31 + ["Virgin"] * 5 + ["Southwest"] * 4
    rows = pa.table({slices.OWN + "airline": airline})
    tokens = slices.read_tokens(rows, {})
    found = slices.find(rows, tokens, patterns={}, columns=["airline"])
    counts = {item.name: int(item.mask.sum()) for item in found}
    assert counts == {
        "airline: Delta": 100,
        "airline: United": 60,
        "airline: (empty)": 31,
        "airline: other": 9,
    }
    assert found[-1].about == "2 values of fewer rows"
    assert tokens is None


def test_own_slices_need_a_text():
    rows = pa.table({"text": ["Rain", "dry"]})
    slices.check_patterns(rows, {"weather": "(?i)rain"})
    slices.check_patterns(rows.drop_columns("text"), {})
    with pytest.raises(UserError, match=r"^no text is in the slice a \(rain\), b \(sun\): 2 eval"):
        slices.check_patterns(rows, {"a": "rain", "b": "sun", "c": "dry"})
    with pytest.raises(UserError, match=r"^the slices a need the texts.*keep_columns=\[text\]$"):
        slices.check_patterns(rows.drop_columns("text"), {"a": "rain"})
