"""N-grams of tokens, and the logits of a linear model of them."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.data.arrays import find_sorted
from sentiflow.models import linear
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams, count
from sentiflow.models.tokenizer import tokenize
from sentiflow.models.tokens import Tokens

TEXTS = ["so good so good", "bad", "", "good day so bad", "東京です", "é so"]


def ngrams_of(*texts):
    return Ngrams.of(tokenize(pa.array(texts, pa.string()), name="tweet"))


def of_text(ngrams, row):
    """List the hashes of a text by the definition: of each token, then of several."""
    ids = ngrams.tokens.ids[ngrams.tokens.offsets[row] : ngrams.tokens.offsets[row + 1]]
    within = [
        ngrams.of_words[ngrams.word_offsets[word] : ngrams.word_offsets[word + 1]] for word in ids
    ]
    further = ngrams.of_texts[ngrams.text_offsets[row] : ngrams.text_offsets[row + 1]]
    return sorted(np.concatenate([*within, further, np.zeros(0, np.int64)]).tolist())


def test_ngrams_of_a_text_do_not_depend_on_other_texts():
    together = ngrams_of(*TEXTS)
    for row, text in enumerate(TEXTS):
        assert of_text(together, row) == of_text(ngrams_of(text), 0), text


@pytest.mark.parametrize(
    ("text", "distinct"),
    [
        ("ab", 1 + 3 + 2 + 1),  # the word, and 2 to 4 of its letters and borders
        ("abcdefgh", 1 + 9 + 8 + 7 + 6),
        ("so bad", (1 + 3 + 2 + 1) + (1 + 4 + 3 + 2 + 1) + 1),
        ("so bad so", (1 + 3 + 2 + 1) + (1 + 4 + 3 + 2 + 1) + 2 + 1),
        ("one two six ten", 4 * (1 + 4 + 3 + 2 + 1) - 1 + 3 + 2),  # two words begin with a t
        ("東京駅前口", 5 * (1 + 2 + 1) + 4 + 3 + 2 + 1),  # letters are tokens: n-grams of 2 to 5
    ],
)
def test_ngrams_are_those_of_words_and_of_characters(text, distinct):
    ngrams = ngrams_of(text)
    hashes, counts = count(ngrams)
    assert len(hashes) == distinct
    assert counts.sum() == len(of_text(ngrams, 0))


def test_ngrams_are_the_same_on_every_machine():
    assert ngrams_of("so good").of_texts.tolist() == [4769106207860350103]


def test_a_letter_at_the_start_of_a_word_is_another_ngram_than_within():
    first = ngrams_of("xaby")
    second = ngrams_of("abxy")
    assert len({*first.of_words.tolist()} & {*second.of_words.tolist()}) == 2  # "ab", "y\n"


def make_model(num_classes=3, seed=0):
    random = np.random.default_rng(seed)
    hashes, _ = count(ngrams_of(*TEXTS[:4], TEXTS[4][:2]))
    size = len(hashes)
    weights = random.normal(size=(size, num_classes)).astype(np.float32)
    squares = random.uniform(1, 9, size).astype(np.float32)
    bias = random.normal(size=num_classes).astype(np.float32)
    return LinearModel(
        hashes=hashes,
        weights=weights,
        squares=squares,
        bias=bias,
    )


def test_logits_are_those_of_a_plain_program():
    model = make_model()
    ngrams = ngrams_of(*TEXTS)
    places = {value: n for n, value in enumerate(model.hashes.tolist())}
    logits = model.logits(ngrams.tokens)
    for row in range(len(TEXTS)):
        found = [places[value] for value in of_text(ngrams, row) if value in places]
        total = model.weights[found].astype(float).sum(axis=0)
        length = np.sqrt(model.squares[found].astype(float).sum().clip(min=1e-30))
        np.testing.assert_allclose(logits[row], total / length + model.bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logits[2], model.bias)
    assert model.logits(Tokens.from_lists(pa.array([], pa.list_(pa.string())))).shape == (0, 3)


@pytest.mark.parametrize("num_known", [0, 1, 5, 3000])
def test_an_index_of_hashes_finds_what_a_search_finds(num_known):
    random = np.random.default_rng(0)
    numbers = random.integers(-(2**63), 2**63 - 1, num_known)
    known = np.unique(np.append(numbers[1:], numbers[:1] // 2))
    keys = np.concatenate([known, known + 1, random.integers(-(2**63), 2**63 - 1, 5000)])
    expected, places = find_sorted(known, keys)
    found, own_places = linear._HashIndex.of(known).find(known, keys)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(own_places[found], places[found])


def test_an_index_changes_no_logit(monkeypatch):
    tokens = ngrams_of(*TEXTS).tokens
    expected = make_model().logits(tokens)
    monkeypatch.setattr(linear, "_MANY", 0)
    np.testing.assert_array_equal(make_model().logits(tokens), expected)
    monkeypatch.setattr(linear, "_MAX_IN_BUCKET", 0)
    crowded = make_model()
    assert crowded._index is None
    np.testing.assert_array_equal(crowded.logits(tokens), expected)


def test_a_scaled_model_has_scaled_logits():
    model = make_model()
    tokens = ngrams_of(*TEXTS).tokens
    scaled = model.scale(0.25, np.array([1.0, 0.0, -1.0]))
    expected = 0.25 * model.logits(tokens) + [1, 0, -1]
    np.testing.assert_allclose(scaled.logits(tokens), expected, rtol=1e-4, atol=1e-5)


def test_tensors_are_read_back():
    model = make_model()
    again = LinearModel.of(model.tensors(), num_classes=3)
    for name, tensor in model.tensors().items():
        np.testing.assert_array_equal(again.tensors()[name], tensor)


def _change(name, change):
    return lambda tensors: tensors | {f"linear.{name}": change(tensors[f"linear.{name}"])}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_change("hashes", lambda t: t[:-1]), r"size mismatch for linear\.weights"),
        *(
            (_change(name, lambda t: t[:-1]), rf"size mismatch for linear\.{name}: \(\d")
            for name in ("weights", "squares", "bias")
        ),
        *(
            (_change(name, lambda t: t.astype(np.float64)), rf"linear\.{name} is not float32")
            for name in ("weights", "squares", "bias")
        ),
        (_change("hashes", lambda t: t[::-1]), r"linear\.hashes is not in ascending order"),
        (_change("hashes", lambda t: t.astype(np.int32)), r"linear\.hashes is not int64"),
        (_change("hashes", lambda t: t[0]), r"size mismatch for linear\.hashes: \(\), expected"),
        (_change("weights", lambda t: t.T), r"size mismatch for linear\.weights"),
        (
            lambda tensors: dict(itertools.islice(tensors.items(), 3)),
            r'Missing key "linear\.bias"',
        ),
        (
            lambda tensors: tensors | {"linear.more": np.zeros(1)},
            r'Unexpected key "linear\.more"',
        ),
        (lambda tensors: {}, r'Missing key "linear\.hashes"'),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        LinearModel.of(change(make_model().tensors()), num_classes=3)
