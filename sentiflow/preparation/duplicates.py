"""Hashes of texts -> texts that repeat, leak between splits or have contradicting labels.

Texts are compared by their hashes. A corpus whose hashes do not fit into one process is searched in
groups, all rows of a text in the same group.

Two normalized texts are equal if both of their 64-bit hashes are equal. Among 10^9 different texts
the probability that any two are confused is below 2e-21: 10^18 / 2 pairs, each with 2^-128. Two
texts as written are equal if their own hashes are equal, too.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.manifest_types import DuplicateCounts, RepeatCounts, TextCounts
from sentiflow.data.schema import SPLITS
from sentiflow.data.text_hash import CHECK_KEY, SPLIT_KEY, hash_strings, normalize_text

Mode = Literal["keep", "drop_contradicting", "drop"]

KEYS = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("label", pa.int8()),
        pa.field("normalized", pa.uint64(), nullable=False),
        pa.field("check", pa.uint64(), nullable=False),
        pa.field("exact", pa.uint64(), nullable=False),
        pa.field("split", pa.int8(), nullable=False),
    ]
)
"""Accepted rows. ``normalized`` and ``check`` are hashes of the normalized text, under
``text_hash.SPLIT_KEY`` and ``text_hash.CHECK_KEY``; ``exact`` is a hash of the text as written;
``split`` is an index in ``schema.SPLITS``."""

DROPPED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Rows to leave out, in the order of ``row_id``; ``reason`` is contradicting or repeated."""

REPEATED = "repeated"
REASONS = ("contradicting", REPEATED)
"""Reasons of ``DROPPED``."""

_PAIRS = [(earlier, later) for later in range(len(SPLITS)) for earlier in range(later)]
_UNLABELLED = np.iinfo(np.int8).max
"""Stands for a null label; classes are fewer."""
_AFTER_ALL_ROWS = 2**62


@dataclass(frozen=True)
class Duplicates:
    """Repeated texts of some rows, and rows to leave out."""

    counts: DuplicateCounts
    """Counts of the rows given; those of several groups add up (:func:`add`)."""
    dropped: pa.Table
    """Has the columns of ``DROPPED``."""


def hash_texts(text: pa.Array) -> dict[str, np.ndarray]:
    """Compute the hashes by which rows are compared; each text is normalized and hashed once.

    Args:
        text: N texts as written, without nulls.

    Returns:
        The columns ``normalized``, ``check`` and ``exact`` of ``KEYS``, each N uint64.
    """
    normalized = np.asarray(normalize_text(text))
    return {
        "normalized": hash_strings(normalized, key=SPLIT_KEY),
        "check": hash_strings(normalized, key=CHECK_KEY),
        "exact": hash_strings(text, key=SPLIT_KEY),
    }


def mark_repeats(hashes: np.ndarray) -> np.ndarray:
    """Mark the hashes that occur more than once: N bool of N uint64."""
    return np.asarray(pd.Series(hashes).duplicated(keep=False))


def find(keys: pa.Table, *, mode: Mode, split: np.ndarray | None = None) -> Duplicates:
    """Count repeated, leaking and contradicting texts, and choose the rows to leave out.

    The result does not depend on the order of the rows. The result for a text does not depend on
    other texts.

    Args:
        keys: As ``KEYS``, rows and columns in any order: all rows of each text, each row once.
        mode: ``keep`` drops nothing. ``drop_contradicting`` drops all rows of contradicting texts.
            ``drop`` drops these, and keeps one row of every other normalized text: the labelled row
            with the lowest ``row_id``, or the row with the lowest if none is labelled.
        split: Splits of all rows, where ``keys`` lacks unique texts.
    """
    rows = _group(keys)
    by_split = _tally(rows.text, rows.split, len(SPLITS))
    contradicting = _find_contradicting(rows)
    surplus = ~contradicting[rows.text] & ~_is_best(rows)
    reasons = {
        "contradicting": contradicting[rows.text] & (mode != "keep"),
        "repeated": surplus & (mode == "drop"),
    }
    counts: DuplicateCounts = {
        "rows": _name_splits(
            np.bincount(keys["split"].to_numpy() if split is None else split, minlength=len(SPLITS))
        ),
        "exact": _count(_tally(rows.exact, rows.split, len(SPLITS))),
        "normalized": _count(by_split),
        "contradicting": {
            "texts": int(contradicting.sum()),
            "rows": _name_splits(by_split[contradicting].sum(axis=0)),
        },
        "dropped": {
            reason: _name_splits(np.bincount(rows.split[dropped], minlength=len(SPLITS)))
            for reason, dropped in reasons.items()
        },
    }
    return Duplicates(counts, _drop(rows, reasons))


