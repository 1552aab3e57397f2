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
from typing import TYPE_CHECKING, Any, NamedTuple

from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.resources import Resources
from sentiflow.config.class_names import check_chosen
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.config.text_units import MIDDLE, name_unit
from sentiflow.data import input_files, manifest, row_sources
from sentiflow.data.corpus import Corpus
from sentiflow.data.corrections import read_corrections
from sentiflow.data.manifest_types import Counts, Input, Manifest, VocabularyReport
from sentiflow.data.outputs import Output
from sentiflow.data.schema import SPLITS
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.preparation import input_sources, part_counts
from sentiflow.preparation.flow import Flow, fit_vocabulary
from sentiflow.preparation.input_sources import STAGE
from sentiflow.preparation.part_files import VOCABULARY, PrepareJob
from sentiflow.preparation.passes import UNLABELLED, Passes
from sentiflow.preparation.prepare_plan import PreparePlan
from sentiflow.preparation.prepare_plan import resolve as resolve  # the stage is planned by it
from sentiflow.progress import Progress, say
from sentiflow.storage import parquet
from sentiflow.words import word_vectors

if TYPE_CHECKING:
    from sentiflow.tracking.recorder import Recorder

_FEW_CUT = 0.01
"""A line tells how many texts are cut if their share is larger."""


class _OpenedInputs(NamedTuple):
    """The inputs of a preparation, ready to be read by tasks."""

    labelled: Corpus
    unlabelled: Corpus | None
    vectors: word_vectors.WordVectors

    @property
    def corpora(self) -> dict[str, Corpus]:
        """The corpora by their names among the inputs."""
        corpora = {"csv": self.labelled}
        if self.unlabelled:
            corpora["unlabelled"] = self.unlabelled
        return corpora


def run(plan: PreparePlan, output: Output, recorder: Recorder, *, resources: Resources) -> Manifest:
    """Prepare a corpus, or resume a preparation of it that was killed.

    Args:
        plan: The preparation.
        output: Its output.
        recorder: Its run in MLflow.
        resources: The cluster. It is not used: every stage has the same arguments.

    Returns:
        The manifest.

    Raises:
        UserError: The input cannot be used: it has no record, too many rejected rows, or a class
            without rows. The files of this run are deleted, unless it resumes an earlier one.
        StorageError: A location cannot be used; finished parts are kept for the next run.
        JobError: A task failed; finished parts are kept, too.
    """
    began = time.monotonic()
    output.begin()
    maps = MapStages(
        output,
        num_workers=plan.settings.num_workers,
        max_wait_minutes=plan.config.cluster.max_wait_minutes,
        watch=recorder.watch_rows(STAGE),
    )
    with output.rolled_back_if_refused():
        return _prepare(plan, output, maps, recorder, began)


def _prepare(
    plan: PreparePlan,
    output: Output,
    maps: MapStages,
    recorder: Recorder,
    began: float,
) -> Manifest:
    """Do all steps, report the metrics and publish the manifest."""
    with Progress(STAGE, what="reading the files and the word vectors"):
        opened = _open_inputs(plan, output, maps)
    inputs = plan.spec.inputs | {name: corpus.files for name, corpus in opened.corpora.items()}
    labelled = opened.labelled
    job = _make_job(plan, output, inputs)
    passes = Passes(
        job,
        has_corrections=plan.corrections is not None,
        has_unlabelled=opened.unlabelled is not None,
    )
    flow = Flow(job, labelled.parts, maps, passes)
    num_labels = _correct(flow, plan.corrections)
    if flow.job.format.classes is None:
        flow.find_classes()
        check_chosen(plan.config.train.classes, flow.job.format.learnable)
    read = flow.ingest()
    notes = part_counts.check_labelled(
        read,
        settings=plan.settings,
        named=plan.config.train.classes,
        learnable=flow.job.format.learnable,
        fixed_splits=flow.fixed,
    )
    for note in notes:
        say(STAGE, note)
    with Progress(STAGE, what="counting words and repeated texts"):
        words, report = _fit_beside_duplicates(flow, opened.vectors, plan.settings)
    most_repeated = flow.show_most_repeated(read.files)
    vocabulary_file = output.write(VOCABULARY, parquet.to_bytes(words.to_table()), rows=len(words))
    encoded = flow.encode()
    report["tokens"] = part_counts.describe_tokens(encoded)
    counts = part_counts.count_rows(read, labelled.num_rows)
    counts |= part_counts.count_encoded(read, encoded, num_labels)
    counts["vocabulary_size"] = len(words)
    steps = [read, encoded]
    if opened.unlabelled:
        unlabelled, counts["unlabelled"] = _encode_unlabelled(flow, opened.unlabelled)
        steps.append(unlabelled)
    seconds = time.monotonic() - began
    for corpus in opened.corpora.values():
        input_files.check_unchanged(corpus.files)
    usage = {
        "peak_memory_bytes": max(step.peak_memory_bytes for step in steps),
        "unknown_fraction": report["tokens"]["train"]["unknown_fraction"],
    }
    _report(counts, usage, seconds, recorder, settings=plan.settings)
    return output.publish(
        inputs=inputs,
        counts=counts,
        files=[*(file for step in steps for file in step.files), vocabulary_file],
        seconds=seconds,
        run=recorder.describe(),
        **_describe_classes(flow.job.format),
        parts=row_sources.place_parts(labelled.parts, labelled.files["files"]),
        fixed_splits=list(flow.fixed),
        duplicates=flow.duplicate_counts,
        most_repeated=most_repeated,
        vocabulary=report,
    )


