"""Encoding equals a plain loop over words, and a vocabulary comes back as it was saved."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.data import schema
from sentiflow.models import vocabulary
from sentiflow.models.tokens import Tokens
from sentiflow.models.vocabulary import PAD, UNKNOWN
from sentiflow.storage import parquet

SETTINGS = settings(max_examples=50, deadline=None)

TOKENS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "\u00e9", "", PAD, UNKNOWN, "x", "y"]), max_size=7),
    max_size=7,
)


def lists_of(rows):
    """Make a list-of-strings column."""
    return pa.array(rows, pa.list_(pa.string()))


def table_of(pairs):
    """Make a table of counts from (word, count)."""
    words, counts = zip(*pairs, strict=True) if pairs else ((), ())
    return pa.table({"word": pa.array(words, pa.string()), "count": pa.array(counts, pa.int64())})


def fitted(pairs, *, min_count=1, max_size=None):
    """Fit a vocabulary to (word, count)."""
    return vocabulary.fit(table_of(pairs), min_count=min_count, max_size=max_size)


CORPUS = fitted([("a", 9), ("c", 5), ("\u00e9", 4), ("", 1)])
PRETRAINED = vocabulary.from_words(pa.array(["c", "a", "the", "\u00e9"]))


def encode_reference(words, tokens, max_length, cut):
    """Encode one tweet word by word; returns the ids and how many are known."""
    numbers = {word: number for number, word in enumerate(words) if word not in (PAD, UNKNOWN)}
    if words[1] == UNKNOWN:
        ids = [numbers.get(token, 1) for token in tokens]
    else:
        ids = [numbers[token] for token in tokens if token in numbers]
    if cut == "middle" and len(ids) > max_length:
        num_last = max_length // 2
        ids = ids[: max_length - num_last] + ids[len(ids) - num_last :]
    ids = ids[:max_length]
    num_known = sum(number in numbers.values() for number in ids)
    return (ids if num_known else []), num_known


@pytest.mark.parametrize("words", [CORPUS, PRETRAINED], ids=["corpus", "pretrained"])
@SETTINGS
@given(
    rows=TOKENS,
    start=st.integers(0, 4),
    length=st.integers(0, 7),
    max_length=st.integers(1, 5),
    cut=st.sampled_from(["end", "middle"]),
)
def test_encoding_equals_its_plain_form(words, rows, start, length, max_length, cut):
    tokens = lists_of(rows)[start : start + length]
    rows = rows[start : start + length]
    lists, num_known, _ = words.encode(Tokens.from_lists(tokens), max_length=max_length, cut=cut)
    expected = [encode_reference(words.words.to_pylist(), row, max_length, cut) for row in rows]
    assert list(zip(lists.to_pylist(), num_known.tolist(), strict=True)) == expected
    assert (lists.type, num_known.dtype) == (pa.list_(pa.int32()), np.int32)
    lists.validate(full=True)


@SETTINGS
@given(rows=TOKENS, start=st.integers(0, 4), chosen=st.lists(st.booleans(), min_size=7, max_size=7))
def test_counting_equals_its_plain_form(rows, start, chosen):
    tokens = Tokens.from_lists(lists_of(rows)[start:])
    counts = tokens.count(np.array(chosen[: len(rows[start:])], bool))
    expected = Counter(
        t for row, take in zip(rows[start:], chosen, strict=False) if take for t in row
    )
    assert len(set(tokens.words.to_pylist())) == len(tokens.words) == len(counts)
    found = dict(zip(tokens.words.to_pylist(), counts.tolist(), strict=True))
    assert found == {word: expected[word] for word in found}
    assert expected.keys() <= found.keys()


@SETTINGS
@given(
    st.dictionaries(st.text(max_size=2), st.integers(0, 4), max_size=12),
    st.integers(1, 4),
    st.none() | st.integers(1, 6),
    st.integers(0, 12),
)
def test_the_most_frequent_words_come_first_then_the_alphabet(counts, min_count, max_size, cut):
    pairs = list(counts.items())
    words = [w for w in sorted(counts, key=lambda w: (-counts[w], w)) if counts[w] >= min_count]
    words = words[:max_size]
    table = pa.concat_tables([table_of(pairs[:cut]), table_of(pairs[cut:])])
    found = vocabulary.fit(table, min_count=min_count, max_size=max_size)
    assert found.words.to_pylist() == [PAD, UNKNOWN, *words]
    assert found.counts.to_pylist() == [None, None, *(counts[word] for word in words)]


def test_pretrained_words_keep_their_order_behind_the_padding():
    assert PRETRAINED.words.to_pylist() == [PAD, "c", "a", "the", "\u00e9"]
    assert PRETRAINED.counts.null_count == len(PRETRAINED) == 5
    assert not PRETRAINED.has_unknown
    assert CORPUS.has_unknown


def test_looking_a_word_up_gives_its_place_in_the_vocabulary():
    for words in (CORPUS, PRETRAINED):
        names = words.words[words.num_special :]
        assert words.words.take(pa.array(words.look_up(names))).equals(names)
        for number, name in enumerate(names, words.num_special):
            assert words.look_up(pa.array(["?", name.as_py()])).tolist() == [
                words.look_up(pa.array(["?"]))[0], number
            ]  # fmt: skip
        many = pa.concat_arrays([pa.array([f"?{i}" for i in range(9)]), names])
        assert words.look_up(many)[9:].tolist() == words.look_up(names).tolist()


MATRIX = np.arange(len(CORPUS) * 3, dtype=np.float32).reshape(-1, 3)
HOLED = np.where(np.isin(np.arange(len(CORPUS)), [0, 1, 4])[:, None], np.nan, MATRIX)


@pytest.mark.parametrize(
    "vectors",
    [
        pytest.param(None, id="no vectors"),
        pytest.param(MATRIX, id="every vector"),
        pytest.param(HOLED.astype(np.float32), id="some vectors"),
        pytest.param(np.full_like(MATRIX, np.nan), id="not one known vector"),
    ],
)
def test_loading_gives_what_was_saved(tmp_path, vectors):
    saved = replace(CORPUS, vectors=vectors)
    uri = str(tmp_path / "vocabulary.parquet")
    parquet.write(uri, saved.to_table())
    loaded = vocabulary.load(uri)
    assert loaded.words.equals(saved.words)
    assert loaded.counts.equals(saved.counts)
    columns = parquet.read(uri).select(schema.VOCABULARY.names)
    assert columns.schema.equals(schema.VOCABULARY)
    if vectors is None:
        assert loaded.vectors is None
    else:
        np.testing.assert_array_equal(loaded.vectors, vectors)
        assert loaded.vectors.dtype == np.float32
