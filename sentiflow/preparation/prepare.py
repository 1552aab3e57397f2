"""CSV files -> checked, split, encoded Parquet and a vocabulary.

Preparation has these steps, each a map over parts with one task a part (:mod:`prepared_parts` has
the work of the tasks):

1. Cut the files into parts.
2. Ingest each part: write its tweets and rejected rows, and its tokens as indexes into a list of
   the part's own words.
3. Find duplicates, and remove the rows that ``prepare.duplicates`` leaves out.
4. Fit the vocabulary to the words of all parts.
5. Encode each part: replace the indexes by ids of the vocabulary.

A finished task leaves a completion marker, so that a killed preparation resumes.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileType

from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config, PrepareSettings
from sentiflow.data import corpus, input_files, manifest, schema, table_files, table_plans
from sentiflow.data.archives import SENTIMENT140
from sentiflow.data.manifest_types import (
    Counts,
    DuplicateCounts,
    Input,
    Manifest,
    VocabularyReport,
    WordCount,
)
from sentiflow.data.output_status import WORK, OutputSpec
from sentiflow.data.outputs import Output
from sentiflow.errors import StorageError, UserError
from sentiflow.models import vocabulary
from sentiflow.preparation import duplicates, prepared_parts, results, rules, splits
from sentiflow.preparation.prepared_parts import VOCABULARY, Job
from sentiflow.progress import say
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import as_typed, join, names_vectors
from sentiflow.tracking.recording import Recorder
from sentiflow.words import word_vectors

log = logging.getLogger(__name__)

STAGE = "prepare"
OWNS = ("tweets", "encoded", "rejected", VOCABULARY, WORK)

_FEW_VECTORS = 0.5
"""A warning says so if a smaller share of the words has a vector."""

_NUM_WORDS = 20
"""Words listed in the out-of-vocabulary report."""


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of preparation; a CSV is read only if it has changed since last time.

    Raises:
        UserError: A CSV does not exist, or all are empty.
    """
    settings = config.prepare
    uris = _expand(settings)
    relevant = settings.model_dump(
        exclude={
            "csv": True,
            "output_uri": True,
            "num_workers": True,
            "max_rejected_fraction": True,
            "vocabulary": {"vectors_cache"},
        }
    )
    if not names_vectors(settings.vocabulary.vectors):
        del relevant["vocabulary"]["vectors"]  # the content of the file counts, not its location
    relevant["format"] = config.format.model_dump()
    installed = word_vectors.hash_package(settings.vocabulary.vectors)
    relevant["rules"] = rules.hash_rules(settings.tokenizer) | installed
    record = manifest.read(settings.output_uri)
    inputs = record["inputs"] if record else {}
    known = inputs.get("csv")
    found = input_files.describe(uris, known=known) if known else input_files.as_found(uris)
    if not any(item["bytes"] for item in found["files"]):
        raise UserError(f"{uris[0]} holds no record", hint="the file is empty: name another CSV")
    vectors = _describe_vectors(settings, known=inputs.get("vectors"))
    return OutputSpec(STAGE, settings.output_uri, relevant, {"csv": found} | vectors, owns=OWNS)


def run(config: Config, output: Output, recorder: Recorder, *, resources: Resources) -> Manifest:
    """Prepare a corpus, or resume a preparation of it that was killed.

    Returns:
        The manifest.

    Raises:
        UserError: The input cannot be used: it has no record, too many rejected rows, or a class
            without rows. The output is removed.
        StorageError: A location cannot be used; finished parts are kept for the next run.
        JobError: A task failed; likewise.
    """
    began = time.monotonic()
    output.begin()
    maps = MapStages(
        output,
        num_workers=config.prepare.num_workers,
        max_wait_minutes=config.cluster.max_wait_minutes,
        uses_ray_data=True,
    )
    try:
        return _prepare(config, output, maps, resources, recorder, began)
    except StorageError:
        raise  # no verdict on the data: the finished parts are kept
    except UserError:
        if not output.resumes:  # finished parts of an earlier run are worth more than order
            output.roll_back()
        raise


