"""Part of a corpus + model package -> predictions, rejected rows and failed rows, as files.

What each task of scoring does; no Ray, so that a worker starts fast. A worker's process keeps the
model for its next part.
"""

import functools
import resource
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sentiflow.cluster import memory
from sentiflow.config.sections import ScoreSettings
from sentiflow.data import corpus, manifest, schema
from sentiflow.errors import JobError
from sentiflow.models.package import ModelPackage, Scores
from sentiflow.storage import filesystem

NOT_FINITE = "the probability is not a number"


def score(
    part: int,
    *,
    source: corpus.Corpus,
    settings: ScoreSettings,
    precision: str,
    on_gpu: bool,
    model_uri: str,
    model_fingerprint: str,
    first_part: int,
    max_failed: int,
    run_key: str,
) -> dict[str, Any]:
    """Score one part, and write what comes of it; returns its counts, profile and files.

    Args:
        part: Its number in ``source``.
        source: The corpus, or what it has grown by.
        settings: Of the stage.
        precision: ``fp32`` or ``bf16``.
        on_gpu: Whether the task was given a share of a GPU.
        model_uri: Where the package lies.
        model_fingerprint: What is there must be still.
        first_part: Number that the files of part 0 bear.
        max_failed: Rows of the whole corpus for which the model may fail.
        run_key: Of the run, which writes as long as the directory is its own.

    Raises:
        UserError: The part cannot be read.
        JobError: The model fails too often, or is no longer the one that the job began with; or
            another run has taken the directory over, and this is what a killed one has left.
    """
    package = _load_model(model_uri, model_fingerprint, on_gpu)
    checked = corpus.read_part(
        source, part, keep_columns=settings.keep_columns, keep_raw=settings.keep_raw
    )
    tweets = checked.tweets.combine_chunks()
    scores, errors = answer(
        _text_of(tweets), _asking(package, settings, precision), max_failed=max_failed
    )
    failed = _tabulate_failed(tweets, errors)
    if errors:
        answered = np.setdiff1d(np.arange(len(tweets)), list(errors))
        scores, tweets = scores.take(answered), tweets.take(pa.array(answered))
    predictions = tabulate(tweets, scores, settings.keep_columns)
    if manifest.read_key(settings.output_uri) != run_key:
        raise JobError(
            f"{settings.output_uri} is not this run's: another has taken it over, or this node "
            "does not see it (is it a directory of one machine?)"
        )
    tables = {"predictions": predictions, "rejected": checked.rejected, "failed": failed}
    return {
        "accepted": len(predictions),
        "rejected": checked.rejected.num_rows,
        "failed": len(errors),
        "rejected_by_reason": dict(Counter(checked.rejected["reason"].to_pylist())),
        "unknown_labels": checked.num_unknown_labels,
        "prior_only": int((scores.num_tokens == 0).sum()),
        "positive": int((scores.prediction == schema.POSITIVE).sum()),
        "profile": asdict(scores.profile),
        "peak_memory_bytes": _peak_memory(),
        "files": [
            item
            for kind, table in tables.items()
            for item in filesystem.write_part(
                settings.output_uri, f"{kind}/part-{first_part + part:05d}.parquet", table
            )
        ],
    }


def _text_of(tweets: pa.Table) -> pa.Array:
    return tweets["text"].combine_chunks() if len(tweets) else pa.array([], pa.string())


def _asking(
    package: ModelPackage, settings: ScoreSettings, precision: str
) -> Callable[[pa.Array], Scores]:
    """Make a function that asks the model as the settings say."""
    batch_size = None if settings.batch_size == "auto" else int(settings.batch_size)
    return functools.partial(package.score, batch_size=batch_size, bf16=precision == "bf16")


def answer(
    text: pa.Array, ask: Callable[[pa.Array], Scores], *, max_failed: int
) -> tuple[Scores, dict[int, str]]:
    """Ask for the scores of texts; those for which that fails are found by halving.

    Args:
        text: N strings.
        ask: Gives the scores of some of them; may raise.
        max_failed: More failures end it.

    Returns:
        The scores of all N, and by its row the error of each of which they mean nothing.

    Raises:
        JobError: There are more failures.
    """
    errors: dict[int, str] = {}

    def fail(row: int, problem: str) -> None:
        errors[row] = problem
        if len(errors) > max_failed:
            raise JobError(
                f"the model fails for more than {max_failed:,} rows "
                f"(score.max_failed_fraction); the last, {text[row].as_py()[:60]!r}: {problem}"
            )

    def ask_for(first: int, some: pa.Array) -> Scores:
        try:
            return ask(some)
        except Exception as error:  # whatever it is, it is kept with the row
            if len(some) < 2:
                if _is_of_machine(error):
                    raise
                fail(first, f"{type(error).__name__}: {error}".splitlines()[0])
                return _UNANSWERED
            half = len(some) // 2
            pieces = ((first, some[:half]), (first + half, some[half:]))
            return Scores.join([ask_for(*piece) for piece in pieces])

    scores = ask_for(0, text)
    for row in np.flatnonzero(~np.isfinite(scores.probability)):
        if int(row) not in errors:
            fail(int(row), NOT_FINITE)
    return scores, errors


def _is_of_machine(error: Exception) -> bool:
    """Say whether an error is no fault of the row."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "CUDA error" in str(error)


_UNANSWERED = Scores(
    probability=np.array([np.nan], np.float32),
    num_tokens=np.zeros(1, np.int32),
    lengths=np.zeros(1, np.int64),
    num_unknown=np.zeros(1, np.int32),
)


def tabulate(tweets: pa.Table, scores: Scores, keep_columns: Sequence[str]) -> pa.Table:
    """Put the answers beside the columns of the tweets that predictions repeat."""
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

    A task sees GPUs of which it was given no share: it uses one only if it was.
    """
    torch.set_num_threads(1)
    memory.keep_freed()
    record = manifest.require(uri, stage="model", setting="score.model_uri")
    if record["fingerprint"] != fingerprint:
        raise JobError(f"the model in {uri} has been replaced since the job began; run it again")
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    return ModelPackage.load(uri).to(device)


def _peak_memory() -> int:
    """Say how many bytes of memory this process has taken at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
