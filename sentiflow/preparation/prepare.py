"""CSV files -> checked, split, encoded Parquet and a vocabulary.

Passes over the parts, each a Ray Data job of one task a part (:mod:`prepared_parts` is what the
tasks do): the files are cut; the parts ingested, which writes the tweets and the rejected rows and
leaves each part's tokens as numbers into the part's own list of words; then the vocabulary is
fitted to those lists; and the numbers are translated to ids, which is a look-up. A finished task
leaves a receipt, so that a killed preparation goes on where it was.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileType

from sentiflow.cluster import part_tasks
from sentiflow.cluster.map_stages import Passes
from sentiflow.cluster.resources import Resources, as_limit
from sentiflow.config.sections import Config, PrepareSettings
from sentiflow.data import corpus, csv_records, input_files, manifest
from sentiflow.data.archives import SENTIMENT140
from sentiflow.data.manifest import OutputSpec
from sentiflow.data.manifest_types import FileEntry
from sentiflow.errors import UserError
from sentiflow.models import vocabulary
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.preparation import duplicates, part_counts, prepared_parts, splits
from sentiflow.preparation.prepared_parts import VOCABULARY, Job
from sentiflow.progress import say
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import as_typed, join, names_vectors
from sentiflow.tracking.recording import Recorder
from sentiflow.words import word_vectors

log = logging.getLogger(__name__)

STAGE = "prepare"
OWNS = ("tweets", "encoded", "rejected", VOCABULARY, "_work")

_FEW_VECTORS = 0.5
"""If fewer of the words have one, the user is told."""

_NUM_WORDS = 20
"""Words named in the out-of-vocabulary report."""


def describe_output(config: Config) -> OutputSpec:
    """Say what preparation would make; the CSV is read only if it changed since the last time.

    Raises:
        UserError: The CSV is not there.
    """
    settings = config.prepare
    uris = _expand(settings)
    for uri in uris:
        if filesystem.file_info(uri).size == 0:
            raise UserError(f"{uri} holds no record", hint="it is empty; name another CSV")
    decisive = settings.model_dump(
        exclude={
            "csv": True,
            "output_uri": True,
            "num_workers": True,
            "max_rejected_fraction": True,
            "vocabulary": {"vectors_cache"},
        }
    )
    if not names_vectors(settings.vocabulary.vectors):
        del decisive["vocabulary"]["vectors"]  # what is in the file decides, wherever it lies
    decisive["format"] = config.format.model_dump()
    decisive["versions"] = {
        "tokenizer": TOKENIZERS[settings.tokenizer][0],
        "csv": csv_records.RULES_VERSION,
        "splits": splits.RULES_VERSION,
    }
    record = manifest.read(settings.output_uri)
    inputs = record["inputs"] if record else {}
    known = inputs.get("csv")
    found = input_files.describe(uris, known=known) if known else {"fingerprint": "", "files": []}
    vectors = _describe_vectors(settings, known=inputs.get("vectors"))
    return OutputSpec(STAGE, settings.output_uri, decisive, {"csv": found} | vectors, owns=OWNS)


def run(
    config: Config, recorder: Recorder, *, resources: Resources, overwrite: bool
) -> dict[str, Any]:
    """Prepare a corpus, or go on where an earlier run of the same was killed.

    Returns:
        The manifest.

    Raises:
        UserError: The input cannot be used: no record, too many rejected, a class missing. Then
            nothing is left behind.
        JobError: A task failed; what is finished is kept for the next run.
    """
    began = time.monotonic()
    target = describe_output(config)
    uris = _expand(config.prepare)
    place = replace(target, inputs=target.inputs | {"csv": input_files.as_found(uris)})
    goes_on = manifest.begin(place, overwrite=overwrite, resumable=True)
    engine = functools.partial(
        part_tasks.map_parts,
        max_wait_seconds=60 * config.cluster.max_wait_minutes,
        concurrency=as_limit(config.prepare.num_workers),
    )
    passes = Passes(STAGE, config.prepare.output_uri, resumes=goes_on, engine=engine)
    try:
        result = _prepare(config, uris, passes, resources)
    except UserError:
        manifest.roll_back(target)
        raise
    seconds = time.monotonic() - began
    _report(result, seconds, recorder)
    return manifest.publish(
        replace(target, inputs=target.inputs | {"csv": result.source.files}),
        counts=result.counts,
        files=result.files,
        seconds=seconds,
        duplicates=result.duplicates,
        vocabulary=result.vocabulary,
    )


def _expand(settings: PrepareSettings) -> list[str]:
    """List the input files."""
    corpus_file = next(iter(SENTIMENT140.members))
    for uri in settings.csv:
        if uri.endswith(f"/{corpus_file}") and not filesystem.exists(uri):
            hint = "sentiflow download sentiment140 brings it, sentiflow sample makes one like it"
            raise UserError(f"no such file: {uri}", hint=hint)
    return filesystem.expand(list(settings.csv))


@dataclass(frozen=True)
class _Result:
    """What a preparation has come to."""

    source: corpus.Corpus
    counts: dict[str, Any]
    files: list[FileEntry]
    duplicates: dict[str, Any]
    vocabulary: dict[str, Any]
    usage: dict[str, Any]


def _prepare(config: Config, uris: Sequence[str], passes: Passes, resources: Resources) -> _Result:
    settings = config.prepare
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(_load_vectors, settings)
        source = _cut(config, uris, passes)
        advice = resources.advise_parts(
            len(source.parts), num_rows=source.num_rows, setting="prepare.rows_per_file"
        )
        if advice:
            say(STAGE, advice)
        vectors = loading.result()
    job = _make_job(settings, source, passes)
    parts = _each_part(prepared_parts.ingest, job, passes)
    part_counts.check_rejected(parts, max_rejected_fraction=settings.max_rejected_fraction)
    repeats, parts = _handle_duplicates(parts, job, passes)
    part_counts.check_classes(parts)
    words, report = _fit(job, vectors, passes)
    vocabulary_file = words.save(join(settings.output_uri, VOCABULARY))
    encoded = _each_part(prepared_parts.encode, job, passes)
    files = [item for part in (*parts, *encoded) for item in part["files"]]
    return _Result(
        source,
        part_counts.count(parts, encoded, num_rows=source.num_rows, vocabulary_size=len(words)),
        [*files, {"path": VOCABULARY} | vocabulary_file],
        repeats,
        report | part_counts.sum_tokens(encoded),
        part_counts.sum_usage(parts, encoded, files),
    )


def _describe_vectors(settings: PrepareSettings, *, known: dict[str, Any] | None) -> dict[str, Any]:
    """Describe the vectors as an input, if they are not those of an installed package."""
    source, options = _name_vectors(settings)
    place = word_vectors.locate(source, **options)
    if place is None:
        return {}
    if filesystem.file_info(place).type == FileType.Directory:
        model = manifest.require(place, stage="model", setting="prepare.vocabulary.vectors")
        return {"vectors": manifest.reference(place, model)}
    return {"vectors": input_files.describe([place], known=known)}


def _load_vectors(settings: PrepareSettings) -> word_vectors.WordVectors:
    source, options = _name_vectors(settings)
    return word_vectors.load(source, **options)


def _name_vectors(settings: PrepareSettings) -> tuple[str, dict[str, Any]]:
    wanted = settings.vocabulary
    max_words = wanted.max_size if wanted.kind == "pretrained" else None
    return wanted.vectors, {"max_words": max_words, "cache": wanted.vectors_cache}


def _cut(config: Config, uris: Sequence[str], passes: Passes) -> corpus.Corpus:
    """Cut the files into parts, and make sure that they have the columns that are needed."""
    for uri in filter(compression.is_compressed, uris):
        say(STAGE, f"{as_typed(uri)} is compressed: one task unpacks it")
    source = corpus.open_csv(
        uris,
        form=config.format,
        rows_per_part=config.prepare.rows_per_file,
        unpack_to=join(config.prepare.output_uri, "_work"),
        map_parts=corpus.map_here if corpus.is_brief(uris) else passes.map_parts("cut"),
    )
    kind = config.prepare.split.kind
    wanted = {"label", *config.prepare.keep_columns, *({kind} & {"user", "time"})}
    for name in sorted(wanted):
        if any(getattr(part.csv_format, name) is None for part in source.csv_parts):
            raise UserError(
                f"format.columns has no {name}, which preparation needs",
                hint="say which column it is"
                if name == "label" or name == kind
                else "or take it out of prepare.keep_columns",
            )
    return source


def _make_job(settings: PrepareSettings, source: corpus.Corpus, passes: Passes) -> Job:
    """Put together what the tasks need to know; a split by time looks at all times first."""
    job = Job(settings, source.csv_parts)
    if settings.split.kind != "time":
        return job
    _each_part(prepared_parts.count_times, job, passes)
    tables = [filesystem.read_parquet(place) for place in job.places("times")]
    times = pa.concat_tables(tables).group_by("second").aggregate([("count", "sum")])
    bounds = splits.time_bounds(
        times["second"].to_numpy(),
        times["count_sum"].to_numpy(),
        validation_fraction=settings.split.validation_fraction,
        test_fraction=settings.split.test_fraction,
    )
    return replace(job, time_bounds=bounds)


def _each_part(work: Any, job: Job, passes: Passes) -> list[dict[str, Any]]:
    """Do the work on every part; named by the function."""
    ranges = [part.csv_range for part in job.parts]
    sizes = [(item.num_rows, item.stop - item.start) for item in ranges]
    return passes.run(work.__name__, functools.partial(work, job=job), sizes, unit="rows")


def _each_partition(work: Any, job: Job, passes: Passes) -> list[dict[str, Any]]:
    sizes = [(1, 0)] * job.num_partitions
    return passes.run(work.__name__, functools.partial(work, job=job), sizes, unit="partitions")


def _handle_duplicates(
    parts: list[dict[str, Any]], job: Job, passes: Passes
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Report repeated texts, and drop what the settings say; returns the parts as they are then."""
    found = _each_partition(prepared_parts.find_duplicates, job, passes)
    report = functools.reduce(duplicates.add, (item["counts"] for item in found))
    if not any(item["dropped"] for item in found):
        return report, parts
    changed = _each_part(prepared_parts.drop, job, passes)
    return report, [_replace_tweets(old, new) for old, new in zip(parts, changed, strict=True)]


