"""Part of a corpus -> its tweets, rejected rows and token ids, as files.

This is the work of each task of preparation; Ray is not imported, so that workers start fast. A
part is first ingested, and encoded once the words of all parts are known. In between, ``_work``
holds its tokens, as indexes into a list of its own words; these words with their counts; and the
hashes of its texts. The functions that do the work return JSON, for the completion markers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster import memory
from sentiflow.config.sections import PrepareSettings
from sentiflow.data import parts, schema
from sentiflow.data.manifest_types import DuplicateCounts, FileEntry
from sentiflow.data.output_status import WORK
from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, POSITIVE, SPLITS
from sentiflow.data.text_hash import hash_strings, normalize_text
from sentiflow.models import vocabulary
from sentiflow.models.tokenizer import Tokens, tokenize
from sentiflow.preparation import duplicates, partitions, splits
from sentiflow.preparation.results import (
    EncodedPart,
    FilteredPart,
    IngestedPart,
    LabelCounts,
    TokenCounts,
)
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

VOCABULARY = "vocabulary.parquet"

_TRAIN = SPLITS.index("train")
_NUM_EXAMPLES = 3
_TOKENS = pa.schema(
    [
        pa.field("row_id", pa.int64()),
        pa.field("label", pa.int8()),
        pa.field("split", pa.int8()),
        pa.field("words", pa.list_(pa.int32())),
    ]
)
"""Tokens between ingestion and encoding: ``words`` are indexes into the words of the part."""


@dataclass(frozen=True)
class Job:
    """Arguments of every task of one preparation."""

    settings: PrepareSettings
    root: str
    """Directory to write to."""
    key: str
    """Identifies the settings and the content of the input."""
    parts: tuple[parts.Part, ...]
    time_bounds: tuple[int, int] | None = None
    """Last second of train and of validation, if the split is by time."""

    @property
    def num_partitions(self) -> int:
        """Number of partitions of words and hashes."""
        return partitions.count(len(self.parts))

    def work_file(self, name: str, number: int) -> str:
        """Name a file that is needed until the stage is complete."""
        return join(self.root, f"{WORK}/{name}-{number:05d}")

    @property
    def filters(self) -> bool:
        """Whether rows may be left out once all texts are known.

        Ingestion then writes tweets and tokens for :func:`drop` to read, which writes the result.
        """
        return self.settings.duplicates != "keep"

    def work_files(self, name: str) -> list[str]:
        """Name the file of every part."""
        return [self.work_file(name, part) for part in range(len(self.parts))]


def count_times(part: int, *, job: Job) -> None:
    """Count the rows of each second, for a split by time."""
    accepted, _, _ = _read(part, job)
    counts = accepted.group_by("time").aggregate([([], "count_all")])
    seconds = pa.table({"second": counts["time"].cast(pa.int64()), "count": counts["count_all"]})
    filesystem.write_parquet(job.work_file("times", part), seconds)


def ingest(part: int, *, job: Job) -> dict[str, Any]:
    """Read, check, split and tokenize one part of the CSV, and write the resulting tables."""
    settings = job.settings
    accepted, refused, num_left_out = _read(part, job)
    text = _column(accepted, "text")
    keys = duplicates.make_keys(_column(accepted, "row_id"), _column(accepted, "label"), text)
    split = _assign(accepted, keys["normalized"].to_numpy(), job)
    tokens, word_group = _group_words(tokenize(text, name=settings.tokenizer), job)
    rejected = f"rejected/part-{part:05d}.parquet"
    files = filesystem.write_part(job.root, rejected, refused)
    if job.filters:
        filesystem.write_arrow(job.work_file("all_tweets", part), accepted)
        _write_tokens("all_tokens", part, accepted, split, tokens, job)
        filesystem.write_arrow(job.work_file("all_words", part), pa.table({"word": tokens.words}))
    else:
        files += _write_tweets(part, accepted, split, job)
        _write_tokens("tokens", part, accepted, split, tokens, job)
        _write_words(part, accepted, split, tokens, word_group, job)
    _write_keys(part, keys.append_column(duplicates.KEYS.field("split"), pa.array(split)), job)
    result = IngestedPart(
        peak_memory_bytes=memory.peak_bytes(),
        left_out=num_left_out,
        reasons=dict(Counter(refused["reason"].to_pylist())),
        examples=_examples(refused),
        labels=_count_labels(accepted["label"], split),
        files=files,
    )
    return asdict(result)


def count_duplicates(partition: int, *, job: Job) -> DuplicateCounts:
    """Find the repeated texts of one partition, and list the rows to drop."""
    keys = partitions.read(job.work_files("keys"), partition)
    found = duplicates.find(keys, mode=job.settings.duplicates)
    filesystem.write_parquet(job.work_file("dropped", partition), found.dropped)
    return found.counts


def drop(part: int, *, job: Job) -> dict[str, Any]:
    """Write the tweets and tokens of a part without the rows to drop."""
    row_ids, reasons = _read_dropped(part, job)
    accepted = filesystem.read_arrow(job.work_file("all_tweets", part))
    kept = pa.array(~np.isin(accepted["row_id"].to_numpy(), row_ids))
    accepted = accepted.filter(kept).combine_chunks()
    rows = filesystem.read_arrow(job.work_file("all_tokens", part)).filter(kept).combine_chunks()
    split = rows["split"].to_numpy()
    files = _write_tweets(part, accepted, split, job)
    words = filesystem.read_arrow(job.work_file("all_words", part))
    tokens, word_group = _group_words(_tokens_of(rows, words), job)
    _write_tokens("tokens", part, rows, split, tokens, job)
    _write_words(part, rows, split, tokens, word_group, job)
    return asdict(FilteredPart(reasons, _count_labels(accepted["label"], split), files))


def count_words(partition: int, *, job: Job) -> None:
    """Sum the counts of one partition's words over all parts."""
    counts = partitions.read(job.work_files("words"), partition)
    totals = counts.group_by("word").aggregate([("count", "sum"), ("held_out", "sum")])
    totals = totals.rename_columns({"count_sum": "count", "held_out_sum": "held_out"})
    filesystem.write_parquet(job.work_file("counts", partition), totals)


