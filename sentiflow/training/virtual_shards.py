"""Encoded Parquet -> each worker's slices of one sequence of global batches.

The rows of a split, in the order of its files, are cut into S virtual shards of equal size; S is
``train.batching.num_shards``. A worker owns some of the shards and reads no others. A global batch
takes a slice of every shard, and its rows follow from the seed and the epoch. So any number of
workers makes the same optimizer steps. A worker needs one thing about the shards of other workers:
the number of rows of each length in each chunk.

A shard is read in chunks. An epoch goes through windows of a few chunks of every shard, in random
order, and shuffles the rows of a window. So memory is bounded. A corpus that fits into one window,
about four million tweets, is shuffled as a whole.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.config.train_sections import DEFAULT_NUM_SHARDS
from sentiflow.models.encoded_rows import COLUMNS, EncodedRows
from sentiflow.storage import parquet
from sentiflow.training import learned_classes

ROWS_IN_CHUNK = 1 << 16
"""Limit of the rows in a chunk."""
CHUNKS_IN_WINDOW = 8
"""Chunks of each shard in a window. For a worker with all shards a window is about 300 MB of usual
tweets."""
BATCHES_IN_POOL = 64
"""Rows are sorted by length only inside a pool of batches, so training order stays random."""


def own_shards(rank: int, world_size: int, num_shards: int = DEFAULT_NUM_SHARDS) -> range:
    """List the shards that a worker owns: neighbors, about equally many for each worker."""
    first = rank * num_shards // world_size
    end = (rank + 1) * num_shards // world_size
    return range(first, end)


@dataclass(frozen=True)
class VirtualShards:
    """The rows of a split, cut into shards, which are cut into chunks."""

    uris: tuple[str, ...]
    """Files with the columns of ``schema.ENCODED``, or of ``schema.UNLABELLED``."""
    ends: tuple[int, ...]
    """For each file: the number of rows in this file and in the files before it."""
    positions: np.ndarray | None = None
    """The label that replaces each label in the files, int8. Labelled rows that get -1 are left
    out. None: labels stay unchanged."""
    num_shards: int = DEFAULT_NUM_SHARDS

    @classmethod
    def plan(
        cls,
        rows: Mapping[str, int],
        *,
        positions: np.ndarray | None = None,
        num_shards: int = DEFAULT_NUM_SHARDS,
    ) -> "VirtualShards":
        """Cut files, given with their numbers of rows, in their order."""
        ends = np.cumsum(list(rows.values()), dtype=int).tolist()
        return cls(uris=tuple(rows), ends=tuple(ends), positions=positions, num_shards=num_shards)

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
        tables: list[pa.Table] = []
        for chunk in chunks:
            tables += self._read_chunk(shard, chunk, columns)
        return tables

    def count_lengths(self, shards: Sequence[int], *, max_length: int) -> np.ndarray:
        """Count the rows of each length in some shards.

        Returns:
            ``(S, num_chunks, max_length + 1)`` int64; zero for the other shards.
        """
        num_lengths = max_length + 1
        counts = np.zeros((self.num_shards, self.num_chunks, num_lengths), np.int64)
        for shard in shards:
            for chunk in range(self.num_chunks):
                for table in self._read_chunk(shard, chunk, ("length",)):
                    lengths = table["length"].to_numpy()
                    counts[shard, chunk] += np.bincount(lengths, minlength=num_lengths)
        return counts

    def _read_chunk(self, shard: int, chunk: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read a chunk of a shard: a table for each file that has rows of it."""
        # The chunks of all shards are numbered one after the other.
        num_chunks = self.num_shards * self.num_chunks
        place = shard * self.num_chunks + chunk
        start = place * self.num_rows // num_chunks
        stop = (place + 1) * self.num_rows // num_chunks
        for number in range(bisect.bisect_right(self.ends, start), len(self.uris)):
            file_start = self.ends[number - 1] if number else 0
            if file_start >= stop:
                return
            first = max(start, file_start)
            last = min(stop, self.ends[number])
            if first < last:
                yield self._read_rows(
                    self.uris[number], first - file_start, last - file_start, columns
                )

    def _read_rows(self, uri: str, first: int, last: int, columns: Sequence[str]) -> pa.Table:
        """Read some rows of a file, with the labels of the model."""
        if self.positions is None:
            return parquet.read_rows(uri, first, last, columns=columns)
        needed = list({*columns, "label"})  # the label decides which rows are left out
        table = parquet.read_rows(uri, first, last, columns=needed)
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