def _expand(settings: PrepareSettings) -> list[str]:
    """List the input files."""
    corpus_file = next(iter(SENTIMENT140.members))
    for uri in settings.csv:
        if uri.endswith(f"/{corpus_file}") and not filesystem.exists(uri):
            hint = "get it by sentiflow download sentiment140, or a similar one by sentiflow sample"
            raise UserError(f"no such file: {uri}", hint=hint)
    uris = filesystem.expand(list(settings.csv))
    corpus.are_tables(uris, setting="prepare.csv")
    for name in settings.keep_columns:
        if name.lower() in (*schema.TWEETS.names, "split"):
            raise UserError(
                f"prepare.keep_columns: tweets have their own column {name.lower()}",
                hint="leave it out, or rename it in the files",
            )
    return uris


def _prepare(
    config: Config,
    output: Output,
    maps: MapStages,
    resources: Resources,
    recorder: Recorder,
    began: float,
) -> Manifest:
    """Do all steps, report the metrics and publish the manifest."""
    settings = config.prepare
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(_load_vectors, settings)
        source = _cut(config, output, maps)
        advice = resources.advise_parts(
            len(source.parts), num_rows=source.num_rows, setting="prepare.rows_per_file"
        )
        if advice:
            say(STAGE, advice)
        vectors = loading.result()
    if "vectors" in output.spec.inputs:
        input_files.check_unchanged(output.spec.inputs["vectors"])
    job = _make_job(settings, output, source, maps)
    parts = [results.IngestedPart(**item) for item in _map_parts(prepared_parts.ingest, job, maps)]
    results.check_rejected(parts, max_rejected_fraction=settings.max_rejected_fraction)
    repeats, parts = _handle_duplicates(parts, job, maps)
    results.check_classes(parts)
    words, report = _fit(job, vectors, maps)
    vocabulary_file = filesystem.write_part(output.uri, VOCABULARY, words.to_table())
    encoded = [results.EncodedPart(**item) for item in _map_parts(prepared_parts.encode, job, maps)]
    report["tokens"] = results.sum_tokens(encoded)
    counts = results.count(parts, encoded, num_rows=source.num_rows, vocabulary_size=len(words))
    files = [item for part in parts for item in part.files]
    files += [item for part in encoded for item in part.files]
    usage = {
        "bytes_read": sum(part.num_bytes for part in job.parts),
        "bytes_written": sum(item["bytes"] for item in files),
        "peak_memory_bytes": max(
            *(part.peak_memory_bytes for part in parts),
            *(part.peak_memory_bytes for part in encoded),
        ),
        "unknown_fraction": report["tokens"]["train"]["unknown_fraction"],
    }
    seconds = time.monotonic() - began
    input_files.check_unchanged(source.files)
    _report(counts, usage, seconds, recorder)
    return output.publish(
        inputs=output.spec.inputs | {"csv": source.files},
        counts=counts,
        files=files + vocabulary_file,
        seconds=seconds,
        run=recorder.describe(),
        duplicates=repeats,
        vocabulary=report,
    )


def _describe_vectors(settings: PrepareSettings, *, known: Input | None) -> dict[str, Input]:
    """Describe the vectors as an input, unless they belong to an installed package."""
    source, options = _name_vectors(settings)
    uri = word_vectors.locate(source, **options)
    if uri is None:
        return {}
    if filesystem.file_info(uri).type == FileType.Directory:
        model = manifest.require(uri, stage="model", setting="prepare.vocabulary.vectors")
        return {"vectors": manifest.reference(uri, model)}
    return {"vectors": input_files.describe([uri], known=known)}


def _load_vectors(settings: PrepareSettings) -> word_vectors.WordVectors:
    source, options = _name_vectors(settings)
    return word_vectors.load(source, **options)


def _name_vectors(settings: PrepareSettings) -> tuple[str, dict[str, Any]]:
    wanted = settings.vocabulary
    max_words = wanted.max_size if wanted.kind == "pretrained" else None
    return wanted.vectors, {"max_words": max_words, "cache": wanted.vectors_cache}


