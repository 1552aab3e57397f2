"""Config, number of cores -> a stage's time, memory and disk, estimated before it begins.

The rates hold for idle cores without a GPU, and for short texts (docs/scaling.md). While a stage
runs, it shows the time left, as measured.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from sentiflow.config.sections import Config
from sentiflow.data import input_files, manifest
from sentiflow.data.manifest_types import InputFile
from sentiflow.progress import to_words
from sentiflow.training import rates

_MIN_SECONDS = 60
"""No estimate is shown for a stage that takes less time."""
_CSV_ROW_BYTES = 130
"""Bytes of a row in an uncompressed CSV."""
_PACKED_ROW_BYTES = 50
"""Bytes of a row in Parquet, or in a compressed CSV."""
_ROWS_PER_TASK = 100_000
"""Number of rows for which a preparation or a scoring uses one core."""
_PREPARE_ROW_SECONDS = 4.3e-6
"""Time to prepare a row."""
_SCORE_ROW_SECONDS = 2e-6
"""Time to score a row, without its models."""
_LINEAR_ROW_SECONDS = 1.1e-5
"""Time of the linear model to score a row."""
_SCORE_FRACTION = 0.1
"""The network's time to score a row, as a fraction of its time to train on a row."""
_STEP_SECONDS = 5e-3
"""Time of an optimizer step, in addition to the time of its rows."""
_TASK_MEMORY_GB = 0.7
"""Memory of a task."""
_LINEAR_ROW_MEMORY_GB = 4e-6
"""Memory of the linear model's training for a row."""
_ROW_DISK_GB = {"prepare": 95e-9, "score": 16e-9}
"""Size of a row in the output, by stage."""


class _Rows(NamedTuple):
    """Number of rows of a stage, counted or estimated."""

    num_rows: int
    num_train: float
    """Rows of the train split among them, which decide ``train.linear: auto``."""


def estimate(
    verb: str, config: Config, num_cpus: int = 0, *, corpus: Sequence[InputFile] | None = None
) -> str:
    """Say how long a preparation, training or scoring takes; empty if less than a minute.

    Args:
        verb: The stage; for other stages the result is empty.
        config: The experiment.
        num_cpus: Number of cores; 0: as many as this machine has.
        corpus: The files of ``score.corpus``, if they are known; None: they are listed.
    """
    if verb not in ("prepare", "train", "score"):
        return ""
    num_cpus = num_cpus or os.cpu_count() or 1
    num_rows, num_train = _count_rows(verb, config, corpus)
    has_linear = rates.has_linear(config.train.linear, num_train)
    num_tasks = 1
    if verb != "train":
        num_tasks = max(1, min(num_cpus, num_rows // _ROWS_PER_TASK))
    memory_gb = _TASK_MEMORY_GB * num_tasks
    if verb == "prepare":
        row_seconds = _PREPARE_ROW_SECONDS
    elif verb == "score":
        row_seconds = _time_scoring(config, has_linear)
    else:
        row_seconds = _time_training(config, has_linear, num_cpus)
        if has_linear:
            memory_gb += _LINEAR_ROW_MEMORY_GB * num_rows
    seconds = row_seconds * num_rows / num_tasks
    if seconds < _MIN_SECONDS:
        return ""
    rounded = int(float(f"{num_rows:.2g}"))  # to two significant figures
    text = (
        f"some {rounded:,} rows: about {to_words(seconds)} on {num_cpus} cores, "
        f"{memory_gb:.1f} GB of memory"
    )
    if verb in _ROW_DISK_GB:
        text += f", {num_rows * _ROW_DISK_GB[verb]:.1f} GB on disk"
    return text


def _count_rows(verb: str, config: Config, corpus: Sequence[InputFile] | None) -> _Rows:
    """Read the number of rows from prepared data, or estimate it by the bytes of input files."""
    patterns = config.prepare.csv
    files = None
    if verb == "score" and not config.score.reads_prepared:
        patterns = config.score.corpus
        files = corpus
    elif verb != "prepare":
        prepared = manifest.read(config.train.prepared_uri)
        if prepared:
            num_train = sum(prepared["counts"]["labels"]["train"].values())
            return _Rows(int(prepared["counts"]["accepted"]), num_train)
    if files is None:  # files that were scored may be gone
        files = input_files.find(patterns, may_be_gone=patterns if verb == "score" else ())
    num_rows = 0
    for file in files:
        is_csv = file["uri"].endswith("sv")  # .csv or .tsv, not compressed
        num_rows += file["bytes"] // (_CSV_ROW_BYTES if is_csv else _PACKED_ROW_BYTES)
    split = config.prepare.split
    train_fraction = 1 - split.validation_fraction - split.test_fraction
    return _Rows(num_rows, num_rows * train_fraction)


def _time_scoring(config: Config, has_linear: bool) -> float:
    """Estimate the seconds to score a row, on one core."""
    seconds = _SCORE_ROW_SECONDS + _SCORE_FRACTION * rates.estimate_row(config.train.model)
    if has_linear:
        seconds += _LINEAR_ROW_SECONDS
    return seconds


def _time_training(config: Config, has_linear: bool, num_cpus: int) -> float:
    """Estimate the seconds for a row in a training with all its folds, on all cores.

    One core is left free. The speed is assumed to grow with the square root of the threads.
    """
    train = config.train
    num_threads = max(1, num_cpus - 1)
    network_seconds = rates.estimate_row(train.model) / num_threads**0.5
    step_seconds = _STEP_SECONDS / train.batching.global_batch_size
    num_epochs = train.num_epochs + train.pretrain.num_epochs
    seconds = (network_seconds + step_seconds) * num_epochs
    if has_linear:
        seconds += 1 / rates.LINEAR_ROWS_PER_SECOND
    return (1 + train.folds) * seconds
