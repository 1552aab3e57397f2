"""CSV files -> checked, split, encoded Parquet and a vocabulary.

A corpus is cut into parts, and each part passes these steps, in one task of Ray Data
(:mod:`steps` and :mod:`part_files` have the functions):

1. Read and check its rows, hash the texts, assign each row to a split, tokenize, write.
2. Once the words of all parts have been counted and the vocabulary is fitted: read the tokens,
   encode, write.

Repeated texts are counted in between. ``duplicates: drop`` has to know them before, and a split by
time has to know all times: then the parts are read once more, first of all.

A finished part leaves a completion marker, so that a killed preparation resumes.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyarrow.fs import FileType

from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.resources import Resources
from sentiflow.config.classes import check_learned
from sentiflow.config.sections import Config, PrepareSettings
from sentiflow.data import corpus, input_files, manifest, required_columns, table_plans
from sentiflow.data.manifest_types import (
    Counts,
    Input,
    Manifest,
)
from sentiflow.data.output_status import WORK, OutputSpec
from sentiflow.data.outputs import Output
from sentiflow.errors import StorageError, UserError
from sentiflow.preparation import fitting, results, rules
from sentiflow.preparation.flow import Flow
from sentiflow.preparation.part_files import VOCABULARY, Job
from sentiflow.progress import say
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import as_typed, join, names_vectors
from sentiflow.words import word_vectors

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

STAGE = "prepare"
OWNS = ("tweets", "encoded", "rejected", VOCABULARY, WORK)


def describe_output(config: Config, *, fetch: bool = True) -> OutputSpec:
    """Describe the output of preparation; a CSV is read only if it has changed since last time.

    Files and word vectors of a complete result that are gone are described as they were.

    Args:
        config: The experiment.
        fetch: Download word vectors that are not here; if not, they have no fingerprint.

    Raises:
        UserError: A CSV does not exist, all are empty, or there is no such class to train on.
    """
    settings = config.prepare
    if config.format.classes:
        check_learned(config.train.classes, config.format.learnable)
    required_columns.check_kept_names(settings.keep_columns)
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
    if config.format.kind == "csv":  # the order of the classes decides the labels
        relevant["classes"] = config.format.classes
    installed = word_vectors.hash_package(settings.vocabulary.vectors)
    relevant["rules"] = rules.hash_rules(settings.tokenizer) | installed
    record = manifest.read(settings.output_uri)
    inputs = record["inputs"] if record else {}
    found = _describe_files(settings, known=inputs.get("csv"))
    vectors = _describe_vectors(settings, known=inputs.get("vectors"), fetch=fetch)
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
    )
    try:
        return _prepare(config, output, maps, resources, recorder, began)
    except StorageError:
        raise  # no verdict on the data: the finished parts are kept
    except UserError:
        if not output.resumes:  # finished parts of an earlier run are worth more than order
            output.roll_back()
        raise


def _describe_files(settings: PrepareSettings, *, known: Input | None) -> Input:
    """Describe the input files.

    Raises:
        UserError: One does not exist, all are empty, or there are both CSV and Parquet.
    """
    uris = input_files.expand(settings.csv, setting="prepare.csv", known=known)
    if known and not uris:
        return known
    corpus.are_tables(uris, setting="prepare.csv")
    found = input_files.describe(uris, known=known) if known else input_files.as_found(uris)
    if not any(item["bytes"] for item in found["files"]):
        raise UserError(f"{uris[0]} holds no record", hint="the file is empty: name another CSV")
    return found


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
        name, options = _name_vectors(settings)
        loading = pool.submit(word_vectors.load, name, **options)
        source = _cut(config, output, maps)
        advice = resources.advise_parts(
            len(source.parts), num_rows=source.num_rows, setting="prepare.rows_per_file"
        )
        if advice:
            say(STAGE, advice)
        vectors = loading.result()
    if "vectors" in output.spec.inputs:
        input_files.check_unchanged(output.spec.inputs["vectors"])
    key = manifest.identify(STAGE, output.spec.settings, output.spec.inputs | {"csv": source.files})
    flow = Flow(Job(settings, config.format, output.uri, key), source.parts, maps)
    if flow.job.format.classes is None:
        flow.find_classes()
        check_learned(config.train.classes, flow.job.format.learnable)
    parts = flow.ingest()
    results.check_rejected(parts, max_rejected_fraction=settings.max_rejected_fraction)
    if unknown := results.list_unknown(parts):
        say(STAGE, f"rows are rejected for labels that format.labels does not name: {unknown}")
    for note in results.check_classes(
        parts, learned=config.train.classes or flow.job.format.learnable
    ):
        say(STAGE, note)
    words, report = fitting.fit(flow.count_words(), vectors, settings)
    vocabulary_file = filesystem.write_part(output.uri, VOCABULARY, words.to_table())
    encoded = flow.encode()
    report["tokens"] = results.sum_tokens(encoded)
    classes = flow.job.format.classes or ()
    counts = results.count(
        parts, encoded, classes=classes, num_rows=source.num_rows, vocabulary_size=len(words)
    )
    files = [item for part in parts for item in part.files]
    files += [item for part in encoded for item in part.files]
    usage = {
        "bytes_read": sum(part.num_bytes for part in source.parts),
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
        classes=list(classes),
        duplicates=flow.repeats,
        vocabulary=report,
    )


def _describe_vectors(
    settings: PrepareSettings, *, known: Input | None, fetch: bool
) -> dict[str, Input]:
    """Describe the vectors as an input, unless they belong to an installed package."""
    source, options = _name_vectors(settings)
    uri = word_vectors.locate(source, **options, fetch=False)
    if uri is None:
        return {}
    if not filesystem.exists(uri):
        if known and [item["uri"] for item in known.get("files", ())] == [uri]:
            return {"vectors": known}
        if not fetch:
            return {"vectors": {"fingerprint": "", "files": []}}
        word_vectors.locate(source, **options)
    if filesystem.file_info(uri).type == FileType.Directory:
        model = manifest.require(uri, stage="model", setting="prepare.vocabulary.vectors")
        return {"vectors": manifest.reference(uri, model)}
    return {"vectors": input_files.describe([uri], known=known)}


def _name_vectors(settings: PrepareSettings) -> tuple[str, dict[str, Any]]:
    wanted = settings.vocabulary
    max_words = wanted.max_size if wanted.kind == "pretrained" else None
    return wanted.vectors, {"max_words": max_words, "cache": wanted.vectors_cache}


def _cut(config: Config, output: Output, maps: MapStages) -> corpus.Corpus:
    """Cut the files into parts, and check that they have the required columns."""
    found, settings = output.spec.inputs["csv"], config.prepare
    files = found["files"]
    map_files = functools.partial(maps.map, "read_files", key=input_files.identify_state(found))
    if corpus.are_tables([item["uri"] for item in files], setting="prepare.csv"):
        plan: corpus.Plan = table_plans.plan_preparation(
            files, settings=config.format, keep_columns=settings.keep_columns
        )
    else:
        for item in files:
            if compression.is_compressed(item["uri"]):
                say(STAGE, f"{as_typed(item['uri'])} is compressed: one task unpacks it")
        plan = corpus.plan_csv(
            files,
            settings=config.format,
            rows_per_part=settings.rows_per_file,
            unpack_to=join(output.uri, WORK),
        )
    required_columns.check_preparation(plan, settings)
    source = corpus.cut(plan, rows_per_part=settings.rows_per_file, map_files=map_files)
    if not source.num_rows:
        raise UserError(f"{files[0]['uri']} holds no record", hint="it has no row")
    for note in source.notes:
        say(STAGE, note)
    return source


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
