import math

import numpy as np
import pytest
import torch

from sentiflow import batching
from sentiflow.batching import EncodedRows
from sentiflow.errors import JobError, UserError
from sentiflow.models import build
from sentiflow.sections import TrainSettings
from sentiflow.trainer import Trainer, learning_rate_factor

SETTINGS = TrainSettings.model_validate(
    {
        "model": {"cell": "rnn", "hidden_size": 8, "bidirectional": False, "pooling": "last"}
        | {"dropout": 0.0},
        "batching": {"global_batch_size": 16},
        "num_epochs": 2,
        "learning_rate": 0.01,
    }
)


def random_rows(num_rows: int = 100, seed: int = 0) -> EncodedRows:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 9, num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = generator.integers(1, 20, offsets[-1]).astype(np.int32)
    return EncodedRows(token_ids, offsets, generator.integers(0, 2, num_rows).astype(np.int8))


def make_trainer(settings: TrainSettings = SETTINGS) -> Trainer:
    torch.manual_seed(0)
    network = build(settings.model.model_dump(), vocabulary_size=20, embedding_dim=4)
    return Trainer(
        settings=settings,
        network=network,
        train=random_rows(),
        validation=random_rows(seed=1),
        rank=0,
        world_size=1,
        device=torch.device("cpu"),
    )


def test_training_equals_a_plain_loop_over_the_same_batches():
    settings = SETTINGS.model_copy(update={"schedule": "constant", "clip_norm": None})
    trainer = make_trainer(settings)
    results = list(trainer.epochs())
    torch.manual_seed(0)
    network = build(settings.model.model_dump(), vocabulary_size=20, embedding_dim=4)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    rows, losses = random_rows(), []
    for epoch in range(2):
        total, count = 0.0, 0
        for chosen in batching.order_batches(
            rows.lengths, batch_size=16, bucketing="pooled", drop_last=False, seed=0, epoch=epoch
        ):
            batch = batching.collate(rows, chosen)
            loss = torch.nn.functional.cross_entropy(
                network(batch.token_ids, batch.lengths), batch.labels
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * len(chosen), count + len(chosen)
        losses.append(total / count)
    np.testing.assert_allclose([r.train_loss for r in results], losses, rtol=1e-5)
    for ours, theirs in zip(trainer.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_validation_figures_are_over_all_rows_with_a_token():
    trainer = make_trainer()
    *_, result = trainer.epochs()
    rows = random_rows(seed=1)
    chosen = np.flatnonzero(rows.lengths > 0)
    batch = batching.collate(rows, chosen)
    with torch.no_grad():
        logits = trainer.network.eval()(batch.token_ids, batch.lengths)
    loss = torch.nn.functional.cross_entropy(logits, batch.labels).item()
    assert result.validation_loss == pytest.approx(loss, rel=1e-5)
    accuracy = (logits.argmax(dim=1) == batch.labels).double().mean().item()
    assert result.validation_accuracy == pytest.approx(accuracy)


def test_the_same_seed_gives_the_same_curve():
    assert [r.train_loss for r in make_trainer().epochs()] == [
        r.train_loss for r in make_trainer().epochs()
    ]


def test_slices_of_workers_add_up_to_the_whole_gradient():
    """The sum over ranks of the gradients that ranks compute is that of the whole batch."""
    rows = np.flatnonzero(random_rows().lengths > 0)[:13]

    def gradient(world_size: int) -> torch.Tensor:
        total = None
        for rank in range(world_size):
            trainer = make_trainer()
            loss, _ = trainer._losses(trainer.train, rows[rank::world_size])
            (loss / len(rows)).backward()
            flat = torch.cat([p.grad.flatten() for p in trainer.parameters])
            total = flat if total is None else total + flat
        return total

    for world_size in (2, 4, 8):
        torch.testing.assert_close(gradient(world_size), gradient(1), rtol=1e-4, atol=1e-7)


def test_one_cycle_rises_and_falls_once():
    factor = learning_rate_factor("one_cycle", 100)
    values = [factor(step) for step in range(100)]
    peak = int(np.argmax(values))
    assert peak == 30
    assert values[0] == pytest.approx(1 / 25)
    assert values[peak] == pytest.approx(1.0)
    assert (np.diff(values[: peak + 1]) > 0).all()
    assert (np.diff(values[peak:]) < 0).all()
    assert values[-1] < 0.01


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_one_cycle_is_sound_for_very_few_steps(num_steps):
    factor = learning_rate_factor("one_cycle", num_steps)
    values = [factor(step) for step in range(num_steps + 1)]
    assert all(0 < value <= 1 and math.isfinite(value) for value in values)


def test_frozen_vectors_do_not_move_and_tuned_ones_do():
    for vectors, moves in (("frozen", False), ("tuned", True)):
        trainer = make_trainer()
        weight = trainer.network.embedding.weight
        weight.requires_grad_(vectors == "tuned")
        fresh = Trainer(
            **{
                name: getattr(trainer, name)
                for name in ("settings", "network", "train", "validation", "rank", "world_size")
            },
            device=trainer.device,
        )
        before = weight.detach().clone()
        list(fresh.epochs())
        assert (not torch.equal(before, weight)) == moves


def test_a_loss_that_is_not_finite_ends_the_training():
    settings = SETTINGS.model_copy(
        update={"learning_rate": 1e30, "clip_norm": None, "schedule": "constant"}
    )
    trainer = make_trainer(settings)
    with torch.no_grad():
        trainer.network.output.bias[:] = torch.nan
    with pytest.raises(JobError, match="not finite; lower"):
        list(trainer.epochs())


def test_a_corpus_without_one_full_batch_is_refused():
    batching_settings = SETTINGS.batching.model_copy(
        update={"global_batch_size": 1000, "drop_last": True}
    )
    with pytest.raises(UserError, match="no full batch in the"):
        make_trainer(SETTINGS.model_copy(update={"batching": batching_settings}))
