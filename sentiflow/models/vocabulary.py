"""Tokens -> ids, by a vocabulary that is fitted to a corpus or taken from word vectors."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.text_units import END, Cut
from sentiflow.data import schema
from sentiflow.data.arrays import one_array
from sentiflow.models.tokens import Tokens, find_kept
from sentiflow.storage import parquet

PAD = "<pad>"
PAD_ID = 0
UNKNOWN = "<unk>"
UNKNOWN_ID = 1

_DROPPED = -1
"""Stands for the id of a word that is left out."""
_FEW_WORDS = 64
"""Up to so many words are looked up one by one."""
_DIM = b"dim"
"""Metadata key of the column ``vector``: the size of a vector, also if all vectors are null."""


class Encoded(NamedTuple):
    """N tweets as ids."""

    token_ids: pa.ListArray
    """N lists of int32, empty for a tweet without a known word."""
    num_known: np.ndarray
    """Known words in each list, N int32."""
    num_unknown: np.ndarray
    """Unknown tokens of each whole tweet, before it is cut, N int32."""


@dataclass(frozen=True)
class Vocabulary:
    """Words in id order; id 0 is padding."""

    words: pa.Array
    """The first is ``<pad>``; the second is ``<unk>`` if unknown words are kept."""
    counts: pa.Array
    """Count of each word in the train split; null if it was not counted."""
    vectors: np.ndarray | None = None
    """(len(self), D) float32, NaN for a word without a vector; None in a model package."""

    def __len__(self) -> int:
        return len(self.words)

    @property
    def has_unknown(self) -> bool:
        """Whether unknown words become ``<unk>``; otherwise they are dropped."""
        return len(self) > UNKNOWN_ID and self.words[UNKNOWN_ID].as_py() == UNKNOWN

    def look_up(self, words: pa.Array) -> np.ndarray:
        """Return the ids of distinct words, int32; an unknown word gets the id of ``<unk>``, or -1.

        Many words are not searched in the vocabulary, but the reverse: a hash table of them is
        quick to build. Few, as of a single text, are looked up in a dictionary, which is kept.
        """
        unknown = UNKNOWN_ID if self.has_unknown else _DROPPED
        if len(words) <= _FEW_WORDS:
            ids_of_words = [self._id_of_word.get(word, unknown) for word in words.to_pylist()]
            return np.array(ids_of_words, np.int32)
        ids = np.full(len(words), unknown, np.int32)
        places_in_words = pc.index_in(self.words[self.num_special :], value_set=words)
        found = np.flatnonzero(places_in_words.is_valid())
        ids[places_in_words.drop_null()] = found + self.num_special
        return ids

    @functools.cached_property
    def _id_of_word(self) -> dict[str, int]:
        """The id of each known word."""
        first = self.num_special
        return {word: first + place for place, word in enumerate(self.words[first:].to_pylist())}

    @property
    def num_special(self) -> int:
        """Number of ids at the beginning that stand for no word."""
        return 2 if self.has_unknown else 1

    def estimate_counts(self) -> np.ndarray:
        """Return the count of each word.

        A missing count is the highest count / rank, by Zipf's law.
        """
        counts = self.counts.to_numpy(zero_copy_only=False).astype(np.float64)
        ranks = np.arange(1, len(counts) + 1)
        estimated = np.nanmax(counts, initial=1.0) / ranks
        return np.where(np.isnan(counts), estimated, counts)

    def encode(self, tokens: Tokens, *, max_length: int, cut: Cut = END) -> Encoded:
        """Encode tokens as ids, at most ``max_length`` of each tweet, see :func:`find_kept`.

        A tweet without a known word gets an empty list.
        """
        # tokens.ids are positions in tokens.words, not ids of this vocabulary
        ids_of_words = self.look_up(tokens.words)
        is_unknown = ids_of_words < self.num_special
        num_unknown = _count_by_row(is_unknown[tokens.ids], tokens.offsets)
        token_ids = ids_of_words[tokens.ids]
        # drop unknown words; without <unk> only, otherwise they have its id
        kept, offsets = _select(token_ids, tokens.offsets, token_ids != _DROPPED)
        # cut long tweets
        is_kept = find_kept(offsets, max_length=max_length, cut=cut)
        kept, offsets = _select(kept, offsets, is_kept)
        num_known = _count_by_row(self.are_known(kept), offsets)
        # empty the tweets without a known word
        kept, offsets = _select(kept, offsets, np.repeat(num_known > 0, np.diff(offsets)))
        lists = pa.ListArray.from_arrays(
            pa.array(offsets.astype(np.int32)), pa.array(kept, pa.int32())
        )
        return Encoded(
            token_ids=lists,
            num_known=num_known.astype(np.int32),
            num_unknown=num_unknown.astype(np.int32),
        )

    def find_read(self, tokens: Tokens, *, max_length: int, cut: Cut = END) -> np.ndarray:
        """Return the position of each token that :meth:`encode` gives an id, among all tokens.

        Of a tweet without a known word, :meth:`encode` keeps none of these.
        """
        is_listed = (self.look_up(tokens.words) != _DROPPED)[tokens.ids]
        listed, offsets = _select(np.arange(len(tokens.ids)), tokens.offsets, is_listed)
        return listed[find_kept(offsets, max_length=max_length, cut=cut)]

    def find_cut(self, tokens: Tokens, *, max_length: int, cut: Cut = END) -> np.ndarray:
        """Say which tokens :meth:`encode` leaves out because their tweet is too long, bool.

        A token that is left out as an unknown word counts like the token that follows it, and at
        the end of a tweet like the one before.
        """
        is_listed = (self.look_up(tokens.words) != _DROPPED)[tokens.ids]
        before = _count_before(is_listed)
        offsets = before[tokens.offsets]
        is_kept = np.append(find_kept(offsets, max_length=max_length, cut=cut), True)
        row = np.repeat(np.arange(len(offsets) - 1), np.diff(tokens.offsets))
        following = np.minimum(before[:-1], offsets[1:][row] - 1)
        has_listed = offsets[1:][row] > offsets[:-1][row]
        return ~is_kept[following] & has_listed

    def are_known(self, token_ids: np.ndarray) -> np.ndarray:
        """Whether each id stands for a known word, bool; ``<unk>`` stands for all others."""
        if not self.has_unknown:  # its id is that of an ordinary word
            return np.ones(len(token_ids), bool)
        return token_ids != UNKNOWN_ID

    def to_table(self) -> pa.Table:
        """Return the table ``schema.VOCABULARY``, with a column of vectors if there are any."""
        ids = pa.array(np.arange(len(self), dtype=np.int32))
        table = pa.Table.from_arrays([ids, self.words, self.counts], schema=schema.VOCABULARY)
        if self.vectors is None:
            return table
        has_vector = ~np.isnan(self.vectors[:, 0])
        dim = self.vectors.shape[1]
        sizes = np.where(has_vector, dim, 0)
        offsets = np.append(0, np.cumsum(sizes)).astype(np.int32)
        values = pa.array(self.vectors[has_vector].ravel(), pa.float32())
        lists = pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~has_vector))
        field = pa.field("vector", lists.type, metadata={_DIM: str(dim)})
        return table.append_column(field, lists)


def load(uri: str, *, with_vectors: bool = True) -> Vocabulary:
    """Read a file of :meth:`Vocabulary.to_table`."""
    columns = None if with_vectors else ["word", "count"]
    return from_table(parquet.read(uri, columns=columns))


def read_vector_size(uri: str) -> int:
    """Read the size of the vectors in a file of :meth:`Vocabulary.to_table`, and nothing else."""
    return int(parquet.open_file(uri).schema_arrow.field("vector").metadata[_DIM])


def from_table(table: pa.Table) -> Vocabulary:
    """Read the table of :meth:`Vocabulary.to_table`."""
    vectors = None
    if "vector" in table.column_names:
        column = one_array(table["vector"])
        dim = int(table.schema.field("vector").metadata[_DIM])
        has_vector = column.is_valid().to_numpy(zero_copy_only=False)
        vectors = np.full((len(table), dim), np.nan, np.float32)
        vectors[has_vector] = column.flatten().to_numpy().reshape(-1, dim)
    return Vocabulary(
        words=one_array(table["word"]),
        counts=one_array(table["count"]),
        vectors=vectors,
    )


def fit(counts: pa.Table, *, min_count: int, max_size: int | None) -> Vocabulary:
    """Choose the words of a corpus: the most frequent first, ties in alphabetical order.

    Args:
        counts: ``word`` and ``count``; each word is in one row.
        min_count: The smallest count of a chosen word.
        max_size: The largest number of words, not counting the special ones; None: no limit.
    """
    special = pa.array([PAD, UNKNOWN])
    is_frequent = pc.greater_equal(counts["count"], min_count)
    frequent = counts.select(["word", "count"]).filter(is_frequent)
    is_special = pc.is_in(frequent["word"], value_set=special)
    plain = frequent.filter(pc.invert(is_special))
    chosen = plain.sort_by([("count", "descending"), ("word", "ascending")])[:max_size]
    words = pa.concat_arrays([special, chosen["word"].combine_chunks()])
    numbers = pa.concat_arrays([pa.nulls(2, pa.int64()), chosen["count"].combine_chunks()])
    return Vocabulary(words, numbers)


def from_words(words: pa.Array) -> Vocabulary:
    """Take the words of pretrained vectors in their order; all other words are dropped.

    A word that is spelled like padding or the unknown word is left out.
    """
    is_special = pc.is_in(words, value_set=pa.array([PAD, UNKNOWN]))
    plain = words.filter(pc.invert(is_special))
    listed = pa.concat_arrays([pa.array([PAD]), plain])
    return Vocabulary(listed, pa.nulls(len(listed), pa.int64()))


def _select(
    values: np.ndarray, offsets: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the chosen values of each row; return them and the rows' new offsets."""
    if chosen.all():
        return values, offsets
    return values[chosen], _count_before(chosen)[offsets]


def _count_by_row(chosen: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Count the chosen values of each row."""
    return np.diff(_count_before(chosen)[offsets])


def _count_before(chosen: np.ndarray) -> np.ndarray:
    """Count the chosen values before each position, and before the end."""
    return np.append(0, np.cumsum(chosen))
