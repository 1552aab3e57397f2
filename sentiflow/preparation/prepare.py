"""CSV files -> checked, split, encoded Parquet and a vocabulary.

A corpus is cut into parts, and each part passes these steps, in one task of Ray Data
(:mod:`steps` and :mod:`part_files` have the functions):

1. Read and check its rows, hash the texts, assign each row to a split, tokenize, write.
2. Once the words of all parts have been counted and the vocabulary is fitted: read the tokens,
   encode, write.

Repeated texts are counted in between. ``duplicates: drop`` has to know them before, and a split by
time has to know all times: then the parts are read once more, first of all.

Files of ``prepare.unlabelled`` are other parts: read, encoded and written in one task each, last of
all. Rows that ``prepare.corrections`` relabels are found before all (:mod:`corrected`).
A finished part leaves a completion marker, so that a killed preparation resumes.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pyarrow.fs import FileType

from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.resources import Resources
from sentiflow.config.class_names import check_learned
from sentiflow.config.sections import Config
from sentiflow.data import input_files, label_files, manifest, row_checks
from sentiflow.data.corpus import Corpus
from sentiflow.data.manifest_types import Counts, Manifest
from sentiflow.data.outputs import Output, OutputSpec
from sentiflow.data.schema import SPLITS
from sentiflow.errors import rows_are
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.preparation import input_sources, part_counts
from sentiflow.preparation.duplicates import HELD_OUT
from sentiflow.preparation.flow import Flow, fit_vocabulary
from sentiflow.preparation.part_files import VOCABULARY, PrepareJob
from sentiflow.progress import say
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import names_vectors
from sentiflow.words import word_vectors

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

OWNS = ("tweets", "encoded", "unlabelled", "rejected", VOCABULARY)
RULES_VERSION = 2
"""Changes whenever the same files would give other rows, splits or words."""


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of preparation; a CSV is read only if it has changed since last time.

    Files of a complete result that are gone are described as they were.

    Raises:
        UserError: A CSV does not exist.
    """
    settings = config.prepare
    relevant = settings.model_dump(
        exclude={
            *("csv", "test", "validation", "unlabelled", "corrections"),
            *("output_uri", "num_workers", "max_rejected_fraction"),
        }
    )
    version, _ = TOKENIZERS[settings.tokenizer]
    relevant |= {
        "format": config.format.model_dump(),
        "rules": {"preparation": RULES_VERSION, "tokenizer": version},
    }
    if config.format.kind == "csv":  # the order of the classes decides the labels
        relevant["classes"] = config.format.classes
    record = manifest.read(settings.output_uri)
    inputs = record["inputs"] if record else {}
    labelled, unlabelled, *_ = every = input_sources.list_all(config)
    described = {
        source.name: input_sources.describe(source, earlier=inputs.get(source.name))
        for source in every
        if source.patterns or source is labelled
    }
    if files_of_split := input_sources.find_splits(labelled, described["csv"]["files"]):
        relevant["fixed_files"] = list(files_of_split.values())
    if unlabelled.patterns:
        relevant["unlabelled"] = {"format": unlabelled.format.model_dump()}
    if not names_vectors(settings.vocabulary.vectors):
        del relevant["vocabulary"]["vectors"]  # the content of the file counts, not its location
        uri = str(word_vectors.locate(settings.vocabulary.vectors))
        if filesystem.file_info(uri).type == FileType.Directory:
            model = manifest.require(uri, stage="model", setting="prepare.vocabulary.vectors")
            described["vectors"] = manifest.reference(uri, model)
        else:
            described["vectors"] = input_files.describe([uri], earlier=inputs.get("vectors"))
    return OutputSpec(input_sources.STAGE, settings.output_uri, relevant, described, owns=OWNS)


