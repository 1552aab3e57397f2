"""Corpus + model package -> predictions Parquet.

One pass over the parts of the corpus, each a task (:mod:`scored_parts` is what it does). A finished
part leaves a receipt that names the model, the settings and the rows: a scoring that was killed
goes on with what has none, and one whose corpus has grown with what is new. Ray Data's own
checkpoints know neither model nor settings, and with them a rerun may keep what another has scored.
The parts are plain tasks of Ray: no data pass from one to another, and Ray Data waits a quarter of
a part's time before it starts the next.
"""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sentiflow import (
    cluster,
    corpus,
    drift,
    input_files,
    manifest,
    model_sources,
    schema,
    storage,
)
from sentiflow.corpus import Corpus
from sentiflow.drift import Profile
from sentiflow.errors import JobError, UserError
from sentiflow.manifest import Claim
from sentiflow.passes import Passes
from sentiflow.progress import say
from sentiflow.sections import Config, ScoreSettings
from sentiflow.tracking import Recorder
from sentiflow.uris import as_typed, join

STAGE = "score"
OWNS = ("predictions", "rejected", "failed", "_work")

PREPARED = "prepared"

_DECISIVE = {"keep_columns", "rows_per_file", "format", "text_column", "precision", "keep_raw"}
_COUNTS = ("accepted", "rejected", "failed", "prior_only", "positive")


def claim(config: Config) -> Claim:
    """Say what scoring would make; files of a corpus are read only if they changed.

    Raises:
        UserError: The corpus or the model is not there.
    """
    settings = config.score
    decisive = settings.model_dump(include=_DECISIVE)
    assert settings.model_uri, "settings are resolved"
    model = model_sources.describe(settings.model_uri, tracking=config.tracking.uri)
    inputs = {"model": model}
    if settings.corpus == (PREPARED,):
        record = manifest.require(
            settings.prepared_uri, stage="prepare", setting="score.prepared_uri"
        )
        inputs["corpus"] = manifest.reference(settings.prepared_uri, record)
    else:
        uris = storage.expand(list(settings.corpus))
        inputs["corpus"] = _describe_files(settings.output_uri, uris)
    decisive["corpus"] = PREPARED if settings.corpus == (PREPARED,) else "files"
    return Claim(STAGE, settings.output_uri, decisive, inputs, owns=OWNS, grows="corpus")


def run(
    config: Config, recorder: Recorder, *, resources: cluster.Resources, overwrite: bool
) -> dict[str, Any]:
    """Score a corpus, or go on where an earlier run was killed, or the corpus ended then.

    Returns:
        The manifest.

    Raises:
        UserError: Corpus or model cannot be used, or the directory belongs to other settings.
        JobError: A part failed, or too many rows; what is finished is kept for the next run.
    """
    began = time.monotonic()
    settings = config.score
    target = claim(config)
    goes_on = manifest.begin(target, overwrite=overwrite, resumable=True, key=key_of(target))
    earlier = _Earlier.read(target)
    if earlier.fingerprint == target.fingerprint:  # what was to be added is not wanted any more
        manifest.abandon(target)
        return manifest.require(target.uri, stage=STAGE, setting="score.output_uri")
    passes = Passes(STAGE, target.uri, goes_on=goes_on, engine=cluster.map_tasks)
    try:
        source = _open_corpus(settings, earlier, passes)
        _check_columns(source, settings.keep_columns)
        model_uri = model_sources.bring(
            target.inputs["model"],
            to=join(target.uri, "_work/model"),
            tracking=config.tracking.uri,
        )
    except UserError:
        if earlier.fingerprint or not goes_on:
            manifest.abandon(target)
        raise
    num_rows = earlier.counts["rows_read"] + source.num_rows
    work = functools.partial(
        score_part,
        source=source,
        settings=settings,
        model_uri=model_uri,
        model_fingerprint=target.inputs["model"]["fingerprint"],
        first_part=earlier.num_parts,
        max_failed=int(settings.max_failed_fraction * num_rows),
    )
    results = passes.run(
        STAGE,
        work,
        [(part.num_rows, 0) for part in source.parts],
        unit="rows",
        keys=_keys(source),
        num_gpus=resources.gpus_per_score_task(),
        concurrency=None if settings.num_workers == "auto" else int(settings.num_workers),
    )
    counts = _count(source, earlier, results)
    _check_failed(counts, settings)
    profile = sum((Profile.from_json(item["profile"]) for item in results), earlier.profile)
    found = _compare(profile, target.inputs["model"])
    seconds = time.monotonic() - began
    num_scored = sum(results[number]["accepted"] for number in passes.fresh)
    _report(counts, found, seconds, recorder, num_scored=num_scored)
    files = [item for result in results for item in result["files"]]
    return manifest.publish(
        replace(target, inputs=target.inputs | {"corpus": earlier.join_files(source)}),
        counts=counts,
        files=[*earlier.files, *files],
        seconds=seconds,
        num_parts=earlier.num_parts + len(source.parts),
        has_row_ids=source.has_row_ids,
        profile=vars(profile),
        drift=found,
        peak_memory_bytes=max((item["peak_memory_bytes"] for item in results), default=0),
    )


