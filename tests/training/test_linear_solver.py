"""Linear models are those of scikit-learn, whatever number of workers fits them."""

import itertools
import multiprocessing

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from sentiflow.data.arrays import find_sorted
from sentiflow.metrics.confidence import softmax
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.tokenizer import tokenize
from sentiflow.training import linear_solver

NUM_CLASSES = 3


def make_rows(number=400, seed=0):
    """Make texts whose words tell something of their label, and one-hot labels."""
    random = np.random.default_rng(seed)
    label = random.integers(0, NUM_CLASSES, number)
    words = np.array([f"w{n}" for n in range(60)])
    chance = np.full((NUM_CLASSES, len(words)), 1.0)
    for number_of_class in range(NUM_CLASSES):
        chance[number_of_class, number_of_class * 6 : number_of_class * 6 + 6] = 3
    chance /= chance.sum(axis=1, keepdims=True)
    texts = [" ".join(random.choice(words, 8, p=chance[each])) for each in label]
    return texts, np.eye(NUM_CLASSES, dtype=np.float32)[label]


def ngrams_of(texts):
    return Ngrams.of(tokenize(pa.array(texts, pa.string()), name="tweet"))


def features_of(model, ngrams):
    """Write the n-grams of each text as TF-IDF of length 1, by the definition; and their idf."""
    idf = np.sqrt(model.squares, dtype=np.float64)
    rows = np.zeros((len(ngrams.tokens.offsets) - 1, len(idf)))
    places = {value: n for n, value in enumerate(model.hashes.tolist())}
    for row, (start, stop) in enumerate(itertools.pairwise(ngrams.tokens.offsets)):
        hashes = [*ngrams.of_texts[slice(*ngrams.text_offsets[row : row + 2])]]
        squares = 0.0
        for word in ngrams.tokens.ids[start:stop]:
            hashes += [*ngrams.of_words[slice(*ngrams.word_offsets[word : word + 2])]]
        for value in hashes:
            if value in places:
                rows[row, places[value]] += idf[places[value]]
                squares += idf[places[value]] ** 2
        rows[row] /= np.sqrt(squares)
    return rows, idf


def test_models_are_those_of_scikit_learn():
    texts, targets = make_rows()
    others, others_targets = make_rows(seed=1)
    label = targets.argmax(axis=1)
    other_label = others_targets.argmax(axis=1)
    for strength, model in linear_solver.fit(ngrams_of(texts), targets):
        features, idf = features_of(model, ngrams_of(texts))
        weight = linear_solver._weigh((features / idf).T @ targets)
        reference = LogisticRegression(C=strength, max_iter=2000, tol=1e-6)
        reference.fit(features * weight, label)
        expected = reference.predict_proba(features_of(model, ngrams_of(others))[0] * weight)
        found = softmax(model.logits(ngrams_of(others).tokens))
        np.testing.assert_allclose(found, expected, atol=0.01)
        accuracies = [(each.argmax(axis=1) == other_label).mean() for each in (found, expected)]
        assert accuracies[0] == pytest.approx(accuracies[1], abs=0.003)
        assert accuracies[0] > 0.5


def test_ngrams_that_tell_classes_apart_weigh_more():
    counts = np.array([[20.0, 1, 1], [1, 20, 1], [1, 1, 20], [10, 10, 10], [4, 0, 0]])
    *frequent, everywhere, rare = linear_solver._weigh(counts)
    assert min(frequent) > rare > everywhere
    assert everywhere < 0.8 < 1 < max(frequent) < 1.3
    np.testing.assert_allclose(linear_solver._weigh(np.zeros((2, 3))), 2 / 3)
    np.testing.assert_allclose(linear_solver._weigh(np.ones((2, 3))), 2 / 3)


@pytest.mark.filterwarnings("error")
def test_texts_without_an_ngram_in_common_have_the_shares_of_the_classes():
    texts = ngrams_of(["xyz", "qrs", "uvw"])
    for _, model in linear_solver.fit(texts, np.eye(2, dtype=np.float32)[[0, 1, 0]]):
        assert len(model.hashes) == 0
        np.testing.assert_allclose(
            softmax(model.logits(texts.tokens))[0], [2 / 3, 1 / 3], atol=0.01
        )


def test_soft_and_weighted_targets_are_learned():
    texts, targets = make_rows()
    soft = 0.8 * targets + 0.2 / NUM_CLASSES
    *_, (_, model) = linear_solver.fit(ngrams_of(texts), 2 * soft)
    found = softmax(model.logits(ngrams_of(texts).tokens))
    np.testing.assert_allclose(found.mean(axis=0), soft.mean(axis=0), atol=0.01)
    assert found.max() < 0.97


def test_the_most_frequent_ngrams_have_weights(monkeypatch):
    texts, _ = make_rows()
    monkeypatch.setattr(linear_solver, "_MAX_WEIGHTS", 300)
    chosen, *_ = linear_solver._choose_ngrams(ngrams_of(texts), NUM_CLASSES)
    assert 90 < len(chosen) <= 110
    rare = ngrams_of([*texts, "unheard unheard", "once"])
    monkeypatch.undo()
    hashes, _, num_rows = linear_solver._choose_ngrams(rare, NUM_CLASSES)
    assert num_rows == len(texts) + 2
    is_chosen, _ = find_sorted(hashes, ngrams_of(["unheard"]).of_words[:1])
    assert is_chosen.all()
    is_chosen, _ = find_sorted(hashes, ngrams_of(["once"]).of_words[:1])
    assert not is_chosen.any()


def fit_as_rank(rank, world_size, store, queue):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size
    )
    texts, targets = make_rows()
    own = slice(rank * len(texts) // world_size, (rank + 1) * len(texts) // world_size)
    fitted = linear_solver.fit(ngrams_of(texts[own]), targets[own])
    queue.put([dict(vars(model)) for _, model in fitted])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_any_number_of_workers_fits_the_same_models(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    ranks = [
        context.Process(target=fit_as_rank, args=(rank, 3, str(tmp_path / "store"), queue))
        for rank in range(3)
    ]
    for rank in ranks:
        rank.start()
    found = [queue.get(timeout=100) for _ in ranks]
    for rank in ranks:
        rank.join()
    texts, targets = make_rows()
    alone = [model for _, model in linear_solver.fit(ngrams_of(texts), targets)]
    for models in found:
        for ours, model in zip(models, alone, strict=True):
            for name, tensor in vars(model).items():
                np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
