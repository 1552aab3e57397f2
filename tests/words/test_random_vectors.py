"""``random:128d`` names no vectors: a network learns its own from random ones."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from test_cli import invoke

from sentiflow.config.prepare_sections import VocabularySettings
from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UserError
from sentiflow.models import vocabulary
from sentiflow.training import initial_network
from sentiflow.words import word_vectors


def test_no_word_has_a_vector():
    vectors = word_vectors.load("random:8d")
    taken = vectors.take(pa.array(["영", "good"]))
    assert taken.shape == (2, 8)
    assert taken.dtype == np.float32
    assert np.isnan(taken).all()


def test_a_network_starts_from_random_ones():
    counts = pa.table({"word": ["영", "화"], "count": [5, 5]})
    words = vocabulary.fit(counts, min_count=1, max_size=None)
    words = vocabulary.Vocabulary(
        words.words, words.counts, word_vectors.load("random:8d").take(words.words)
    )
    weights = initial_network.build(TrainSettings(), words).embedding.weight
    assert weights.shape == (4, 8)
    assert torch.isfinite(weights).all()
    assert len(weights[1:].unique(dim=0)) == 3
    again = initial_network.build(TrainSettings(), words).embedding.weight
    assert torch.equal(weights, again), "the seed decides"


@pytest.mark.parametrize("name", ["random:0d", "random:d", "random:128", "random:99999d"])
def test_a_wrong_size_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no file, directory or word vectors"):
        word_vectors.locate(name)


def test_they_have_no_words():
    with pytest.raises(ValidationError, match="random ones have none"):
        VocabularySettings(kind="pretrained", vectors="random:50d")
    result = invoke("words", "nearest", "good", "--vectors", "random:50d")
    assert result.exit_code == 2
    assert "random:50d has no words" in result.stderr
