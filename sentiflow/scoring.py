"""Corpus + model package -> predictions Parquet."""

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sentiflow import cluster, corpus, manifest, schema, storage
from sentiflow.errors import JobError, UserError
from sentiflow.manifest import Claim
from sentiflow.model_package import ModelPackage, Scores
from sentiflow.passes import Passes
from sentiflow.progress import Progress, say
from sentiflow.sections import Config, ScoreSettings
from sentiflow.tracking import Recorder
from sentiflow.uris import join

STAGE = "score"
OWNS = ("predictions", "rejected", "failed", "_work")

PREPARED = "prepared"


def claim(config: Config) -> Claim:
    """Say what scoring would make; files of a corpus are read only if they changed.

    Raises:
        UserError: The corpus or the model is not there.
    """
    settings = config.score
    model = manifest.require(_model_uri(settings), stage="model", setting="score.model_uri")
    decisive = settings.model_dump(include={"corpus", "keep_columns", "rows_per_file", "format"})
    inputs = {"model": manifest.reference(_model_uri(settings), model)}
    if settings.corpus == (PREPARED,):
        record = manifest.require(
            settings.prepared_uri, stage="prepare", setting="score.prepared_uri"
        )
        inputs["corpus"] = manifest.reference(settings.prepared_uri, record)
    else:
        decisive["corpus"] = "files"
        before = manifest.read(settings.output_uri) or {"inputs": {}}
        uris = storage.expand(list(settings.corpus))
        inputs["corpus"] = manifest.files_input(uris, known=before["inputs"].get("corpus"))
    return Claim(STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def run(
    config: Config, recorder: Recorder, *, resources: cluster.Resources, overwrite: bool
) -> dict[str, Any]:
    """Score a corpus; returns the manifest.

    Raises:
        UserError: Corpus or model cannot be used, or the directory belongs to other settings.
        JobError: A part failed.
    """
    began = time.monotonic()
    settings = config.score
    target = claim(config)
    manifest.begin(target, overwrite=overwrite)
    try:
        source = open_corpus(settings, target.inputs["corpus"])
        _check_columns(source, settings.keep_columns)
    except UserError:
        manifest.abandon(target)
        raise
    target = replace(target, inputs=target.inputs | {"corpus": source.files})
    results = _score(source, settings, target.inputs["model"]["fingerprint"], resources)
    counts = {
        name: sum(result[name] for result in results)
        for name in ("accepted", "rejected", "prior_only", "positive")
    }
    counts = {"rows_read": source.num_rows} | counts
    if source.num_rows != counts["accepted"] + counts["rejected"]:
        raise JobError(f"not all of the {source.num_rows:,} rows came out of the parts: {counts}")
    seconds = time.monotonic() - began
    _report(counts, seconds, recorder)
    return manifest.publish(
        target,
        counts=counts,
        files=[item for result in results for item in result["files"]],
        seconds=seconds,
    )


def open_corpus(settings: ScoreSettings, files_input: dict[str, Any]) -> corpus.Corpus:
    """Find the corpus that the settings name, described by ``files_input``; cut it into parts.

    Raises:
        UserError: It is not there, or of mixed or unknown kinds.
    """
    rows = settings.rows_per_file
    if settings.corpus == (PREPARED,):
        return corpus.open_prepared(
            settings.prepared_uri, rows_per_part=rows, setting="score.prepared_uri"
        )
    uris = storage.expand(list(settings.corpus))
    are_parquet = {uri.lower().endswith(".parquet") for uri in uris}
    if are_parquet == {True}:
        return corpus.open_parquet(uris, rows_per_part=rows, files_input=files_input)
    if are_parquet == {False}:
        assert settings.format is not None, "settings are resolved"
        return corpus.open_csv(
            uris,
            form=settings.format,
            rows_per_part=rows,
            unpack_to=join(settings.output_uri, "_work"),
            map_parts=Passes(STAGE, settings.output_uri, goes_on=False).map_parts("cut"),
        )
    raise UserError(
        f"score.corpus: {', '.join(settings.corpus)} are of two kinds",
        hint="name CSV files or .parquet files",
    )


def score_part(
    part: int, *, source: corpus.Corpus, settings: ScoreSettings, model: str
) -> dict[str, Any]:
    """Score one part of the corpus, and write what comes of it; returns its counts and files.

    Args:
        part: Number of the part.
        source: The corpus.
        settings: Of the stage.
        model: Fingerprint of the model, under which a worker process keeps it for the next part.
    """
    torch.set_num_threads(1)
    package = _load_model(_model_uri(settings), model)
    checked = corpus.read_part(source, part, keep_columns=settings.keep_columns)
    tweets = checked.tweets.combine_chunks()
    text = tweets["text"].combine_chunks() if len(tweets) else pa.array([], pa.string())
    scores = package.score(text, batch_size=settings.batch_size)
    predictions = _tabulate(tweets, scores, settings.keep_columns)
    return {
        "accepted": len(predictions),
        "rejected": checked.rejected.num_rows,
        "prior_only": int((scores.num_tokens == 0).sum()),
        "positive": int((scores.prediction == schema.POSITIVE).sum()),
        "files": [
            item
            for kind, table in (("predictions", predictions), ("rejected", checked.rejected))
            for item in storage.write_part(
                settings.output_uri, f"{kind}/part-{part:05d}.parquet", table
            )
        ],
    }


@functools.lru_cache(maxsize=1)
def _load_model(uri: str, fingerprint: str) -> ModelPackage:
    """Load a model once for each worker process, on its GPU if it has one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ModelPackage.load(uri).to(device)


def _tabulate(tweets: pa.Table, scores: Scores, keep_columns: Sequence[str]) -> pa.Table:
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


def _score(
    source: corpus.Corpus, settings: ScoreSettings, model: str, resources: cluster.Resources
) -> list[dict[str, Any]]:
    work = functools.partial(score_part, source=source, settings=settings, model=model)
    num_gpus = min(1.0, resources.num_gpus)
    results = []
    with Progress(STAGE, total=source.num_rows, unit="rows") as progress:
        for result in cluster.map_parts(work, num_parts=len(source.parts), num_gpus=num_gpus):
            results.append(result)
            progress.advance(result["accepted"] + result["rejected"])
    return results


def _check_columns(source: corpus.Corpus, keep_columns: Sequence[str]) -> None:
    taken = sorted(set(keep_columns) & (set(schema.PREDICTIONS.names) - set(schema.TWEETS.names)))
    if taken:
        raise UserError(
            f"score.keep_columns: predictions have a column {taken[0]} of their own",
            hint="leave it out, or rename it in the corpus",
        )
    missing = sorted(set(keep_columns) - set(source.columns))
    if missing:
        raise UserError(
            f"score.keep_columns: the corpus has no column {', '.join(missing)}",
            hint=f"it has {', '.join(source.columns)}",
        )


def _model_uri(settings: ScoreSettings) -> str:
    assert settings.model_uri, "settings are resolved"
    return settings.model_uri


def _report(counts: dict[str, Any], seconds: float, recorder: Recorder) -> None:
    rate = counts["accepted"] / seconds
    share = counts["positive"] / counts["accepted"] if counts["accepted"] else float(np.nan)
    say(
        STAGE,
        f"{counts['accepted']:,} rows scored, {share:.1%} positive, "
        f"{counts['prior_only']:,} without a known word ({seconds:.1f} s, {rate:,.0f} rows/s)",
    )
    recorder.log_metrics({f"score/{name}": value for name, value in counts.items()})
    recorder.log_metrics({"score/rows_per_second": rate, "score/positive_fraction": share})