def encode(part: int, *, job: Job) -> dict[str, Any]:
    """Replace the tokens of one part by ids; rows without a binary label are left out."""
    settings = job.settings
    words = vocabulary.load(join(job.root, VOCABULARY), with_vectors=False)
    rows = filesystem.read_arrow(job.work_file("tokens", part))
    rows = rows.filter(_is_binary(rows["label"])).combine_chunks()
    tokens = _tokens_of(rows, filesystem.read_parquet(job.work_file("words", part)))
    ids = words.encode(tokens, max_length=settings.max_length).token_ids
    lengths = pc.list_value_length(ids).cast(pa.int32())
    table = pa.table([rows["row_id"], rows["label"], ids, lengths], schema=schema.ENCODED)
    split = rows["split"].to_numpy()
    result = EncodedPart(
        peak_memory_bytes=memory.peak_bytes(),
        encoded=table.num_rows,
        without_token=pc.sum(pc.equal(lengths, 0)).as_py() or 0,
        tokens=_count_tokens(words, tokens, split),
        files=_write_by_split("encoded", part, table, split, job.root),
    )
    return asdict(result)


def _read(part: int, job: Job) -> tuple[pa.Table, pa.Table, int]:
    """Read and check the rows of a part, with the column that the split needs and those to keep.

    Returns:
        The accepted rows, the rejected rows, and the number of rows left out by ``every_nth``.
    """
    settings = job.settings
    needed = [name for name in ("user", "time") if name == settings.split.kind]
    keep = tuple(dict.fromkeys((*settings.keep_columns, *needed)))
    required = ("label", *needed)
    rows = parts.read(job.parts[part], required=required, keep=keep, keep_raw=settings.keep_raw)
    num_rows = len(rows)
    if settings.every_nth > 1:
        rows = rows.filter(pa.array(rows["row_id"].to_numpy() % settings.every_nth == 0))
    accepted = parts.take_accepted(rows, keep=keep).combine_chunks()
    return accepted, parts.take_rejected(rows), num_rows - len(rows)


def _assign(accepted: pa.Table, hashes: np.ndarray, job: Job) -> np.ndarray:
    """Assign each row to its split."""
    rule = job.settings.split
    if rule.kind == "tutorial":
        return splits.assign_by_row_number(accepted["row_id"].to_numpy())
    if rule.kind == "time":
        assert job.time_bounds is not None, "count_times has run"
        seconds = accepted["time"].cast(pa.int64()).to_numpy()
        return splits.assign_by_time(seconds, bounds=job.time_bounds)
    if rule.kind == "user":
        users = normalize_text(_column(accepted, "user"))
        hashes = hash_strings(users)
    return splits.assign_by_hash(
        hashes,
        validation_fraction=rule.validation_fraction,
        test_fraction=rule.test_fraction,
    )


def _count_labels(label: pa.ChunkedArray, split: np.ndarray) -> LabelCounts:
    """Count rows by split and label; a null label is ``unlabelled``."""
    values = pc.fill_null(label, len(LABEL_NAMES)).to_numpy()
    names = (*LABEL_NAMES, "unlabelled")
    return {
        name: dict(zip(names, np.bincount(values[split == i], minlength=4).tolist(), strict=True))
        for i, name in enumerate(SPLITS)
    }


