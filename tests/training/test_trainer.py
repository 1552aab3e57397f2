"""Any number of workers makes the same steps, and so does a resumed training."""

import contextlib
import itertools
import multiprocessing
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed
from test_virtual_shards import MAX_LENGTH, plan, write

from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import schema
from sentiflow.errors import JobError
from sentiflow.models import batching
from sentiflow.models.networks import build
from sentiflow.storage import parquet
from sentiflow.training.objectives import VALIDATION_STEP, ClassificationObjective, LanguageModeling
from sentiflow.training.trainer import Trainer
from sentiflow.training.virtual_shards import (
    DEFAULT_NUM_SHARDS,
    OwnRows,
    TrainInput,
    own_shards,
)

SETTINGS = {
    "model": {"cell": "rnn", "hidden_size": 8, "bidirectional": False, "pooling": "last"}
    | {"dropout": 0.0},
    "batching": {"global_batch_size": 16},
    "num_epochs": 2,
    "learning_rate": 0.01,
}
WITH_DROPOUT = {"model": {"cell": "gru", "hidden_size": 8, "dropout": 0.3, "output_dropout": 0.1}}
A_BAG = {"model": {"kind": "bag_of_embeddings", "hidden_sizes": [5], "dropout": 0.3}}
A_FROZEN_BAG = {"model": A_BAG["model"] | {"vectors": "frozen"}}
TAUGHT = WITH_DROPOUT | {"distill": {"teachers": ["t"], "hard_weight": 0.3}}
TWELVE = {"global_batch_size": 16, "num_shards": 12}
NUM_ROWS = 150


def make_settings(**changes):
    return TrainSettings.model_validate(SETTINGS | changes)


OF_CLASSES = make_settings(**WITH_DROPOUT, classes=["a", "b", "c"], class_weights="sqrt")


@pytest.fixture(scope="module")
def uris(tmp_path_factory):
    """Write a train split and a validation split."""
    folder = tmp_path_factory.mktemp("encoded")
    lengths = np.random.default_rng(0).integers(0, 9, 2 * NUM_ROWS)
    splits = write(folder / "train", lengths[:NUM_ROWS]), write(folder / "rest", lengths[NUM_ROWS:])
    for uri in itertools.chain(*splits):
        table = parquet.read(uri)
        labels = pa.array(table["row_id"].to_numpy() % 4, pa.int8())
        parquet.write(f"{uri}.by_class", table.set_column(1, "label", labels))
        parquet.write(f"{uri}.taught", teach(table))
    return splits


def teach(table):
    """Add a teacher's answers; every third row is without a label."""
    rows = table["row_id"].to_numpy()
    labels = np.where(rows % 3, table["label"].to_numpy(), -1)
    positive = np.random.default_rng(1).random(len(rows))
    teacher = pa.array(np.stack([1 - positive, positive], axis=1).tolist(), pa.list_(pa.float32()))
    table = table.set_column(1, "label", pa.array(labels, pa.int8()))
    table = table.append_column("text", pa.array([""] * len(rows)))
    return table.append_column("teacher", teacher).cast(schema.TAUGHT)


WEIGHTS = np.array([0.5, 2.0, 1.0], np.float32)
BY_CLASS = np.array([2, 0, 1, -1], np.int8)
"""The label of the model for each of the four labels in the files; one is left out."""


def of_classes(uris):
    """Plan splits whose labels are of four classes: the row's number modulo 4."""
    return [
        replace(plan([f"{uri}.by_class" for uri in split]), positions=BY_CLASS) for split in uris
    ]


def make_trainer(uris, settings=None, *, rank=0, world_size=1, device="cpu"):
    settings = settings or make_settings()
    is_binary = settings.classes is None
    splits = map(plan, uris) if is_binary else of_classes(uris)
    if settings.distill.teachers:
        splits = plan([f"{uri}.taught" for uri in uris[0]]), plan(uris[1])
    num_shards = settings.batching.num_shards
    train, validation = (replace(split, num_shards=num_shards) for split in splits)
    torch.manual_seed(0)
    network = build(
        settings.model,
        vocabulary_size=NUM_ROWS + 1,
        embedding_dim=4,
        num_classes=2 if is_binary else 3,
    )
    network.embedding.weight.requires_grad_(settings.model.vectors == "tuned")
    own = own_shards(rank, world_size, num_shards)
    return Trainer(
        settings=settings,
        objective=make_objective(network, settings).to(device),
        train=TrainInput(
            train,
            own=own,
            counts=train.count_lengths(range(num_shards), max_length=MAX_LENGTH),
            batch_size=settings.batching.global_batch_size,
            bucketing=settings.batching.bucketing,
            drop_last=settings.batching.drop_last,
            keep_empty=not network.needs_token,
            seed=settings.seed,
        ),
        validation=OwnRows(validation, own=own),
        device=torch.device(device),
    )


