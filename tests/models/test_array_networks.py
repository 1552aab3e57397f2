"""Networks in numpy give the logits of the same networks in torch."""

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import PROJECT, new_package

from sentiflow.config.train_sections import BagSettings, ModelSettings, RnnSettings
from sentiflow.models import array_networks, batching, networks, vocabulary
from sentiflow.models.earlier_formats import EarlierLayers
from sentiflow.models.encoded_rows import EncodedRows
from sentiflow.models.package import ModelPackage

NUM_WORDS = 40
DIM = 5
CLASSES = 3
TEXTS = [
    "good day",
    "доброе утро, мир",
    "صباح الخير",
    "おはようございます",
    "สวัสดีตอนเช้า",
    "안녕하세요 좋은 아침",
    "सुप्रभात good",
    "καλημέρα bad",
    "g\u0300\u0301o\u200dod \ufffd\ufffd day",
    "\U0001f600\U0001f468\u200d\U0001f469 good",
    "",
    " \n\t",
    "good bad " * 4000,
]


def rows_of(lists: list[list[int]]) -> EncodedRows:
    return EncodedRows.from_lists(pa.array(lists, pa.list_(pa.int32())))


def make_rows(num_rows: int = 70, *, longest: int = 60) -> EncodedRows:
    """Make rows of all lengths from 0."""
    random = np.random.default_rng(0)
    lengths = random.integers(0, longest + 1, num_rows)
    lengths[:4] = (0, 1, 1, longest)
    return rows_of([random.integers(1, NUM_WORDS, length).tolist() for length in lengths])


def make_pair(
    settings: ModelSettings,
) -> tuple[networks.Network, array_networks.ArrayNetwork]:
    """Make a network with large random weights in torch and in numpy."""
    torch.manual_seed(0)
    sizes = {"vocabulary_size": NUM_WORDS, "embedding_dim": DIM, "num_classes": CLASSES}
    network = networks.build(settings, **sizes).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 1.5
    return network, array_networks.build(settings, network.to_arrays(), **sizes)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def one_by_one(network: networks.Network, rows: EncodedRows) -> np.ndarray:
    """Compute the logits of each row alone, by the network's training code."""
    logits = np.zeros((len(rows), CLASSES), np.float32)
    with torch.no_grad():
        for row in np.flatnonzero(rows.lengths):
            batch = batching.collate(rows, np.array([row]))
            logits[row] = network(batch.token_ids, batch.lengths)[0].numpy()
    return logits


RNNS = [
    RnnSettings(cell=cell, bidirectional=two, pooling=pooling, hidden_size=size)
    for cell, two, pooling, size in itertools.product(
        ("rnn", "gru", "lstm"), (False, True), ("last", "mean_max", "attention"), (1, 7, 64)
    )
]
BAGS = [
    BagSettings(hidden_sizes=sizes, pooling=pooling)
    for sizes, pooling in itertools.product(((), (7,), (7, 6)), ("sum", "mean"))
]