class _Window(NamedTuple):
    """Rows of a worker's shards, from some chunks of each."""

    chunks: np.ndarray
    """``(S, chunks)``: the chunks of each shard."""
    rows: EncodedRows
    begins: np.ndarray
    """Where each of the worker's shards begins in ``rows``, and the end of the last one."""


class OwnRows:
    """The rows of a worker's shards, one window at a time."""

    def __init__(self, shards: VirtualShards, *, own: range) -> None:
        """Take the shards of a split that this worker owns."""
        self.shards = shards
        self.own = own
        self._last: _Window | None = None

    def __iter__(self) -> Iterator[EncodedRows]:
        """Read all windows, for evaluation."""
        for start in range(0, self.shards.num_chunks, CHUNKS_IN_WINDOW):
            stop = min(start + CHUNKS_IN_WINDOW, self.shards.num_chunks)
            window = np.tile(np.arange(start, stop), (self.shards.num_shards, 1))
            yield self.read(window).rows

    def read(self, chunks: np.ndarray) -> _Window:
        """Read a window, given the chunks of each shard, ``(S, chunks)``.

        The last window stays in memory: most corpora have no other.
        """
        if self._last is not None and np.array_equal(self._last.chunks, chunks):
            return self._last
        self._last = None  # so that two windows are never in memory
        tables = []
        sizes = []
        for shard in self.own:
            of_shard = self.shards.read(shard, chunks[shard])
            tables += of_shard
            sizes.append(sum(len(table) for table in of_shard))
        self._last = _Window(
            chunks=chunks,
            rows=EncodedRows.from_tables(tables),
            begins=np.cumsum([0, *sizes]),
        )
        return self._last


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
        self.rows = OwnRows(shards, own=own)
        self.seed = seed
        self.num_shards = shards.num_shards
        self.min_length = 0 if keep_empty else 1
        self.num_without_token = int(counts[:, :, 0].sum())
        """Rows of length 0, in the batches or not."""
        self.counts = counts.copy()
        self.counts[:, :, : self.min_length] = 0
        self.batch_size = batch_size
        self.bucketing = bucketing
        self.drop_last = drop_last

    @property
    def num_rows(self) -> int:
        """Rows in the batches of an epoch, before ``drop_last`` leaves any out."""
        return int(self.counts.sum())

    def num_steps(self, epoch: int) -> int:
        """Count the global batches of an epoch."""
        by_length = [self._count(window).sum(axis=0) for window in self._windows(epoch)]
        sizes = by_length if self.bucketing == "exact" else np.sum(by_length, axis=1)
        num_full, num_left = np.divmod(sizes, self.batch_size)
        num_batches = int(num_full.sum())
        if not self.drop_last:
            num_batches += int((num_left > 0).sum())
        return num_batches

    def slices(self, epoch: int, *, first_step: int = 0) -> Iterator[ShardSlice]:
        """Yield this worker's slice of each global batch, in training order; it may be empty.

        ``first_step`` batches of the epoch are skipped.
        """
        num_to_skip = first_step
        for number, window in enumerate(self._windows(epoch)):
            groups, sizes = self._divide(self._count(window))
            # ``num_shards`` is a number that no shard has: shards draw with their own numbers.
            random = np.random.default_rng([self.seed, epoch, number, self.num_shards])
            min_size = self.batch_size if self.drop_last else 1
            is_used = sizes.sum(axis=1) >= min_size
            batches = random.permutation(np.flatnonzero(is_used))
            remaining = batches[num_to_skip:]
            num_to_skip = max(0, num_to_skip - len(batches))
            if not len(remaining):
                continue
            rows, orders = self._read_ordered(window, groups, seed=[self.seed, epoch, number])
            ends = np.cumsum(sizes, axis=0)
            starts = ends - sizes
            for batch in remaining:
                chosen = [np.zeros(0, np.int64)]
                for shard, order in zip(self.rows.own, orders, strict=True):
                    chosen.append(order[starts[batch, shard] : ends[batch, shard]])
                yield ShardSlice(rows=rows, chosen=np.concatenate(chosen), shard_sizes=sizes[batch])

    def _read_ordered(
        self, window: np.ndarray, groups: np.ndarray, *, seed: list[int]
    ) -> tuple[EncodedRows, list[np.ndarray]]:
        """Read a window, and order its rows for batches.

        Args:
            window: The chunks of each shard.
            groups: Rows from each shard in each group, ``(G, S)``.
            seed: Seed of the window; each shard adds its number.

        Returns:
            The rows; and for each of this worker's shards its rows' numbers in order.
        """
        loaded = self.rows.read(window)
        orders = []
        for place, shard in enumerate(self.rows.own):
            begin, end = loaded.begins[place : place + 2]
            lengths = loaded.rows.lengths[begin:end]
            random = np.random.default_rng([*seed, shard])
            order = self._order_shard(lengths, groups[:, shard], random)
            orders.append(begin + order)
        return loaded.rows, orders

    def _windows(self, epoch: int) -> list[np.ndarray]:
        """Distribute the chunks of every shard over windows ``(S, chunks)``."""
        num_chunks = self.counts.shape[1]
        random = np.random.default_rng([self.seed, epoch])
        order = np.stack([random.permutation(num_chunks) for _ in range(self.num_shards)])
        num_windows = -(-num_chunks // CHUNKS_IN_WINDOW)
        parts = np.array_split(order, num_windows, axis=1)
        return [np.sort(part, axis=1) for part in parts]

    def _count(self, window: np.ndarray) -> np.ndarray:
        """Count the rows of each shard in a window by length: ``(S, L)``."""
        counts = np.take_along_axis(self.counts, window[:, :, None], axis=1)
        return counts.sum(axis=1)

    def _divide(self, by_length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count the rows from each shard in each group of a window, and in each batch.

        All rows of a batch are from one group: a length, or a pool. Batches are ordered by group.

        Args:
            by_length: ``(S, L)``.

        Returns:
            ``(G, S)`` for the groups, and ``(P, S)`` for the batches.
        """
        groups = by_length.T
        if self.bucketing == "pooled":
            whole_window = by_length.sum(axis=1)[None]
            groups = _cut(whole_window, self.batch_size * BATCHES_IN_POOL)
        return groups, _cut(groups, self.batch_size)

    def _order_shard(
        self, lengths: np.ndarray, group_sizes: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """Order the rows of a shard in a window: by group, by length in a group, else at random.

        Args:
            lengths: Length of each row.
            group_sizes: Rows of the shard in each group, (G,).
            random: Shuffles the rows.

        Returns:
            Numbers of the rows.
        """
        rows = random.permutation(np.flatnonzero(lengths >= self.min_length))
        if self.bucketing == "exact":
            return rows[np.argsort(lengths[rows], kind="stable")]
        group_of_row = np.repeat(np.arange(len(group_sizes)), group_sizes)
        return rows[np.lexsort((lengths[rows], group_of_row))]


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
        shards = _spread_shards(counts)
        num_pieces = -(-len(shards) // size)
        piece_of_row = np.arange(len(shards)) // size
        cells = piece_of_row * num_shards + shards
        sizes = np.bincount(cells, minlength=num_pieces * num_shards)
        pieces.append(sizes.reshape(-1, num_shards))
    return np.concatenate(pieces)


def _spread_shards(counts: np.ndarray) -> np.ndarray:
    """Spread the rows of each shard evenly over a group; return the shard of each row.

    Example:
        >>> _spread_shards(np.array([4, 2])).tolist()
        [0, 1, 0, 0, 1, 0]
    """
    shards = np.repeat(np.arange(len(counts)), counts)
    places = [(np.arange(count) + 0.5) / count for count in counts if count]
    order = np.argsort(np.concatenate([np.zeros(0), *places]), kind="stable")
    return shards[order]
