"""What is worse on both halves of the rows is found, and hardly anything else."""

import described
import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from sentiflow.evaluation import slice_search, slices
from sentiflow.evaluation.slices import MIN_ROWS, SliceOfRows
from sentiflow.models.tokens import Tokens

MODEL = {"settings": {"tokenizer": "tweet", "max_length": 64}}
WORDS = np.array([f"word{k}" for k in range(60)])


def corpus(num_rows=4000, *, seed=0, **worse):
    """Texts of random words, an airline, and a model that is right on four in five.

    ``worse`` names the rows, as a function of this table and of the words of each, where it is
    right on two in five only.
    """
    rng = np.random.default_rng(seed)
    words = [rng.choice(WORDS, rng.integers(3, 18)) for _ in range(num_rows)]
    rows = pa.table(
        {
            "row_id": np.arange(num_rows),
            "split": ["test"] * num_rows,
            "label": rng.integers(0, 2, num_rows).astype(np.int8),
            "num_tokens": np.array([len(each) for each in words], np.int32),
            "text": [" ".join(each) for each in words],
            f"{slices.OWN}airline": rng.choice(["Delta", "United", "Virgin"], num_rows),
        }
    )
    is_worse = np.zeros(num_rows, bool)
    for choose in worse.values():
        is_worse |= np.array([choose(*each) for each in zip(rows.to_pylist(), words, strict=True)])
    right = rng.random(num_rows) < np.where(is_worse, 0.4, 0.8)
    prediction = np.where(right, rows["label"], 1 - rows["label"].to_numpy()).astype(np.int8)
    positive = np.where(prediction, 0.7, 0.3)
    columns = {"prediction": prediction}
    columns |= {"probability_negative": 1 - positive, "probability_positive": positive}
    return pa.table({name: rows[name] for name in rows.column_names} | columns)


def measure(rows, **settings):
    return described.measure(rows, model=MODEL, **settings)


def found_in(rows, **settings):
    """Search, and return what was found by its name."""
    settings = {"searched": ["airline"]} | settings
    return {item.name: item for item in measure(rows, **settings).slices if item.is_found}


def has(*names):
    return lambda row, words: set(names) <= set(words)


def is_delta(row, words):
    return row[f"{slices.OWN}airline"] == "Delta"


def is_long(row, words):
    return 10 <= len(words) <= 14


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        (has("word7", "word8"), "“word7” and “word8”"),
        (is_delta, "airline: Delta"),
        (lambda *row: is_delta(*row) and has("word7")(*row), "airline: Delta and “word7”"),
        (lambda *row: is_long(*row) and has("word7")(*row), "10 to 14 tokens and “word7”"),
    ],
)
def test_a_slice_that_is_worse_is_found_and_its_parts_are_not(planted, name):
    found = found_in(corpus(12_000, seed=1, planted=planted))
    assert list(found) == [name]
    assert found[name].is_worse


def test_a_slice_that_is_named_is_not_found_again():
    rows = corpus(planted=is_long, other=is_delta)
    measured = measure(rows, columns=["airline"])
    assert not any(item.is_found for item in measured.slices)
    worse = {item.name for item in measured.slices if item.is_worse}
    assert worse == {"10 to 14 tokens", "airline: Delta"}


def test_the_figures_are_of_the_half_that_was_not_searched():
    rows = corpus(planted=has("word7"))
    (found,) = found_in(rows).values()
    _, sample = described.describe(rows, MODEL["settings"])
    assert len(sample.positions) == len(rows)
    other_half = sample.draw % 2 == 1
    right = (rows["label"].to_numpy() == rows["prediction"].to_numpy())[other_half]
    member = np.array(["word7" in text.as_py().split() for text in rows["text"]])[other_half]
    assert (found.num_rows, found.fraction) == (member.sum(), member.mean())
    assert found.accuracy == right[member].mean()
    assert found.difference == pytest.approx(right[member].mean() - right[~member].mean())
    interval = scipy.stats.binomtest(int(right[member].sum()), int(member.sum()))
    expected = interval.proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_order_of_the_rows_does_not_matter():
    rows = corpus(planted=has("word7"), other=has("word9", "word3"))
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(len(rows))))
    assert found_in(rows) == found_in(rows) == found_in(shuffled) != {}


@pytest.mark.parametrize("text", [None, "", "a b c"])
@pytest.mark.parametrize("num_rows", [1, 30, 59])
def test_a_corpus_of_few_rows_has_nothing_to_find(num_rows, text):
    rows = corpus(num_rows)
    rows = rows if text is None else rows.set_column(4, "text", pa.array([text] * num_rows))
    assert found_in(rows) == {}


def test_words_that_are_not_printable_are_left_out():
    rows = corpus(planted=has("word7"))
    text = pa.array([text.as_py().replace("word7", "\x1b2J") for text in rows["text"]])
    assert found_in(rows.set_column(4, "text", text)) == {}


def test_many_rows_are_sampled(monkeypatch):
    monkeypatch.setattr(slice_search, "MAX_ROWS", 1000)
    rows = corpus()
    right = rows["label"].to_numpy() == rows["prediction"].to_numpy()
    half = SliceOfRows.of("half", "", np.arange(len(rows)) % 3 == 0)
    _, sample = described.describe(rows, MODEL["settings"])
    assert len(sample.positions) == 1000
    found = slice_search.search([half], sample=sample, right=right & ~half.mask)
    assert found
    for item in found:
        assert 400 < item.among.sum() < 600
        assert MIN_ROWS <= item.mask.sum() < 300
        assert not (item.mask & ~item.among).any()


def test_the_sample_does_not_depend_on_the_order_in_which_rows_come(monkeypatch):
    monkeypatch.setattr(slice_search, "MAX_ROWS", 100)
    rng = np.random.default_rng(0)
    draw = rng.integers(0, 2**63, 2000, dtype=np.uint64)[rng.integers(0, 1500, 2000)]
    words = [f"word{k}" for k in rng.integers(0, 400, 2000).tolist()]
    lists = pa.array([[word, "and"] * (k % 3) for k, word in enumerate(words)])
    _, first_copies = np.unique(draw, return_index=True)
    expected = np.sort(first_copies[:100])
    for order in (np.arange(2000), rng.permutation(2000)):
        sampler = slice_search.Sampler()
        for positions in np.split(order, [70, 500, 501, 1900]):
            tokens = Tokens.from_lists(lists.take(pa.array(positions)))
            sampler.add(positions, draw[positions], tokens)
        sample = sampler.finish()
        assert sample.positions.tolist() == expected.tolist()
        assert sample.draw.tolist() == draw[expected].tolist()
        assert sample.tokens.to_lists().to_pylist() == lists.take(pa.array(expected)).to_pylist()
        assert len(set(sample.tokens.words.to_pylist())) == len(sample.tokens.words)