@dataclass(frozen=True)
class _Earlier:
    """What was scored before the corpus has grown; nothing, where it has not."""

    fingerprint: str
    counts: dict[str, int]
    num_parts: int
    input_files: tuple[dict[str, Any], ...]
    files: tuple[dict[str, Any], ...]
    profile: Profile
    has_row_ids: bool

    @classmethod
    def read(cls, target: Claim) -> "_Earlier":
        """Read it from the manifest of that time."""
        record = manifest.read_before(target.uri)
        if record is None:
            counts = dict.fromkeys(("rows_read", *_COUNTS), 0)
            return cls("", counts, 0, (), (), Profile(), False)
        return cls(
            fingerprint=record["fingerprint"],
            counts=record["counts"],
            num_parts=record["num_parts"],
            input_files=tuple(record["inputs"]["corpus"].get("files", ())),
            files=tuple(record["files"]),
            profile=Profile.from_json(record["profile"]),
            has_row_ids=record["has_row_ids"],
        )

    def join_files(self, source: Corpus) -> dict[str, Any]:
        """Describe the whole corpus as an input."""
        if not self.input_files:
            return source.files
        return input_files.join([*self.input_files, *source.files["files"]])


def key_of(target: Claim) -> str:
    """Name what must be equal for an unfinished scoring to be continued; the corpus may grow."""
    return manifest.fingerprint([target.settings, target.inputs["model"]["fingerprint"]])


def _describe_files(output_uri: str, uris: Sequence[str]) -> dict[str, Any]:
    """Describe the files of a corpus, without reading those that were read before, or none yet."""
    record = manifest.read(output_uri) or manifest.read_before(output_uri)
    known = record["inputs"].get("corpus", {}) if record else {}
    if "files" not in known:
        return input_files.as_found(uris)
    return input_files.add(known, uris) or input_files.describe(uris, known=known)


def _open_corpus(settings: ScoreSettings, earlier: _Earlier, passes: Passes) -> Corpus:
    """Cut what is to be scored into parts.

    Raises:
        UserError: It is of mixed or unknown kinds, or cannot be read.
    """
    rows = settings.rows_per_file
    if settings.corpus == (PREPARED,):
        return corpus.open_prepared(
            settings.prepared_uri, rows_per_part=rows, setting="score.prepared_uri"
        )
    uris = storage.expand(list(settings.corpus))
    old, new = uris[: len(earlier.input_files)], uris[len(earlier.input_files) :]
    are_parquet = {uri.lower().endswith(".parquet") for uri in uris}
    if len(are_parquet) > 1:
        raise UserError(
            f"score.corpus: {', '.join(settings.corpus)} are of two kinds",
            hint="name CSV files or .parquet files",
        )
    key = input_files.as_found(new)["fingerprint"]
    if are_parquet == {True}:
        source = corpus.open_parquet(
            new,
            text_column=settings.text_column,
            rows_per_part=rows,
            map_parts=corpus.map_here
            if corpus.is_brief(new)
            else passes.map_parts("hash", key=key),
            first_row=earlier.counts["rows_read"],
            earlier=old,
        )
        if earlier.has_row_ids and not source.has_row_ids:
            raise UserError(
                f"{new[0]} or a later file has no row_id of its own, or one of an earlier file",
                hint="number the new rows on, or score all into another directory",
            )
        return source
    assert settings.format is not None, "settings are resolved"
    return corpus.open_csv(
        new,
        form=settings.format,
        rows_per_part=rows,
        unpack_to=join(settings.output_uri, "_work"),
        map_parts=corpus.map_here if corpus.is_brief(new) else passes.map_parts("cut", key=key),
        first_row=earlier.counts["rows_read"],
    )


