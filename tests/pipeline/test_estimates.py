"""What a stage will take is told before it begins, if that is a minute or more."""

import re

import pytest

from sentiflow.config import settings
from sentiflow.pipeline import estimates


@pytest.fixture
def write(tmp_path):
    """Write a config for a file of some size, of which no byte is read."""

    def write(num_bytes, *overrides, name="tweets.csv"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(num_bytes)
        config = tmp_path / "config.yaml"
        config.write_text(
            f"name: t\noutput_uri: {tmp_path}/run\n"
            "format: {kind: csv, columns: {text: text, label: label}, labels: auto}\n"
            f"prepare: {{csv: {tmp_path}/{name}}}\n"
        )
        return settings.load(config, overrides)

    return write


MINUTES = {"s": 1 / 60, "min": 1, "h": 60}


def minutes(line):
    number, unit = re.search(r"about ([\d.,]+) (s|min|h) on", line).groups()
    return float(number.replace(",", "")) * MINUTES[unit]


def test_a_short_stage_and_a_stage_of_unknown_rate_are_not_estimated(write):
    config = write(1_300_000)
    assert [estimates.estimate(v, config, 2) for v in ("prepare", "train", "score")] == [""] * 3
    assert estimates.estimate("evaluate", write(10**12), 2) == ""
    assert estimates.estimate("evaluate", write(0, "prepare.csv=gone.csv"), 2) == ""


@pytest.mark.parametrize("verb", ["prepare", "score"])
def test_rows_and_time_follow_from_the_bytes_of_the_files_and_the_cores(write, verb):
    line = estimates.estimate(verb, write(13 * 10**10), 2)
    assert line.startswith("some 1,000,000,000 rows: about ")
    assert "on 2 cores, 1.4 GB of memory, " in line
    assert minutes(estimates.estimate(verb, write(13 * 10**10), 8)) == pytest.approx(
        minutes(line) / 4, rel=0.2
    )
    packed = estimates.estimate(verb, write(13 * 10**10, name="tweets.csv.gz"), 2)
    assert packed.startswith("some 2,600,000,000 rows: ")


@pytest.mark.parametrize(
    ("override", "times"),
    [
        ("train.num_epochs=10", 2),
        ("train.folds=4", 5),
        ("train.model.hidden_size=16", 0.1),
        ("train.preset=fast", 0.03),
    ],
)
def test_the_time_of_a_training_follows_from_epochs_folds_and_network(write, override, times):
    line = estimates.estimate("train", write(13 * 10**8), 2)
    other = estimates.estimate("train", write(13 * 10**8, override), 2)
    assert minutes(other) / minutes(line) == pytest.approx(times, rel=0.5)
    assert "on disk" not in line


@pytest.mark.parametrize("rows", [199_000, 201_000])
def test_the_linear_model_counts_up_to_a_number_of_train_rows(write, rows):
    """Eight of ten rows are train rows; a linear model takes memory."""
    num_bytes = 130 * rows * 10 // 8
    settings = ("train.linear=auto", "train.num_epochs=100")
    line = estimates.estimate("train", write(num_bytes, *settings), 2)
    assert ("1.7 GB of memory" in line) == (rows < 200_000)
