"""Config, number of cores -> how long a stage takes, its memory and disk, before it begins.

The rates are those of idle cores without a GPU, for short texts (docs/scaling.md). While a stage
runs, it shows the time that is left, as measured.
"""

import os
from typing import NamedTuple

from sentiflow.config.sections import Config
from sentiflow.data import input_files, manifest
from sentiflow.progress import to_words
from sentiflow.training import rates

_MIN_SECONDS = 60
"""Nothing is said of a stage that takes less."""
_CSV_ROW_BYTES = 130
_PACKED_ROW_BYTES = 50
"""In Parquet, or compressed."""
_ROWS_PER_TASK = 100_000
"""Rows of a preparation or a scoring for each core that it uses."""
_PREPARE_SECONDS = 4.3e-6
"""Of a row."""
_SCORE_SECONDS = 2e-6
"""Of a row, without the model."""
_SCORE_LINEAR_SECONDS = 1.1e-5
"""Of a row, for the linear model."""
_SCORE_FRACTION = 0.1
"""Time of the network for a row in scoring, of its time in training."""
_STEP_SECONDS = 5e-3
"""Of an optimizer step, however small the batch."""
_TASK_MEMORY_GB = 0.7
_LINEAR_ROW_MEMORY_GB = 4e-6
_ROW_DISK_GB = {"prepare": 95e-9, "score": 16e-9}


class _Rows(NamedTuple):
    """Rows of a stage, known or guessed."""

    num_rows: int
    num_train: float
    """Rows of the train split among them, which decide ``train.linear: auto``."""


def estimate(verb: str, config: Config, num_cpus: int = 0) -> str:
    """Say how long a preparation, training or scoring takes; nothing if it is below a minute.

    Args:
        verb: The stage. Nothing is said of other stages.
        config: The experiment.
        num_cpus: Number of cores; 0: as many as this machine has.
    """
    if verb not in ("prepare", "train", "score"):
        return ""
    num_cpus = num_cpus or os.cpu_count() or 1
    num_rows, num_train = _count_rows(verb, config)
    has_linear = rates.has_linear(config.train.linear, num_train)
    num_tasks = 1
    if verb != "train":
        num_tasks = max(1, min(num_cpus, num_rows // _ROWS_PER_TASK))
    memory_gb = _TASK_MEMORY_GB * num_tasks
    if verb == "prepare":
        row_seconds = _PREPARE_SECONDS
    elif verb == "score":
        row_seconds = _time_scoring(config, has_linear)
    else:
        row_seconds = _time_training(config, has_linear, num_cpus)
        if has_linear:
            memory_gb += _LINEAR_ROW_MEMORY_GB * num_rows
    seconds = row_seconds * num_rows / num_tasks
    if seconds < _MIN_SECONDS:
        return ""
    rounded = int(float(f"{num_rows:.2g}"))
    text = (
        f"some {rounded:,} rows: about {to_words(seconds)} on {num_cpus} cores, "
        f"{memory_gb:.1f} GB of memory"
    )
    if verb in _ROW_DISK_GB:
        text += f", {num_rows * _ROW_DISK_GB[verb]:.1f} GB on disk"
    return text


def _count_rows(verb: str, config: Config) -> _Rows:
    """Count the rows of a stage by the prepared data, or guess them by the bytes of its files."""
    patterns = config.prepare.csv
    if verb == "score" and not config.score.reads_prepared:
        patterns = config.score.corpus
    elif verb != "prepare":
        prepared = manifest.read(config.train.prepared_uri)
        if prepared:
            num_train = sum(prepared["counts"]["labels"]["train"].values())
            return _Rows(int(prepared["counts"]["accepted"]), num_train)
    num_rows = 0
    for file in input_files.as_found(input_files.expand(patterns))["files"]:
        is_csv = file["uri"].endswith("sv")
        num_rows += file["bytes"] // (_CSV_ROW_BYTES if is_csv else _PACKED_ROW_BYTES)
    split = config.prepare.split
    train_fraction = 1 - split.validation_fraction - split.test_fraction
    return _Rows(num_rows, num_rows * train_fraction)


def _time_scoring(config: Config, has_linear: bool) -> float:
    """Estimate the seconds of a row in scoring, on one core."""
    seconds = _SCORE_SECONDS + _SCORE_FRACTION * rates.estimate_row(config.train.model)
    if has_linear:
        seconds += _SCORE_LINEAR_SECONDS
    return seconds


def _time_training(config: Config, has_linear: bool, num_cpus: int) -> float:
    """Estimate the seconds of a row in a training with all its folds, on all cores.

    One core is left free; n threads are taken to be as fast as the root of n.
    """
    train = config.train
    of_network = rates.estimate_row(train.model) / max(1, num_cpus - 1) ** 0.5
    of_step = _STEP_SECONDS / train.batching.global_batch_size
    num_epochs = train.num_epochs + train.pretrain.num_epochs
    seconds = (of_network + of_step) * num_epochs
    if has_linear:
        seconds += 1 / rates.LINEAR_ROWS_PER_SECOND
    return (1 + train.folds) * seconds
