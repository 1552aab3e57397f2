"""Amount of data + settings -> the seconds of a stage, by rates that are built in.

The rates hold for idle cores without a GPU (docs/scaling.md). The last run of a stage corrects them
(:mod:`measured_speeds`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sentiflow.cluster.resources import Resources
from sentiflow.config.train_sections import ModelSettings, TrainSettings
from sentiflow.pipeline.stage_data import StageData
from sentiflow.training import rates

START_SECONDS = {"prepare": 4.0, "train": 4.0, "score": 4.0}
"""Seconds of a stage without rows, by stage: the start of Ray's workers, imports, the manifest."""
WORKERS_START_SECONDS = 15.0
"""Seconds until several training workers have started and ended."""
_FOLD_SECONDS = 1.0
"""Time of a fold, besides its models."""
_PREPARE_BYTE_SECONDS = 70e-9
"""Time to prepare a byte of CSV, in the two passes that every preparation makes."""
_PASS_WEIGHT = 0.4
"""Time of a further pass, as a fraction of the time of these two."""
_PART_SECONDS = 0.03
"""Time of a part without rows."""
_SCORE_ROW_SECONDS = 5e-6
"""Time to score a row, without its models."""
_LINEAR_TOKEN_SECONDS = 9e-7
"""Time of the linear model to score a token."""
_SCORE_FRACTION = 0.15
"""The network's time to score a row, as a fraction of its time to train on a row."""
STEP_SECONDS = 5e-3
"""Time of an optimizer step, in addition to the time of its rows."""
_ENCODED_PER_SECOND = 190.0
"""Texts that a sentence encoder encodes on a core."""


class Costs(NamedTuple):
    """Seconds of a stage on idle cores, by what they grow with."""

    start: float
    """They do not grow."""
    parts: float = 0.0
    """Core seconds of the parts of a corpus, which are divided among tasks."""
    num_parts: int = 1
    network: float = 0.0
    """Seconds of the networks of a training for their rows, on one thread."""
    steps: float = 0.0
    """Seconds of their optimizer steps, in addition."""
    linear: float = 0.0
    """Seconds of its linear models, on one core."""
    teaching: float = 0.0
    """Core seconds of its teachers, which are divided among tasks."""


class ScoringModel(NamedTuple):
    """What the speed of a model depends on."""

    network: ModelSettings
    vector_size: int
    has_linear: bool


class TrainingWork(NamedTuple):
    """What the duration of a training depends on."""

    settings: TrainSettings
    num_rows: float
    """Rows of an epoch."""
    num_pretrained: float
    """Texts of an epoch of pretraining."""
    tokens_per_row: float
    vector_size: int
    num_networks: float
    """Networks that are trained: of the model, and of folds."""
    num_folds: int
    """Folds that are trained."""
    has_linear: bool
    num_classes: int = 2
    is_ordered: bool = False
    """Whether the classes have an order."""
    num_encoders: int = 0
    """Teachers that are sentence encoders."""
    num_asked: float = 0.0
    """Texts that each of them encodes."""


def of_preparation(num_rows: float, num_bytes: float, settings: Mapping[str, Any]) -> Costs:
    """Compute the costs of a preparation.

    Args:
        num_rows: Rows.
        num_bytes: Bytes of their CSV.
        settings: The section ``prepare``, with ``format``.
    """
    split = settings["split"]["kind"]
    num_passes = 0  # besides the two that every preparation makes, see preparation.passes
    if settings["duplicates"] != "keep" or split == "column":
        num_passes += 1  # hash
    if split in ("column", "time"):
        num_passes += 1  # count_splits, count_times
    if settings["format"]["labels"] == "auto":
        num_passes += 1  # find_classes
    weight = 1 + _PASS_WEIGHT * num_passes
    num_parts = count_parts(num_rows, settings["rows_per_file"])
    seconds = _PREPARE_BYTE_SECONDS * weight * num_bytes + _PART_SECONDS * num_parts
    return Costs(START_SECONDS["prepare"], parts=seconds, num_parts=num_parts)


def of_scoring(
    num_rows: float, tokens_per_row: float, models: Sequence[ScoringModel], rows_per_file: int
) -> Costs:
    """Compute the costs of a scoring by one model, or by the average of several."""
    row_seconds = _SCORE_ROW_SECONDS
    for model in models:
        training = rates.estimate_row(model.network, model.vector_size, tokens_per_row)
        row_seconds += _SCORE_FRACTION * training
        if model.has_linear:
            row_seconds += _LINEAR_TOKEN_SECONDS * tokens_per_row
    num_parts = count_parts(num_rows, rows_per_file)
    seconds = row_seconds * num_rows + _PART_SECONDS * num_parts
    return Costs(START_SECONDS["score"], parts=seconds, num_parts=num_parts)


def of_training(work: TrainingWork) -> Costs:
    """Compute the costs of a training with its folds."""
    settings = work.settings
    row_seconds = rates.estimate_row(settings.model, work.vector_size, work.tokens_per_row)
    num_texts = work.num_rows * settings.num_epochs
    num_texts += work.num_pretrained * settings.pretrain.num_epochs
    num_texts *= work.num_networks
    linear = 0.0
    if work.has_linear:
        linear = rates.estimate_linear(work.num_rows, work.tokens_per_row, work.num_classes)
        if work.is_ordered and settings.neighbor_weight == "auto":
            linear *= 2  # fitted with neighboring classes and without
    return Costs(
        START_SECONDS["train"] + _FOLD_SECONDS * work.num_folds,
        network=rates.NETWORK_FACTOR * row_seconds * num_texts,
        steps=STEP_SECONDS * num_texts / settings.batching.global_batch_size,
        linear=linear * (1 + work.num_folds),
        teaching=work.num_encoders * work.num_asked / _ENCODED_PER_SECOND,
    )


def count_folds(settings: TrainSettings, data: StageData) -> int:
    """Count the folds that a training trains, about as the training does."""
    return rates.count_folds(settings, data.num_in_folds, has_given_test=data.has_given_test)


def count_excerpts(num_rows: float) -> float:
    """Count the excerpts that a sentence encoder answers, besides the rows of the train split."""
    return num_rows * rates.count_excerpts_per_text(num_rows)


def count_parts(num_rows: float, rows_per_file: int) -> int:
    """Count the parts of a corpus."""
    return max(1, math.ceil(num_rows / rows_per_file))


def count_tasks(num_parts: int, resources: Resources, num_workers: int | str = "auto") -> int:
    """Count the parts of a corpus that are worked on at the same time."""
    most = resources.num_cpus if num_workers == "auto" else int(num_workers)
    return max(1, min(num_parts, most, resources.num_cpus))


def divide_parts(costs: Costs, num_tasks: int) -> float:
    """Compute the seconds of the parts: the last ones leave some tasks without work."""
    rounds = math.ceil(costs.num_parts / num_tasks)
    return costs.parts * rounds / costs.num_parts


def divide_network(costs: Costs, num_threads: int, num_workers: int) -> float:
    """Compute the seconds of the networks on several threads of several workers.

    The speed is assumed to grow with the square root of the threads, and with the workers.
    """
    return costs.network / (math.sqrt(num_threads) * num_workers) + costs.steps
