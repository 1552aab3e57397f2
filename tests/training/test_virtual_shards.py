"""Any number of workers takes slices of the same global batches."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.data import schema
from sentiflow.storage import filesystem, parquet
from sentiflow.training import virtual_shards
from sentiflow.training.virtual_shards import (
    DEFAULT_NUM_SHARDS,
    TrainInput,
    VirtualShards,
    own_shards,
)

MAX_LENGTH = 30


def write(folder, lengths, num_files=3):
    """Write rows of these lengths, as several files; a row's tokens are its own number."""
    folder.mkdir(parents=True, exist_ok=True)
    uris = []
    for number, rows in enumerate(np.array_split(np.arange(len(lengths)), num_files)):
        table = pa.table(
            [rows, rows % 2, [[row + 1] * lengths[row] for row in rows], lengths[rows]],
            schema=schema.ENCODED,
        )
        uris.append(str(folder / f"{number}.parquet"))
        parquet.write(uris[-1], table)
    return uris


def write_unlabelled(folder, lengths, num_words=1000):
    """Write unlabelled texts of these lengths, as one file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.arange(len(lengths))
    uri = str(folder / "unlabelled.parquet")
    ids = [[row % num_words + 1] * lengths[row] for row in rows]
    table = pa.table([rows, [""] * len(rows), ids, lengths], schema=schema.UNLABELLED)
    parquet.write(uri, table)
    return uri


def plan(uris, **options):
    """Cut files into shards."""
    rows = {uri: parquet.read(uri).num_rows for uri in uris}
    return VirtualShards.plan(rows, **options)


def open_inputs(uris, *, world_size=1, positions=None, **options):
    """Open the input of every worker."""
    shards = plan(uris, positions=positions)
    counts = sum(
        shards.count_lengths([shard], max_length=MAX_LENGTH) for shard in range(DEFAULT_NUM_SHARDS)
    )
    options = {"batch_size": 8} | options
    return [
        TrainInput(shards, own=own_shards(rank, world_size), counts=counts, **options)
        for rank in range(world_size)
    ]


def batches_of(inputs, epoch=0, first_step=0):
    """Put the workers' slices together: the row ids of each global batch, by shard."""
    slices = [list(item.slices(epoch, first_step=first_step)) for item in inputs]
    joined = []
    for parts in zip(*slices, strict=True):
        ids = np.concatenate([part.rows.row_ids[part.chosen] for part in parts])
        assert all(part.shard_sizes.sum() == len(ids) for part in parts)
        joined.append(ids.tolist())
    return joined


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(0, MAX_LENGTH + 1, 700)


@pytest.mark.parametrize("bucketing", ["pooled", "exact"])
@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_workers_take_slices_of_the_same_batches(tmp_path, lengths, bucketing, world_size):
    uris = write(tmp_path, lengths)
    alone = batches_of(open_inputs(uris, bucketing=bucketing), epoch=3)
    together = batches_of(open_inputs(uris, bucketing=bucketing, world_size=world_size), epoch=3)
    assert together == alone


@pytest.mark.parametrize("positions", [np.arange(2, dtype=np.int8), np.array([-1, 0], np.int8)])
def test_unlabelled_texts_are_rows_of_their_own_beside_labelled_ones(tmp_path, lengths, positions):
    """Rows of a class that is left out stay out; a text without a label is of no class."""
    further = np.random.default_rng(1).integers(0, MAX_LENGTH + 1, 150)
    uris = [*write(tmp_path, lengths), write_unlabelled(tmp_path, further)]
    alone = open_inputs(uris, positions=positions)
    batches = batches_of(alone)
    for world_size in (2, 5):
        workers = open_inputs(uris, positions=positions, world_size=world_size)
        assert batches_of(workers) == batches
    learned = [row for row in np.flatnonzero(lengths) if positions[0] == 0 or row % 2]
    wanted = [*learned, *(-1 - row for row in np.flatnonzero(further))]
    assert sorted(itertools.chain(*batches)) == sorted(wanted)
    for part in alone[0].slices(0):
        ids, labels = part.rows.row_ids, part.rows.labels
        assert ((labels == -1) == (ids < 0)).all()
        tokens = part.rows.token_ids[part.rows.offsets[:-1][part.rows.lengths > 0]]
        assert (tokens == np.where(ids < 0, -ids, ids + 1)[part.rows.lengths > 0]).all()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, MAX_LENGTH), max_size=300).map(np.array),
    st.sampled_from(["pooled", "exact"]),
    st.integers(1, 50),
    st.booleans(),
    st.booleans(),
)
def test_every_row_to_learn_from_is_in_exactly_one_batch(
    tmp_path_factory, lengths, bucketing, batch_size, drop_last, keep_empty
):
    lengths = lengths.astype(np.int64)
    drop_last = drop_last and bucketing == "exact"
    uris = write(tmp_path_factory.mktemp("rows"), lengths)
    (given_input,) = open_inputs(
        uris,
        bucketing=bucketing,
        batch_size=batch_size,
        drop_last=drop_last,
        keep_empty=keep_empty,
    )
    wanted = np.flatnonzero(lengths >= (0 if keep_empty else 1)).tolist()
    batches = batches_of([given_input])
    assert given_input.num_steps(0) == len(batches)
    assert given_input.num_rows == len(wanted)
    assert all(0 < len(batch) <= batch_size for batch in batches)
    rows = sorted(row for batch in batches for row in batch)
    if drop_last:
        assert all(len(batch) == batch_size for batch in batches)
        assert len(set(rows)) == len(rows)
        assert set(rows) <= set(wanted)
    else:
        assert rows == wanted


