"""Table of texts + model package -> the same with predictions: the step of scoring that uses torch.

A worker process keeps the model for its next part.
"""

import functools
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.cluster import memory
from sentiflow.data import manifest
from sentiflow.errors import JobError
from sentiflow.models import average
from sentiflow.models.scores import Scores
from sentiflow.scoring.job import Job

NOT_FINITE = "the probability is not a number"


def score(table: pa.Table, *, job: Job) -> pa.Table:
    """Score the texts of a table.

    Args:
        table: That of :func:`parts.read`; rows with a reason are not scored.
        job: Arguments of all tasks of the scoring.

    Columns:
        added: those of ``models.package.Scores``, and ``error`` (string: why the model failed for
            the row, else null).

    Raises:
        JobError: The model fails too often, or was replaced since the job began.
    """
    settings, text = job.settings, table["text"].combine_chunks()
    if table["reason"].null_count < len(table):
        text = pc.if_else(table["reason"].combine_chunks().is_null(), text, "")
    package = _load_model(job.model_uri, job.model_fingerprint, job.on_gpu)
    model = functools.partial(
        package.score,
        batch_size=None if settings.batch_size == "auto" else int(settings.batch_size),
        bf16=job.precision == "bf16",
    )
    classes = package.settings.classes
    scores, errors = predict(text, model, classes=classes, max_failed=job.max_failed)
    columns = scores.to_table()
    for field in columns.schema:
        table = table.append_column(field, columns[field.name])
    rows = np.full(len(table), len(errors))
    rows[list(errors)] = np.arange(len(errors))
    problems = pa.array([*errors.values(), None], pa.string())
    return table.append_column("error", problems.take(pa.array(rows)))


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
def _load_model(uri: str, fingerprint: str, on_gpu: bool) -> average.Model:
    """Load a model once for each worker process.

    Tasks without a share of a GPU see the GPUs, too, so ``on_gpu`` decides whether one is used.
    """
    torch.set_num_threads(1)
    memory.keep_freed()
    record = manifest.require(uri, stage="model", setting="score.model_uri")
    if record["fingerprint"] != fingerprint:
        raise JobError(
            f"the model in {uri} has been replaced since the job began: run the command again"
        )
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    package = average.load(uri).to(device)
    if manifest.require(uri, stage="model", setting="score.model_uri") != record:
        raise JobError(f"the model in {uri} was replaced while it was read: run the command again")
    return package
