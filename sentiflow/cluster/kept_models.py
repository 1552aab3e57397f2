"""Model packages that a worker process keeps for its next part, and what they predict for texts."""

import functools
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch

from sentiflow.cluster import memory
from sentiflow.data import manifest
from sentiflow.errors import JobError
from sentiflow.models import average
from sentiflow.models.scores import Scores

NOT_FINITE = "the probability is not a number"


def predict(
    text: pa.Array,
    model: Callable[[pa.Array], Scores],
    *,
    classes: tuple[str, ...],
    max_failed: int,
) -> tuple[Scores, dict[int, str]]:
    """Score texts; texts for which the model fails are found by halving.

    Args:
        text: N strings.
        model: Scores some of them; may raise.
        classes: Those of the model.
        max_failed: Raise an error at more failures.

    Returns:
        The scores of all N, and the errors by row; the scores of rows with an error are undefined.

    Raises:
        JobError: There are more failures.
    """
    errors: dict[int, str] = {}

    def fail(row: int, problem: str) -> None:
        errors[row] = problem
        if len(errors) > max_failed:
            raise JobError(
                f"the model fails for more than {max_failed:,} rows "
                f"(score.max_failed_fraction); the last is {text[row].as_py()[:60]!r}: {problem}"
            )

    def score_rows(first: int, some: pa.Array) -> Scores:
        try:
            return model(some)
        except Exception as error:  # any error is recorded with its row
            if len(some) < 2:
                if _is_machine_error(error):
                    raise
                fail(first, f"{type(error).__name__}: {error}".splitlines()[0])
                return _no_scores(classes)
            half = len(some) // 2
            pieces = ((first, some[:half]), (first + half, some[half:]))
            return Scores.join([score_rows(*piece) for piece in pieces])

    scores = score_rows(0, text)
    for row in np.flatnonzero(~scores.is_finite):
        if int(row) not in errors:
            fail(int(row), NOT_FINITE)
    return scores, errors


def _is_machine_error(error: Exception) -> bool:
    """Say whether an error has causes other than the row."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "CUDA error" in str(error)


def _no_scores(classes: tuple[str, ...]) -> Scores:
    """Stand for the scores of a text for which the model failed."""
    return Scores(
        probabilities=np.full((1, len(classes)), np.nan, np.float32),
        classes=classes,
        num_tokens=np.zeros(1, np.int32),
        lengths=np.zeros(1, np.int64),
        num_unknown=np.zeros(1, np.int32),
    )


@functools.lru_cache(maxsize=1)
def load(
    *models: tuple[str, str], on_gpu: bool, setting: str = "score.model_uri"
) -> tuple[average.Model, ...]:
    """Load the models of a job once for each worker process.

    Tasks without a share of a GPU see the GPUs, too, so ``on_gpu`` decides whether one is used.

    Args:
        models: The directory of each package, and the fingerprint that it must still have.
        on_gpu: Whether tasks have a share of a GPU.
        setting: The setting that names them, for messages.

    Raises:
        JobError: A package was replaced since the job began.
    """
    torch.set_num_threads(1)
    memory.keep_freed()
    return tuple(_load(*model, on_gpu=on_gpu, setting=setting) for model in models)


def _load(uri: str, fingerprint: str, *, on_gpu: bool, setting: str) -> average.Model:
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    package = average.load(uri, setting=setting).to(device)
    # after reading, as it may also have been replaced meanwhile
    if manifest.require(uri, stage="model", setting=setting)["fingerprint"] != fingerprint:
        raise JobError(
            f"the model in {uri} has been replaced since the job began: run the command again"
        )
    return package