def test_exact_bucketing_mixes_no_lengths(tmp_path, lengths):
    for batch in batches_of(open_inputs(write(tmp_path, lengths), bucketing="exact")):
        assert len(set(lengths[batch])) == 1


def test_the_order_is_a_function_of_seed_and_epoch(tmp_path, lengths):
    uris = write(tmp_path, lengths)

    def order(seed, epoch):
        return batches_of(open_inputs(uris, seed=seed), epoch=epoch)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


@pytest.mark.parametrize("world_size", [1, 4])
def test_a_sequence_can_be_entered_at_any_step(tmp_path, lengths, monkeypatch, world_size):
    monkeypatch.setattr(virtual_shards, "ROWS_IN_CHUNK", 10)
    monkeypatch.setattr(virtual_shards, "CHUNKS_IN_WINDOW", 2)
    inputs = open_inputs(write(tmp_path, lengths), world_size=world_size)
    whole = batches_of(inputs, epoch=1)
    for step in (0, 1, 17, 40, len(whole) - 1, len(whole)):
        assert batches_of(inputs, epoch=1, first_step=step) == whole[step:]


def test_a_corpus_of_many_windows_is_held_one_at_a_time(tmp_path, lengths, monkeypatch):
    monkeypatch.setattr(virtual_shards, "ROWS_IN_CHUNK", 10)
    monkeypatch.setattr(virtual_shards, "CHUNKS_IN_WINDOW", 2)
    (given_input,) = open_inputs(write(tmp_path, lengths))
    sizes = {len(part.rows) for part in given_input.slices(0)}
    assert max(sizes) <= DEFAULT_NUM_SHARDS * 2 * 10
    batches = batches_of([given_input])
    assert sorted(np.concatenate(batches)) == np.flatnonzero(lengths).tolist()
    assert batches != batches_of([given_input], epoch=1)


def test_a_chunk_opens_only_the_files_that_it_is_in(tmp_path, lengths):
    uris = write(tmp_path, lengths, num_files=70)
    known = VirtualShards.plan(dict.fromkeys(uris, 10))
    assert known == plan(uris)
    (whole,) = known.read(3, [0])[:1]
    first = 3 * 700 // DEFAULT_NUM_SHARDS // 10
    last = 4 * 700 // DEFAULT_NUM_SHARDS // 10
    for uri in (*uris[:first], *uris[last + 1 :]):
        filesystem.delete(uri)
    assert known == VirtualShards.plan(dict.fromkeys(uris, 10))
    tables = known.read(3, [0])
    assert tables[0] == whole
    ids = [row for table in tables for row in table["row_id"].to_pylist()]
    assert ids == list(range(3 * 700 // DEFAULT_NUM_SHARDS, 4 * 700 // DEFAULT_NUM_SHARDS))


def test_pools_hold_padding_below_a_twentieth(tmp_path):
    lengths = np.clip(np.random.default_rng(0).poisson(14, 20_000), 1, MAX_LENGTH)
    for item in open_inputs(write(tmp_path, lengths), batch_size=128, world_size=2):
        used = padded = 0
        for part in item.slices(0):
            own = part.rows.lengths[part.chosen]
            used = used + own.sum()
            padded = padded + own.max() * len(own)
        assert used / padded > 0.95
