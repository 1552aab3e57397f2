"""Rows with their words -> slices that have no name and look worse than the rest.

One half of the rows is searched. A slice that is found there is a candidate:
``slice_metrics.measure`` tests it on the other half, and all its figures are from that half. Of
copies of a text only the first is used: they are right or wrong together, and a test would count
each as a confirmation.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy import sparse

from sentiflow.evaluation.slices import MIN_ROWS, SliceOfRows
from sentiflow.metrics.row_ranges import row_ranges
from sentiflow.models.tokens import Tokens

MAX_CANDIDATES = 10
"""Maximum number of candidates: with more, each needs a lower p-value when it is tested."""
MIN_GAP = 0.05
"""A candidate's accuracy is at least this much lower than on the rest of the searched half."""
MAX_ROWS = 400_000
"""Maximum number of rows in both halves together. Of more rows, this number is drawn."""
MAX_WORDS = 2000
"""Only the most frequent words are searched."""

_WORSE = 2.0
"""Standard errors by which a candidate is worse than the rest of the searched half."""
_WORSE_THAN_PARTS = 3.0
"""Standard errors by which a pair is worse than the other rows of each of its two slices. A word is
in so many pairs that one of them is much worse than the word by chance."""
_SAME = 0.8
"""Two slices count as the same if at least this share of the rows that are in one of them is in
both."""
_NUM_WORDS = 32
"""About the number of words of a text. It sets how many texts are computed with at a time."""
_MAX_LISTED = 300
"""Candidates are chosen among at most this number of slices: those that are worse by the most
standard errors."""


class _Columns(NamedTuple):
    """K slices of N rows."""

    names: list[str]
    has: sparse.csr_array
    """Which rows are in which slice: ``(N, K)``, 0 or 1."""

    def take(self, columns: np.ndarray) -> "_Columns":
        """Choose slices by the positions of their columns."""
        return _Columns([self.names[column] for column in columns], self.has[:, columns])


class _Pairs(NamedTuple):
    """Pairs of slices, by the positions of their columns; a single slice is a pair with itself."""

    first: np.ndarray
    second: np.ndarray
    """The same as ``first`` for a single slice."""

    def take(self, chosen: np.ndarray | Sequence[int]) -> "_Pairs":
        """Choose some pairs, by position or by a boolean for each."""
        return _Pairs(self.first[chosen], self.second[chosen])


class _Gap(NamedTuple):
    """How much more often predictions are wrong in each slice than in other rows."""

    value: np.ndarray
    """Share of wrong rows in the slice minus the share among the other rows."""
    z: np.ndarray
    """The difference in standard errors: the z statistic of the test that both are equal."""


class SearchSample(NamedTuple):
    """The n rows that are searched or tested, at most ``MAX_ROWS`` of N."""

    positions: np.ndarray
    """Their positions among the N rows, in rising order."""
    draw: np.ndarray
    """n uint64 that look random: even numbers are in the searched half."""
    tokens: Tokens | None
    """Tokens of the n texts; None: no words are searched."""


