"""Encoded Parquet -> each worker's slices of one sequence of global batches.

The rows of a split, in the order of its files, are cut into S virtual shards of equal size; S is
``train.batching.num_shards``. A worker owns some of the shards and reads no others. A global batch
takes a slice of every shard, and its rows follow from the seed and the epoch. So any number of
workers makes the same optimizer steps. Of the other workers' shards a worker needs one thing: the
number of rows of each length in each chunk.

A shard is read in chunks. An epoch goes through windows of a few chunks of every shard, in random
order, and shuffles the rows of a window. So memory is bounded. A corpus that fits into one window,
about four million tweets, is shuffled as a whole.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.config.train_sections import NUM_VIRTUAL_SHARDS
from sentiflow.models.batching import COLUMNS, EncodedRows
from sentiflow.storage import parquet
from sentiflow.training import learned_classes

ROWS_IN_CHUNK = 1 << 16
CHUNKS_IN_WINDOW = 8
"""Chunks of each shard. A worker with all shards holds about 300 MB of usual tweets."""
BATCHES_IN_POOL = 64
"""Rows are sorted by length only inside a pool of batches, so training order stays random."""


def own_shards(rank: int, world_size: int, num_shards: int = NUM_VIRTUAL_SHARDS) -> range:
    """List the shards that a worker owns: neighbors, about equally many for each worker."""
    return range(rank * num_shards // world_size, (rank + 1) * num_shards // world_size)


@dataclass(frozen=True)
class VirtualShards:
    """The rows of a split, cut into shards, which are cut into chunks."""

    uris: tuple[str, ...]
    """Files with the columns of ``schema.ENCODED``, or of ``schema.UNLABELLED``."""
    ends: tuple[int, ...]
    """Cumulative rows: of the files up to and including each."""
    positions: np.ndarray | None = None
    """The label that replaces each label in the files, int8; rows with -1 are left out, but not
    unlabelled texts. None: all labels stay as they are."""
    num_shards: int = NUM_VIRTUAL_SHARDS

    @classmethod
    def plan(
        cls,
        rows: Mapping[str, int],
        *,
        positions: np.ndarray | None = None,
        num_shards: int = NUM_VIRTUAL_SHARDS,
    ) -> "VirtualShards":
        """Cut files, given with their numbers of rows, in their order."""
        ends = np.cumsum([*rows.values()], dtype=int).tolist()
        return cls(tuple(rows), tuple(ends), positions, num_shards)

    @property
    def num_rows(self) -> int:
        """Rows in the files, with and without a token, of all classes."""
        return self.ends[-1] if self.ends else 0

    @property
    def num_chunks(self) -> int:
        """Chunks of each shard."""
        return max(1, -(-self.num_rows // (self.num_shards * ROWS_IN_CHUNK)))

    def read(
        self, shard: int, chunks: Sequence[int], columns: Sequence[str] = COLUMNS
    ) -> list[pa.Table]:
        """Read some chunks of a shard, in the order given."""
        return [table for chunk in chunks for table in self._read_chunk(shard, chunk, columns)]

    def count_lengths(self, shards: Sequence[int], *, max_length: int) -> np.ndarray:
        """Count the rows of each length in some shards.

        Returns:
            ``(S, num_chunks, max_length + 1)`` int64; zero for the other shards.
        """
        counts = np.zeros((self.num_shards, self.num_chunks, max_length + 1), np.int64)
        for shard in shards:
            for chunk in range(self.num_chunks):
                for table in self._read_chunk(shard, chunk, ("length",)):
                    counts[shard, chunk] += np.bincount(
                        table["length"].to_numpy(), minlength=max_length + 1
                    )
        return counts

    def _read_chunk(self, shard: int, chunk: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        position = shard * self.num_chunks + chunk
        start, stop = (
            number * self.num_rows // (self.num_shards * self.num_chunks)
            for number in (position, position + 1)
        )
        for number in range(bisect.bisect_right(self.ends, start), len(self.uris)):
            before = self.ends[number - 1] if number else 0
            if before >= stop:
                return
            first, last = max(start, before) - before, min(stop, self.ends[number]) - before
            if first < last:
                yield self._read_rows(self.uris[number], first, last, columns)

    def _read_rows(self, uri: str, first: int, last: int, columns: Sequence[str]) -> pa.Table:
        """Read some rows of a file, with the labels of the model."""
        if self.positions is None:
            return parquet.read_rows(uri, first, last, columns=columns)
        table = parquet.read_rows(uri, first, last, columns=[*{*columns, "label"}])
        table = learned_classes.relabel(table, self.positions)
        return table.select([name for name in columns if name in table.column_names])


@dataclass(frozen=True)
class ShardSlice:
    """A worker's part of a global batch."""

    rows: EncodedRows
    """Rows of the worker's window."""
    chosen: np.ndarray
    """Numbers of the slice's rows in ``rows``, shard by shard."""
    shard_sizes: np.ndarray
    """Rows of the global batch from each of the S shards."""


