"""Hashes of texts -> texts that repeat, leak between splits or have contradicting labels.

Texts are compared by their hashes. A corpus whose hashes do not fit into one process is searched in
groups; all rows of a text are in the same group.

Two texts are equal if their keys are (:mod:`text_keys`): the normalized texts, or their templates.
Two keys are equal if both of their 64-bit hashes are equal. Among 10^9 different texts
the probability that any two are confused is below 2e-21: 10^18 / 2 pairs, each with 2^-128.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.text_units import EXACT, DuplicateKey
from sentiflow.data.arrays import CHECK_KEY, SPLIT_KEY, hash_strings
from sentiflow.data.manifest_types import DuplicateCounts, RepeatCounts, TextCounts
from sentiflow.data.schema import SPLITS
from sentiflow.models import text_keys
from sentiflow.preparation.most_repeated import RepeatedRows, find_most_repeated

KEYS = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("label", pa.int8()),
        pa.field("normalized", pa.uint64(), nullable=False),
        pa.field("check", pa.uint64(), nullable=False),
        pa.field("split", pa.int8(), nullable=False),
    ]
)
"""Accepted rows. ``normalized`` and ``check`` are hashes of the key of the text, under
``arrays.SPLIT_KEY`` and ``arrays.CHECK_KEY``; ``split`` is an index in ``schema.SPLITS``."""
ORIGIN = pa.schema([pa.field("user", pa.uint64()), pa.field("day", pa.int32())])
"""Further columns of ``KEYS`` where users or times are read: the hash of the user, and days since
1970."""

DROPPED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Rows to leave out, in the order of ``row_id``; ``reason`` is one of ``REASONS``."""

CONTRADICTING = "contradicting"
"""The text has several labels."""
REPEATED = "repeated"
"""Another row with the text is kept."""
IN_LATER_SPLIT = "held_out"
"""A validation or test row has the text, too. Manifests have this string."""
REASONS = (CONTRADICTING, REPEATED, IN_LATER_SPLIT)
"""Reasons to leave a row out."""

_TEST = SPLITS.index("test")


class Found(NamedTuple):
    """What is found in the keys of texts."""

    counts: DuplicateCounts
    """They can be added up over groups."""
    dropped: pa.Table
    """The rows to leave out, as ``DROPPED``."""
    most_repeated: list[RepeatedRows]
    """The texts with the most rows."""


def hash_texts(text: pa.Array, key: DuplicateKey = EXACT) -> dict[str, np.ndarray]:
    """Compute the hashes by which rows are compared; each key is made and hashed once.

    Args:
        text: N texts as written, without nulls.
        key: The key by which texts count as equal.

    Returns:
        The columns ``normalized`` and ``check`` of ``KEYS``, each N uint64.
    """
    key_text = np.asarray(text_keys.make(text, key))
    return {
        "normalized": hash_strings(key_text, key=SPLIT_KEY),
        "check": hash_strings(key_text, key=CHECK_KEY),
    }


