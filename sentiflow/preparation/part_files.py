"""Table of a part -> its files, and back: the first and the last steps of preparation.

A part is read first. Its token ids are written after the words of all parts are known. In between,
``_work`` has its tokens, its words with their counts, and the hashes of its texts. Unlabelled texts
pass the same steps in one map stage: they have no split, and their words are not counted.

The last function of a map stage gets the ``PartId`` of the part, which names its files. It writes
the files, or only counts rows, and returns JSON for the completion marker. Ray is not imported, so
that workers start fast.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster import memory
from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.config.class_names import UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.data import authors, parts, row_checks, schema, times
from sentiflow.data.arrays import find_sorted, put_columns
from sentiflow.data.corrections import CorrectedRows
from sentiflow.data.manifest_types import FileEntry
from sentiflow.models import vocabulary
from sentiflow.preparation import duplicates, most_repeated, steps
from sentiflow.preparation.part_counts import NUM_EXAMPLES, LabelCounts, PartJson
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import join

VOCABULARY = "vocabulary.parquet"
CORRECTED_ROWS = "corrected"
"""Table of the rows whose labels ``prepare.corrections`` replaces."""
KEYS = "keys"
"""Tables of the hashes of texts, by :func:`write_keys`."""
WORDS = "words"
"""Tables of words and their counts, by :func:`write_texts`."""
TIMES = "times"
"""Tables of the number of rows of each second, by :func:`write_times`."""

_TRAIN = schema.SPLITS.index("train")
_TEST = schema.SPLITS.index("test")


@dataclass(frozen=True)
class PrepareJob:
    """Arguments of every task of one preparation."""

    settings: PrepareSettings
    format: FormatSettings
    """The section ``format``, with the classes once they are found."""
    root: str
    """Directory to write parts to."""
    work: str
    """Directory for files that are needed until the stage is complete."""
    key: str
    """Identifies the settings and the content of the input."""
    fixed_splits: tuple[str, ...] = ()
    """Splits with their own files."""
    prefix: str = ""
    """Prefix of the names of map stages and of files in ``work``."""

    def work_file(self, name: str, number: int) -> str:
        """Name a file in ``work``."""
        return join(self.work, f"{self.prefix}{name}-{number:05d}")


class CorpusPart(NamedTuple):
    """A part of the corpus, and the rows that are dropped from it."""

    part: parts.Part
    dropped: str = ""
    """URI of the rows that ``prepare.duplicates`` drops, see :mod:`repeated_texts`; empty if it
    drops none, or if they are not known yet."""

    def read_dropped(self) -> pa.Table | None:
        """Read the dropped rows, with the columns of ``duplicates.DROPPED``."""
        return filesystem.read_arrow(self.dropped) if self.dropped else None

    @property
    def place(self) -> str:
        """The first file and the last one, for messages."""
        return self.part.place


@functools.lru_cache(maxsize=2)
def load_table(uri: str, key: str) -> pa.Table:
    """Load a table of a preparation; each worker process reads it once.

    Args:
        uri: The table.
        key: ``PrepareJob.key``, so that a worker does not reuse the table of another preparation.
    """
    return filesystem.read_arrow(uri)


def load_corrections(job: PrepareJob) -> CorrectedRows | None:
    """Load the rows whose labels are replaced; None without ``prepare.corrections``.

    Before the classes are known, the rows have no new label.
    """
    if not job.settings.corrections:
        return None
    table = load_table(job.work_file(CORRECTED_ROWS, 0), job.key)
    classes = job.format.classes or ()
    positions = {name.casefold(): position for position, name in enumerate(classes)}
    label = [positions.get(name.casefold(), -1) for name in table["label"].to_pylist()]
    return CorrectedRows(table["row_id"].to_numpy(), np.array(label, np.int8))


def _labelled_rules(job: PrepareJob) -> row_checks.RowRules:
    """Make the rules of labelled rows, with the corrections."""
    rules = row_checks.RowRules.of_labelled(job.format, job.settings)
    return replace(rules, corrections=load_corrections(job))


def read_labels(part: parts.Part, *, job: PrepareJob) -> pa.Table:
    """Read the written labels of a part before its classes are known.

    At this time every written label counts as unknown. Labels that corrections replace are null.
    """
    rules = _labelled_rules(job)
    required = tuple(name for name in rules.required if name != "label")
    rules = replace(rules, required=required, keep_raw=False)
    rows = parts.read(part, rules)
    return parts.accepted(rows).select(["unknown_label"])


def count_written_labels(table: pa.Table, part: PartId, *, job: PrepareJob) -> dict[str, int]:
    """Count the rows by written label, see ``row_checks.count_unknown``."""
    return row_checks.count_unknown(table)


def read_texts(texts: CorpusPart, *, job: PrepareJob) -> pa.Table:
    """Read and check a part, with the columns for its split and the columns to keep.

    Returns:
        The table of :func:`parts.read`; rows to leave out also have a reason.
    """
    table = parts.read(texts.part, _labelled_rules(job))
    return steps.leave_out(table, every_nth=job.settings.every_nth, dropped=texts.read_dropped())


def count_splits(table: pa.Table, part: PartId, *, job: PrepareJob) -> dict[str, int]:
    """Count the accepted rows of each fixed split."""
    counts = row_checks.count_values(parts.accepted(table)["split"].drop_null())
    return {split: counts.get(split, 0) for split in schema.SPLITS[1:]}


def write_times(table: pa.Table, part: PartId, *, job: PrepareJob) -> None:
    """Write the number of rows of each second, for a split by time."""
    counts = parts.accepted(table).group_by("time").aggregate([([], "count_all")])
    seconds = pa.table({"second": counts["time"].cast(pa.int64()), "count": counts["count_all"]})
    filesystem.write_arrow(job.work_file(TIMES, part.number), seconds)


def write_keys(table: pa.Table, part: PartId, *, job: PrepareJob) -> None:
    """Write the hashes of the texts, with their users and days where these are read."""
    rows = parts.accepted(table)
    named = job.format.columns.user if job.format.columns else None
    kept_user = authors.find_column(job.settings.keep_columns, named)
    user_column = parts.kept_name(kept_user or authors.USER)
    origin = steps.find_origin(rows, user_column=user_column)
    keys = put_columns(rows.select(duplicates.KEYS.names), origin)
    filesystem.write_arrow(job.work_file(KEYS, part.number), keys)


def write_texts(table: pa.Table, part: PartId, *, job: PrepareJob, writes_keys: bool) -> PartJson:
    """Write the tweets and the rejected rows of a part, its tokens and words, and its hashes."""
    kept = parts.accepted(table)
    rows = parts.take_accepted(kept, keep=job.settings.keep_columns).drop_columns(["split"])
    files = _write_by_split("tweets", part, rows, kept["split"].to_numpy(), job.root)
    tokens = kept.select(["row_id", "label", "split", "tokens"])
    filesystem.write_arrow(job.work_file("tokens", part.number), tokens)
    filesystem.write_arrow(job.work_file(WORDS, part.number), _count_words(kept, job))
    if writes_keys:
        write_keys(kept, part, job=job)
    counts = write_rejected(table, f"rejected/{part.name_file()}", job=job)
    counts["files"] += files
    counts["labels"] = count_labels(kept, (*(job.format.classes or ()), UNLABELLED))
    counts["times"] = count_times(kept)
    corrections = load_corrections(job)
    if corrections is not None:
        is_corrected, _ = find_sorted(corrections.row_id, kept["row_id"].to_numpy())
        counts["corrected"] = int(is_corrected.sum())
    return counts


def write_rejected(table: pa.Table, path: str, *, job: PrepareJob) -> PartJson:
    """Write the rejected rows of a part, and count them.

    Args:
        table: All rows of the part.
        path: The file.
        job: Arguments of all tasks.
    """
    reason = table["reason"]
    reasons = Counter(reason.drop_null().to_pylist())
    left_out = {name: reasons.pop(name) for name in steps.LEFT_OUT if name in reasons}
    is_left_out = pc.is_in(reason, value_set=pa.array(steps.LEFT_OUT))
    is_rejected = pc.and_not(reason.is_valid(), is_left_out)
    is_rejected_test = pc.and_(is_rejected, pc.equal(table["split"], _TEST))
    is_unknown = pc.equal(reason, row_checks.UNKNOWN_LABEL)
    unknown = table.select(["unknown_label"]).filter(is_unknown)
    texts = parts.accepted(table.select(["text", "reason"]))["text"]
    is_damaged = pc.match_substring(texts, row_checks.REPLACEMENT)
    rejected = parts.take_rejected(table.filter(is_rejected))
    return {
        "peak_memory_bytes": memory.peak_bytes(),
        "left_out": left_out,
        "reasons": dict(reasons),
        "rejected_test": pc.sum(is_rejected_test).as_py() or 0,
        "examples": _show_examples(rejected),
        "files": parquet.write_part(job.root, path, rejected),
        "unknown_labels": row_checks.count_unknown(unknown),
        "damaged": pc.sum(is_damaged).as_py() or 0,
    }


def read_tokens(part: int, *, job: PrepareJob) -> pa.Table:
    """Read the tokens of the rows whose class can be learned."""
    rows = filesystem.read_arrow(job.work_file("tokens", part))
    return rows.filter(_is_learnable(rows, job)).combine_chunks()


def encode_tokens(table: pa.Table, *, job: PrepareJob) -> pa.Table:
    """Add the ids of the tokens in the vocabulary, see :func:`steps.encode`."""
    words = _load_vocabulary(join(job.work, VOCABULARY), job.key)
    settings = job.settings
    return steps.encode(table, words=words, max_length=settings.max_length, cut=settings.cut)


@functools.lru_cache(maxsize=1)
def _load_vocabulary(uri: str, key: str) -> vocabulary.Vocabulary:
    """Load the vocabulary of a preparation, like :func:`load_table`."""
    return vocabulary.load(uri, with_vectors=False)


def write_encoded(table: pa.Table, part: PartId, *, job: PrepareJob) -> PartJson:
    """Write the token ids of a part."""
    ids = table.select(schema.ENCODED.names).cast(schema.ENCODED)
    files = _write_by_split("encoded", part, ids, table["split"].to_numpy(), job.root)
    counts = _count_encoded(table)
    counts["peak_memory_bytes"] = memory.peak_bytes()
    counts["files"] = files
    return counts


def _count_encoded(table: pa.Table) -> PartJson:
    """Count encoded rows, rows without a token, cut rows, and the tokens of each split."""
    split = table["split"].to_numpy()
    num_tokens = np.diff(steps.tokens_of(table).offsets)
    num_unknown = table["num_unknown"].to_numpy()
    tokens = {}
    for number, name in enumerate(schema.SPLITS):
        is_of_split = split == number
        tokens[name] = {
            "tokens": int(num_tokens[is_of_split].sum()),
            "unknown": int(num_unknown[is_of_split].sum()),
        }
    return {
        "encoded": table.num_rows,
        "without_token": pc.sum(pc.equal(table["length"], 0)).as_py() or 0,
        "cut": pc.sum(table["is_cut"]).as_py() or 0,
        "tokens": tokens,
    }


def count_labels(table: pa.Table, names: Sequence[str]) -> LabelCounts:
    """Count rows by split and label; the last of the names is for rows without a label."""
    label = pc.fill_null(table["label"], len(names) - 1).to_numpy()
    split = table["split"].to_numpy()
    counts = {}
    for number, split_name in enumerate(schema.SPLITS):
        rows = np.bincount(label[split == number], minlength=len(names))
        counts[split_name] = dict(zip(names, rows.tolist(), strict=True))
    return counts


def read_dropped_texts(
    rows: tuple[parts.Part, Sequence[int]], *, job: PrepareJob
) -> dict[str, str]:
    """Read the texts of rows that are left out, by ``row_id``, from their part of the corpus."""
    part, row_ids = rows
    texts = most_repeated.pick(parts.read(part, _labelled_rules(job)), row_ids)
    return {str(row_id): text for row_id, text in texts.items()}


def count_times(table: pa.Table) -> dict[str, int]:
    """Count the rows with a time, and the unusual times; empty if no times are kept."""
    if "time" not in table.column_names or not pa.types.is_timestamp(table["time"].type):
        return {}
    moments = table["time"]
    unusual = times.count_unusual(moments)
    num_rows = len(moments) - moments.null_count
    return {"rows": num_rows, "future": unusual.future, "before_1990": unusual.old}


def _count_words(table: pa.Table, job: PrepareJob) -> pa.Table:
    """Count the words of a part in training rows."""
    tokens = steps.tokens_of(table)
    is_train = table["split"].to_numpy() == _TRAIN
    is_learned = _is_learnable(table, job).to_numpy() & is_train
    return pa.table({"word": tokens.words, "count": tokens.count(is_learned)})


def _show_examples(rejected: pa.Table) -> list[str]:
    """Show some rejected rows; unknown labels are listed by value instead."""
    has_other_reason = pc.not_equal(rejected["reason"], row_checks.UNKNOWN_LABEL)
    examples = []
    for row in rejected.filter(has_other_reason)[:NUM_EXAMPLES].to_pylist():
        place = f"{row['source']}, byte {row['offset']}, row {row['row_id']}"
        examples.append(f"{place}: {row['reason']}: {row['raw'][:60]!r}")
    return examples


def _write_by_split(
    kind: str, part: PartId, table: pa.Table, split: np.ndarray, root: str
) -> list[FileEntry]:
    """Write the rows of each split to a file, given the split of each row."""
    files = []
    for number, name in enumerate(schema.SPLITS):
        path = f"{kind}/split={name}/{part.name_file()}"
        files += parquet.write_part(root, path, table.filter(pa.array(split == number)))
    return files


def _is_learnable(table: pa.Table, job: PrepareJob) -> pa.ChunkedArray:
    """Mark the rows whose class can be learned."""
    return pc.fill_null(pc.less(table["label"], len(job.format.learnable)), False)


def read_unlabelled(texts: CorpusPart, *, job: PrepareJob) -> pa.Table:
    """Read and check a part of unlabelled texts: no label, no split."""
    form = job.settings.unlabelled.resolved_format
    rules = row_checks.RowRules.of_texts(form, keep_raw=job.settings.keep_raw)
    table = parts.read(texts.part, rules)
    split = pa.array(np.full(len(table), _TRAIN, np.int8))
    table = put_columns(table, {"label": pa.nulls(len(table), pa.int8()), "split": split})
    return steps.leave_out(table, every_nth=job.settings.every_nth, dropped=texts.read_dropped())


def write_unlabelled(table: pa.Table, part: PartId, *, job: PrepareJob) -> PartJson:
    """Write the accepted texts of a part with their token ids, and its rejected rows."""
    rows = parts.accepted(table)
    ids = rows.select(schema.UNLABELLED.names).cast(schema.UNLABELLED)
    files = parquet.write_part(job.root, f"unlabelled/{part.name_file()}", ids)
    counts = write_rejected(table, f"rejected/unlabelled-{part.name_file()}", job=job)
    counts["files"] += files
    counts["labels"] = count_labels(rows, [UNLABELLED])
    return counts | _count_encoded(rows)
