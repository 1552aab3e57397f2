import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.data import schema
from sentiflow.models import batching, encoded_rows
from sentiflow.models.encoded_rows import EncodedRows
from sentiflow.models.vocabulary import PAD_ID

lengths_strategy = st.lists(st.integers(0, 30), max_size=400).map(np.array)


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=20))
def test_collate_keeps_every_token_and_pads_the_rest(tweets):
    lists = [[7, 7], *tweets]
    numbers = list(range(len(lists)))
    columns = [numbers, [number % 2 for number in numbers], lists, [len(item) for item in lists]]
    rows = EncodedRows.from_tables([pa.table(columns, schema=schema.ENCODED)])
    chosen = np.arange(len(tweets), 0, -1)
    batch = batching.collate(rows, chosen)
    width = max(map(len, tweets))
    expected = [tweet + [PAD_ID] * (width - len(tweet)) for tweet in reversed(tweets)]
    assert batch.token_ids.tolist() == expected
    assert batch.lengths.tolist() == [len(tweet) for tweet in reversed(tweets)]
    assert batch.labels.tolist() == (chosen % 2).tolist()


@given(lengths_strategy)
def test_scoring_order_covers_rows_with_a_token_by_length(lengths):
    batches = encoded_rows.order_by_length(lengths.astype(np.int64), batch_size=8)
    rows = np.concatenate([*batches, np.zeros(0, np.int64)])
    np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(lengths > 0))
    assert (np.diff(lengths[rows.astype(int)]) >= 0).all()


def test_a_scoring_batch_holds_few_long_texts():
    lengths = np.array([1, 1, 2, 2, 2, 2, 5, 5, 5, 40])
    batches = encoded_rows.order_by_length(lengths, batch_size=5, max_cells=12)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3, 4], [5, 6], [7, 8], [9]]


def test_a_sliced_list_column_is_viewed_right():
    column = pa.array([[1, 2], [3], [], [4, 5, 6]], pa.list_(pa.int32()))[1:]
    rows = EncodedRows.from_lists(column)
    assert rows.lengths.tolist() == [1, 0, 3]
    assert batching.collate(rows, np.array([2])).token_ids.tolist() == [[4, 5, 6]]