def _cut(config: Config, output: Output, maps: MapStages) -> corpus.Corpus:
    """Cut the files into parts, and check that they have the required columns."""
    found, settings = output.spec.inputs["csv"], config.prepare
    files = found["files"]
    make_map = functools.partial(maps.make_map, key=input_files.identify_state(found))
    if corpus.are_tables([item["uri"] for item in files], setting="prepare.csv"):
        tables = table_plans.plan_preparation(
            files, settings=config.format, keep_columns=settings.keep_columns
        )
        _check_columns(tables, settings)
        source = corpus.open_tables(
            tables, rows_per_part=settings.rows_per_file, map_parts=make_map("hash")
        )
        if not source.num_rows:
            raise UserError(f"{files[0]['uri']} holds no record", hint="it has no row")
        return source
    for item in files:
        if compression.is_compressed(item["uri"]):
            say(STAGE, f"{as_typed(item['uri'])} is compressed: one task unpacks it")
    plan = corpus.plan_csv(
        files,
        settings=config.format,
        rows_per_part=settings.rows_per_file,
        unpack_to=join(output.uri, WORK),
    )
    _check_columns(plan, settings)
    source = corpus.cut_csv(plan, map_parts=make_map("cut"))
    for note in source.notes:
        say(STAGE, note)
    return source


def _check_columns(plan: corpus.CsvPlan | table_files.TablePlan, settings: PrepareSettings) -> None:
    """Check that all files have the columns that preparation needs.

    Raises:
        UserError: They do not.
    """
    kind = settings.split.kind
    for name in sorted({"label", *settings.keep_columns, *({kind} & {"user", "time"})}):
        if plan.has_column(name):
            continue
        if name not in ("label", "user", "time"):
            raise UserError(
                f"prepare.keep_columns: not all files have a column {name}",
                hint=f"columns of all files are {', '.join(plan.columns or ())}",
            )
        raise UserError(
            f"format.columns does not name the column {name}, which preparation needs",
            hint=f"add format.columns.{name}"
            if name in ("label", kind)
            else f"add format.columns.{name}, or remove {name} from prepare.keep_columns",
        )


def _make_job(
    settings: PrepareSettings, output: Output, source: corpus.Corpus, maps: MapStages
) -> Job:
    """Collect the arguments of the tasks; for a split by time, all times are counted first."""
    inputs = output.spec.inputs | {"csv": source.files}
    key = manifest.identify(STAGE, output.spec.settings, inputs)
    job = Job(settings, output.uri, key, source.parts)
    if settings.split.kind != "time":
        return job
    _map_parts(prepared_parts.count_times, job, maps)
    tables = [filesystem.read_parquet(uri) for uri in job.work_files("times")]
    times = pa.concat_tables(tables).group_by("second").aggregate([("count", "sum")])
    bounds = splits.time_bounds(
        times["second"].to_numpy(),
        times["count_sum"].to_numpy(),
        validation_fraction=settings.split.validation_fraction,
        test_fraction=settings.split.test_fraction,
    )
    return replace(job, time_bounds=bounds)


def _map_parts(work: Callable[..., Any], job: Job, maps: MapStages) -> list[Any]:
    """Do the work on every part; the name of the function is that of the map stage."""
    sizes = [(part.num_rows, part.num_bytes) for part in job.parts]
    keys = [job.key] * len(sizes)
    return maps.run(work.__name__, functools.partial(work, job=job), sizes, unit="rows", keys=keys)


def _map_partitions(work: Callable[..., Any], job: Job, maps: MapStages) -> list[Any]:
    """Do the work on every partition of the words or hashes."""
    name = work.__name__
    sizes, keys = [(1, 0)] * job.num_partitions, [job.key] * job.num_partitions
    work = functools.partial(work, job=job)
    return maps.run(name, work, sizes, unit="partitions", keys=keys)