def find(
    keys: pa.Table,
    *,
    mode: Literal["keep", "drop_contradicting", "drop"],
    fixed: Collection[str] = (),
) -> Found:
    """Count repeated, leaking and contradicting texts, and choose the rows to leave out.

    The result does not depend on the order of the rows. The result for a text does not depend on
    other texts.

    Args:
        keys: As ``KEYS``, some columns of ``ORIGIN`` with them, rows and columns in any order: all
            rows of each text, each row once.
        mode: What to drop besides the rows that ``fixed`` drops. ``keep``: nothing.
            ``drop_contradicting``: all rows of contradicting texts. ``drop``: these rows, too, and
            all rows but one of every other text. The row that stays is labelled if there is one,
            and has the lowest ``row_id``.
        fixed: Splits whose rows were given. If there are any, a text stays only in its last split:
            test, otherwise validation, otherwise train. Given test rows all stay, in any mode.
    """
    rows = _select_repeated(keys)
    text = rows.groupby(["normalized", "check"]).ngroup()
    split = rows["split"]
    contradicts = _find_contradicting(rows["label"], text)
    none = pd.Series(False, index=rows.index)
    is_in_later_split = none
    if fixed:
        is_in_later_split = split < split.groupby(text).transform("max")
    is_protected = none
    if "test" in fixed:
        is_protected = split == _TEST
    is_dropped = {}  # the first reason counts
    if fixed:
        is_dropped[IN_LATER_SPLIT] = is_in_later_split
    is_dropped[CONTRADICTING] = none
    if mode != "keep":
        is_dropped[CONTRADICTING] = contradicts & ~is_protected
    is_dropped[REPEATED] = none
    if mode == "drop":
        is_surplus = _find_surplus(rows["label"], text, is_in_later_split)
        is_dropped[REPEATED] = is_surplus & ~contradicts & ~is_protected
    reason = np.select(list(is_dropped.values()), list(is_dropped), "")
    counts: DuplicateCounts = {
        "rows": _count_by_split(keys["split"].to_pandas()),
        "normalized": _count_texts(text, split),
        "contradicting": {
            "texts": text[contradicts].nunique(),
            "rows": _count_by_split(split[contradicts]),
        },
        "dropped": {name: _count_by_split(split[reason == name]) for name in is_dropped},
    }
    dropped = pa.table([pa.array(rows["row_id"]), pa.array(reason)], schema=DROPPED)
    return Found(
        counts,
        dropped.filter(pc.not_equal(dropped["reason"], "")),
        find_most_repeated(rows, text, is_dropped=reason != ""),
    )


def _select_repeated(keys: pa.Table) -> pd.DataFrame:
    """Select the rows whose text may be repeated, in the order of ``row_id``.

    Only ``normalized`` is compared here, so rows of two texts with the same hash are included. Most
    texts are unique, so the later steps have few rows.
    """
    is_repeated = keys["normalized"].to_pandas().duplicated(keep=False)
    rows = keys.filter(pa.array(is_repeated)).to_pandas()
    return rows.sort_values("row_id", ignore_index=True)


def _find_contradicting(label: pd.Series, text: pd.Series) -> pd.Series:
    """Mark the rows whose text has several labels; ``text`` has the number of each row's text."""
    labels = label.groupby(text)
    return labels.transform("min") < labels.transform("max")


def _find_surplus(label: pd.Series, text: pd.Series, is_in_later_split: pd.Series) -> pd.Series:
    """Mark all rows of each text except the row to keep.

    Args:
        label: Labels in the order of ``row_id``, NaN for none.
        text: Number of the text of each row.
        is_in_later_split: Rows that are left out in any case; another row is kept if there is one.
    """
    # 0: labelled, 1: unlabelled; 2 and 3: the same, of rows that are left out in any case
    rank = label.isna().astype("int64")
    rank[is_in_later_split] += 2
    best_first = rank.sort_values(kind="stable").index
    return text[best_first].duplicated().sort_index()


def _count_texts(text: pd.Series, split: pd.Series) -> TextCounts:
    """Count repeated and leaked texts; the arguments have each row's text number and split."""
    by_text = text.groupby([text, split]).size().unstack(fill_value=0)
    by_split = by_text.reindex(columns=range(len(SPLITS)), fill_value=0).to_numpy()
    leaked_rows = {}
    for later, later_name in enumerate(SPLITS):
        for earlier, earlier_name in enumerate(SPLITS[:later]):
            is_in_both = by_split[:, earlier] > 0
            num_rows = int(by_split[is_in_both, later].sum())
            leaked_rows[f"{later_name}_in_{earlier_name}"] = num_rows
    return {
        **_count_repeats(by_split.sum(axis=1)),
        "within": {name: _count_repeats(by_split[:, i]) for i, name in enumerate(SPLITS)},
        "leaked_rows": leaked_rows,
    }


def _count_repeats(rows_of_text: np.ndarray) -> RepeatCounts:
    """Count repeated texts, given the number of rows of each text."""
    return {
        "repeated_texts": int(np.count_nonzero(rows_of_text > 1)),
        "surplus_rows": int(np.maximum(rows_of_text - 1, 0).sum()),
    }


def _count_by_split(split: pd.Series) -> dict[str, int]:
    """Count rows by split, given the split of each."""
    counts = np.bincount(split, minlength=len(SPLITS))
    return dict(zip(SPLITS, counts.tolist(), strict=True))