def run(config: Config, output: Output, recorder: Recorder, *, resources: Resources) -> Manifest:
    """Prepare a corpus, or resume a preparation of it that was killed.

    All stages that use workers get ``resources``; here nothing depends on them.

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
    with output.rolled_back_if_refused():
        return _prepare(config, output, maps, recorder, began)


def _prepare(
    config: Config,
    output: Output,
    maps: MapStages,
    recorder: Recorder,
    began: float,
) -> Manifest:
    """Do all steps, report the metrics and publish the manifest."""
    corpora, vectors = _open_inputs(config, output, maps)
    inputs = output.spec.inputs | {name: corpus.files for name, corpus in corpora.items()}
    key = manifest.identify(input_sources.STAGE, output.spec.settings, inputs)
    fixed = output.spec.settings.get("fixed_files", ())
    splits = tuple(split for split in SPLITS if split in fixed)
    job = PrepareJob(config.prepare, config.format, output.parts_uri, output.uri, key, splits)
    flow = Flow(job, corpora["csv"].parts, maps)
    num_labels = _correct(flow, output)
    if flow.job.format.classes is None:
        flow.find_classes()
        check_learned(config.train.classes, flow.job.format.learnable)
    read = flow.ingest()
    for note in _check_rows(config, flow, read):
        say(input_sources.STAGE, note)
    words, report = fit_vocabulary(flow.count_words(), vectors, config.prepare)
    vocabulary_file = output.write(VOCABULARY, parquet.to_bytes(words.to_table()), rows=len(words))
    done = [read, flow.encode()]
    report["tokens"] = part_counts.describe_tokens(done[1])
    counts = part_counts.count_rows(read, corpora["csv"].num_rows)
    counts |= part_counts.count_encoded(read, done[1], num_labels) | {"vocabulary_size": len(words)}
    if "unlabelled" in corpora:
        further, counts["unlabelled"] = _encode_unlabelled(flow, corpora["unlabelled"])
        done.append(further)
    files = [item for part in done for item in part.files]
    usage = {
        "peak_memory_bytes": max(part.peak_memory_bytes for part in done),
        "unknown_fraction": report["tokens"]["train"]["unknown_fraction"],
    }
    seconds = time.monotonic() - began
    for corpus in corpora.values():
        input_files.check_unchanged(corpus.files)
    _report(counts, usage, seconds, recorder, max_length=config.prepare.max_length)
    return output.publish(
        inputs=inputs,
        counts=counts,
        files=[*files, vocabulary_file],
        seconds=seconds,
        run=recorder.describe(),
        classes=list(flow.job.format.classes or ()),
        fixed_splits=list(flow.fixed),
        duplicates=flow.repeats,
        vocabulary=report,
    )


def _open_inputs(
    config: Config, output: Output, maps: MapStages
) -> tuple[dict[str, Corpus], word_vectors.WordVectors]:
    """Cut the files of each input into parts, while the word vectors are loaded.

    Unlabelled texts may be one of the inputs.
    """
    inputs, settings = output.spec.inputs, config.prepare
    section = settings.vocabulary
    max_words = section.max_size if section.kind == "pretrained" else None
    word_vectors.download(section.vectors)  # before the others show their progress
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(word_vectors.load, section.vectors, max_words=max_words)
        corpora = {
            source.name: input_sources.cut(source, inputs[source.name], settings, maps, output.uri)
            for source in input_sources.list_all(config)
            if source.name in inputs and source.name != input_sources.CORRECTED
        }
        vectors = loading.result()
    if "vectors" in inputs:
        input_files.check_unchanged(inputs["vectors"])
    return corpora, vectors


def _check_rows(config: Config, flow: Flow, read: part_counts.PartCounts) -> list[str]:
    """Check what has become of the labelled rows; return notes for the user.

    Raises:
        UserError: Too many are rejected, or their classes cannot be learned.
    """
    most, named = config.prepare.max_rejected_fraction, config.train.classes
    part_counts.check_rejected(read, max_rejected_fraction=most)
    notes = []
    if read.unknown_labels:
        unknown = row_checks.list_unknown(read.unknown_labels)
        notes.append(f"rows are rejected for labels that format.labels does not name: {unknown}")
    is_given, split = "test" in flow.fixed, config.prepare.split
    notes += part_counts.check_classes(
        read,
        learned=named or flow.job.format.learnable,
        are_named=named is not None,
        has_fixed_test=is_given,
        empty=[name for name in SPLITS[1:] if not getattr(split, f"{name}_fraction")],
    )
    if is_given:
        notes += part_counts.check_test(read, max_rejected_fraction=most)
    if held_out := read.left_out.get(HELD_OUT):
        notes.append(f"{rows_are(held_out)} left out: {flow.fixed[-1]} rows have their text")
    return notes


def _correct(flow: Flow, output: Output) -> int:
    """Find the rows of ``prepare.corrections``, if there are any; return the number of labels.

    Raises:
        UserError: A file is wrong, or does not fit the corpus.
    """
    described = output.spec.inputs.get(input_sources.CORRECTED)
    if not described:
        return 0
    uris = tuple(item["uri"] for item in described["files"])
    rows = label_files.read_corrections(uris, flow.job.format)
    input_files.check_unchanged(described)
    flow.correct(rows, uris)
    return len(rows)


def _encode_unlabelled(labelled: Flow, corpus: Corpus) -> tuple[part_counts.PartCounts, Counts]:
    """Prepare the unlabelled texts; return what they became, and their counts for the manifest.

    Raises:
        UserError: Too many are rejected.
    """
    job = replace(labelled.job, prefix="unlabelled_")
    texts = Flow(job, corpus.parts, labelled.maps).encode_unlabelled(labelled)
    part_counts.check_rejected(
        texts,
        max_rejected_fraction=job.settings.max_rejected_fraction,
        section=job.settings.unlabelled.resolved_format.section,
    )
    return texts, part_counts.count_rows(texts, corpus.num_rows) | {
        "without_token": texts.without_token,
        "cut": texts.cut,
        "tokens": part_counts.describe_tokens(texts)["train"],
    }


def _report(
    counts: Counts,
    usage: Mapping[str, float],
    seconds: float,
    recorder: Recorder,
    *,
    max_length: int,
) -> None:
    """Tell the user what was done, and log the metrics."""
    further = counts.get("unlabelled")
    num_rows = counts["rows_read"] + (further["rows_read"] if further else 0)
    rate = num_rows / seconds
    say(
        input_sources.STAGE,
        f"{counts['rows_read']:,} rows read, {counts['accepted']:,} accepted, "
        f"{counts['rejected']:,} rejected; {counts['vocabulary_size']:,} words "
        f"({seconds:.1f} s, {rate:,.0f} rows/s)",
    )
    names = ("rows_read", "accepted", "rejected", "left_out", "encoded", "vocabulary_size")
    metrics = {**{name: counts[name] for name in names}, **usage, "rows_per_second": rate}
    if corrected := counts.get("corrections"):
        say(
            input_sources.STAGE,
            f"{corrected['labels']:,} corrections are the labels of {corrected['rows']:,} rows",
        )
        metrics["corrected"] = corrected["rows"]
    if further:
        say(
            input_sources.STAGE,
            f"{further['rows_read']:,} unlabelled texts read, {further['accepted']:,} accepted, "
            f"{further['rejected']:,} rejected, {further['left_out']:,} left out",
        )
        metrics |= {f"unlabelled_{name}": further[name] for name in names[:4]}
    cut, encoded = counts["encoded_cut"], counts["encoded"]
    if cut > 0.01 * encoded:
        say(
            input_sources.STAGE,
            f"{cut:,} of {encoded:,} texts ({cut / encoded:.1%}) are cut at {max_length} tokens: "
            "raise prepare.max_length",
        )
    recorder.log_metrics({f"prepare/{name}": value for name, value in metrics.items()})