def add(one: Any, other: Any) -> Any:
    """Add the counts of two groups: whole numbers, or dictionaries of them.

    Example:
        >>> add({"rows": {"train": 1, "test": 2}}, {"rows": {"train": 3, "test": 0}})
        {'rows': {'train': 4, 'test': 2}}
    """
    if not isinstance(one, dict):
        return one + other
    assert one.keys() == other.keys(), "both are counts of find()"
    return {name: add(count, other[name]) for name, count in one.items()}


@dataclass(frozen=True)
class _Rows:
    """Rows whose normalized text may occur in another row too, equal texts next to each other."""

    row_id: np.ndarray
    split: np.ndarray
    label: np.ndarray
    """``_UNLABELLED`` where null."""
    text: np.ndarray
    """The number of the row's normalized text, from 0 upward."""
    exact: np.ndarray
    """The number of the row's text as written, from 0 upward."""


def _group(keys: pa.Table) -> _Rows:
    """Leave out unique texts, which most are, before the expensive sort of three columns."""
    keys = keys.filter(pa.array(mark_repeats(keys["normalized"].to_numpy())))
    keys = keys.sort_by([(name, "ascending") for name in ("normalized", "check", "exact")])
    new_text = _differs(keys["normalized"].to_numpy()) | _differs(keys["check"].to_numpy())
    new_exact = new_text | _differs(keys["exact"].to_numpy())
    return _Rows(
        row_id=keys["row_id"].to_numpy(),
        split=keys["split"].to_numpy(),
        label=pc.fill_null(keys["label"], _UNLABELLED).to_numpy(),
        text=np.cumsum(new_text) - 1,
        exact=np.cumsum(new_exact) - 1,
    )


def _differs(values: np.ndarray) -> np.ndarray:
    """Mark the values that differ from the value before."""
    differs = np.ones(len(values), bool)
    differs[1:] = values[1:] != values[:-1]
    return differs


def _tally(text: np.ndarray, value: np.ndarray, num_values: int) -> np.ndarray:
    """Count rows by text and value: one row for each text, one column for each value."""
    num_texts = text[-1] + 1 if len(text) else 0
    cells = np.bincount(text * num_values + value, minlength=num_texts * num_values)
    return cells.reshape(num_texts, num_values)


def _find_contradicting(rows: _Rows) -> np.ndarray:
    """Mark the texts that have more than one label."""
    starts = np.flatnonzero(_differs(rows.text))
    lowest = np.minimum.reduceat(rows.label, starts)
    highest = np.maximum.reduceat(np.where(rows.label == _UNLABELLED, -1, rows.label), starts)
    return highest > lowest


def _is_best(rows: _Rows) -> np.ndarray:
    """Mark the one row of each text that ``drop`` keeps."""
    rank = rows.row_id + np.where(rows.label == _UNLABELLED, _AFTER_ALL_ROWS, 0)
    best = np.minimum.reduceat(rank, np.flatnonzero(_differs(rows.text)))
    return rank == best[rows.text]


def _count(by_split: np.ndarray) -> TextCounts:
    """Count repeated and leaked texts, given the number of rows by text and split."""
    return {
        **_count_repeats(by_split.sum(axis=1)),
        "within": {name: _count_repeats(by_split[:, i]) for i, name in enumerate(SPLITS)},
        "shared_texts": {
            f"{SPLITS[earlier]}_and_{SPLITS[later]}": int(
                np.count_nonzero((by_split[:, earlier] > 0) & (by_split[:, later] > 0))
            )
            for earlier, later in _PAIRS
        },
        "leaked_rows": {
            f"{SPLITS[later]}_in_{SPLITS[earlier]}": int(
                by_split[by_split[:, earlier] > 0, later].sum()
            )
            for earlier, later in _PAIRS
        },
    }


def _count_repeats(rows_of_text: np.ndarray) -> RepeatCounts:
    return {
        "repeated_texts": int(np.count_nonzero(rows_of_text > 1)),
        "surplus_rows": int(np.maximum(rows_of_text - 1, 0).sum()),
    }


def _name_splits(counts: np.ndarray) -> dict[str, int]:
    return dict(zip(SPLITS, counts.tolist(), strict=True))


def _drop(rows: _Rows, reasons: dict[str, np.ndarray]) -> pa.Table:
    row_id = np.concatenate([rows.row_id[dropped] for dropped in reasons.values()])
    reason = np.repeat(np.arange(len(reasons)), [dropped.sum() for dropped in reasons.values()])
    order = np.argsort(row_id)
    names = pa.array(list(reasons)).take(pa.array(reason[order]))
    return pa.table([pa.array(row_id[order]), names], schema=DROPPED)
