"""A package answers with the calibration that was fitted, whatever computes its logits."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from conftest import new_package

from sentiflow.config.train_sections import BagSettings, RnnSettings
from sentiflow.metrics.confidence import Calibration, calibrate, softmax
from sentiflow.models import networks
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams, count
from sentiflow.models.package import ModelPackage
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import tokenize
from sentiflow.tracking.recorder import Recorder
from sentiflow.training import descriptions, train_results, trained_package
from sentiflow.training.linear_choice import LinearChoice
from sentiflow.training.reports import EpochResult, TrainingCosts, TrainReport

TEXTS = pa.array(["good", "bad", "good bad morning", "a day", "unheard of", "day day good"])
EFFECT = {"temperature": 1.7, "bias": {"positive": 0.9, "negative": -0.4, "neutral": -0.5}}
CLASSES = ("negative", "positive", "neutral")


def make_linear(num_classes=3):
    """Make a linear model that knows the n-grams of all texts but two."""
    hashes, _ = count(Ngrams.of(tokenize(TEXTS[:4], name="tweet")))
    random = np.random.default_rng(0)
    weights = random.normal(size=(len(hashes), num_classes)).astype(np.float32)
    squares = np.ones(len(hashes), np.float32)
    bias = np.arange(num_classes, dtype=np.float32)
    return LinearModel(hashes=hashes, weights=weights, squares=squares, bias=bias)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_linear_model_has_its_share_in_the_logits(weight, tmp_path):
    package = new_package(classes=CLASSES)
    linear = make_linear()
    texts = pa.array([*TEXTS.to_pylist(), "\u0436\u0436"])
    of_network, of_linear = package.component_logits(texts, [linear])
    decided = {"linear_weight": weight, "linear_strength": 1.0}
    none = np.full(len(texts), -1)
    mixed, _ = trained_package._add_linear(
        package, {LinearChoice(1.0): linear}, none, texts, decided
    )
    mixed = trained_package._apply_calibration(mixed, EFFECT)
    mixed.save(str(tmp_path), lineage={})
    loaded = ModelPackage.load(str(tmp_path))
    scores = loaded.score(texts)
    has_word = package.score(texts).num_tokens > 0
    known = scores.num_tokens > 0
    assert not known[-1], "no character is known"
    assert (known & ~has_word).any() == (weight > 0), "some of its characters are"
    logits = (1 - weight) * of_network + weight * of_linear
    expected = softmax(logits / 1.7 + np.array([-0.4, 0.9, -0.5]))
    np.testing.assert_allclose(scores.probabilities[known], expected[known], rtol=1e-4)
    np.testing.assert_allclose(
        scores.probabilities[~known], [package.settings.priors] * (~known).sum(), rtol=1e-6
    )
    assert (loaded.linear is None) == (weight == 0)


def test_the_threshold_is_chosen_on_labelled_rows_with_a_known_word_and_kept(tmp_path):
    sure = np.linspace(0.99, 0.34, 400).astype(np.float32)
    rest = (1 - sure) / 2
    label = np.where(sure > 0.7, 0, 1)
    none = np.zeros(400, np.int64)
    label[-100:] = -1
    scores = Scores(np.stack([sure, rest, rest], axis=1), CLASSES, none + 1, none, none)
    texts = np.arange(400)
    unsure = trained_package.choose_unsure(scores, label, 0.05, text_hash=texts)
    assert 0.65 < unsure["threshold"] < 0.72
    assert unsure["num_rows"] == 300
    assert unsure["answered_fraction"] == pytest.approx((sure > unsure["threshold"]).sum() / 300)
    unknown = replace(scores, num_tokens=none)
    of_unknown = trained_package.choose_unsure(unknown, label, 0.05, text_hash=texts)
    assert of_unknown["answered_fraction"] == 0
    package = trained_package._apply_calibration(
        new_package(classes=CLASSES), EFFECT | {"unsure": unsure}
    )
    package.save(str(tmp_path), lineage={})
    loaded = ModelPackage.load(str(tmp_path))
    assert loaded.settings.unsure.threshold == unsure["threshold"]
    found = loaded.score(TEXTS)
    expected = (found.confidence <= unsure["threshold"]) | (found.num_tokens == 0)
    assert found.unsure.tolist() == expected.tolist()
    assert found.unsure.any()


def test_a_text_decides_once_however_often_it_occurs():
    rng = np.random.default_rng(0)
    num_broken = 0
    num_answering = 0
    for _ in range(300):
        sure = rng.uniform(0.5, 1, 200).astype(np.float32)
        label = (rng.random(200) < 0.104).astype(np.int64)  # the error is above the promise
        positive = (1 - sure)[:, None]
        zero = np.zeros(200, np.int64)
        one_each = Scores(np.hstack([1 - positive, positive]), ("a", "b"), zero + 1, zero, zero)
        copies = rng.permutation(np.repeat(np.arange(200), 3))
        repeated = Scores(
            one_each.probabilities[copies], ("a", "b"), zero[copies] + 1, zero[copies], zero[copies]
        )
        found = trained_package.choose_unsure(repeated, label[copies], 0.1, text_hash=copies)
        expected = trained_package.choose_unsure(one_each, label, 0.1, text_hash=np.arange(200))
        assert found == expected
        num_broken += found["threshold"] < 1
        rows = trained_package.choose_unsure(repeated, label[copies], 0.1, text_hash=np.arange(600))
        num_answering += rows["threshold"] < 1
    assert num_broken <= 0.05 * 300 + 2 * np.sqrt(0.05 * 0.95 * 300)
    assert num_answering > 2 * num_broken, "each row on its own would break the promise"


@pytest.mark.parametrize(
    "model",
    [
        RnnSettings(hidden_size=6),
        RnnSettings(hidden_size=6, bidirectional=True, pooling="attention"),
        BagSettings(kind="bag_of_embeddings", hidden_sizes=(4,)),
    ],
)
def test_the_bias_is_part_of_the_output_layer(model, tmp_path):
    package = new_package(classes=CLASSES)
    sizes = {"vocabulary_size": len(package.vocabulary), "embedding_dim": 5, "num_classes": 3}
    network = networks.build(model, **sizes).eval()
    settings = package.settings.model_copy(update={"model": model})
    package = replace(package, network=network, settings=settings)
    before = package.score(TEXTS)
    trained_package._apply_calibration(package, EFFECT).save(str(tmp_path), lineage={})
    after = ModelPackage.load(str(tmp_path)).score(TEXTS)
    known = before.num_tokens > 0
    fitted = Calibration.read(EFFECT, CLASSES)
    assert fitted == Calibration(1.7, (-0.4, 0.9, -0.5))
    expected = calibrate(before.probabilities[known], fitted)
    np.testing.assert_allclose(after.probabilities[known], expected, rtol=1e-5)
    assert (after.prediction != before.prediction).any()
    np.testing.assert_array_equal(after.probabilities[~known], before.probabilities[~known])


def test_shares_of_another_time_leave_no_trace_in_the_bias():
    generator = np.random.default_rng(0)
    priors = np.array([0.5, 0.5])
    then = np.array([0.1, 0.9])
    label = generator.choice(2, 20_000, p=then)
    evidence = generator.normal(2 * label - 1.0, 1.0)  # its log odds are twice the value
    probabilities = softmax(np.stack([-evidence, evidence], 1) + np.log(priors))
    known = np.ones(len(label), np.int32)
    names = ("negative", "positive")
    scores = Scores(probabilities.astype(np.float32), names, known, known, 0 * known)
    assert trained_package.calibrate(scores, label)["bias"]["positive"] > 0.8
    kept = trained_package.calibrate(scores, label, priors=priors)
    assert kept["bias"]["positive"] == pytest.approx(0, abs=0.05)
    assert kept["temperature"] == pytest.approx(1, abs=0.05)


def test_the_linear_model_is_that_of_the_lowest_loss_beside_the_network():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, 2000)
    truth = np.eye(3)[label]
    of_network, noise = truth + generator.normal(size=(2, 2000, 3))
    weak = 0.1 * truth + 0.3 * noise
    good = 4 * truth + 2 * noise
    models = {
        LinearChoice(1.0): weak,
        LinearChoice(4.0): of_network,
        LinearChoice(16.0): good,
    }
    decided = trained_package.choose_linear(label, of_network, models)
    assert decided["linear_strength"] == 16
    assert 0 < decided["linear_weight"] < 1
    models[LinearChoice(16.0)] /= 20
    scaled = trained_package.choose_linear(label, of_network, models)
    assert scaled["linear_strength"] == 16, "whatever the size of its logits"
    none = trained_package.choose_linear(
        label[:0], of_network[:0], {c: m[:0] for c, m in models.items()}
    )
    assert none["linear_strength"] == 4


@pytest.mark.parametrize(
    ("step", "losses", "said"),
    [
        (99, (0.9, 0.9), ["only 99 optimizer steps: lower train.batching.global_batch_size"]),
        (100, (0.9, 0.9), []),
        (
            400,
            (0.9, 0.8),
            ["still falls (0.900 to 0.800): more epochs may help, train.num_epochs=4"],
        ),
        (400, (None, None), []),
    ],
)
def test_too_few_steps_and_a_loss_that_still_falls_are_told(step, losses, said):
    history = [
        EpochResult(number, 0.5, 0.7, loss, None, 0.1, 1.0, 0.0, 1.0, 9.0, step, "", None)
        for number, loss in enumerate(losses, start=1)
    ]
    lines = list(descriptions.describe_losses(history))
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))


def test_a_linear_model_without_validation_rows_has_a_share_and_no_temperature(
    tmp_path, monkeypatch
):
    epoch = EpochResult(1, 0.5, 0.7, None, None, 0.1, 1.0, 0.0, 1.0, 9.0, 4, "", None)
    decided = {"linear_weight": 0.5, "linear_strength": 4.0}
    package = {"calibration": decided, "counts": {"parameters": 3}, "fingerprint": "ab"}
    report = TrainReport([], [epoch], 1, package, 0, "cpu", "fp32")
    published = {}
    output = SimpleNamespace(
        uri=str(tmp_path),
        spec=SimpleNamespace(uri=str(tmp_path), fingerprint="cd"),
        write=lambda name, content: name,
        publish=lambda **record: published.update(record),
    )
    monkeypatch.setattr(train_results, "list_result", lambda uri, record, path: [])
    recorder = Recorder(run_record={"metrics": {}, "tags": {}, "artifacts": []})
    recorder.kept = recorder.run_record
    train_results.publish(
        output,
        recorder,
        report,
        refit=None,
        registered=None,
        seconds=1.0,
        num_rows=9,
        num_workers=1,
        taught=None,
        fold_files=[],
        costs=TrainingCosts(1, 2.5, 0.5),
    )
    assert published["run"]["metrics"]["train/linear_weight"] == 0.5
    assert "train/temperature" not in published["run"]["metrics"]
    assert published["run"]["metrics"]["train/network_seconds"] == 2.5
    assert published["run"]["metrics"]["train/linear_seconds"] == 0.5
    assert published["costs"]["num_networks"] == 1


def test_the_figure_of_the_model_is_told_where_its_network_has_another():
    epoch = EpochResult(1, 0.5, 0.7, 0.6, 0.6, 0.1, 1.0, 0.0, 1.0, 9.0, 400, "", None)
    calibration = {
        "linear_weight": 1.0,
        "network_gain": -0.001,
        "num_rows": 160,
        "temperature": 1.0,
    }
    package = {"calibration": calibration}
    package["metrics"] = {"validation/accuracy": 0.656, "validation/f1_macro": 0.5}
    report = TrainReport([], [epoch], 1, package, 0, "cpu", "fp32")
    costs = TrainingCosts(1, 61.25, 4.0, num_folds_trained=5)
    lines = list(descriptions.describe_report(report, costs, is_refit=False))
    assert lines == [
        "share in the logits: network 0%, linear model 100%: the network does not lower the log "
        "loss of texts that the models have not seen. Training the network took 61.2 s, the "
        "linear models 4.0 s",
        "the network has no share: a teacher (train.distill, docs/distilling.md) or more labelled "
        "rows may help it",
        "the model as a whole: validation accuracy 0.6560, macro F1 0.5000",
    ]
    package["metrics"] = {"validation/accuracy": 0.6}
    lines = list(descriptions.describe_report(report, TrainingCosts(), is_refit=False))
    assert len(lines) == 2
    untrained = TrainReport([], [], 0, package, 0, "cpu", "fp32")
    lines = list(
        descriptions.describe_report(untrained, TrainingCosts(), is_refit=False, has_teacher=True)
    )
    assert lines[1:] == [
        "the network has no share: more labelled rows may help it",
        "the model as a whole: validation accuracy 0.6000",
    ]


def test_the_rows_choose_between_soft_targets_and_plain_ones():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, 2000)
    of_network, plain = np.eye(3)[label] + generator.normal(size=(2, 2000, 3))
    soft = 4 * np.eye(3)[label] + generator.normal(size=(2000, 3))
    models = {LinearChoice(4.0): plain, LinearChoice(1.0, 0.15): soft}
    decided = trained_package.choose_linear(label, of_network, models)
    assert decided["linear_neighbor_weight"] == 0.15
    assert LinearChoice.of(decided) == LinearChoice(1.0, 0.15)
    assert LinearChoice.parse(LinearChoice.of(decided).name) == LinearChoice(1.0, 0.15)
    models[LinearChoice(1.0, 0.15)] = generator.normal(size=(2000, 3))
    assert "linear_neighbor_weight" not in trained_package.choose_linear(label, of_network, models)
