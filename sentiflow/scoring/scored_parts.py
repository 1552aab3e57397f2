"""Part of a corpus + model package -> predictions, rejected rows and failed rows, as files.

This is the work of each task of scoring; Ray is not imported, so that workers start fast. A worker
process keeps the model for its next part.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.cluster import memory
from sentiflow.data import manifest, parts, schema
from sentiflow.errors import JobError
from sentiflow.models.package import ModelPackage, Scores
from sentiflow.scoring.job import Job, ScoredPart
from sentiflow.storage import filesystem

NOT_FINITE = "the probability is not a number"


def score(part: int, job: Job) -> ScoredPart:
    """Score one part, and write its predictions, rejected rows and failed rows.

    Args:
        part: Number of the part in ``job.source``.
        job: Arguments of all tasks of the scoring.

    Raises:
        UserError: The part cannot be read.
        JobError: The model fails too often, or was replaced since the job began.
    """
    settings = job.settings
    package = _load_model(job.model_uri, job.model_fingerprint, job.on_gpu)
    keep = [name for name in settings.keep_columns if name not in schema.TWEETS.names]
    rows = parts.read(job.source.parts[part], keep=keep, keep_raw=settings.keep_raw)
    tweets = parts.take_accepted(rows, keep=keep).combine_chunks()
    rejected = parts.take_rejected(rows)
    unknown_labels = pc.and_(rows["unknown_label"].is_valid(), rows["reason"].is_null())
    model = functools.partial(
        package.score,
        batch_size=None if settings.batch_size == "auto" else int(settings.batch_size),
        bf16=job.precision == "bf16",
    )
    text = tweets["text"].combine_chunks()
    scores, errors = predict(text, model, max_failed=job.max_failed)
    failed = _tabulate_failed(tweets, errors)
    if errors:
        scored = np.setdiff1d(np.arange(len(tweets)), list(errors))
        scores, tweets = scores.take(scored), tweets.take(pa.array(scored))
    predictions = tabulate(tweets, scores, settings.keep_columns)
    name = f"part-{job.first_part + part:05d}.parquet"
    tables = {"predictions": predictions, "rejected": rejected, "failed": failed}
    files = [
        filesystem.write_part(job.root, f"{kind}/{name}", table) for kind, table in tables.items()
    ]
    return ScoredPart(
        rows_read=len(predictions) + rejected.num_rows + len(errors),
        accepted=len(predictions),
        rejected=rejected.num_rows,
        failed=len(errors),
        rejected_by_reason=dict(Counter(rejected["reason"].to_pylist())),
        unknown_labels=pc.sum(unknown_labels).as_py() or 0,
        prior_only=int((scores.num_tokens == 0).sum()),
        positive=int((scores.prediction == schema.POSITIVE).sum()),
        profile=scores.profile,
        peak_memory_bytes=memory.peak_bytes(),
        files=[item for items in files for item in items],
    )


def predict(
    text: pa.Array, model: Callable[[pa.Array], Scores], *, max_failed: int
) -> tuple[Scores, dict[int, str]]:
    """Score texts; texts for which the model fails are found by halving.

    Args:
        text: N strings.
        model: Scores some of them; may raise.
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
                return _NO_SCORES
            half = len(some) // 2
            pieces = ((first, some[:half]), (first + half, some[half:]))
            return Scores.join([score_rows(*piece) for piece in pieces])

    scores = score_rows(0, text)
    for row in np.flatnonzero(~np.isfinite(scores.probability)):
        if int(row) not in errors:
            fail(int(row), NOT_FINITE)
    return scores, errors


def _is_machine_error(error: Exception) -> bool:
    """Say whether an error has causes other than the row."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "CUDA error" in str(error)


_NO_SCORES = Scores(
    probability=np.array([np.nan], np.float32),
    num_tokens=np.zeros(1, np.int32),
    lengths=np.zeros(1, np.int64),
    num_unknown=np.zeros(1, np.int32),
)


def tabulate(tweets: pa.Table, scores: Scores, keep_columns: Sequence[str]) -> pa.Table:
    """Join scores and the columns of the corpus that predictions repeat."""
    columns = {name: tweets[name] for name in ("row_id", "tweet_id", "split", "label")} | {
        "prediction": scores.prediction,
        "probability": scores.probability,
        "num_tokens": scores.num_tokens,
    }
    predictions = pa.table(columns, schema=schema.PREDICTIONS)
    for name in keep_columns:
        if name not in columns:
            predictions = predictions.append_column(name, tweets[name])
    return predictions


def _tabulate_failed(tweets: pa.Table, errors: dict[int, str]) -> pa.Table:
    rows = tweets.select(["row_id", "tweet_id", "text"]).take(pa.array(sorted(errors), pa.int64()))
    problems = pa.array([errors[row] for row in sorted(errors)], pa.string())
    return rows.append_column("error", problems).cast(schema.FAILED)


@functools.lru_cache(maxsize=1)
def _load_model(uri: str, fingerprint: str, on_gpu: bool) -> ModelPackage:
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
    package = ModelPackage.load(uri).to(device)
    if manifest.require(uri, stage="model", setting="score.model_uri") != record:
        raise JobError(f"the model in {uri} was replaced while it was read: run the command again")
    return package
