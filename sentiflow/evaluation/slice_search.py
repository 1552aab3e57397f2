"""Rows with their words -> slices that nobody named and that look worse than the rest.

One half of the rows is searched. What is found there is a candidate: ``slices.measure`` tests it on
the other half, from which all its figures are. Of copies of a text the first is used: they are
right or wrong together, and a test would take them for so many confirmations.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy import sparse

from sentiflow.evaluation.slices import MIN_ROWS, SliceOfRows
from sentiflow.models.tokenizer import Tokens

MAX_CANDIDATES = 10
MIN_GAP = 0.05
"""By how much the accuracy on these rows is lower than on the rest of this half."""
MAX_ROWS = 400_000
"""With more rows, so many are drawn for both halves together."""
MAX_WORDS = 2000
"""Words that are searched, the most frequent ones."""

_WORSE = 2.0
"""Standard errors by which a candidate is worse than the rest of the searched half."""
_WORSE_THAN_PARTS = 3.0
"""Standard errors by which a pair is worse than the other rows of each of its two. A single word
is in so many pairs that one of them is much worse than the word by chance."""
_SAME = 0.8
"""Rows in both of two slices, as a share of those in either, from which they count as one."""
_MAX_LISTED = 300
"""Slices among which candidates are chosen, the clearest ones."""


def search(
    named: Sequence[SliceOfRows],
    unnamed: Sequence[SliceOfRows] = (),
    *,
    tokens: Tokens | None,
    right: np.ndarray,
    draw: np.ndarray,
) -> list[SliceOfRows]:
    """Search words, slices, and pairs of them for candidates, in one half of N rows.

    The clearest comes first, each next one is worse also on the rows that are in none before it. A
    pair is worse than each of its two alone. A named slice is searched in pairs alone, as it is
    measured anyway, and what has nearly the same rows is left out.

    Args:
        named: Slices that are measured anyway.
        unnamed: Others, such as those by columns that no setting names.
        tokens: Of the N texts; None: no words are searched.
        right: N booleans: whether the prediction is right.
        draw: N uint64 that look random and decide about the half. Rows with the same number are
            copies of a text.

    Returns:
        At most ``MAX_CANDIDATES`` slices, ``among`` the half that was not searched.
    """
    used = np.sort(np.unique(draw, return_index=True)[1][:MAX_ROWS])
    searched = draw[used] % 2 == 0
    slices = [*named, *unnamed]
    names = [item.name for item in slices]
    rows_of_slices = np.array([item.rows[used] for item in slices], np.int32)
    has = sparse.csr_array(rows_of_slices.reshape(len(slices), len(used)).T)
    if tokens is not None:
        words, of_words = _list_words(tokens, used, searched)
        names, has = names + words, sparse.hstack([has, of_words], format="csr")
    differs = _differs(has[searched], len(named))
    names, has = [names[k] for k in differs], has[:, differs]
    wrong = ~right[used][searched]
    first, second = _list_worse(has[searched], wrong)
    is_unnamed = (first != second) | (first >= len(named))
    first, second = first[is_unnamed], second[is_unnamed]
    chosen = _choose(_members(has[searched], first, second), wrong)
    members = _members(has, first[chosen], second[chosen])
    among = np.zeros(len(right), bool)
    among[used[~searched]] = True
    candidates = []
    for number, (a, b) in enumerate(zip(first[chosen], second[chosen], strict=True)):
        rows = np.zeros(len(right), bool)
        rows[used[members[[number]].indices]] = True
        rows &= among
        if rows.sum() >= MIN_ROWS:
            name = " and ".join(dict.fromkeys((names[a], names[b])))
            candidates.append(SliceOfRows(name, "", rows, among=among))
    return candidates


def _list_words(
    tokens: Tokens, used: np.ndarray, searched: np.ndarray
) -> tuple[list[str], sparse.csr_array]:
    """Name W words in enough texts of the searched half; say which used texts have each.

    Characters that are not printable could act on a terminal, so words with one are left out.
    """
    lengths, is_used = np.diff(tokens.offsets), np.zeros(len(tokens.offsets) - 1, bool)
    is_used[used] = True
    ids, ends = tokens.ids[np.repeat(is_used, lengths)], np.append(0, np.cumsum(lengths[used]))
    shape = (len(used), len(tokens.words))
    has = sparse.csr_array((np.ones(len(ids), np.int32), ids, ends), shape=shape)
    has.sum_duplicates()
    has.data[:] = 1
    support = searched.astype(np.float64) @ has
    frequent = np.argsort(-support, kind="stable")[:MAX_WORDS]
    frequent = frequent[support[frequent] >= MIN_ROWS]
    words = dict(zip(tokens.words.take(pa.array(frequent)).to_pylist(), frequent, strict=True))
    shown = sorted(word for word in words if word.isprintable())
    return [f"“{word}”" for word in shown], has[:, [words[word] for word in shown]]


def _differs(has: sparse.csr_array, num_named: int) -> np.ndarray:
    """List the columns that are named, and those that do not have nearly the rows of such a one."""
    named, others = has[:, :num_named], has[:, num_named:]
    both = (others.T @ named).toarray()
    either = others.sum(axis=0)[:, None] + named.sum(axis=0)[None] - both
    is_same = (both > 0) & (both >= _SAME * either)
    return np.append(np.arange(num_named), num_named + np.flatnonzero(~is_same.any(axis=1)))


def _list_worse(has: sparse.csr_array, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List what is worse than the rest, the clearest first: columns of ``has``, or pairs of them.

    Returns:
        The first and the second column of each; a single one is both.
    """
    size = np.ones(len(wrong)) @ has
    listed = np.flatnonzero((size >= MIN_ROWS) & (size <= len(wrong) / 2))
    size, has = size[listed], has[:, listed]
    of_wrong = has[wrong]
    both, both_wrong = (part.T @ part for part in (has, of_wrong))
    first, second = np.nonzero(np.triu(both.toarray()) >= MIN_ROWS)
    num_rows, num_wrong = (each.toarray()[first, second] for each in (both, both_wrong))
    wrong_size = np.ones(of_wrong.shape[0]) @ of_wrong
    gap, errors = _compare(num_wrong, num_rows, wrong.sum() - num_wrong, len(wrong) - num_rows)
    is_worse = (gap >= MIN_GAP) & (errors >= _WORSE)
    for part in (first, second):
        others = wrong_size[part] - num_wrong, size[part] - num_rows
        is_worse &= (first == second) | (
            _compare(num_wrong, num_rows, *others)[1] >= _WORSE_THAN_PARTS
        )
    worse = np.flatnonzero(is_worse)
    worse = worse[np.argsort(-errors[worse], kind="stable")[:_MAX_LISTED]]
    return listed[first[worse]], listed[second[worse]]


