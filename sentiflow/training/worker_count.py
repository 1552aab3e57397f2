"""Cluster, settings, prepared data -> the number of training workers, and why.

Workers divide the computing of a step among them. But they send each other sums in every step, in a
ring that grows with their number, and they start later than a single worker. If n workers compute
C / n seconds and wait n * M seconds, they are fastest where n is the root of C / M. The constants
are measured: benchmarks/LOG.md, "workers that pay".
"""

import math

from sentiflow.cluster.resources import Resources, WorkerShare
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import prepared_data
from sentiflow.data.manifest_types import Manifest
from sentiflow.models import vocabulary
from sentiflow.storage.uris import join
from sentiflow.training import rates
from sentiflow.training.learned_classes import LearnedClasses

_MIN_SECONDS = 30.0
"""Computing time of a training from which several workers pay: they start 8 s later."""


def choose(
    settings: TrainSettings, prepared: Manifest, learned: LearnedClasses, resources: Resources
) -> tuple[int, str]:
    """Choose the number of training workers. If the settings leave it open, choose the fastest.

    Args:
        settings: The section ``train``.
        prepared: The manifest of the prepared data.
        learned: The classes, and their rows in the train split.
        resources: The cluster.

    Returns:
        The number; and a line that says why, empty if there is nothing to say.

    Raises:
        UserError: See :meth:`Resources.train_workers`.
    """
    most = resources.train_workers(settings)
    if most == 1 or not learned.counts.any():  # without rows the training ends at once
        return 1, ""
    if settings.num_workers != "auto":
        return most, ""
    best = _estimate_best(settings, prepared, learned, resources.divide(settings, most))
    number = min(most, max(best, settings.min_workers))
    if number == most:
        return number, ""
    size = settings.batching.global_batch_size
    why = f"{number} of {most} workers: more would gain too little with batches of {size} rows"
    return number, why


def _estimate_best(
    settings: TrainSettings,
    prepared: Manifest,
    learned: LearnedClasses,
    share: WorkerShare,
) -> int:
    """Estimate the number of workers with which the training is fastest, which may exceed ``most``.

    A worker with T threads is assumed to be as fast as sqrt(T) workers with one.

    Args:
        settings: The section ``train``.
        prepared: The manifest of the prepared data.
        learned: The classes, and their rows in the train split.
        share: The share of a worker if there are as many workers as the cluster has room for.
    """
    num_threads = share.threads
    seconds = rates.CPU_SECONDS
    if share.gpus:
        num_threads = 1
        seconds = rates.GPU_SECONDS
    vector_size = vocabulary.read_vector_size(join(settings.prepared_uri, "vocabulary.parquet"))
    tokens_per_row = prepared_data.find_tokens_per_row(prepared)
    row_seconds = rates.estimate_row(settings.model, vector_size, tokens_per_row, seconds)
    row_seconds /= math.sqrt(num_threads)
    num_rows = learned.num_rows * settings.num_epochs
    num_rows += learned.num_pretrained * settings.pretrain.num_epochs
    if row_seconds * num_rows < _MIN_SECONDS:
        return 1
    step_seconds = row_seconds * settings.batching.global_batch_size
    return rates.count_best_workers(step_seconds)