def _count_tokens(words: vocabulary.Vocabulary, tokens: Tokens, split: np.ndarray) -> TokenCounts:
    """Count the tokens, and the unknown tokens, of each split."""
    unknown = words.look_up(tokens.words) < words.num_special
    split_of_token = np.repeat(split, np.diff(tokens.offsets))
    total = np.bincount(split_of_token, minlength=len(SPLITS))
    num_unknown = np.bincount(split_of_token[unknown[tokens.ids]], minlength=len(SPLITS))
    return {
        name: {"tokens": int(total[i]), "unknown": int(num_unknown[i])}
        for i, name in enumerate(SPLITS)
    }


def _examples(rejected: pa.Table) -> list[str]:
    return [
        f"{row['source']}, byte {row['offset']}, row {row['row_id']}: {row['reason']}: "
        f"{row['raw'][:60]!r}"
        for row in rejected[:_NUM_EXAMPLES].to_pylist()
    ]


def _path(kind: str, split: str, part: int) -> str:
    return f"{kind}/split={split}/part-{part:05d}.parquet"


def _write_by_split(
    kind: str, part: int, table: pa.Table, split: np.ndarray, root: str
) -> list[FileEntry]:
    files = []
    for number, name in enumerate(SPLITS):
        chosen = table.filter(pa.array(split == number))
        files += filesystem.write_part(root, _path(kind, name, part), chosen)
    return files


def _write_tweets(part: int, accepted: pa.Table, split: np.ndarray, job: Job) -> list[FileEntry]:
    table = accepted.select([*schema.TWEETS.names, *job.settings.keep_columns])
    return _write_by_split("tweets", part, table, split, job.root)


def _read_dropped(part: int, job: Job) -> tuple[np.ndarray, dict[str, int]]:
    """Find the rows of a part to drop, and count them by reason."""
    first, stop = job.parts[part].first_row, job.parts[part].first_row + job.parts[part].num_rows
    tables = [
        filesystem.read_parquet(job.work_file("dropped", number))
        for number in range(job.num_partitions)
    ]
    dropped = pa.concat_tables(tables)
    row_id = dropped["row_id"].to_numpy()
    dropped = dropped.filter(pa.array((row_id >= first) & (row_id < stop)))
    return dropped["row_id"].to_numpy(), dict(Counter(dropped["reason"].to_pylist()))


def _write_tokens(
    name: str, part: int, rows: pa.Table, split: np.ndarray, tokens: Tokens, job: Job
) -> None:
    lists = pa.ListArray.from_arrays(
        pa.array(tokens.offsets.astype(np.int32)), pa.array(tokens.ids, pa.int32())
    )
    columns = [rows["row_id"], rows["label"], pa.array(split), lists]
    filesystem.write_arrow(job.work_file(name, part), pa.table(columns, schema=_TOKENS))


def _write_keys(part: int, keys: pa.Table, job: Job) -> None:
    group = duplicates.partition(keys["normalized"].to_numpy(), job.num_partitions)
    partitions.write(job.work_file("keys", part), keys, group, num_partitions=job.num_partitions)


def _group_words(tokens: Tokens, job: Job) -> tuple[Tokens, np.ndarray]:
    """Sort the words of a part by partition; also return the partition of each word."""
    if job.num_partitions == 1:
        return tokens, np.zeros(len(tokens.words), np.int64)
    written = tokens.words.to_numpy(zero_copy_only=False)
    hashes = pd.util.hash_array(written, categorize=False)
    group = (hashes % np.uint64(job.num_partitions)).astype(np.int64)
    order = np.argsort(group, kind="stable")
    new_ids = np.empty(len(order), np.int32)
    new_ids[order] = np.arange(len(order), dtype=np.int32)
    words = tokens.words.take(pa.array(order))
    return Tokens(words, new_ids[tokens.ids], tokens.offsets), group[order]


def _write_words(
    part: int, rows: pa.Table, split: np.ndarray, tokens: Tokens, group: np.ndarray, job: Job
) -> None:
    """Write the words of a part, with their occurrences in training rows and in held-out rows."""
    binary = _is_binary(rows["label"]).to_numpy()
    count, held_out = (
        tokens.count(binary & chosen) for chosen in (split == _TRAIN, split != _TRAIN)
    )
    table = pa.table({"word": tokens.words, "count": count, "held_out": held_out})
    partitions.write(job.work_file("words", part), table, group, num_partitions=job.num_partitions)


def _tokens_of(rows: pa.Table, words: pa.Table) -> Tokens:
    """Rebuild tokens from the files ``tokens`` and ``words`` of ingestion."""
    lists = rows["words"].combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return Tokens(_column(words, "word"), lists.flatten().to_numpy(), offsets - offsets[0])


def _is_binary(label: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(label, value_set=pa.array([NEGATIVE, POSITIVE], pa.int8()))


def _column(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array, even if the table has no chunk."""
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
