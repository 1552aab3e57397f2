"""Table of texts + model package -> the same with predictions: the step of scoring that uses torch.

A worker process keeps the model for its next part.
"""

import functools

import numpy as np
import pyarrow as pa

from sentiflow.cluster import kept_models
from sentiflow.data import parts
from sentiflow.scoring.job import Job


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
    settings, text = job.settings, parts.accepted_texts(table)
    (package,) = kept_models.load((job.model_uri, job.model_fingerprint), on_gpu=job.on_gpu)
    model = functools.partial(
        package.score,
        batch_size=None if settings.batch_size == "auto" else int(settings.batch_size),
        bf16=job.precision == "bf16",
    )
    classes = package.settings.classes
    scores, errors = kept_models.predict(text, model, classes=classes, max_failed=job.max_failed)
    columns = scores.to_table()
    for field in columns.schema:
        table = table.append_column(field, columns[field.name])
    rows = np.full(len(table), len(errors))
    rows[list(errors)] = np.arange(len(errors))
    problems = pa.array([*errors.values(), None], pa.string())
    return table.append_column("error", problems.take(pa.array(rows)))
