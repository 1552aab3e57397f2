"""What a row of training costs, and up to how many rows a linear model is worth its time.

The rates are measured: benchmarks/LOG.md.
"""

from typing import Literal

from sentiflow.config.train_sections import ModelSettings

CPU_SECONDS = 1e-10
"""Seconds of one thread for a multiplication of the forward pass, and the two that follow in the
backward pass."""
GPU_SECONDS = 4e-12
"""The same of a GPU (assumed)."""
LINEAR_ROWS_PER_SECOND = 5000
"""Rows of the linear model of two classes on one core, for all strengths of its regularization
together. Many rows on an idle core take half of this time, few rows twice as much."""
MAX_LINEAR_ROWS = 200_000
"""Train rows up to which ``train.linear: auto`` is true."""
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


def has_linear(setting: Literal["auto"] | bool, num_rows: float) -> bool:
    """Say whether a linear model is trained besides the network.

    Args:
        setting: The setting ``train.linear``.
        num_rows: Rows to learn.
    """
    if setting == "auto":
        return num_rows <= MAX_LINEAR_ROWS
    return setting