def _replace_tweets(part: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    others = [item for item in part["files"] if not item["path"].startswith("tweets/")]
    return part | changed | {"files": others + changed["files"]}


def _fit(
    job: Job, vectors: word_vectors.WordVectors, passes: Passes
) -> tuple[Vocabulary, dict[str, Any]]:
    """Choose the words, and give each its vector; also says what stays unknown."""
    _each_partition(prepared_parts.count_words, job, passes)
    wanted = job.settings.vocabulary
    if wanted.kind == "pretrained":
        words = vocabulary.from_words(vectors.words)
    else:
        words = vocabulary.fit(
            _word_counts(job), min_count=wanted.min_count, max_size=wanted.max_size
        )
    place = vectors.find(words.words)
    matrix = np.where((place >= 0)[:, None], vectors.vectors[place], np.nan).astype(np.float32)
    report = {
        "words": len(words),
        "words_with_vector": int((place >= 0).sum()),
        "frequent_unknown": _frequent(job, words.knows),
        "frequent_without_vector": _frequent(job, lambda found: vectors.find(found) >= 0),
    }
    _warn_of_few_vectors(int((place >= 0).sum()), len(words) - words.num_special, job.settings)
    return replace(words, vectors=matrix), report


def _warn_of_few_vectors(num_known: int, num_words: int, settings: PrepareSettings) -> None:
    """Say so where most words would begin with a vector drawn at random."""
    if num_known < _FEW_VECTORS * num_words:
        source = as_typed(settings.vocabulary.vectors)
        log.warning("%s", f"only {num_known:,} of {num_words:,} words have a vector in {source}")


def _word_counts(job: Job) -> Iterator[pa.Table]:
    """Read the counts of all words, a partition at a time."""
    for partition in range(job.num_partitions):
        yield filesystem.read_parquet(job.place("counts", partition))


def _frequent(job: Job, is_known: Callable[[pa.Array], np.ndarray]) -> list[dict[str, str | int]]:
    """List the most frequent words, over all splits, that are not known."""
    found: list[dict[str, Any]] = []
    for counts in _word_counts(job):
        total = pc.add(counts["count"], counts["held_out"])
        table = pa.table({"word": counts["word"], "count": total}).combine_chunks()
        table = table.filter(pc.greater(table["count"], 0)).combine_chunks()
        table = table.filter(pa.array(~is_known(table["word"].combine_chunks())))
        order = [("count", "descending"), ("word", "ascending")]
        found += table.sort_by(order)[:_NUM_WORDS].to_pylist()
    return sorted(found, key=lambda item: (-item["count"], item["word"]))[:_NUM_WORDS]


def _report(result: _Result, seconds: float, recorder: Recorder) -> None:
    counts, usage = result.counts, result.usage
    rate = counts["rows_read"] / seconds
    say(
        STAGE,
        f"{counts['rows_read']:,} rows read, {counts['accepted']:,} accepted, "
        f"{counts['rejected']:,} rejected; {counts['vocabulary_size']:,} words "
        f"({seconds:.1f} s, {rate:,.0f} rows/s)",
    )
    names = ("rows_read", "accepted", "rejected", "left_out", "encoded", "vocabulary_size")
    figures = {name: counts[name] for name in names} | usage
    figures |= {
        "rows_per_second": rate,
        "bytes_per_second": usage["bytes_read"] / seconds,
        "unknown_fraction": result.vocabulary["tokens"]["train"]["unknown_fraction"],
    }
    recorder.log_metrics({f"prepare/{name}": value for name, value in figures.items()})
