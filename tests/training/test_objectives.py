from dataclasses import replace

import numpy as np
import pytest
import torch

from sentiflow.config.train_sections import RnnSettings
from sentiflow.models.batching import Batch
from sentiflow.models.networks import build
from sentiflow.training import linear_texts, soft_targets
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.objectives import ClassificationObjective, LanguageModeling

COUNTS = np.array([0, 5, 9, 1, 7, 3, 30, 2, 2, 1])


def make_network(bidirectional=True):
    torch.manual_seed(0)
    settings = RnnSettings(cell="gru", hidden_size=6, bidirectional=bidirectional, pooling="last")
    return build(settings, vocabulary_size=10, embedding_dim=4)


def make_batch(rows):
    width = max(map(len, rows))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return Batch(padded, lengths, torch.arange(len(rows)) % 2)


def language_modeling(network, *, num_negatives=20):
    return LanguageModeling(network, counts=COUNTS, num_negatives=num_negatives, seed=1)


def test_class_weights_scale_the_loss_of_the_gradient_alone():
    network = make_network()
    batch = make_batch([[1, 2, 3], [4, 5]])
    plain = ClassificationObjective(network)(batch, None, 0)
    weights = np.array([0.5, 3.0], np.float32)
    found = ClassificationObjective(network, class_weights=weights)(batch, None, 0)
    expected = plain.trained * torch.from_numpy(weights)[batch.labels]
    torch.testing.assert_close(found.trained, expected)
    assert torch.equal(found.reported, plain.reported)


def taught_batch():
    """Make a batch of two labelled rows and one without a label, with a teacher's answers."""
    batch = make_batch([[1, 2, 3], [4, 5], [6]])
    teacher = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    return replace(batch, labels=torch.tensor([0, 1, -1]), teacher=teacher)


def soft_losses(logits, targets, weights=(1.0, 1.0)):
    """Compute the cross-entropy of each row by numpy alone."""
    logits = logits.detach().numpy().astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -(np.asarray(targets) * np.asarray(weights) * logs).sum(axis=1)