class Sampler:
    """Draws rows of which it is told in any order: those with the lowest numbers."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._positions: list[np.ndarray] = []
        self._draw: list[np.ndarray] = []
        self._tokens: list[Tokens] = []
        self._highest = np.uint64(2**64 - 1)
        """Rows with a higher number are not in the sample."""

    def add(self, positions: np.ndarray, draw: np.ndarray, tokens: Tokens | None) -> None:
        """Add some rows.

        Args:
            positions: Their positions among all rows.
            draw: A uint64 for each row, which looks random. Rows with the same number are copies of
                a text, or of one author: only the first of them is drawn.
            tokens: The tokens of their texts; None in all calls, or in none.
        """
        chosen = np.flatnonzero(draw <= self._highest)
        self._positions.append(positions[chosen])
        self._draw.append(draw[chosen])
        if tokens is not None:
            self._tokens.append(tokens.take(chosen))
        if sum(map(len, self._draw)) > 2 * MAX_ROWS:
            self._shrink()

    def finish(self) -> SearchSample:
        """Return the sample."""
        self._shrink()
        positions = self._positions[0]
        order = np.argsort(positions)
        tokens = self._tokens[0].take(order) if self._tokens else None
        return SearchSample(positions[order], self._draw[0][order], tokens)

    def _shrink(self) -> None:
        """Keep at most ``MAX_ROWS`` rows, in the order of their numbers."""
        draw = np.concatenate(self._draw)
        positions = np.concatenate(self._positions)
        order = np.lexsort((positions, draw))
        is_first = np.diff(draw[order], prepend=~draw[order][:1]) != 0
        kept = order[is_first][:MAX_ROWS]
        self._draw = [draw[kept]]
        self._positions = [positions[kept]]
        if self._tokens:
            self._tokens = [Tokens.join(self._tokens).take(kept)]
        if len(kept) == MAX_ROWS:
            self._highest = draw[kept[-1]]


def search(
    named: Sequence[SliceOfRows],
    unnamed: Sequence[SliceOfRows] = (),
    *,
    sample: SearchSample,
    right: np.ndarray,
) -> list[SliceOfRows]:
    """Search words, slices, and pairs of them for candidates, in one half of N rows.

    The clearest candidate, which is worse by the most standard errors, comes first. Each further
    candidate is also worse on those of its rows that no earlier candidate has. A pair is worse than
    each of its two slices alone. A named slice is a candidate only as a part of a pair, because it
    is measured anyway. Slices with nearly the same rows as a named slice are left out.

    Args:
        named: Slices that are measured anyway.
        unnamed: Other slices, such as those by columns that no setting names.
        sample: The rows that are searched or tested.
        right: N booleans: whether the prediction is right.

    Returns:
        At most ``MAX_CANDIDATES`` slices. Their rows, and the rows to compare them with
        (``SliceOfRows.among``), are in the half that was not searched.
    """
    used = sample.positions
    is_searched = sample.draw % 2 == 0
    wrong = ~right[used][is_searched]
    columns = _list_slices([*named, *unnamed], used)
    if sample.tokens is not None:
        columns = _add_words(columns, sample.tokens, is_searched)
    columns = columns.take(_list_different(columns.has[is_searched], len(named)))
    searched = columns.has[is_searched]
    worse = _list_worse(searched, wrong)
    is_single = worse.first == worse.second
    is_named = is_single & (worse.first < len(named))  # the named slices are the first columns
    worse = worse.take(~is_named)
    members = _find_members(searched, worse)
    chosen = worse.take(_choose_candidates(members, wrong))
    return _to_slices(chosen, columns, used, used[~is_searched], num_rows=len(right))


def _to_slices(
    chosen: _Pairs, columns: _Columns, used: np.ndarray, tested: np.ndarray, *, num_rows: int
) -> list[SliceOfRows]:
    """Give each candidate its name and its tested rows; leave out candidates with few tested rows.

    Args:
        chosen: The candidates.
        columns: The slices they are made of, in the used rows.
        used: Positions of the used rows among all rows.
        tested: Positions of the used rows that were not searched.
        num_rows: Number of all rows.
    """
    members = _find_members(columns.has, chosen)
    among = np.zeros(num_rows, bool)
    among[tested] = True
    candidates = []
    for number, (first, second) in enumerate(zip(chosen.first, chosen.second, strict=True)):
        rows = np.zeros(num_rows, bool)
        rows[used[members[[number]].indices]] = True
        rows &= among
        if rows.sum() < MIN_ROWS:
            continue
        name = columns.names[first]
        if columns.names[second] != name:
            name += f" and {columns.names[second]}"
        candidates.append(SliceOfRows.of(name, "", rows, among=among))
    return candidates


def _list_slices(slices: Sequence[SliceOfRows], used: np.ndarray) -> _Columns:
    """Say which used rows are in which slice."""
    rows = np.zeros((len(slices), len(used)), bool)
    for number, item in enumerate(slices):
        rows[number] = item.mask[used]
    parts = []
    for part in _short_ranges(len(used)):
        parts.append(sparse.csr_array(rows[:, part].T.astype(np.int32)))
    return _Columns([item.name for item in slices], sparse.vstack(parts, format="csr"))


def _add_words(columns: _Columns, tokens: Tokens, is_searched: np.ndarray) -> _Columns:
    """Add the most frequent words of the searched half, each as a slice of the texts with the word.

    Words with a character that is not printable are left out: it could act on a terminal.
    """
    support = np.zeros(len(tokens.words))
    for rows in _short_ranges(len(is_searched)):
        support += is_searched[rows].astype(np.float64) @ _find_words(tokens, rows)
    frequent = np.argsort(-support, kind="stable")[:MAX_WORDS]
    frequent = frequent[support[frequent] >= MIN_ROWS]
    words = tokens.words.take(pa.array(frequent)).to_pylist()
    column_of_word = dict(zip(words, frequent, strict=True))
    # In alphabetical order, so that the order of equally clear slices is defined.
    printable = sorted(word for word in words if word.isprintable())
    names = [f"“{word}”" for word in printable]
    listed = [column_of_word[word] for word in printable]
    parts = []
    for rows in _short_ranges(len(is_searched)):
        of_words = _find_words(tokens, rows)[:, listed]
        parts.append(sparse.hstack([columns.has[rows], of_words], format="csr"))
    return _Columns(columns.names + names, sparse.vstack(parts, format="csr"))


def _find_words(tokens: Tokens, rows: slice) -> sparse.csr_array:
    """Say which texts of a range have which of W words: ``(texts, W)``, 0 or 1."""
    offsets = tokens.offsets[rows.start : rows.stop + 1]
    ids = tokens.ids[offsets[0] : offsets[-1]].copy()  # sum_duplicates sorts them in place
    ones = np.ones(len(ids), np.int32)
    shape = (len(offsets) - 1, len(tokens.words))
    has = sparse.csr_array((ones, ids, offsets - offsets[0]), shape=shape)
    has.sum_duplicates()
    has.data[:] = 1
    return has


def _short_ranges(num_rows: int) -> Iterator[slice]:
    """Divide rows into ranges so short that a matrix of their words takes little memory."""
    return row_ranges(num_rows, num_columns=_NUM_WORDS)


def _list_different(has: sparse.csr_array, num_named: int) -> np.ndarray:
    """List all named columns, and the other columns that differ from each named one in their rows.

    Args:
        has: Which rows are in which slice; the named slices come first.
        num_named: Number of named slices.

    Returns:
        Positions of columns.
    """
    named = has[:, :num_named]
    others = has[:, num_named:]
    in_both = (others.T @ named).toarray()
    in_either = others.sum(axis=0)[:, None] + named.sum(axis=0)[None] - in_both
    is_same = (in_both > 0) & (in_both >= _SAME * in_either)
    different = np.flatnonzero(~is_same.any(axis=1))
    return np.append(np.arange(num_named), num_named + different)


def _list_worse(has: sparse.csr_array, wrong: np.ndarray) -> _Pairs:
    """List slices, and pairs of them, that are worse than the rest; the clearest first.

    Args:
        has: Which of N rows are in which of K slices, ``(N, K)``.
        wrong: N booleans: whether the prediction is wrong.
    """
    size = has.sum(axis=0)
    listed = np.flatnonzero((size >= MIN_ROWS) & (size <= len(wrong) / 2))
    size = size[listed]
    has = has[:, listed]
    has_wrong = has[wrong]
    wrong_size = has_wrong.sum(axis=0)
    in_both = (has.T @ has).toarray()
    wrong_in_both = (has_wrong.T @ has_wrong).toarray()
    # The upper triangle has pairs of different slices; the diagonal has each slice with itself.
    first, second = np.nonzero(np.triu(in_both) >= MIN_ROWS)
    num_rows = in_both[first, second]
    num_wrong = wrong_in_both[first, second]
    gap = _compare(num_wrong, num_rows, wrong.sum() - num_wrong, len(wrong) - num_rows)
    is_worse = (gap.value >= MIN_GAP) & (gap.z >= _WORSE)
    # A pair is also worse than the other rows of each of its slices.
    is_single = first == second
    for part in (first, second):
        other_wrong = wrong_size[part] - num_wrong
        other_rows = size[part] - num_rows
        of_part = _compare(num_wrong, num_rows, other_wrong, other_rows)
        is_worse &= is_single | (of_part.z >= _WORSE_THAN_PARTS)
    worse = np.flatnonzero(is_worse)
    clearest = np.argsort(-gap.z[worse], kind="stable")[:_MAX_LISTED]
    pairs = _Pairs(listed[first], listed[second])
    return pairs.take(worse[clearest])


def _find_members(has: sparse.csr_array, pairs: _Pairs) -> sparse.csr_array:
    """Say which of N rows are in both slices of each of P pairs: ``(P, N)``, 0 or 1."""
    columns = has.tocsc()
    return columns[:, pairs.first].multiply(columns[:, pairs.second]).T.tocsr()


def _choose_candidates(members: sparse.csr_array, wrong: np.ndarray) -> list[int]:
    """Choose slices one by one; each is worse than the rest, on rows that no earlier one has.

    Args:
        members: Which of N rows are in which slice, ``(slices, N)``.
        wrong: N booleans: whether the prediction is wrong.

    Returns:
        Positions of at most ``MAX_CANDIDATES`` slices, the clearest first.
    """
    free = np.ones(len(wrong))
    chosen: list[int] = []
    while len(chosen) < MAX_CANDIDATES:
        num_rows = members @ free
        num_wrong = members @ (free * wrong)
        gap = _compare(num_wrong, num_rows, free @ wrong - num_wrong, free.sum() - num_rows)
        is_worse = (num_rows >= MIN_ROWS) & (gap.value >= MIN_GAP) & (gap.z >= _WORSE)
        if not is_worse.any():
            break
        clearest = int(np.where(is_worse, gap.z, -np.inf).argmax())
        chosen.append(clearest)
        free[members[[clearest]].indices] = 0
    return chosen


def _compare(
    wrong: np.ndarray, rows: np.ndarray, other_wrong: np.ndarray, other_rows: np.ndarray
) -> _Gap:
    """Compare the share of wrong rows in slices with the share among other rows.

    The gap is NaN without other rows. The standard error is computed from the share in all rows,
    as in the test that two shares are equal.

    Args:
        wrong: Number of wrong rows in each slice.
        rows: Number of rows in each slice.
        other_wrong: Number of wrong rows among the other rows of each slice.
        other_rows: Number of other rows of each slice.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = wrong / rows - other_wrong / other_rows
        share = (wrong + other_wrong) / (rows + other_rows)
        standard_error = np.sqrt(share * (1 - share) * (1 / rows + 1 / other_rows))
        return _Gap(value=gap, z=gap / standard_error)
