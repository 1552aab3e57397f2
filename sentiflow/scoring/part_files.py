"""Part of a corpus -> its table -> the same with predictions -> its files: the steps of scoring.

Ray is not imported, and torch only by the step that needs it.
"""

from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster import memory
from sentiflow.cluster.map_stages import Label
from sentiflow.data import parts, schema
from sentiflow.data.tweets import RowRules, count_unknown
from sentiflow.models.drift import Profile
from sentiflow.models.scores import Scores
from sentiflow.scoring.job import Job, Scored
from sentiflow.storage import parquet


def read_texts(part: parts.Part, *, job: Job) -> pa.Table:
    """Read and check a part; an unknown label becomes null.

    Raises:
        UserError: The part cannot be read.
    """
    return parts.read(part, RowRules(keep=tuple(_kept(job)), keep_raw=job.keep_raw))


def score_texts(table: pa.Table, *, job: Job) -> pa.Table:
    """Score the texts of a table; a worker process keeps the model for its next part.

    Args:
        table: That of :func:`read_texts`; rows with a reason are not scored.
        job: Arguments of all tasks of the scoring.

    Columns:
        added: those of ``models.package.Scores``.

    Raises:
        JobError: A probability is not a number, or the model was replaced since the job began.
    """
    (package,) = memory.load_models((job.model_uri, job.model_fingerprint), on_gpu=job.on_gpu)
    scores = package.score(
        parts.accepted_texts(table),
        row_ids=table["row_id"].to_numpy(),
        bf16=job.precision == "bf16",
    )
    columns = scores.to_table()
    for field in columns.schema:
        table = table.append_column(field, columns[field.name])
    return table


def write_predictions(table: pa.Table, part: Label, *, job: Job) -> dict[str, Any]:
    """Write the predictions and the rejected rows of a part.

    Returns:
        A ``Scored`` as JSON.
    """
    accepted = parts.accepted(table)
    scores = Scores.from_table(accepted)
    rejected = parts.take_rejected(table)
    tweets = parts.take_accepted(accepted, keep=_kept(job))
    tables = {"predictions": tabulate(tweets, scores, job), "rejected": rejected}
    name = part.name_file(first=job.first_part)
    files = [parquet.write_part(job.root, f"{kind}/{name}", rows) for kind, rows in tables.items()]
    result = Scored(
        rows_read=len(table),
        accepted=len(accepted),
        rejected=len(rejected),
        rejected_by_reason=dict(Counter(rejected["reason"].to_pylist())),
        labelled=len(accepted) - accepted["label"].null_count,
        unknown_labels=len(accepted) - accepted["unknown_label"].null_count,
        unknown_values=count_unknown(accepted),
        prior_only=int((scores.num_tokens == 0).sum()),
        unsure=0 if scores.unsure is None else int(scores.unsure.sum()),
        predicted=scores.predicted,
        profile=_describe_unseen(accepted, scores, job),
        peak_memory_bytes=memory.peak_bytes(),
        files=[item for items in files for item in items],
    )
    return asdict(result)


def _describe_unseen(scored: pa.Table, scores: Scores, job: Job) -> Profile:
    """Describe rows outside of the train and validation splits.

    A model is surer of what it has learned, and was chosen by validation rows.
    """
    is_seen = pc.is_in(scored["split"], pa.array(schema.SPLITS[:2])).combine_chunks()
    if pc.any(is_seen).as_py():
        scored = scored.filter(pc.invert(is_seen))
        scores = Scores.from_table(scored)
    names = scores.classes if scores.classes == schema.BINARY else job.classes
    label = pa.array(job.labels, pa.int8()).take(scored["label"])
    return scores.profile(pc.fill_null(label, -1).to_numpy(), names)


def _kept(job: Job) -> list[str]:
    """List the columns to keep beside those of all tweets."""
    return [name for name in job.settings.keep_columns if name not in schema.TWEETS.names]


def tabulate(tweets: pa.Table, scores: Scores, job: Job) -> pa.Table:
    """Join scores and the columns of the corpus that predictions repeat."""
    columns = {name: tweets[name] for name in ("row_id", "tweet_id", "split")} | {
        "label": pa.array(job.labels, pa.int8()).take(tweets["label"]),
        "prediction": scores.prediction,
        **scores.columns,
        "model_version": pa.repeat(pa.scalar(job.model_version), len(tweets)),
    }
    form = schema.predictions(scores.classes, has_unsure=scores.unsure is not None)
    predictions = pa.table({name: columns[name] for name in form.names}, schema=form)
    for name in job.settings.keep_columns:
        if name not in columns:
            predictions = predictions.append_column(name, tweets[name])
    return predictions