class OwnRows:
    """The rows of a worker's shards, one window at a time."""

    def __init__(self, shards: VirtualShards, *, own: range) -> None:
        """Take the shards of a split that this worker owns."""
        self.shards, self.own = shards, own
        self._last: tuple[bytes, EncodedRows, np.ndarray] | None = None

    def __iter__(self) -> Iterator[EncodedRows]:
        """Read all windows, for evaluation."""
        for start in range(0, self.shards.num_chunks, CHUNKS_IN_WINDOW):
            chunks = np.arange(start, min(start + CHUNKS_IN_WINDOW, self.shards.num_chunks))
            yield self.read(np.tile(chunks, (self.shards.num_shards, 1)))[0]

    def read(self, window: np.ndarray) -> tuple[EncodedRows, np.ndarray]:
        """Read the chunks ``(S, chunks)``; return where each shard begins, too.

        The last window stays in memory: most corpora have no other.
        """
        key = window.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = None
            by_shard = [self.shards.read(shard, window[shard]) for shard in self.own]
            begins = np.cumsum([0, *(sum(map(len, tables)) for tables in by_shard)])
            rows = EncodedRows.from_tables([table for tables in by_shard for table in tables])
            self._last = key, rows, begins
        return self._last[1:]


class TrainInput:
    """This worker's slices of the global batches of a training.

    Every row is in exactly one batch of each epoch. There are two exceptions: rows of length 0
    without ``keep_empty``, and rows of batches that ``drop_last`` leaves out.
    """

    def __init__(
        self,
        shards: VirtualShards,
        *,
        own: range,
        counts: np.ndarray,
        batch_size: int,
        bucketing: str = "pooled",
        drop_last: bool = False,
        keep_empty: bool = False,
        seed: int = 0,
    ) -> None:
        """Describe the batches.

        Args:
            shards: The shards of the train split.
            own: Numbers of this worker's shards.
            counts: Rows by length of all shards, see :meth:`VirtualShards.count_lengths`.
            batch_size: Rows of a global batch.
            bucketing: ``pooled`` sorts shuffled rows by length inside pools of
                ``BATCHES_IN_POOL`` batches, so that lengths in a batch are nearly equal;
                ``exact`` makes them equal.
            drop_last: With ``exact``, leave out the batch of each length that is not full: a length
                of fewer rows than a batch is never trained on.
            keep_empty: Put rows of length 0 into the batches, too.
            seed: Seed of the training.
        """
        self.rows, self.seed = OwnRows(shards, own=own), seed
        self.num_shards = shards.num_shards
        self.min_length = 0 if keep_empty else 1
        self.num_without_token = int(counts[:, :, 0].sum())
        """Rows of length 0, in the batches or not."""
        self.counts = counts.copy()
        self.counts[:, :, : self.min_length] = 0
        self.batch_size, self.bucketing, self.drop_last = batch_size, bucketing, drop_last

    @property
    def num_rows(self) -> int:
        """Rows in the batches of an epoch, before ``drop_last`` leaves any out."""
        return int(self.counts.sum())

    def num_steps(self, epoch: int) -> int:
        """Count the global batches of an epoch."""
        by_length = [self._count(window).sum(axis=0) for window in self._windows(epoch)]
        groups = by_length if self.bucketing == "exact" else np.sum(by_length, axis=1)
        full, rest = np.divmod(groups, self.batch_size)
        return int(full.sum()) if self.drop_last else int((full + (rest > 0)).sum())

    def slices(self, epoch: int, *, first_step: int = 0) -> Iterator[ShardSlice]:
        """Yield this worker's slice of each global batch, in training order; it may be empty.

        ``first_step`` batches of the epoch are skipped.
        """
        for number, window in enumerate(self._windows(epoch)):
            groups, sizes = self._divide(self._count(window))
            random = np.random.default_rng([self.seed, epoch, number, self.num_shards])
            least = self.batch_size if self.drop_last else 1
            batches = random.permutation(np.flatnonzero(sizes.sum(axis=1) >= least))
            skipped, first_step = batches[:first_step], max(0, first_step - len(batches))
            if len(skipped) == len(batches):
                continue
            rows, begins = self.rows.read(window)
            starts = np.cumsum(sizes, axis=0) - sizes
            orders = [
                begins[i] + self._order(rows.lengths[begins[i] : begins[i + 1]], groups[:, shard],
                                        np.random.default_rng([self.seed, epoch, number, shard]))
                for i, shard in enumerate(self.rows.own)
            ]  # fmt: skip
            for batch in batches[len(skipped) :]:
                chosen = [
                    order[starts[batch, shard] :][: sizes[batch, shard]]
                    for shard, order in zip(self.rows.own, orders, strict=True)
                ]
                yield ShardSlice(
                    rows, np.concatenate([*chosen, np.zeros(0, np.int64)]), sizes[batch]
                )

    def _windows(self, epoch: int) -> list[np.ndarray]:
        """Distribute the chunks of every shard over windows ``(S, chunks)``."""
        number = self.counts.shape[1]
        random = np.random.default_rng([self.seed, epoch])
        order = np.stack([random.permutation(number) for _ in range(self.num_shards)])
        parts = np.array_split(order, -(-number // CHUNKS_IN_WINDOW), axis=1)
        return [np.sort(part, axis=1) for part in parts]

    def _count(self, window: np.ndarray) -> np.ndarray:
        """Count the rows of each shard in a window by length: ``(S, L)``."""
        return np.take_along_axis(self.counts, window[:, :, None], axis=1).sum(axis=1)

    def _divide(self, by_length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count the rows from each shard in each group of a window, and in each batch.

        All rows of a batch are from one group: a length, or a pool. Batches are ordered by group.
        """
        groups = by_length.T
        if self.bucketing == "pooled":
            groups = _cut(by_length.sum(axis=1)[None], self.batch_size * BATCHES_IN_POOL)
        return groups, _cut(groups, self.batch_size)

    def _order(
        self, lengths: np.ndarray, groups: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """Order a shard's rows: shuffled, then by group, and by length inside a group."""
        rows = random.permutation(np.flatnonzero(lengths >= self.min_length))
        if self.bucketing == "exact":
            return rows[np.argsort(lengths[rows], kind="stable")]
        return rows[np.lexsort((lengths[rows], np.repeat(np.arange(len(groups)), groups)))]


def _cut(groups: np.ndarray, size: int) -> np.ndarray:
    """Cut each group into pieces, each with as even shares of the shards as whole rows allow.

    Args:
        groups: ``(G, S)`` rows of each shard in each group.
        size: Rows of a piece; the last piece of a group may have fewer.

    Returns:
        ``(P, S)`` rows of each shard in each piece, group by group.
    """
    num_shards = groups.shape[1]
    pieces = [np.zeros((0, num_shards), np.int64)]
    for counts in groups:
        total = int(counts.sum())
        shard = np.repeat(np.arange(num_shards), counts)
        order = np.concatenate(
            [(np.arange(count) + 0.5) / count for count in counts if count] or [[]]
        )
        merged = shard[np.argsort(order, kind="stable")]
        num_pieces = -(-total // size)
        cells = np.arange(total) // size * num_shards + merged
        pieces.append(np.bincount(cells, minlength=num_pieces * num_shards).reshape(-1, num_shards))
    return np.concatenate(pieces)
