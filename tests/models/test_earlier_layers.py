"""N-grams of earlier versions give the logits of a plain program."""

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.config.train_sections import BagSettings
from sentiflow.models import array_networks, earlier_layers
from sentiflow.models.earlier_formats import EarlierLayers
from sentiflow.models.encoded_rows import EncodedRows

NUM_WORDS = 9
LAYERS = EarlierLayers(ngrams=3, ngram_buckets=7)


def make_arrays(*, has_keys: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {
        "embedding.weight": random.normal(size=(NUM_WORDS, 5)).astype(np.float32),
        "ngrams.weights.weight": random.normal(size=(NUM_WORDS + 7, 3)).astype(np.float32),
        "ngrams.bias": random.normal(size=3).astype(np.float32),
    }
    if has_keys:
        arrays[earlier_layers.KEYS] = np.append(0, random.integers(1, 2**40, NUM_WORDS - 1))
    return arrays


def rows_of(lists: list[list[int]]) -> EncodedRows:
    return EncodedRows.from_lists(pa.array(lists, pa.list_(pa.int32())))


@pytest.mark.parametrize("has_keys", [False, True])
def test_ngrams_add_the_logits_of_a_plain_program(has_keys):
    arrays = make_arrays(has_keys=has_keys)
    lists = [[3], [2, 3], [], [1, 4, 2, 5, 2], [8, 8, 8]]
    found = earlier_layers.ngram_logits(rows_of(lists), arrays, LAYERS)
    for row, ids in enumerate(lists):
        keys = [int(arrays[earlier_layers.KEYS][word]) for word in ids] if has_keys else ids
        places = list(ids)
        for n in (2, 3):
            for start in range(len(ids) - n + 1):
                hashed = keys[start]
                for key in keys[start + 1 : start + n]:
                    hashed = (hashed * 1_000_003 + key) % 2_147_483_647
                places.append((hashed * 2_654_435_761 % 4_294_967_296 >> 8) % 7 + NUM_WORDS)
        total = arrays["ngrams.weights.weight"][places].sum(axis=0)
        expected = total / np.sqrt(max(1, len(places))) + arrays["ngrams.bias"]
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)


def test_the_order_of_words_matters_to_ngrams():
    arrays = make_arrays(has_keys=False)
    forward, backward = earlier_layers.ngram_logits(rows_of([[2, 3], [3, 2]]), arrays, LAYERS)
    assert not np.allclose(forward, backward)


def test_a_bag_of_embeddings_has_no_stacked_layers():
    with pytest.raises(ValueError, match="a bag of embeddings has no recurrent layers"):
        array_networks.build(
            BagSettings(),
            {},
            vocabulary_size=9,
            embedding_dim=5,
            num_classes=3,
            earlier=EarlierLayers(num_layers=2),
        )
