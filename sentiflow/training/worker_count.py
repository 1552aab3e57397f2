"""Cluster, settings, prepared data -> the number of training workers, and why.

Workers divide the tokens of a batch among them. But each of them makes the optimizer step, they
send each other sums in every step, and they start later than a single worker. An estimate adds up
these times. It need only tell whether a worker gets much more to do than a message takes; its
constants were measured: benchmarks/LOG.md, "workers that pay".
"""

from dataclasses import dataclass

import numpy as np

from sentiflow.cluster.resources import Resources, count_train_workers
from sentiflow.config.model_sections import ModelSettings
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data.manifest_types import Manifest
from sentiflow.models import vocabulary
from sentiflow.storage.uris import join
from sentiflow.training.classes import LearnedClasses, count_all_rows

_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
_MIN_GAIN = 1.1
"""More workers must be this many times as fast as one: the estimate is rough."""
_START_SECONDS = 8.0
"""Time to start several workers instead of one."""


@dataclass(frozen=True)
class Rates:
    """Seconds that one worker of one thread, or of one GPU, needs."""

    multiplication: float
    """A multiplication of the forward pass, and the two that follow in the backward pass."""
    token: float
    """Reading a token and its word vector, and adding up the gradient of the vector."""
    weight: float
    """Updating a weight."""
    step: float
    """A step, beside all that grows with tokens and weights."""
    message: float
    """A sum over the workers, divided by their number: it goes round a ring. With the wait for the
    slowest worker."""
    byte: float
    """Sending a byte."""


ON_CPU = Rates(
    multiplication=1e-10,
    token=2e-7,
    weight=2.5e-9,
    step=1e-3,
    message=1.5e-3,
    byte=2.5e-9,
)
ON_GPU = Rates(
    multiplication=4e-12,
    token=2e-9,
    weight=2e-11,
    step=1e-2,
    message=1e-4,
    byte=1e-10,
)
"""Assumed, as no GPU was at hand: 100,000 tweets/s for a GRU(128) with batches of 8,192, and 10 ms
to launch the kernels of a step."""


def choose(
    settings: TrainSettings, prepared: Manifest, learned: LearnedClasses, resources: Resources
) -> tuple[int, str]:
    """Choose the number of training workers: the fastest, where the settings leave it open.

    Args:
        settings: The section ``train``.
        prepared: The manifest of the prepared data.
        learned: The classes, and their rows in the train split.
        resources: The cluster.

    Returns:
        The number; and a line that says why, empty if there is nothing to choose.

    Raises:
        UserError: As :func:`resources.count_train_workers`.
    """
    most = count_train_workers(settings, resources)
    if most == 1 or not learned.counts.any():  # without rows the training ends at once
        return 1, ""
    seconds = _estimate_seconds(settings, prepared, learned, resources, most)
    gain = float(seconds[0] / seconds.min())
    best = int(seconds.argmin()) + 1 if gain >= _MIN_GAIN else 1
    chosen, setting = most, "num_workers"
    if settings.num_workers == "auto":
        chosen, setting = max(best, min(settings.min_workers, most)), "min_workers"
    batches = f"with batches of {settings.batching.global_batch_size} rows"
    if chosen > best:
        return chosen, f"train.{setting}={chosen}: {best} would be faster by estimate, {batches}"
    if settings.num_workers != "auto":
        return chosen, ""
    if best == most:
        return best, f"{best} workers: {gain:.1f} times as fast as one by estimate"
    return best, f"{best} of {most} workers: more would gain too little by estimate, {batches}"


def _estimate_seconds(
    settings: TrainSettings,
    prepared: Manifest,
    learned: LearnedClasses,
    resources: Resources,
    most: int,
) -> np.ndarray:
    """Estimate the seconds of the training with 1, 2, ... ``most`` workers.

    T threads of a worker are taken to be as fast as the root of T workers.
    """
    model, batch_size = settings.model, settings.batching.global_batch_size
    uses_gpu = resources.gpus_per_train_worker(settings.gpus_per_worker) > 0
    rates, cpus = (ON_GPU, 1) if uses_gpu else (ON_CPU, settings.cpus_per_worker)
    vector_size = vocabulary.read_vector_size(join(settings.prepared_uri, "vocabulary.parquet"))
    num_words = prepared["counts"]["vocabulary_size"]
    num_tokens = prepared["vocabulary"]["tokens"]["train"]["tokens"]
    tokens = batch_size * num_tokens / sum(prepared["counts"]["labels"]["train"].values())
    multiplications = _count_multiplications(model, vector_size)
    table = num_words * vector_size if model.vectors == "tuned" else 0
    ngrams = model.ngram_buckets * len(learned.names) if model.ngrams else 0
    computing = tokens * (multiplications * rates.multiplication + rates.token)
    update = rates.step + (multiplications + table + ngrams) * rates.weight
    words = min(num_words, 10 * tokens**0.57)  # Heaps' law, for tweets
    sent = 4 * (multiplications + (words * vector_size if table else 0))
    num_messages = 2 if table or ngrams else 1
    num_steps = count_all_rows(prepared, settings, learned) / batch_size
    workers = np.arange(1, most + 1)
    threads = [resources.threads_per_train_worker(int(number), cpus) for number in workers]
    messages = num_messages * workers * rates.message + sent * rates.byte
    step = update + computing / workers / np.sqrt(threads) + np.where(workers > 1, messages, 0)
    return np.where(workers > 1, _START_SECONDS, 0) + num_steps * step


def _count_multiplications(model: ModelSettings, vector_size: int) -> int:
    """Count the multiplications for a token in the forward pass; there is one for each weight."""
    if model.kind != "rnn":
        return vector_size
    directions = 1 + model.bidirectional
    inputs = vector_size + (model.num_layers - 1) * directions * model.hidden_size
    states = model.num_layers * model.hidden_size
    return _GATES[model.cell] * model.hidden_size * directions * (inputs + states)
