"""A long task tells how much time is left."""

import logging

import pytest

from sentiflow import progress


@pytest.mark.parametrize(
    ("later", "left"), [(0, "80 s left"), (100, "3 min left"), (1000, "18 min left")]
)
def test_the_time_left_is_in_words_and_counts_what_follows(monkeypatch, caplog, later, left):
    caplog.set_level(logging.INFO, logger="sentiflow.progress")
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress("train", total=100, unit="texts", later=later) as shown:
        now[0] = 20.0
        shown.advance(20, "epoch 1")
    assert f"train     20 of 100 texts, 1/s, {left}, epoch 1" in caplog.text