@pytest.mark.parametrize("settings", [*RNNS, *BAGS], ids=lambda s: f"{s.brief} {s.summary}")
def test_logits_are_those_of_torch(settings):
    network, in_numpy = make_pair(settings)
    rows = make_rows()
    expected = one_by_one(network, rows)
    assert np.ptp(expected, axis=0).min() > 0.1
    found = in_numpy.logits(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(softmax(found), softmax(expected), rtol=0, atol=1e-5)
    np.testing.assert_allclose(network.logits(rows, bf16=False), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("limits", [(1, 1), (3, 99), (10_000, 20)])
def test_batches_and_tables_of_any_size_change_no_logit(cell, limits, monkeypatch):
    _, network = make_pair(RnnSettings(cell=cell, hidden_size=7))
    rows = make_rows()
    expected = network.logits(rows)
    max_cells, max_words = limits
    monkeypatch.setattr(array_networks, "_MAX_CELLS", max_cells)
    table_bytes = max_words * sum(layer.bias.nbytes for layer in network._layers[0])
    monkeypatch.setattr(array_networks, "_MAX_TABLE_BYTES", table_bytes)
    assert (network.max_tokens < 100) == (max_words < NUM_WORDS)
    np.testing.assert_allclose(network.logits(rows), expected, rtol=1e-5, atol=1e-6)
    assert network.logits(rows_of([])).shape == (0, CLASSES)
    np.testing.assert_array_equal(network.logits(rows_of([[], []])), 0)


@pytest.mark.parametrize("settings", [RnnSettings(hidden_size=6), BagSettings()])
def test_texts_of_all_kinds_have_the_probabilities_of_torch(settings):
    package = new_package(classes=("a", "b", "c"))
    words = [
        *package.vocabulary.words.to_pylist()[2:],
        "утро",
        "الخير",
        "お",
        "ส",
        "아침",
        "καλημέρα",
    ]
    counts = pa.table({"word": words, "count": range(len(words), 0, -1)})
    known = vocabulary.fit(counts, min_count=1, max_size=None)
    network = networks.build(
        settings, vocabulary_size=len(known), embedding_dim=DIM, num_classes=CLASSES
    )
    described = package.settings.model_copy(
        update={"model": settings, "vocabulary_size": len(known), "max_length": 5000}
    )
    package = replace(package, network=network.eval(), vocabulary=known, settings=described)
    scores = package.score(pa.array(TEXTS))
    read = package.read(pa.array(TEXTS))
    rows = EncodedRows.from_lists(read.encoded.token_ids)
    expected = softmax(one_by_one(network, rows))
    has_word = scores.num_tokens > 0
    assert has_word.sum() >= 9
    np.testing.assert_allclose(
        scores.probabilities[has_word], expected[has_word], rtol=0, atol=1e-5
    )


def test_weights_of_a_training_are_seen_without_a_copy():
    package = new_package()
    before = package.score(pa.array(["good"])).probability
    with torch.no_grad():
        package.network.output.bias += torch.tensor([0.0, 1.0])
    assert package.score(pa.array(["good"])).probability > before


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_stacked_layers_read_the_states_of_the_layer_before(cell):
    settings = RnnSettings(cell=cell, hidden_size=7, pooling="last")
    reference = getattr(torch.nn, cell.upper())(DIM, 7, num_layers=3, bidirectional=True)
    embedding = torch.randn(NUM_WORDS, DIM)
    output = torch.nn.Linear(14, CLASSES)
    arrays = {"embedding.weight": embedding.numpy()}
    arrays |= {f"output.{name}": tensor.numpy() for name, tensor in output.state_dict().items()}
    for name, tensor in reference.state_dict().items():
        kind, layer = name.removesuffix("_reverse").rsplit("_l", 1)
        direction = "backward" if name.endswith("_reverse") else "forward"
        arrays[f"{direction}_layers.{layer}.{kind}_l0"] = tensor.numpy()
    network = array_networks.build(
        settings,
        arrays,
        vocabulary_size=NUM_WORDS,
        embedding_dim=DIM,
        num_classes=CLASSES,
        earlier=EarlierLayers(num_layers=3),
    )
    rows = make_rows()
    found = network.logits(rows)
    for row in np.flatnonzero(rows.lengths):
        ids = rows.token_ids[rows.offsets[row] : rows.offsets[row + 1]]
        with torch.no_grad():
            states, _ = reference(embedding[ids.tolist()])
            expected = output(torch.cat([states[-1, :7], states[0, 7:]]))
        np.testing.assert_allclose(found[row], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_package_is_loaded_and_scores_without_large_libraries(tmp_path):
    new_package().save(str(tmp_path / "model"), lineage={})
    code = """
import sys
import pyarrow as pa
from sentiflow.models.package import ModelPackage

package = ModelPackage.load(sys.argv[1])
texts = pa.array(["good day", "unheard of"] * 100)
assert package.score(texts).num_tokens.tolist() == [2, 0] * 100
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"torch", "pandas", "scipy", "ray", "mlflow"}, loaded
"""
    command = [sys.executable, "tests/without_packages.py", code, str(tmp_path / "model")]
    subprocess.run(command, check=True, cwd=PROJECT)


def test_a_network_in_torch_has_the_weights_of_the_arrays(tmp_path):
    package = new_package()
    package.save(str(tmp_path / "model"), lineage={})
    loaded = ModelPackage.load(str(tmp_path / "model"))
    network = networks.from_arrays(loaded.settings.model, loaded.arrays)
    for name, tensor in package.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)