def _members(has: sparse.csr_array, first: np.ndarray, second: np.ndarray) -> sparse.csr_array:
    """Say which of N rows have both of two columns: ``(pairs, N)``."""
    columns = has.tocsc()
    return columns[:, first].multiply(columns[:, second]).T.tocsr()


def _choose(members: sparse.csr_array, wrong: np.ndarray) -> list[int]:
    """Choose slices that are worse than the rest on rows that are in none chosen before."""
    free, chosen = np.ones(len(wrong)), list[int]()
    while len(chosen) < MAX_CANDIDATES:
        num_rows, num_wrong = members @ free, members @ (free * wrong)
        gap, errors = _compare(num_wrong, num_rows, free @ wrong - num_wrong, free.sum() - num_rows)
        is_worse = (num_rows >= MIN_ROWS) & (gap >= MIN_GAP) & (errors >= _WORSE)
        if not is_worse.any():
            break
        clearest = int(np.where(is_worse, errors, -np.inf).argmax())
        chosen.append(clearest)
        free[members[[clearest]].indices] = 0
    return chosen


def _compare(
    wrong: np.ndarray, rows: np.ndarray, other_wrong: np.ndarray, other_rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Subtract other shares of wrong rows; give the difference, and by how many standard errors.

    The errors are those of the test of two shares with a common variance. NaN without other rows.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = wrong / rows - other_wrong / other_rows
        share = (wrong + other_wrong) / (rows + other_rows)
        return gap, gap / np.sqrt(share * (1 - share) * (1 / rows + 1 / other_rows))
