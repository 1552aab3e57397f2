"""CSV files -> checked, split, encoded Parquet and a vocabulary.

A corpus is cut into parts, and each part passes these steps, in one task of Ray Data
(:mod:`steps` and :mod:`part_files` have the functions):

1. Read and check its rows, hash the texts, assign each row to a split, tokenize, write.
2. Once the words of all parts have been counted and the vocabulary is fitted: read the tokens,
   encode, write.

Repeated texts are counted in between. ``duplicates: drop`` needs them before step 1, and a split by
time needs all times: the parts are then read once more, before step 1.

Rows that ``prepare.corrections`` relabels are found first (:mod:`corrected`). Files of
``prepare.unlabelled`` are read, encoded and written last, each part in one task.
A finished part leaves a completion marker, so that a killed preparation resumes.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyarrow.fs import FileType

from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.resources import Resources
from sentiflow.config.class_names import check_learned
from sentiflow.config.sections import Config
from sentiflow.data import input_files, label_files, manifest, row_checks
from sentiflow.data.corpus import Corpus
from sentiflow.data.manifest_types import Counts, Input, Manifest
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

_NOT_DECISIVE = {
    # inputs, identified by their content
    "csv",
    "test",
    "validation",
    "unlabelled",
    "corrections",
    # without effect on the result
    "output_uri",
    "num_workers",
    "max_rejected_fraction",
}
"""Settings that are not compared with the settings of an earlier result."""
_FEW_CUT = 0.01
"""A line tells how many texts are cut if their share is larger."""


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of preparation; a CSV is read only if it has changed since last time.

    Files of a complete result that are gone are described as they were.

    Raises:
        UserError: A CSV does not exist.
    """
    settings = config.prepare
    record = manifest.read(settings.output_uri)
    earlier = record["inputs"] if record else {}
    sources = input_sources.list_all(config)
    labelled, unlabelled, _ = sources
    inputs = {}
    for source in sources:
        if source.patterns or source is labelled:
            inputs[source.name] = input_sources.describe(source, earlier=earlier.get(source.name))
    decisive = _list_decisive(config)
    files_of_split = input_sources.find_splits(labelled, inputs["csv"]["files"])
    if files_of_split:
        decisive["fixed_files"] = list(files_of_split.values())
    if unlabelled.patterns:
        decisive["unlabelled"] = {"format": unlabelled.format.model_dump()}
    if not names_vectors(settings.vocabulary.vectors):  # it is a file or a model
        del decisive["vocabulary"]["vectors"]  # its content counts, not its location
        inputs["vectors"] = _describe_vectors(settings.vocabulary.vectors, earlier.get("vectors"))
    return OutputSpec(input_sources.STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def _list_decisive(config: Config) -> dict[str, Any]:
    """List the settings and rules that decide the result."""
    settings = config.prepare
    tokenizer_version, _ = TOKENIZERS[settings.tokenizer]
    decisive = settings.model_dump(exclude=_NOT_DECISIVE)
    decisive["format"] = config.format.model_dump()
    decisive["rules"] = {"preparation": RULES_VERSION, "tokenizer": tokenizer_version}
    if config.format.kind == "csv":  # the order of the classes decides the labels
        decisive["classes"] = config.format.classes
    return decisive


def _describe_vectors(vectors: str, earlier: Input | None) -> Input:
    """Describe word vectors, a file or the package of a model."""
    uri = str(word_vectors.locate(vectors))
    if filesystem.file_info(uri).type == FileType.Directory:
        model = manifest.require(uri, stage="model", setting="prepare.vocabulary.vectors")
        return manifest.reference(uri, model)
    return input_files.describe([uri], earlier=earlier)


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
    labelled = corpora["csv"]
    flow = Flow(_make_job(config, output, inputs), labelled.parts, maps)
    num_labels = _correct(flow, output)
    if flow.job.format.classes is None:
        flow.find_classes()
        check_learned(config.train.classes, flow.job.format.learnable)
    read = flow.ingest()
    for note in _check_rows(config, flow, read):
        say(input_sources.STAGE, note)
    words, report = fit_vocabulary(flow.count_words(), vectors, config.prepare)
    vocabulary_file = output.write(VOCABULARY, parquet.to_bytes(words.to_table()), rows=len(words))
    encoded = flow.encode()
    report["tokens"] = part_counts.describe_tokens(encoded)
    counts = part_counts.count_rows(read, labelled.num_rows)
    counts |= part_counts.count_encoded(read, encoded, num_labels)
    counts["vocabulary_size"] = len(words)
    steps = [read, encoded]
    if "unlabelled" in corpora:
        unlabelled, counts["unlabelled"] = _encode_unlabelled(flow, corpora["unlabelled"])
        steps.append(unlabelled)
    seconds = time.monotonic() - began
    for corpus in corpora.values():
        input_files.check_unchanged(corpus.files)
    usage = {
        "peak_memory_bytes": max(step.peak_memory_bytes for step in steps),
        "unknown_fraction": report["tokens"]["train"]["unknown_fraction"],
    }
    _report(counts, usage, seconds, recorder, max_length=config.prepare.max_length)
    return output.publish(
        inputs=inputs,
        counts=counts,
        files=[*(file for step in steps for file in step.files), vocabulary_file],
        seconds=seconds,
        run=recorder.describe(),
        classes=list(flow.job.format.classes or ()),
        fixed_splits=list(flow.fixed),
        duplicates=flow.repeats,
        vocabulary=report,
    )


def _make_job(config: Config, output: Output, inputs: Mapping[str, Any]) -> PrepareJob:
    """Collect the arguments of all tasks for the labelled rows."""
    decisive = output.spec.settings
    fixed = decisive.get("fixed_files", ())
    return PrepareJob(
        settings=config.prepare,
        format=config.format,
        root=output.parts_uri,
        work=output.uri,
        key=manifest.identify(input_sources.STAGE, decisive, inputs),
        fixed_splits=tuple(split for split in SPLITS if split in fixed),
    )


def _open_inputs(
    config: Config, output: Output, maps: MapStages
) -> tuple[dict[str, Corpus], word_vectors.WordVectors]:
    """Cut the files of each input into parts, while the word vectors are loaded.

    Unlabelled texts may be one of the inputs.
    """
    inputs = output.spec.inputs
    settings = config.prepare
    section = settings.vocabulary
    max_words = section.max_size if section.kind == "pretrained" else None
    word_vectors.download(section.vectors)  # before the others show their progress
    corpora = {}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(word_vectors.load, section.vectors, max_words=max_words)
        for source in input_sources.list_all(config):
            if source.name in inputs and source.name != input_sources.CORRECTED:
                described = inputs[source.name]
                corpora[source.name] = input_sources.cut(
                    source, described, settings, maps, output.uri
                )
        vectors = loading.result()
    if "vectors" in inputs:
        input_files.check_unchanged(inputs["vectors"])
    return corpora, vectors


def _check_rows(config: Config, flow: Flow, read: part_counts.PartCounts) -> list[str]:
    """Check how many labelled rows were rejected, and their classes; return notes for the user.

    Raises:
        UserError: Too many are rejected, or their classes cannot be learned.
    """
    max_rejected = config.prepare.max_rejected_fraction
    named = config.train.classes
    split = config.prepare.split
    has_fixed_test = "test" in flow.fixed
    part_counts.check_rejected(read, max_rejected_fraction=max_rejected)
    notes = []
    if read.unknown_labels:
        unknown = row_checks.list_unknown(read.unknown_labels)
        notes.append(f"rows are rejected for labels that format.labels does not name: {unknown}")
    notes += part_counts.check_classes(
        read,
        learned=named or flow.job.format.learnable,
        are_named=named is not None,
        has_fixed_test=has_fixed_test,
        empty=[name for name in SPLITS[1:] if not getattr(split, f"{name}_fraction")],
    )
    if has_fixed_test:
        notes += part_counts.check_test(read, max_rejected_fraction=max_rejected)
    num_held_out = read.left_out.get(HELD_OUT, 0)
    if num_held_out:
        notes.append(f"{rows_are(num_held_out)} left out: {flow.fixed[-1]} rows have their text")
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
    """Prepare the unlabelled texts; return the counts of all parts, and those for the manifest.

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
    counts = part_counts.count_rows(texts, corpus.num_rows)
    counts["without_token"] = texts.without_token
    counts["cut"] = texts.cut
    counts["tokens"] = part_counts.describe_tokens(texts)["train"]
    return texts, counts


def _report(
    counts: Counts,
    usage: Mapping[str, float],
    seconds: float,
    recorder: Recorder,
    *,
    max_length: int,
) -> None:
    """Tell the user what was done, and log the metrics."""
    unlabelled = counts.get("unlabelled")
    corrections = counts.get("corrections")
    num_rows = counts["rows_read"]
    if unlabelled:
        num_rows += unlabelled["rows_read"]
    rate = num_rows / seconds
    names = ("rows_read", "accepted", "rejected", "left_out", "encoded", "vocabulary_size")
    metrics = {**{name: counts[name] for name in names}, **usage, "rows_per_second": rate}
    lines = [
        f"{counts['rows_read']:,} rows read, {counts['accepted']:,} accepted, "
        f"{counts['rejected']:,} rejected; {counts['vocabulary_size']:,} words "
        f"({seconds:.1f} s, {rate:,.0f} rows/s)"
    ]
    if corrections:
        metrics["corrected"] = corrections["rows"]
        lines.append(
            f"{corrections['labels']:,} corrections are the labels of {corrections['rows']:,} rows"
        )
    if unlabelled:
        for name in ("rows_read", "accepted", "rejected", "left_out"):
            metrics[f"unlabelled_{name}"] = unlabelled[name]
        lines.append(
            f"{unlabelled['rows_read']:,} unlabelled texts read, {unlabelled['accepted']:,} "
            f"accepted, {unlabelled['rejected']:,} rejected, {unlabelled['left_out']:,} left out"
        )
    num_cut = counts["encoded_cut"]
    num_encoded = counts["encoded"]
    if num_cut > _FEW_CUT * num_encoded:
        lines.append(
            f"{num_cut:,} of {num_encoded:,} texts ({num_cut / num_encoded:.1%}) are cut at "
            f"{max_length} tokens: raise prepare.max_length"
        )
    for line in lines:
        say(input_sources.STAGE, line)
    recorder.log_metrics({f"prepare/{name}": value for name, value in metrics.items()})
