"""A long task tells what it does and how far it is, also while nothing moves."""

import io
import logging
import re
import time

import pytest
from rich.console import Console

from sentiflow import progress
from sentiflow.progress import Progress, Steps


@pytest.fixture
def said(monkeypatch, caplog):
    """Lines of a process without a terminal, with a clock that the test moves."""
    caplog.set_level(logging.INFO, logger="sentiflow.progress")
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "screen", progress._Screen())

    def wait(seconds=0):
        now[0] += seconds
        return caplog.messages

    return wait


@pytest.mark.parametrize(
    ("later", "left"), [(0, "80 s left"), (100, "3 min left"), (1000, "18 min left")]
)
def test_the_time_left_is_in_words_and_counts_what_follows(said, later, left):
    with Progress("train", total=100, unit="texts", later=later) as shown:
        said(20)
        shown.advance(20, "epoch 1")
    assert said() == [f"train     20 of 100 texts, 1/s, {left}, epoch 1"]


def test_a_pass_is_numbered_and_what_follows_it_has_its_own_clock(said):
    with Progress("prepare", what="pass 2 of 3", total=60, unit="rows", later=60) as shown:
        said(30)
        shown.advance(30)
        said(30)
        shown.advance(30)
        shown.turn_to("fitting the linear model", units=30)
        said(10)
        progress.screen.tell_if_due()
    assert said() == [
        "prepare   pass 2 of 3: 30 of 60 rows, 1/s, 90 s left",
        "prepare   fitting the linear model, 10 s so far, of about 30 s",
    ]


def test_the_innermost_task_is_shown_and_only_if_no_line_was_written_for_long(said):
    steps = Steps("evaluate", read="reading rows", draw="drawing plots")
    with steps.show("draw"):
        with Progress("hash", total=9, unit="bytes"):
            said(5)
            progress.screen.tell_if_due()
            said(5)
            progress.screen.tell_if_due()
            progress.screen.tell_if_due()
        said(7)
        progress.screen.tell_if_due()
        said(7)
        progress.screen.tell_if_due()
    said(99)
    progress.screen.tell_if_due()
    assert said() == [
        "hash      0 of 9 bytes, 10 s so far",
        "evaluate  step 2 of 2, drawing plots, 24 s so far",
    ]


def test_many_short_steps_are_not_silent_together(said):
    for _ in range(5):
        with Progress("words", what="reading") as step:
            said(3)
            progress.screen.tell_if_due(step)
    assert len(said()) == 1


def test_a_thread_speaks_for_a_task_that_does_not_move(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="sentiflow.progress")
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(progress, "_WATCH_SECONDS", 0.05)
    with Progress("promote", what="loading the models"):
        time.sleep(0.8)
    assert 1 < len(caplog.messages) < 6
    num_lines = len(caplog.messages)
    time.sleep(0.4)
    assert len(caplog.messages) == num_lines, "no task runs any more"


def test_a_terminal_gets_one_line_that_is_rewritten(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="sentiflow.progress")
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(progress, "console", console)
    with Progress("evaluate", what="step 1 of 2, reading rows"):
        with Progress("hash", total=4, unit="bytes") as shown:
            shown.advance(2)
            time.sleep(0.3)
        time.sleep(0.3)
    assert caplog.messages == []
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"hash +\S+ 2 of 4 bytes", drawn)
    assert re.search(r"evaluate +\S+ step 1 of 2, reading rows, 0 s so far", drawn)
    assert "\n" not in drawn.strip(), "it is one line"


@pytest.mark.parametrize("level", [logging.WARNING, logging.INFO])
def test_a_process_that_shows_no_messages_starts_no_thread(caplog, level):
    caplog.set_level(level, logger="sentiflow.progress")
    with Progress("score", total=4, unit="rows"):
        assert bool(progress.screen._tasks) == (level == logging.INFO)
