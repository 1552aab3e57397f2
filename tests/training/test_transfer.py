"""A training that starts from a model loses nothing of it that fits."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import new_package

from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UserError
from sentiflow.models import vocabulary
from sentiflow.models.package import ModelPackage
from sentiflow.training import initial_model, initial_network

BINARY = ("negative", "positive")
THREE = (*BINARY, "neutral")
TEXTS = ["good day", "bad bad morning day", "day good", "morning", "good bad good bad day"]


def words_of(*words):
    """Prepare words without vectors; the first are padding and the unknown word."""
    listed = pa.array(["<pad>", "<unk>", *words])
    vectors = np.full((len(listed), 5), np.nan, np.float32)
    return vocabulary.Vocabulary(listed, pa.nulls(len(listed), pa.int64()), vectors)


@pytest.fixture
def first():
    return new_package()


def start(first, words, *, classes=BINARY, **model):
    """Make the model that a training starts from, and save and load it."""
    raw = first.settings.model.model_dump() | {"dropout": 0.1} | model
    settings = TrainSettings.model_validate({"model": raw, "init_from": "the first model"})
    joined = initial_network.join_words(words, first)
    network = initial_network.build(settings, joined, classes=classes, initial=first)
    described = first.settings.model_copy(
        update={
            "model": settings.model,
            "vocabulary_size": len(joined),
            "classes": classes,
            "priors": (1 / len(classes),) * len(classes),
        }
    )
    return ModelPackage(network.eval(), replace(joined, vectors=None), described)


def start_anew(first, **model):
    """Make a model of another network over the same words."""
    raw = first.settings.model.model_dump() | model
    settings = TrainSettings.model_validate({"model": raw})
    network = initial_network.build(settings, words_of("day", "good"))
    return replace(first, network=network)


def test_a_model_answers_the_same_over_another_vocabulary(first, tmp_path):
    words = words_of("day", "zebra", "bad", "lion", "good")
    second = start(first, words)
    assert second.vocabulary.words[:7] == words.words, "the prepared words keep their ids"
    assert second.vocabulary.words[7:].to_pylist() == ["morning"]
    second.save(str(tmp_path / "second"), lineage={})
    second = ModelPackage.load(str(tmp_path / "second"))
    third = start(second, words_of("lion", "tiger", "morning", "day"))
    texts = pa.array(TEXTS)
    expected = first.score(texts).probabilities
    assert np.ptp(expected[:, 1]) > 0.01
    for package in (second, third):
        np.testing.assert_allclose(package.score(texts).probabilities, expected, atol=1e-6)
    further = third.vocabulary.words.to_pylist()[2:]
    assert further == ["lion", "tiger", "morning", "day", "zebra", "bad", "good"]


def test_other_classes_start_with_a_new_output_layer(first):
    second = start(first, words_of("day", "good"), classes=THREE)
    ours, theirs = second.network, first.network
    ids = second.vocabulary.look_up(pa.array(["good", "bad", "morning", "day"]))
    assert torch.equal(ours.embedding.weight[ids], theirs.embedding.weight[2:])
    for name, weight in theirs.state_dict().items():
        if name.startswith(("forward", "backward", "pooling")):
            assert torch.equal(ours.state_dict()[name], weight), name
    assert ours.output.weight.shape[0] == 3


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_every_layer_that_fits_is_loaded(first, classes):
    loaded = start(first, words_of("day"), classes=classes).network.state_dict()
    for name, weight in first.network.state_dict().items():
        is_left_out = name.startswith("embedding") or (classes == THREE and "output" in name)
        assert is_left_out or torch.equal(loaded[name], weight), name


def test_a_layer_that_only_one_network_has_is_not_passed_over_in_silence(first):
    with pytest.raises(AssertionError, match="differ only in dropout and in the output"):
        start(first, words_of("day"), classes=THREE, pooling="last")
    smaller = start_anew(first, pooling="last")
    with pytest.raises(AssertionError, match="the initial model has all other weights"):
        start(smaller, words_of("day"), classes=THREE, pooling="attention")


def describe(first, **settings):
    return {"uri": "m", "settings": first.settings.model_dump(mode="json") | settings}


def check(first, classes=BINARY, described=None, unit="words", **model):
    raw = first.settings.model.model_dump() | model
    settings = TrainSettings.model_validate({"model": raw})
    described = described or describe(first)
    return initial_model.check(described, settings.model, classes, unit=unit)


def test_what_is_reinitialized_is_said(first):
    assert check(first) == check(first, dropout=0.1, vectors="frozen") == []
    (line,) = check(first, THREE)
    assert line == (
        "the first model has other classes (negative, positive): the output layer is reinitialized"
    )


def test_a_model_that_reads_other_units_is_refused(first):
    with pytest.raises(UserError, match="m reads words: prepare with unit=words"):
        check(first, unit="characters")
    assert check(first, unit=None) == []  # prepared data decide it later


def test_another_network_is_refused(first):
    with pytest.raises(UserError, match=r"m is of another network \(gru\(6\).*only dropout"):
        check(first, hidden_size=7)