def make_objective(network, settings):
    """Make the objective of pretraining if the settings have one."""
    if not settings.pretrain.num_epochs:
        weights = WEIGHTS if settings.class_weights else None
        hard_weight = settings.distill.hard_weight
        return ClassificationObjective(network, class_weights=weights, hard_weight=hard_weight)
    counts = np.arange(NUM_ROWS + 1)
    return LanguageModeling(network, counts=counts, num_negatives=20, seed=0)


def train_all(trainer, after_step=lambda: None):
    results = []
    while trainer.epoch < trainer.settings.num_epochs:
        results.append(trainer.train_epoch(after_step))
    return results


def flat_weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.objective.network.parameters()])


def metrics(results):
    """Leave out what is undefined, and what depends on the clock."""
    clock = {"seconds", "tweets_per_second", "ended"}
    return [{k: v for k, v in vars(r).items() if k not in clock and v is not None} for r in results]


def test_training_equals_a_plain_loop_over_the_same_batches(uris):
    settings = make_settings(schedule="constant", clip_norm=None)
    trainer = make_trainer(uris, settings)
    results = train_all(trainer)
    plain = make_trainer(uris, settings)
    network = plain.objective.network
    losses = []
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for epoch in range(2):
        total = count = 0
        for part in plain.train.slices(epoch):
            batch = batching.collate(part.rows, part.chosen)
            loss = torch.nn.functional.cross_entropy(
                network(batch.token_ids, batch.lengths), batch.labels
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = total + loss.item() * len(part.chosen)
            count = count + len(part.chosen)
        losses.append(total / count)
    np.testing.assert_allclose([r.train_loss for r in results], losses, rtol=1e-5)
    torch.testing.assert_close(flat_weights(trainer), flat_weights(plain), rtol=1e-4, atol=1e-6)


def test_rows_of_the_learned_classes_alone_are_trained_on_and_measured(uris):
    from sklearn.metrics import f1_score  # slow to import, and each worker imports this module

    trainer = make_trainer(uris, OF_CLASSES)
    *_, result = train_all(trainer)
    rows = [parquet.read(uri) for uri in uris[0]]
    counted = sum(
        int(((t["row_id"].to_numpy() % 4 != 3) & (t["length"].to_numpy() > 0)).sum()) for t in rows
    )
    assert trainer.train.num_rows == counted
    (found,) = OwnRows(of_classes(uris)[1], own=range(DEFAULT_NUM_SHARDS))
    assert (found.row_ids % 4 != 3).all()
    assert (found.labels == BY_CLASS[found.row_ids % 4]).all()
    batch = batching.collate(found, np.flatnonzero(found.lengths))
    with torch.no_grad():
        logits = trainer.objective.network.eval()(batch.token_ids, batch.lengths)
    label = batch.labels.numpy()
    prediction = logits.argmax(dim=1).numpy()
    expected = f1_score(label, prediction, average="macro")
    assert result.validation_f1_macro == pytest.approx(expected)
    assert result.validation_accuracy == pytest.approx((label == prediction).mean())
    loss = torch.nn.functional.cross_entropy(logits, batch.labels).item()
    assert result.validation_loss == pytest.approx(loss, rel=1e-5), "no weights"


@pytest.mark.parametrize(
    ("stop", "changes"),
    [(stop, WITH_DROPOUT) for stop in (1, 9, 12)] + [(5, A_BAG), (12, A_FROZEN_BAG), (12, TAUGHT)],
)
def test_a_resumed_training_ends_with_the_same_weights(uris, stop, changes):
    settings = make_settings(**changes)
    undisturbed = make_trainer(uris, settings)
    saved = {}

    def save():
        if undisturbed.step == stop:
            tensors = {name: t.clone() for name, t in undisturbed.tensors().items()}
            saved.update(tensors=tensors, position=undisturbed.position())

    results = train_all(undisturbed, save)
    resumed = make_trainer(uris, settings)
    resumed.resume(**saved)
    assert resumed.step == stop
    later = train_all(resumed)
    assert torch.equal(flat_weights(resumed), flat_weights(undisturbed))
    assert metrics(later) == metrics(results[-len(later) :])


def run_rank(rank, world_size, uris, variants, queue, store):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size
    )
    for name, settings in variants.items():
        trainer = make_trainer(uris, settings, rank=rank, world_size=world_size)
        try:
            results = metrics(train_all(trainer))
            queue.put((name, rank, results, flat_weights(trainer).numpy()))
        except JobError as error:
            queue.put((name, rank, str(error), None))
    torch.distributed.destroy_process_group()


