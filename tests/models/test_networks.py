import pytest
import torch

from sentiflow.config.train_sections import BagSettings, RnnSettings
from sentiflow.models import networks
from sentiflow.models.vocabulary import PAD_ID

CELLS = ["rnn", "gru", "lstm"]
POOLINGS = ["last", "mean_max", "attention"]


def build(**settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    defaults = {
        "cell": "gru",
        "hidden_size": 7,
        "bidirectional": False,
        "pooling": "last",
    }
    network = networks.build(
        RnnSettings(**defaults | settings), vocabulary_size=40, embedding_dim=5
    )
    return network.eval()


def build_bag(**settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    section = BagSettings(**{"hidden_sizes": [7, 6]} | settings)
    return networks.build(section, vocabulary_size=40, embedding_dim=5).eval()


def pad(rows: list[list[int]], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    padded = [row + [PAD_ID] * (width - len(row)) for row in rows]
    return torch.tensor(padded), torch.tensor([len(row) for row in rows])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_and_other_rows_never_change_a_logit(cell, pooling, bidirectional):
    network = build(cell=cell, pooling=pooling, bidirectional=bidirectional)
    rows = [[3], [5, 9, 2, 7], [8, 8, 30], [1, 2, 3, 4, 5, 6]]
    together = network(*pad(rows, width=11))
    alone = torch.cat([network(*pad([row], width=len(row))) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_bidirectional_network_equals_pytorchs_bidirectional_layer_on_rows_of_equal_length(cell):
    network = build(cell=cell, bidirectional=True, pooling="last")
    reference = getattr(torch.nn, cell.upper())(5, 7, batch_first=True, bidirectional=True)
    for name, tensor in network.forward_layers[0].state_dict().items():
        getattr(reference, name).data = tensor
    for name, tensor in network.backward_layers[0].state_dict().items():
        getattr(reference, f"{name}_reverse").data = tensor
    token_ids = torch.randint(1, 40, (4, 6))
    states, _ = reference(network.embedding(token_ids))
    expected = network.output(torch.cat([states[:, -1, :7], states[:, 0, 7:]], dim=1))
    actual = network(token_ids, torch.full((4,), 6))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_dropout_mask_multiplies_the_inputs_of_each_layer(pooling):
    network = build(pooling=pooling, bidirectional=True)
    batch = pad([[3, 5, 9], [4, 4]], width=4)
    ones = torch.ones(2, len(network.dropout_rates(inputs=0, output=0)))
    torch.testing.assert_close(network(*batch, ones), network(*batch))
    dropped = network(*batch, torch.zeros_like(ones))
    torch.testing.assert_close(dropped, network.output.bias.expand(2, -1))
    dropped = ones.clone()
    dropped[:, :5] = 0
    network.embedding.weight.data[:] = 0
    torch.testing.assert_close(network(*batch, ones), network(*batch, dropped))


BAG_POOLINGS = ["sum", "mean"]


@pytest.mark.parametrize("pooling", BAG_POOLINGS)
def test_padding_and_other_rows_never_change_a_logit_of_a_bag(pooling):
    network = build_bag(pooling=pooling)
    network.embedding.weight.data[PAD_ID] = 9  # padding is left out, whatever its vector
    rows = [[3], [5, 9, 2, 7], [], [8, 8, 30], [1, 2, 3, 4, 5, 6]]
    together = network(*pad(rows, width=11))
    alone = torch.cat([network(*pad([row], width=max(1, len(row)))) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert together.isfinite().all()


@pytest.mark.parametrize("pooling", BAG_POOLINGS)
def test_a_bag_is_linear_layers_over_the_pooled_vectors(pooling):
    network = build_bag(pooling=pooling)
    rows = [[3, 3, 9], [5], []]
    vectors = torch.stack(
        [
            getattr(network.embedding(torch.tensor(row)), pooling)(dim=0) if row else torch.zeros(5)
            for row in rows
        ]
    )
    first, second = network.hidden
    expected = network.output(torch.relu(second(torch.relu(first(vectors)))))
    torch.testing.assert_close(network(*pad(rows, width=4)), expected, rtol=1e-5, atol=1e-6)


def test_a_dropout_mask_multiplies_a_bags_vector_and_the_inputs_of_its_output_layer():
    network = build_bag()
    batch = pad([[3, 5, 9], []], width=4)
    rates = network.dropout_rates(inputs=0.3, output=0.1)
    assert rates.tolist() == pytest.approx([0.3] * 5 + [0.1] * 6)
    ones = torch.ones(2, len(rates))
    torch.testing.assert_close(network(*batch, ones), network(*batch))
    dropped = ones.clone()
    dropped[:, 5:] = 0
    torch.testing.assert_close(network(*batch, dropped), network.output.bias.expand(2, -1))
    dropped = ones.clone()
    dropped[:, :5] = 0
    torch.testing.assert_close(network(*batch, dropped)[0], network(*batch)[1])
