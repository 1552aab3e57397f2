"""Inputs made ahead in a thread are the same inputs, and no step waits for a GPU."""
# ruff: noqa: F811 -- fixtures are imported

import contextlib
import itertools
import threading

import pytest
import torch
import torch.distributed
from test_trainer import (  # noqa: F401
    A_BAG,
    WITH_DROPOUT,
    WITH_NGRAMS,
    flat_weights,
    make_settings,
    make_trainer,
    metrics,
    train_all,
    uris,
)

from sentiflow.errors import JobError
from sentiflow.training.trainer import prefetch


def test_inputs_made_ahead_in_a_thread_train_the_same_weights(uris, monkeypatch):
    settings = make_settings(**WITH_DROPOUT)
    expected, ahead = make_trainer(uris, settings), make_trainer(uris, settings)
    made = ahead._inputs
    monkeypatch.setattr(ahead, "_inputs", lambda: prefetch(made(), ahead.device))
    assert metrics(train_all(expected)) == metrics(train_all(ahead))
    assert torch.equal(flat_weights(expected), flat_weights(ahead))


def test_items_made_ahead_come_in_order_before_an_error():
    def items():
        yield from range(5)
        raise JobError("the sixth")

    found = []
    with pytest.raises(JobError, match="the sixth"):
        found.extend(prefetch(items(), torch.device("cpu")))
    assert found == list(range(5))


def test_the_thread_of_items_made_ahead_ends_with_its_user():
    before = threading.active_count()
    items = prefetch(itertools.count(), torch.device("cpu"))
    assert next(items) == 0
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "changes", [WITH_NGRAMS, A_BAG, WITH_DROPOUT | {"pretrain": {"num_epochs": 1}}]
)
def test_no_step_waits_for_a_gpu(uris, changes, monkeypatch):
    """Tensors on the device ``meta`` have no values, so that nothing can wait for one.

    Neither autocast nor the fused optimizer knows this device.
    """
    adam = torch.optim.AdamW
    monkeypatch.setattr(torch, "autocast", lambda *_, **options: contextlib.nullcontext())
    monkeypatch.setattr(
        torch.optim,
        "AdamW",
        lambda groups, weight_decay, fused: adam(groups, weight_decay=weight_decay),
    )
    trainer = make_trainer(uris, make_settings(**changes), device="meta")
    for step_input in prefetch(trainer._inputs(), trainer.device):
        trainer._make_step(step_input)
    assert trainer.step == trainer.train.num_steps(0) > 5
