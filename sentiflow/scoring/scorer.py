"""Table of texts + model package -> the same with predictions: the step of scoring that uses torch.

A worker process keeps the model for its next part.
"""

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
        added: those of ``models.package.Scores``.

    Raises:
        JobError: A probability is not a number, or the model was replaced since the job began.
    """
    settings = job.settings
    (package,) = kept_models.load((job.model_uri, job.model_fingerprint), on_gpu=job.on_gpu)
    scores = package.score(
        parts.accepted_texts(table),
        row_ids=table["row_id"].to_numpy(),
        batch_size=None if settings.batch_size == "auto" else int(settings.batch_size),
        bf16=job.precision == "bf16",
    )
    columns = scores.to_table()
    for field in columns.schema:
        table = table.append_column(field, columns[field.name])
    return table
