"""Layers of earlier versions give the same logits alone, in a batch, and by the CPU kernels."""

import pytest
import torch

from sentiflow.config.train_sections import BagSettings, RnnSettings
from sentiflow.models import earlier_layers
from sentiflow.models.earlier_formats import EarlierLayers
from sentiflow.models.networks import Network

TOKEN_IDS = torch.tensor([[3, 0, 0, 0], [2, 3, 0, 0], [1, 4, 2, 5]])
LENGTHS = torch.tensor([1, 2, 4])


def build(settings: RnnSettings | BagSettings, **layers: int) -> Network:
    """Build a network with random weights."""
    network = earlier_layers.build(
        settings,
        EarlierLayers(**layers),
        vocabulary_size=6,
        embedding_dim=5,
        num_classes=3,
        has_keys=False,
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
        network.embedding.weight[0] = 0
        if layers.get("ngrams"):
            network.ngrams.weights.weight[0] = 0
    return network.eval()


NETWORKS = {
    "gru with n-grams": (RnnSettings(hidden_size=4), {"ngrams": 3, "ngram_buckets": 7}),
    "two layers": (RnnSettings(hidden_size=4), {"num_layers": 2}),
    "three layers, one direction, n-grams": (
        RnnSettings(cell="rnn", hidden_size=4, bidirectional=False, pooling="last"),
        {"num_layers": 3, "ngrams": 5, "ngram_buckets": 7},
    ),
    "bag with n-grams": (BagSettings(hidden_sizes=(4,)), {"ngrams": 2, "ngram_buckets": 7}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_and_batches_change_no_logit(name):
    settings, layers = NETWORKS[name]
    network = build(settings, **layers)
    with torch.inference_mode():
        expected = network(TOKEN_IDS, LENGTHS)
        predict = network.inference_function(TOKEN_IDS[TOKEN_IDS > 0].numpy())
        torch.testing.assert_close(predict(TOKEN_IDS, LENGTHS), expected)
        for row, length in enumerate(LENGTHS.tolist()):
            alone = network(TOKEN_IDS[row : row + 1, :length], LENGTHS[row : row + 1])
            torch.testing.assert_close(alone[0], expected[row])


def test_a_network_with_ngrams_uses_the_kernels_of_its_layer():
    network = build(RnnSettings(hidden_size=4), ngrams=2, ngram_buckets=7)
    with torch.inference_mode():
        assert network.inference_function(TOKEN_IDS.numpy().ravel()) is not network


def test_the_order_of_words_matters_to_ngrams():
    network = build(BagSettings(hidden_sizes=()), ngrams=2, ngram_buckets=99)
    with torch.inference_mode():
        forward = network(torch.tensor([[2, 3]]), torch.tensor([2]))
        backward = network(torch.tensor([[3, 2]]), torch.tensor([2]))
    assert not torch.allclose(forward, backward)


def test_a_bag_of_embeddings_has_no_stacked_layers():
    with pytest.raises(TypeError):
        build(BagSettings(), num_layers=2)
