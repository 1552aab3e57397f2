"""What a row of training costs, and what the training chooses by its costs.

A training chooses its workers, its linear model and its excerpts by these functions, and so does
its estimate.

The rates are measured: benchmarks/LOG.md.
"""

import math
from typing import Literal

from sentiflow.config.train_sections import ModelSettings, TrainSettings

CPU_SECONDS = 1e-10
"""Seconds of one thread for a multiplication of the forward pass, and the two that follow in the
backward pass."""
GPU_SECONDS = 4e-12
"""The same of a GPU (assumed)."""
NETWORK_FACTOR = 2.0
"""Time of a training step on a core, as a multiple of its multiplications at the rate above. That
is the rate of an idle core; two busy cores that share their caches take 2.0 to 2.9 times as long.
"""
_LINEAR_ROWS_PER_SECOND = 3500
"""Short texts of the linear model of two classes on one core, for all strengths of its
regularization together. Many rows on an idle core take half of this time, few rows twice as much.
"""
_SHORT_TOKENS = 15.0
"""Tokens of a row up to which the time of the linear model does not grow."""
MAX_LINEAR_ROWS = 200_000
"""Train rows up to which ``train.linear: auto`` is true."""
_WAIT_SECONDS = 4e-3
"""Seconds of each step for the sums over the workers, divided by their number: the two messages,
and the wait for the slowest worker."""
_MAX_EXCERPTS = 12_000
"""Excerpts of all texts together, see ``training.excerpts``."""
_MAX_PER_TEXT = 4
"""Excerpts of one text."""
_ENOUGH_ANSWERS = 800
"""About so many rows decide the calibration well enough, if nothing is measured on them."""
_MIN_FOLDS = 2
"""Folds that are trained at least: each is calibrated by the others."""
_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""Matrix products in a step of a recurrent cell."""
_TOKEN_MULTIPLICATIONS = 2000
"""Multiplications that take as long as reading a token and its vector."""


def estimate_row(
    model: ModelSettings,
    vector_size: int = 50,
    num_tokens: float = 15,
    seconds: float = CPU_SECONDS,
) -> float:
    """Estimate the seconds of one thread to train the network on a row once.

    Args:
        model: The network.
        vector_size: Size of its word vectors.
        num_tokens: Tokens of the row.
        seconds: For each multiplication of the forward pass.
    """
    multiplications = vector_size
    if model.kind == "rnn":
        size = model.hidden_size * (1 + model.bidirectional)
        multiplications = _GATES[model.cell] * size * (vector_size + model.hidden_size)
    return num_tokens * (multiplications + _TOKEN_MULTIPLICATIONS) * seconds


def estimate_linear(num_rows: float, num_tokens: float = 15, num_classes: int = 2) -> float:
    """Estimate the seconds of one core to fit the linear models.

    A long text has many n-grams more than once, so the time grows with the root of its tokens.

    Args:
        num_rows: Rows to learn.
        num_tokens: Tokens of a row.
        num_classes: Classes.
    """
    seconds = num_rows / _LINEAR_ROWS_PER_SECOND
    seconds *= math.sqrt(max(1.0, num_tokens / _SHORT_TOKENS))
    return seconds * math.cbrt(max(1, num_classes - 1))


def has_linear(setting: Literal["auto"] | bool, num_rows: float) -> bool:
    """Say whether a linear model is trained besides the network.

    Args:
        setting: The setting ``train.linear``.
        num_rows: Rows to learn.
    """
    if setting == "auto":
        return num_rows <= MAX_LINEAR_ROWS
    return setting


def count_folds(settings: TrainSettings, num_rows: float, *, has_given_test: bool) -> int:
    """Count the folds whose models are trained: the first ones.

    All of them are trained if their answers measure the model, or decide which texts are unsure.
    Given test rows measure the model in their place. Then the answers only decide the calibration,
    for which fewer are enough.

    Args:
        settings: The section ``train``.
        num_rows: Rows in all folds.
        has_given_test: Whether the test rows are from files of their own.

    Example:
        >>> settings = TrainSettings(folds=5)
        >>> [count_folds(settings, 2000, has_given_test=given) for given in (False, True)]
        [5, 2]
        >>> count_folds(settings, 900, has_given_test=True)
        4
    """
    needs_all = not has_given_test or settings.unsure is not None
    if needs_all or not num_rows:
        return settings.folds
    enough = round(_ENOUGH_ANSWERS * settings.folds / num_rows)
    return min(settings.folds, max(_MIN_FOLDS, enough))


def count_best_workers(step_seconds: float) -> int:
    """Count the workers with which a step of the optimizer is fastest.

    Args:
        step_seconds: Time of a step with one worker.
    """
    return max(1, math.isqrt(int(step_seconds / _WAIT_SECONDS)))


def count_excerpts_per_text(num_rows: float) -> int:
    """Count the excerpts that a training with a sentence encoder makes of each text.

    Args:
        num_rows: The texts; none are made where there are many.
    """
    return int(min(_MAX_PER_TEXT, _MAX_EXCERPTS // max(num_rows, 1)))
