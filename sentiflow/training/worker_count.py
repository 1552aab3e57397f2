"""Cluster, settings, prepared data -> the number of training workers, and why.

Workers divide the tokens of a batch among them. But each of them makes the optimizer step, they
send each other sums in every step, and they start later than a single worker. An estimate adds up
these times. It need only tell whether a worker gets much more to do than a message takes; its
constants were measured: benchmarks/LOG.md, "workers that pay".
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from sentiflow.cluster.resources import Resources, count_train_workers
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data.manifest_types import Manifest
from sentiflow.models import vocabulary
from sentiflow.storage.uris import join
from sentiflow.training.classes import LearnedClasses, count_all_rows

_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
_MIN_GAIN = 1.1
"""More workers must be this many times as fast as one: the estimate is rough."""
_MAX_BATCH = 8192
"""Largest batch that is suggested."""


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
    start: float
    """Starting several workers instead of one."""


ON_CPU = Rates(
    multiplication=1e-10,
    token=2e-7,
    weight=2.5e-9,
    step=1e-3,
    message=1.5e-3,
    byte=2.5e-9,
    start=8.0,
)
ON_GPU = Rates(
    multiplication=4e-12,
    token=2e-9,
    weight=2e-11,
    step=1e-2,
    message=1e-4,
    byte=1e-10,
    start=8.0,
)
"""Assumed, as no GPU was at hand: 100,000 tweets/s for a GRU(128) with batches of 8,192, and 10 ms
to launch the kernels of a step."""


@dataclass(frozen=True)
class Estimate:
    """What decides the seconds of a training."""

    batch_size: int
    num_rows: int
    """Rows of all epochs together."""
    tokens_per_row: float
    multiplications: int
    """Multiplications for each token in the forward pass; one for each weight."""
    num_words: int
    vector_size: int
    is_tuned: bool
    """Whether the word vectors are trained."""
    num_ngram_weights: int
    rates: Rates
    threads: Callable[[int], int]
    """Number of workers -> threads of each. T threads are as fast as the root of T workers."""

    def seconds(self, num_workers: int) -> float:
        """Estimate the seconds of the training."""
        rates, tokens = self.rates, self.batch_size * self.tokens_per_row
        table = self.num_words * self.vector_size if self.is_tuned else 0
        weights = self.multiplications + table + self.num_ngram_weights
        computing = tokens * (self.multiplications * rates.multiplication + rates.token)
        step = rates.step + weights * rates.weight
        step += computing / num_workers / math.sqrt(self.threads(num_workers))
        if num_workers > 1:
            has_tables = bool(table or self.num_ngram_weights)
            words = min(self.num_words, 10 * tokens**0.57)  # Heaps' law, for tweets
            sent = 4 * (self.multiplications + (words * self.vector_size if table else 0))
            step += (1 + has_tables) * num_workers * rates.message + sent * rates.byte
        start = rates.start if num_workers > 1 else 0.0
        return start + self.num_rows / self.batch_size * step

    def fastest(self, most: int) -> int:
        """Return the fastest number of workers; one if more gain little."""
        best = min(range(1, most + 1), key=self.seconds)
        return best if self.gain(best) >= _MIN_GAIN else 1

    def gain(self, num_workers: int) -> float:
        """Say how many times as fast as one worker some workers are."""
        return self.seconds(1) / self.seconds(num_workers)

    def explain(self, num_workers: int) -> str:
        """Say why fewer than ``num_workers`` are fastest, and which batches would change that."""
        size = self.batch_size
        while (size := 2 * size) <= _MAX_BATCH:
            if replace(self, batch_size=size).fastest(num_workers) == num_workers:
                return (
                    f"batches of {self.batch_size} rows give each too little to do; "
                    f"train.batching.global_batch_size={size} would use {num_workers}"
                )
        return f"in a training of about {self.seconds(1):,.0f} s more would gain too little"


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
    estimate = _estimate(settings, prepared, learned, resources)
    best, chosen, setting = estimate.fastest(most), most, "num_workers"
    if settings.num_workers == "auto":
        chosen, setting = max(best, min(settings.min_workers, most)), "min_workers"
    if chosen > best:
        slower = f"train.{setting}={chosen}: {best} would be faster by estimate"
        return chosen, f"{slower}: {estimate.explain(chosen)}"
    if settings.num_workers != "auto":
        return chosen, ""
    if best == most:
        return best, f"{best} workers: {estimate.gain(best):.1f} times as fast as one by estimate"
    return best, f"{best} of {most} workers: {estimate.explain(most)}"


def _estimate(
    settings: TrainSettings, prepared: Manifest, learned: LearnedClasses, resources: Resources
) -> Estimate:
    model = settings.model
    vector_size = vocabulary.read_vector_size(join(settings.prepared_uri, "vocabulary.parquet"))
    num_tokens = prepared["vocabulary"]["tokens"]["train"]["tokens"]
    multiplications = vector_size
    if model.kind == "rnn":
        directions = 1 + model.bidirectional
        inputs = vector_size + (model.num_layers - 1) * directions * model.hidden_size
        states = model.num_layers * model.hidden_size
        gates = _GATES[model.cell] * model.hidden_size * directions
        multiplications = gates * (inputs + states)
    uses_gpu = resources.gpus_per_train_worker(settings.gpus_per_worker) > 0
    cpus = 1 if uses_gpu else settings.cpus_per_worker
    return Estimate(
        batch_size=settings.batching.global_batch_size,
        num_rows=count_all_rows(prepared, settings, learned),
        tokens_per_row=num_tokens / sum(prepared["counts"]["labels"]["train"].values()),
        multiplications=multiplications,
        num_words=prepared["counts"]["vocabulary_size"],
        vector_size=vector_size,
        is_tuned=model.vectors == "tuned",
        num_ngram_weights=model.ngram_buckets * len(learned.names) if model.ngrams else 0,
        rates=ON_GPU if uses_gpu else ON_CPU,
        threads=functools.partial(resources.threads_per_train_worker, wanted=cpus),
    )