def score_part(part: int, **job: Any) -> dict[str, Any]:
    """Do the work of a task, see :func:`scored_parts.score`; torch is imported there alone."""
    from sentiflow import scored_parts

    return scored_parts.score(part, **job)


def _keys(source: Corpus) -> list[str]:
    """Name each part by its rows and the content of its files."""
    contents = {item["uri"]: item["tree_sha256"] for item in source.files.get("files", ())}
    return [
        manifest.fingerprint(
            [
                str(part),
                source.has_row_ids,
                [contents.get(uri, source.files["fingerprint"]) for uri in part.sources],
            ]
        )
        for part in source.parts
    ]


def _check_columns(source: Corpus, keep_columns: Sequence[str]) -> None:
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


def _count(source: Corpus, earlier: _Earlier, results: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the rows of the whole corpus by what became of them.

    Raises:
        JobError: Not all came out of the parts.
    """
    new = {name: sum(result[name] for result in results) for name in _COUNTS}
    if source.num_rows != new["accepted"] + new["rejected"] + new["failed"]:
        raise JobError(f"not all of the {source.num_rows:,} rows came out of the parts: {new}")
    new["rows_read"] = source.num_rows
    return {name: count + new[name] for name, count in earlier.counts.items()}


def _check_failed(counts: dict[str, int], settings: ScoreSettings) -> None:
    asked = counts["accepted"] + counts["failed"]
    if counts["failed"] > settings.max_failed_fraction * asked:
        raise JobError(
            f"the model fails for {counts['failed']:,} of {asked:,} rows, see failed/ in "
            f"{as_typed(settings.output_uri)}; a larger score.max_failed_fraction leaves them out"
        )


def _compare(profile: Profile, model: dict[str, Any]) -> dict[str, Any]:
    """Compare the corpus with the rows that the model was made for, if it tells of them."""
    known = model["reference"]
    return drift.compare(profile, Profile.from_json(known)) if known else {}


def _report(
    counts: dict[str, int],
    found: dict[str, Any],
    seconds: float,
    recorder: Recorder,
    *,
    num_scored: int,
) -> None:
    rate = num_scored / seconds
    share = counts["positive"] / counts["accepted"] if counts["accepted"] else None
    positive = "" if share is None else f"{share:.1%} positive, "
    failed = f"{counts['failed']:,} failed, " if counts["failed"] else ""
    before = counts["accepted"] - num_scored
    also = f"{before:,} before; of all " if before else ""
    say(
        STAGE,
        f"{num_scored:,} rows scored, {also}{positive}{failed}"
        f"{counts['prior_only']:,} without a known word ({seconds:.1f} s, {rate:,.0f} rows/s)",
    )
    for line in found.get("warnings", ()):
        say(STAGE, f"unlike the training data: {line}")
    figures: dict[str, float | None] = {**counts, "rows_per_second": rate}
    figures["positive_fraction"] = share
    psi = {name: value for name, value in found.items() if name.endswith("_psi")}
    figures |= {f"drift/{name}": value for name, value in (psi | found.get("corpus", {})).items()}
    recorder.log_metrics({f"score/{name}": value for name, value in figures.items()})
