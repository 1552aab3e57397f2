"""A schedule gives each step its learning rate, as PyTorch's schedulers do."""

import numpy as np
import pytest
import torch
import torch.distributed

from sentiflow.training.schedules import rate_factor


def curve(schedule, num_steps=100):
    return [rate_factor(schedule, step, num_steps) for step in range(num_steps)]


def test_cosine_falls_from_one_as_pytorchs_does():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=1e-5)
    for ours in curve("cosine"):
        assert ours == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_one_cycle_rises_and_falls_once():
    values = curve("one_cycle")
    peak = int(np.argmax(values))
    assert peak == 30
    assert values[0] == pytest.approx(1 / 25)
    assert values[peak] == pytest.approx(1.0)
    assert (np.diff(values[: peak + 1]) > 0).all()
    assert (np.diff(values[peak:]) < 0).all()
    assert values[-1] < 0.01


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_schedule_works_for_very_few_steps(schedule, num_steps):
    values = [rate_factor(schedule, step, num_steps) for step in range(num_steps + 1)]
    assert all(0 < value <= 1 for value in values)
