"""Parts of a corpus -> prepared tables: the map stages of preparation and their order.

Parts are read and split first, and encoded last. In between, the words of all parts become the
vocabulary.
"""

import functools
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.cluster.map_stages import MapStages
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.config.text_units import WORDS
from sentiflow.data import csv_format, row_checks
from sentiflow.data.manifest_types import (
    DuplicateCounts,
    FileEntry,
    RepeatedText,
    VocabularyReport,
)
from sentiflow.data.merged_counts import merge_counts
from sentiflow.data.parts import Part
from sentiflow.models import vocabulary
from sentiflow.preparation import (
    corrected,
    most_repeated,
    part_counts,
    part_files,
    repeated_texts,
    steps,
)
from sentiflow.preparation.passes import Passes
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri
from sentiflow.words import word_vectors

log = logging.getLogger(__name__)

_MAX_MERGED = 64
"""Maximum number of files with word counts that are in memory at the same time."""

_ROWS_PER_GROUP = 1 << 23
"""Approximate number of rows whose texts one task compares."""

_FEW_VECTORS = 0.5
"""A warning is logged if less than this share of the words has a vector."""


class Flow:
    """The map stages over one corpus of a preparation: labelled rows, or unlabelled texts."""

    def __init__(
        self,
        job: part_files.PrepareJob,
        parts: Sequence[Part],
        maps: MapStages,
        passes: Passes,
    ) -> None:
        """Collect the arguments of the tasks.

        Args:
            job: Arguments of all tasks.
            parts: The corpus.
            maps: Runs the tasks.
            passes: Numbers the passes over the rows.
        """
        self.job = job
        self.parts = list(parts)
        self.maps = maps
        self.passes = passes
        self.duplicate_counts: DuplicateCounts | None = None
        """Counts of repeated texts, once they were compared."""
        self.most_repeated: list[most_repeated.RepeatedRows] = []
        """The texts with the most rows, once they were compared."""
        self.corrected_labels: Counter[str] = Counter()
        """Rows by corrected label, once :meth:`correct` has found them."""
        self.fixed = job.fixed_splits
        """Splits whose rows are fixed by files, or by a column, which :meth:`ingest` reads."""

    @property
    def whole_parts(self) -> list[part_files.CorpusPart]:
        """The parts with all their rows; it is not known yet which rows repeat others."""
        return [part_files.CorpusPart(part) for part in self.parts]

    @property
    def num_groups(self) -> int:
        """Number of groups of texts: all rows of a text are in one group, which fits a process."""
        num_rows = sum(part.num_rows for part in self.parts)
        return math.ceil(num_rows / _ROWS_PER_GROUP)

    def correct(self, rows: pd.DataFrame, uris: tuple[str, ...]) -> None:
        """Find the rows whose labels are replaced, before any step uses labels.

        Args:
            rows: The corrections, see :func:`corrections.read_corrections`.
            uris: Their files.
        """
        has_text = rows["has_text"]
        write = functools.partial(
            corrected.write_candidates,
            row_ids=rows["row_id"][~has_text].to_numpy(),
            texts=rows["text"][has_text].to_numpy(),
        )
        self._run("find_corrected", self.parts, corrected.read_rows, write=write)
        candidates = _read_all(self.work_files(corrected.CANDIDATES)).to_pandas()
        labels = corrected.resolve(rows, candidates, uris)
        table = pa.Table.from_pandas(labels, preserve_index=False)
        whole = self.job.work_file(part_files.CORRECTED_ROWS, 0)  # one table for all parts
        filesystem.write_arrow(whole, table)
        self.corrected_labels = Counter(name for name in labels["label"] if name)

    def find_classes(self) -> None:
        """Take the written labels as the names of the classes, for ``labels: auto``.

        The format of the job and of each part then has these classes.
        """
        counts = self._run(
            "find_classes",
            self.parts,
            part_files.read_labels,
            write=part_files.count_written_labels,
        )
        classes = part_counts.choose_classes(counts, corrected=self.corrected_labels)
        form = row_checks.name_classes(self.job.format, classes)
        self.job = replace(self.job, format=form)
        labels = csv_format.written_labels(form)
        for number, part in enumerate(self.parts):
            self.parts[number] = replace(part, format=replace(part.format, labels=labels))

    def ingest(self) -> part_counts.PartCounts:
        """Read, check, split, tokenize and write all parts.

        Repeated texts are found before, if rows are left out because of them.
        """
        rule = self.job.settings.split
        if rule.kind == "column":
            self.fixed = self._find_fixed_splits()
        time_bounds = None
        if rule.kind == "time":
            time_bounds = self._find_time_bounds()
        no_fractions = {f"{split}_fraction": 0.0 for split in self.fixed}
        rule = rule.model_copy(update=no_fractions)  # no row is drawn for a fixed split
        assign = functools.partial(steps.assign_splits, rule=rule, time_bounds=time_bounds)
        # rows that repeat a fixed validation or test text are left out whatever the setting says
        drops = bool(self.fixed) or self.job.settings.duplicates != "keep"
        if not drops:
            self.passes.leave_out("hash")
        # to find the rows to drop, the hashes (keys) of all texts are written before
        write = functools.partial(part_files.write_texts, writes_keys=not drops)
        return self._process("ingest", part_files.read_texts, assign, write=write, drops=drops)

    def count_duplicates(self) -> None:
        """Count the repeated texts of ingested parts, unless they were compared before."""
        if self.duplicate_counts is None:
            self._find_duplicates()

    def show_most_repeated(self, files: Sequence[FileEntry]) -> list[RepeatedText]:
        """Describe the texts with the most rows, each with the beginning of its text.

        Args:
            files: The files of ingested parts.
        """
        first_rows = self._list_first_rows()
        kept = []
        dropped: dict[int, list[int]] = {}
        for text in self.most_repeated:
            if text["is_dropped"]:
                part = most_repeated.find_part(text["row_id"], first_rows)
                dropped.setdefault(part, []).append(text["row_id"])
            else:
                kept.append(text)
        root = self.job.root
        examples = most_repeated.read_kept(kept, files, first_rows=first_rows, root=root)
        if dropped:  # no output has them
            read = functools.partial(part_files.read_dropped_texts, job=self.job)
            rows = [(self.parts[part], row_ids) for part, row_ids in dropped.items()]
            for texts in self.maps.map("read_dropped", read, rows, key=self.job.key):
                examples |= {int(row_id): text for row_id, text in texts.items()}
        return most_repeated.describe(self.most_repeated, examples)

    def encode(self) -> part_counts.PartCounts:
        """Encode all parts by the vocabulary."""
        results = self._run(
            "encode",
            range(len(self.parts)),
            part_files.read_tokens,
            functools.partial(part_files.encode_tokens, job=self.job),
            write=part_files.write_encoded,
        )
        return part_counts.PartCounts.of(results)

    def encode_unlabelled(self, labelled: "Flow") -> part_counts.PartCounts:
        """Read, check, tokenize, encode and write all parts of unlabelled texts.

        Args:
            labelled: The flow of the labelled rows, whose parts are ingested.
        """
        num_groups = labelled.num_groups
        write = functools.partial(
            repeated_texts.write_known,
            uris=labelled.work_files(part_files.KEYS),
            num_groups=num_groups,
            job=self.job,
        )
        self.maps.map(f"{self.job.prefix}known", write, range(num_groups), key=self.job.key)
        leave_out = functools.partial(
            repeated_texts.leave_out_known, num_groups=num_groups, job=self.job
        )
        # without labels no text has more than one, so drop_contradicting drops none
        drops = self.job.settings.duplicates == "drop"
        encode = functools.partial(part_files.encode_tokens, job=self.job)
        return self._process(
            "encode",
            part_files.read_unlabelled,
            leave_out,
            encode,
            write=part_files.write_unlabelled,
            drops=drops,
        )

    def count_words(self) -> pa.Table:
        """Sum the words of all parts, ``_MAX_MERGED`` files at a time."""
        uris = self.work_files(part_files.WORDS)
        total = pa.table({"word": pa.array([], pa.string()), "count": pa.array([], pa.int64())})
        for start in range(0, len(uris), _MAX_MERGED):
            counts = pa.concat_tables([total, _read_all(uris[start : start + _MAX_MERGED])])
            sums = counts.group_by("word").aggregate([("count", "sum")])
            total = sums.rename_columns({"count_sum": "count"})
        return total

    def _process(
        self,
        name: str,
        read: Callable[..., pa.Table],
        mark: Callable[[pa.Table], pa.Table],
        *further: Callable[[pa.Table], pa.Table],
        write: Callable[..., Any],
        drops: bool,
    ) -> part_counts.PartCounts:
        """Read, hash, mark, tokenize and write all parts.

        Args:
            name: Name of the map stage.
            read: Reads a part.
            mark: The step after hashing: it sets the splits, or reasons to leave rows out.
            further: Steps after tokenizing.
            write: Writes a part, and returns fields of its counts.
            drops: Whether repeated rows are dropped. If so, the parts are read twice: first to
                find these rows.
        """
        parts = self.whole_parts
        hash_texts = functools.partial(steps.hash_texts, key=self.job.settings.duplicate_key)
        if drops:
            self._run("hash", parts, read, hash_texts, mark, write=part_files.write_keys)
            parts = self._drop_repeats()
        tokenize = functools.partial(
            steps.tokenize, rule=self.job.settings.tokenizer, unit=self.job.settings.unit
        )
        results = self._run(name, parts, read, hash_texts, mark, tokenize, *further, write=write)
        return part_counts.PartCounts.of(results)

    def _find_fixed_splits(self) -> tuple[str, ...]:
        """Find the splits, other than train, that a column names for some rows."""
        counts = self._run(
            "count_splits", self.whole_parts, part_files.read_texts, write=part_files.count_splits
        )
        return tuple(split for split, num_rows in merge_counts(counts).items() if num_rows)

    def _find_time_bounds(self) -> tuple[int, int]:
        """Find the last second of train and of validation, from the times of all rows."""
        self._run(
            "count_times", self.whole_parts, part_files.read_texts, write=part_files.write_times
        )
        counts = _read_all(self.work_files(part_files.TIMES))
        times = counts.group_by("second").aggregate([("count", "sum")])
        return steps.time_bounds(
            times["second"].to_numpy(),
            times["count_sum"].to_numpy(),
            validation_fraction=self.job.settings.split.validation_fraction,
            test_fraction=self.job.settings.split.test_fraction,
        )

    def _drop_repeats(self) -> list[part_files.CorpusPart]:
        """Find the rows that ``prepare.duplicates`` drops; return the parts, each with its rows.

        Workers find the rows, and the driver has only the names of the files with them.
        """
        write = functools.partial(
            repeated_texts.write_dropped, uris=self._find_duplicates(), job=self.job
        )
        name = f"{self.job.prefix}place_dropped"
        self.maps.map(name, write, self._batch_parts(), key=self.job.key)
        uris = self.work_files(repeated_texts.DROPPED_OF_PART)
        return [
            part_files.CorpusPart(part, uri) for part, uri in zip(self.parts, uris, strict=True)
        ]

    def _list_first_rows(self) -> list[int]:
        """List the number of the first row of each part."""
        until = itertools.accumulate(part.num_rows for part in self.parts)
        return [0, *until][: len(self.parts)]

    def _batch_parts(self) -> list[list[repeated_texts.PartRows]]:
        """List the rows of all parts, in batches of about ``_ROWS_PER_GROUP`` rows."""
        rows = []
        for number, first in enumerate(self._list_first_rows()):
            stop = first + self.parts[number].num_rows
            rows.append(repeated_texts.PartRows(number, first, stop))
        batches = itertools.groupby(rows, key=lambda part: part.first // _ROWS_PER_GROUP)
        return [list(batch) for _, batch in batches]

    def _find_duplicates(self) -> list[str]:
        """Count repeated texts; return the URIs of tables of dropped rows, one for each group."""
        num_groups = self.num_groups
        find = functools.partial(
            repeated_texts.find_duplicates,
            uris=self.work_files(part_files.KEYS),
            num_groups=num_groups,
            fixed=self.fixed,
            job=self.job,
        )
        name = f"{self.job.prefix}compare_texts"
        groups = self.maps.map(name, find, range(num_groups), key=self.job.key)
        self.duplicate_counts = merge_counts([counts for counts, _, _ in groups])
        self.most_repeated = most_repeated.choose([texts for _, _, texts in groups])
        return [uri for _, uri, _ in groups]

    def _run(
        self,
        name: str,
        parts: Sequence[Any],
        read: Callable[..., pa.Table],
        *transforms: Callable[[pa.Table], pa.Table],
        write: Callable[..., Any],
    ) -> list[Any]:
        """Run a map stage over all parts of the corpus; ``read`` and ``write`` get the job."""
        name = f"{self.job.prefix}{name}"
        return self.maps.run(
            name,
            parts,
            functools.partial(read, job=self.job),
            *transforms,
            write=functools.partial(write, job=self.job),
            sizes=[part.num_rows for part in self.parts],
            keys=[self.job.key] * len(parts),
            nth=self.passes.find(name),
        )

    def work_files(self, name: str) -> list[str]:
        """Name the files in ``job.work`` of all parts, one file for each part."""
        return [self.job.work_file(name, number) for number in range(len(self.parts))]


def _read_all(uris: Sequence[str]) -> pa.Table:
    """Read tables as one."""
    return pa.concat_tables(filesystem.map_files(filesystem.read_arrow, uris))


def fit_vocabulary(
    counts: pa.Table, vectors: word_vectors.WordVectors, settings: PrepareSettings
) -> tuple[vocabulary.Vocabulary, VocabularyReport]:
    """Choose the words, and find their pretrained vectors; also report how many have one."""
    section = settings.vocabulary
    if section.kind == "pretrained":
        words = vocabulary.from_words(vectors.words)
    else:
        words = vocabulary.fit(counts, min_count=section.min_count, max_size=section.max_size)
    matrix = vectors.take(words.words)
    num_with_vector = int((~np.isnan(matrix[:, 0])).sum())
    num_words = len(words) - words.num_special
    is_surprising = settings.unit == WORDS and len(vectors.words) > 0
    if is_surprising and num_with_vector < _FEW_VECTORS * num_words:
        few = f"only {num_with_vector:,} of {num_words:,} words"
        log.warning("%s have a vector in %s", few, display_uri(section.vectors))
    report: VocabularyReport = {
        "words": len(words),
        "words_with_vector": num_with_vector,
        "tokens": {},
    }
    return replace(words, vectors=matrix), report