def _handle_duplicates(
    parts: list[results.IngestedPart], job: Job, maps: MapStages
) -> tuple[DuplicateCounts, list[results.IngestedPart]]:
    """Count repeated texts, and drop the rows that the settings name; return the new parts."""
    counts = _map_partitions(prepared_parts.count_duplicates, job, maps)
    report = functools.reduce(duplicates.add, counts)
    if not job.filters:
        return report, parts
    filtered = [results.FilteredPart(**item) for item in _map_parts(prepared_parts.drop, job, maps)]
    return report, [_replace_tweets(old, new) for old, new in zip(parts, filtered, strict=True)]


def _replace_tweets(
    part: results.IngestedPart, filtered: results.FilteredPart
) -> results.IngestedPart:
    others = [item for item in part.files if not item["path"].startswith("tweets/")]
    files = others + filtered.files
    return replace(part, dropped=filtered.dropped, labels=filtered.labels, files=files)


def _fit(
    job: Job, vectors: word_vectors.WordVectors, maps: MapStages
) -> tuple[vocabulary.Vocabulary, VocabularyReport]:
    """Choose the words and the vector of each; also report which frequent words are unknown."""
    _map_partitions(prepared_parts.count_words, job, maps)
    wanted = job.settings.vocabulary
    if wanted.kind == "pretrained":
        words = vocabulary.from_words(vectors.words)
    else:
        words = vocabulary.fit(
            _word_counts(job), min_count=wanted.min_count, max_size=wanted.max_size
        )
    rows = vectors.find(words.words)
    matrix = np.where((rows >= 0)[:, None], vectors.vectors[rows], np.nan).astype(np.float32)
    report: VocabularyReport = {
        "words": len(words),
        "words_with_vector": int((rows >= 0).sum()),
        "frequent_unknown": _list_frequent(job, words.knows),
        "frequent_without_vector": _list_frequent(job, lambda found: vectors.find(found) >= 0),
        "tokens": {},
    }
    _warn_of_few_vectors(report["words_with_vector"], len(words) - words.num_special, job.settings)
    return replace(words, vectors=matrix), report


def _warn_of_few_vectors(num_known: int, num_words: int, settings: PrepareSettings) -> None:
    """Warn if most words would start from a random vector."""
    if num_known < _FEW_VECTORS * num_words:
        source = as_typed(settings.vocabulary.vectors)
        log.warning("%s", f"only {num_known:,} of {num_words:,} words have a vector in {source}")


def _word_counts(job: Job) -> Iterator[pa.Table]:
    """Read the counts of all words, a partition at a time."""
    for partition in range(job.num_partitions):
        yield filesystem.read_parquet(job.work_file("counts", partition))


def _list_frequent(job: Job, is_known: Callable[[pa.Array], np.ndarray]) -> list[WordCount]:
    """List the most frequent words of all splits for which ``is_known`` is false."""
    found: list[WordCount] = []
    for counts in _word_counts(job):
        total = pc.add(counts["count"], counts["held_out"])
        table = pa.table({"word": counts["word"], "count": total}).combine_chunks()
        table = table.filter(pc.greater(table["count"], 0)).combine_chunks()
        table = table.filter(pa.array(~is_known(table["word"].combine_chunks())))
        order = [("count", "descending"), ("word", "ascending")]
        found += table.sort_by(order)[:_NUM_WORDS].to_pylist()
    return sorted(found, key=lambda item: (-item["count"], item["word"]))[:_NUM_WORDS]


def _report(counts: Counts, usage: Mapping[str, float], seconds: float, recorder: Recorder) -> None:
    """Tell the user what was done, and log the metrics."""
    rate = counts["rows_read"] / seconds
    say(
        STAGE,
        f"{counts['rows_read']:,} rows read, {counts['accepted']:,} accepted, "
        f"{counts['rejected']:,} rejected; {counts['vocabulary_size']:,} words "
        f"({seconds:.1f} s, {rate:,.0f} rows/s)",
    )
    names = ("rows_read", "accepted", "rejected", "left_out", "encoded", "vocabulary_size")
    rates = {"rows_per_second": rate, "bytes_per_second": usage["bytes_read"] / seconds}
    metrics = {**{name: counts[name] for name in names}, **usage, **rates}
    recorder.log_metrics({f"prepare/{name}": value for name, value in metrics.items()})