def _describe_classes(form: FormatSettings) -> dict[str, Any]:
    """Describe the classes for the manifest: their names and, if they have an order, numbers."""
    described: dict[str, Any] = {"classes": list(form.classes or ())}
    if form.class_values:
        described["class_values"] = list(form.class_values)
    return described


def _make_job(plan: PreparePlan, output: Output, inputs: Mapping[str, Any]) -> PrepareJob:
    """Collect the arguments of all tasks for the labelled rows."""
    fixed = plan.labelled.splits.values()
    return PrepareJob(
        settings=plan.settings,
        format=plan.config.format,
        root=output.parts_uri,
        work=output.uri,
        key=manifest.identify(STAGE, plan.spec.settings, inputs),
        fixed_splits=tuple(split for split in SPLITS if split in fixed),
    )


def _open_inputs(plan: PreparePlan, output: Output, maps: MapStages) -> _OpenedInputs:
    """Cut the files of each corpus into parts, while the word vectors are loaded."""
    settings = plan.settings
    section = settings.vocabulary
    max_words = section.max_size if section.kind == "pretrained" else None
    word_vectors.download(section.vectors)  # first, so that its progress is shown alone
    unlabelled = None
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(word_vectors.load, section.vectors, max_words=max_words)
        with input_files.naming_changes(plan.labelled.described):
            labelled = input_sources.cut(plan.labelled, settings, maps, output.uri)
        if plan.unlabelled:
            with input_files.naming_changes(plan.unlabelled.described):
                unlabelled = input_sources.cut(plan.unlabelled, settings, maps, output.uri)
        vectors = loading.result()
    if plan.vectors:
        input_files.check_unchanged(plan.vectors)
    return _OpenedInputs(labelled, unlabelled, vectors)


def _fit_beside_duplicates(
    flow: Flow, vectors: word_vectors.WordVectors, settings: PrepareSettings
) -> tuple[Vocabulary, VocabularyReport]:
    """Fit the vocabulary in this process while workers count the repeated texts."""

    def fit() -> tuple[Vocabulary, VocabularyReport]:
        return fit_vocabulary(flow.count_words(), vectors, settings)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        fitting = pool.submit(fit)
        flow.count_duplicates()  # in this thread, as Ray Data's context is of the process
        return fitting.result()


def _correct(flow: Flow, corrections: Input | None) -> int:
    """Find the rows of ``prepare.corrections``, if it is set; return the number of its labels.

    Raises:
        UserError: A file is wrong, or does not fit the corpus.
    """
    if not corrections:
        return 0
    uris = tuple(item["uri"] for item in corrections["files"])
    rows = read_corrections(uris, flow.job.format)
    input_files.check_unchanged(corrections)
    flow.correct(rows, uris)
    return len(rows)


def _encode_unlabelled(labelled: Flow, corpus: Corpus) -> tuple[part_counts.PartCounts, Counts]:
    """Prepare the unlabelled texts; return the counts of all parts, and counts for the manifest.

    Raises:
        UserError: Too many texts are rejected, or none is accepted.
    """
    job = replace(labelled.job, prefix=UNLABELLED)
    flow = Flow(job, corpus.parts, labelled.maps, labelled.passes)
    texts = flow.encode_unlabelled(labelled)
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


def _describe_cut(num_cut: int, num_encoded: int, settings: PrepareSettings) -> str:
    """Say how many texts are cut, where, and what to do."""
    limit = f"{settings.max_length} {name_unit(settings.unit)}s"
    texts = f"{num_cut:,} of {num_encoded:,} texts ({num_cut / num_encoded:.1%})"
    if settings.cut == MIDDLE:
        return f"{texts} have more than {limit}: the network reads their beginning and end"
    return f"{texts} are cut at {limit}: raise prepare.max_length, or set prepare.cut={MIDDLE}"


def _report(
    counts: Counts,
    usage: Mapping[str, float],
    seconds: float,
    recorder: Recorder,
    *,
    settings: PrepareSettings,
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
        f"{counts['rejected']:,} rejected; {counts['vocabulary_size']:,} {settings.unit} "
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
        lines.append(_describe_cut(num_cut, num_encoded, settings))
    for line in lines:
        say(STAGE, line)
    recorder.log_metrics({f"prepare/{name}": value for name, value in metrics.items()})
