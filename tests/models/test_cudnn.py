"""The path of GPUs, run on the CPU: states of the CPU's kernels, no fp16, no wait for a value."""

import contextlib

import pytest
import torch
from test_recurrence import make, steps_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sentiflow.config.model_sections import RnnSettings
from sentiflow.models import recurrence
from sentiflow.models.networks import build

CELLS = ["RNN", "GRU", "LSTM"]


def network_of(**settings):
    torch.manual_seed(0)
    defaults = {"hidden_size": 12, "dropout": 0.0}
    model = RnnSettings.model_validate(defaults | settings)
    return build(model, vocabulary_size=30, embedding_dim=10)


def batch_of(num_tweets=20, num_steps=9):
    torch.manual_seed(1)
    lengths = torch.randint(1, num_steps + 1, (num_tweets,))
    lengths[0] = num_steps
    token_ids = torch.randint(1, 30, (num_tweets, num_steps))
    return token_ids * (torch.arange(num_steps) < lengths[:, None]), lengths


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Let a network on the CPU take the path of GPUs."""
    monkeypatch.setattr(recurrence, "encode_layer", recurrence.encode_on_gpu)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("hidden_size", [7, 160])
@pytest.mark.parametrize("bias", [1, 20])
def test_states_and_gradients_are_those_of_the_cpu(cell, num_directions, hidden_size, bias):
    layers = []
    for _ in range(num_directions):
        layer, inputs, lengths = make(cell, num_tweets=40, hidden_size=hidden_size)
        torch.nn.init.uniform_(layer.bias_ih_l0, -bias, bias)
        layers.append(layer)
    valid = steps_of(inputs, lengths)
    kept = valid[:, :, None]
    slope = torch.randn(*valid.shape, num_directions * hidden_size) * kept
    weights = [weight for layer in layers for weight in layer.parameters()]
    results = []
    for encode in (recurrence.encode_layer, recurrence.encode_on_gpu):
        states = encode(layers, inputs, valid)
        gradients = torch.autograd.grad((states * slope).sum(), [inputs, *weights])
        with torch.inference_mode():
            inferred = encode(layers, inputs, valid)
        results.append((states * kept, inferred * kept, *gradients))
    for expected, found in zip(*results, strict=True):
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean_max", "attention"])
@pytest.mark.parametrize("with_mask", [False, True])
def test_a_network_has_the_logits_and_gradients_of_the_cpu(
    cell, bidirectional, pooling, with_mask, monkeypatch
):
    settings = {"cell": cell, "bidirectional": bidirectional, "pooling": pooling}
    network = network_of(**settings)
    mask = torch.rand(20, sum(network.mask_sizes)).round() * 2 if with_mask else None
    results = []
    for encode in (recurrence.encode_layer, recurrence.encode_on_gpu):
        monkeypatch.setattr(recurrence, "encode_layer", encode)
        logits = network(*batch_of(), mask)
        slope = torch.arange(40.0).reshape(20, 2).sin()
        gradients = torch.autograd.grad((logits * slope).sum(), [*network.parameters()])
        results.append((logits, *gradients))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


class TypesSeen(TorchDispatchMode):
    """Lists the types of all floating-point tensors that operations give."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.found |= {tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point}
        return result


@pytest.mark.parametrize("cell", CELLS)
def test_autocast_never_reaches_the_cells(cell):
    (layer, inputs, lengths), other = make(cell), make(cell)[0]
    with TypesSeen() as seen:
        with torch.autocast("cpu", dtype=torch.float16):
            states = recurrence.encode_on_gpu([layer, other], inputs, steps_of(inputs, lengths))
        states.sum().backward()
    assert seen.found == {torch.float32}


@pytest.mark.parametrize("num_directions", [1, 2])
def test_weights_lie_in_one_block_matrices_first(num_directions):
    layers = [make("GRU")[0] for _ in range(num_directions)]
    own = [recurrence._add_column(layer, 3) for layer in layers]
    flat = recurrence._flatten(own)
    for found, expected in zip(flat, [tensor for some in own for tensor in some], strict=True):
        assert torch.equal(found, expected)
    matrices, biases = ([t for t in flat if t.dim() == dim] for dim in (2, 1))
    address = flat[0].data_ptr()
    for tensor in matrices + biases:
        assert tensor.data_ptr() == address
        address += tensor.numel() * tensor.element_size()


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("pooling", ["last", "mean_max", "attention"])
def test_nothing_in_a_network_waits_for_a_gpu(cell, pooling, monkeypatch):
    """Tensors on the device ``meta`` have no values, so that nothing can wait for one."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **options: contextlib.nullcontext())
    network = network_of(cell=cell, pooling=pooling).to("meta")
    logits = network(*(tensor.to("meta") for tensor in batch_of()))
    logits.sum().backward()
    assert logits.shape == (20, 2)
    assert all(parameter.grad is not None for parameter in network.parameters())