def fork_ranks(world_size, *arguments):
    """Run each rank in a fork of this process, which has imported everything and has one thread."""
    fork = multiprocessing.get_context("fork")
    ranks = [
        fork.Process(target=run_rank, args=(r, world_size, *arguments)) for r in range(world_size)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()


def run_workers(uris, variants, world_size, store):
    """Train each variant with the same processes; returns what each came to, by rank."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    parent = context.Process(target=fork_ranks, args=(world_size, uris, variants, queue, store))
    parent.start()
    found = [queue.get(timeout=100) for _ in variants for _ in range(world_size)]
    parent.join()
    return {
        name: [item[2:] for item in sorted(found, key=lambda item: item[1]) if item[0] == name]
        for name in variants
    }


PRETRAINING = WITH_DROPOUT | {"pretrain": {"num_epochs": 1}}


def test_pretraining_is_validated_with_the_same_negatives_after_each_epoch(uris):
    trainer = make_trainer(uris, make_settings(**PRETRAINING))
    (rows,) = OwnRows(plan(uris[1]), own=range(DEFAULT_NUM_SHARDS))
    batch = batching.collate(rows, np.flatnonzero(rows.lengths))
    for _ in range(2):
        result = trainer.train_epoch()
        with torch.no_grad():
            losses = trainer.objective.eval()(batch, None, VALIDATION_STEP).reported
        assert result.validation_loss == pytest.approx(losses.mean().item(), rel=1e-5)
        assert result.validation_accuracy is result.validation_f1_macro is None


ONE_EPOCH = {"num_epochs": 1}
BY_THREE = {
    "dropout": make_settings(**WITH_DROPOUT, **ONE_EPOCH),
    "a bag": make_settings(**A_BAG, **ONE_EPOCH),
    "classes": OF_CLASSES.model_copy(update=ONE_EPOCH),
    "pretraining": make_settings(**PRETRAINING, **ONE_EPOCH),
    "taught": make_settings(**TAUGHT, **ONE_EPOCH),
    "12 shards": make_settings(**WITH_DROPOUT, batching=TWELVE, **ONE_EPOCH),
    "a bad loss": make_settings(learning_rate=1e38, clip_norm=None, schedule="constant"),
}
"""Three workers own two or three of eight shards."""


@pytest.fixture(scope="module")
def by_workers(uris, tmp_path_factory):
    """Train with three processes, whose imports take seconds."""
    return run_workers(uris, BY_THREE, 3, str(tmp_path_factory.mktemp("gloo") / "store"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*BY_THREE} - {"a bad loss"}))
def test_several_workers_train_as_one_does(uris, by_workers, name):
    alone = make_trainer(uris, BY_THREE[name])
    expected = metrics(train_all(alone))
    for results, weights in by_workers[name]:
        np.testing.assert_allclose(weights, flat_weights(alone).numpy(), atol=1e-5)
        for ours, theirs in zip(results, expected, strict=True):
            ours.pop("padding_fraction")
            assert ours == pytest.approx({k: theirs[k] for k in ours}, rel=1e-4)


@pytest.mark.slow
def test_workers_end_with_the_same_line_of_a_bad_loss(uris, by_workers):
    texts = {text for text, _ in by_workers["a bad loss"]}
    assert len(texts) == 1
    with pytest.raises(JobError) as raised:
        train_all(make_trainer(uris, BY_THREE["a bad loss"]))
    assert texts == {str(raised.value)}


def test_a_bag_learns_from_rows_without_a_token(uris):
    bag = make_trainer(uris, make_settings(**A_BAG))
    rnn = make_trainer(uris)
    bag.train_epoch(), rnn.train_epoch()
    assert (bag.rows_done, rnn.rows_done) == (NUM_ROWS, rnn.train.num_rows)
    assert rnn.train.num_rows < NUM_ROWS


@pytest.mark.parametrize("changes", [WITH_DROPOUT, A_BAG, PRETRAINING])
def test_no_step_waits_for_a_gpu(uris, changes, monkeypatch):
    """Tensors on the device ``meta`` have no values, so that nothing can wait for one.

    Neither autocast nor the fused optimizer knows this device.
    """
    adam = torch.optim.AdamW
    monkeypatch.setattr(torch, "autocast", lambda *_, **options: contextlib.nullcontext())
    monkeypatch.setattr(
        torch.optim,
        "AdamW",
        lambda parameters, weight_decay, fused: adam(parameters, weight_decay=weight_decay),
    )
    trainer = make_trainer(uris, make_settings(**changes), device="meta")
    for batch_slice in trainer.train.slices(0):
        trainer._make_step(batch_slice)
    assert trainer.step == trainer.train.num_steps(0) > 5
