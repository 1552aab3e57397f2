import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sentiflow.models import recurrence


def make(cell: str, *, num_steps=9, num_tweets=6, hidden_size=7, dtype=torch.float32):
    torch.manual_seed(0)
    layer = getattr(torch.nn, cell)(5, hidden_size, dtype=dtype)
    inputs = torch.randn(num_steps, num_tweets, 5, dtype=dtype, requires_grad=True)
    lengths = torch.randint(1, num_steps + 1, (num_tweets,))
    lengths[0] = num_steps
    return layer, inputs, lengths


def steps_of(inputs, lengths):
    return torch.arange(len(inputs))[:, None] < lengths


def encode_one_by_one(layer, inputs, lengths, *, backward):
    """Run PyTorch over each tweet alone, without padding."""
    found = torch.zeros(*inputs.shape[:2], layer.hidden_size, dtype=inputs.dtype)
    for tweet, length in enumerate(lengths.tolist()):
        own = inputs[:length, tweet : tweet + 1]
        states = layer(own.flip(0) if backward else own)[0]
        found[:length, tweet] = (states.flip(0) if backward else states)[:, 0]
    return found


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("backward", [False, True])
def test_states_and_gradients_are_pytorchs(cell, backward):
    layer, inputs, lengths = make(cell, num_tweets=40)
    valid = steps_of(inputs, lengths)
    weights = torch.randn(*inputs.shape[:2], layer.hidden_size) * valid[:, :, None]
    results = []
    for states in (
        recurrence.encode(layer, inputs, valid, backward=backward),
        encode_one_by_one(layer, inputs, lengths, backward=backward),
    ):
        loss = (states * weights).sum()
        gradients = torch.autograd.grad(loss, [inputs, *layer.parameters()])
        results.append((states * valid[:, :, None], *gradients))
    for actual, expected in zip(*results, strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6 * max(1.0, scale))


@torch.inference_mode()
def test_bf16_changes_states_a_little():
    layer, inputs, lengths = make("GRU")
    valid = steps_of(inputs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = recurrence.encode(layer, inputs, valid, backward=True)
    expected = recurrence.encode(layer, inputs, valid, backward=True)
    mask = valid[:, :, None]
    torch.testing.assert_close(states.float() * mask, expected * mask, rtol=0.1, atol=0.05)


CELLS = ["RNN", "GRU", "LSTM"]


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
    (layer, inputs, lengths) = make(cell)
    other = make(cell)[0]
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