@pytest.mark.parametrize("hard_weight", [0.0, 0.25, 1.0])
def test_a_network_learns_its_teacher_mixed_with_the_label(hard_weight):
    network = make_network()
    batch = taught_batch()
    targets = batch.teacher.numpy().astype(np.float64)
    targets[:2] = (1 - hard_weight) * targets[:2] + hard_weight * np.eye(2)
    logits = network(batch.token_ids, batch.lengths)
    found = ClassificationObjective(network, hard_weight=hard_weight)(batch, None, 0)
    np.testing.assert_allclose(found.reported, soft_losses(logits, targets), rtol=1e-5)
    assert torch.equal(found.reported, found.trained)
    assert found.correct == (logits.argmax(dim=1).numpy() == targets.argmax(axis=1)).sum()
    weights = np.array([0.5, 3.0], np.float32)
    weighted = ClassificationObjective(network, class_weights=weights, hard_weight=hard_weight)
    expected = soft_losses(logits, targets, weights)
    np.testing.assert_allclose(weighted(batch, None, 0).trained.detach(), expected, rtol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_next_word_prediction_equals_a_plain_loop(bidirectional):
    objective = language_modeling(make_network(bidirectional))
    torch.nn.init.normal_(objective.bias)
    rows = [[1, 2, 3, 4], [6], [5, 6]]
    losses = objective(make_batch(rows), None, 7).reported
    negatives = objective.draw_negatives(7)
    share = np.maximum(COUNTS, 1.0) ** 0.75
    share[0] = 0
    share = torch.tensor(share / share.sum() * len(negatives)).float()
    vectors = objective.network.embedding.weight
    for row, loss in zip(rows, losses, strict=True):
        expected = []
        for order, head in zip((row, row[::-1]), objective.heads, strict=False):
            layers = objective.network.forward_layers
            if head is not objective.heads[0]:
                layers = objective.network.backward_layers
            states = layers[0](vectors[order][:, None])[0][:, 0]
            for state, word in zip(states[:-1], order[1:], strict=True):
                others = [n for n in negatives.tolist() if n != word]
                ids = torch.tensor([word, *others])
                scores = vectors[ids] @ head(state) + objective.bias[ids] - share[ids].log()
                expected.append(torch.logsumexp(scores, 0) - scores[0])
        assert loss.item() == pytest.approx(
            torch.stack(expected).mean().item() if expected else 0.0, rel=1e-4, abs=1e-6
        )


def test_no_other_word_vectors_get_a_gradient_than_those_that_are_used():
    network = make_network()
    batch = make_batch([[1, 2, 3], [4, 5]])
    for objective in (ClassificationObjective(network), language_modeling(network)):
        objective.zero_grad()
        objective(batch, None, 0).trained.sum().backward()
        touched = network.embedding.weight.grad.abs().sum(dim=1).nonzero().flatten()
        assert set(touched.tolist()) <= set(objective.used_rows(batch, 0).tolist())


def test_padding_and_other_rows_change_no_loss():
    objective = language_modeling(make_network())
    rows = [[1, 2, 3, 4, 5], [6, 7], [8]]
    together = objective(make_batch(rows), None, 3).reported
    alone = torch.cat([objective(make_batch([row]), None, 3).reported for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_a_state_never_depends_on_the_word_that_it_predicts():
    objective = language_modeling(make_network(bidirectional=False))
    batches = [make_batch([[1, 2, word]]) for word in (3, 9)]
    states = [objective.network.encode(batch.token_ids, batch.lengths) for batch in batches]
    torch.testing.assert_close(states[0][:2], states[1][:2])


def test_negatives_follow_from_seed_and_step_and_are_drawn_by_their_count():
    objective = language_modeling(make_network(), num_negatives=20_000)
    first = objective.draw_negatives(4)
    other = objective.draw_negatives(5)
    assert torch.equal(first, objective.draw_negatives(4))
    assert not torch.equal(first, other)
    share = np.maximum(COUNTS, 1.0) ** 0.75
    share[0] = 0
    drawn = np.bincount(first.numpy(), minlength=10) / len(first)
    np.testing.assert_allclose(drawn, share / share.sum(), atol=0.01)


def test_parameters_with_a_gradient_are_those_that_are_trained():
    network = make_network()
    batch = make_batch([[1, 2, 3], [3, 4]])
    for objective in (ClassificationObjective(network), language_modeling(network)):
        objective.zero_grad()
        objective(batch, None, 2).trained.sum().backward()
        for name, parameter in objective.named_parameters():
            assert (parameter.grad is not None) == name.startswith(objective.trained_parameters), (
                name
            )


def test_neighboring_classes_get_part_of_the_weight_in_the_gradient_alone():
    network = make_network()
    batch = replace(make_batch([[1, 2, 3], [4, 5]]), labels=torch.tensor([0, 1]))
    plain = ClassificationObjective(network)(batch, None, 0)
    soft = ClassificationObjective(network, neighbor_weight=0.2)(batch, None, 0)
    logits = network(batch.token_ids, batch.lengths, None)
    expected = soft_losses(logits, [[0.8, 0.2], [0.2, 0.8]])
    np.testing.assert_allclose(soft.trained.detach(), expected, rtol=1e-5)
    assert torch.equal(soft.reported, plain.reported)
    assert soft.correct == plain.correct


@pytest.mark.parametrize(
    ("setting", "values", "expected"),
    [
        ("auto", None, (0.0,)),
        ("auto", (1.0, 2.0), (0.0, 0.15)),
        (0, (1.0, 2.0), (0,)),
        (0.1, (1.0, 2.0), (0.1,)),
    ],
)
def test_only_ordered_classes_share_the_weight_of_a_label(setting, values, expected):
    learned = LearnedClasses(("1", "2"), np.ones(2, int), np.arange(2), None, values=values)
    assert soft_targets.list_weights(setting, learned) == expected


def test_the_targets_of_linear_models_are_soft():
    learned = LearnedClasses(("1", "2", "3"), np.ones(3, int), np.arange(3), None)
    texts = linear_texts.LinearTexts(None, np.array([0, 1, -1], np.int8), None)
    found = linear_texts.make_targets(texts, learned, hard_weight=0, neighbor_weight=0.25)
    np.testing.assert_allclose(found, [[0.75, 0.25, 0], [0.25, 0.5, 0.25], [0, 0, 0]])
