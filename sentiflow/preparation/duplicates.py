"""Hashes of texts -> texts that repeat, leak between splits or have contradicting labels.

Texts are compared by their hashes. A corpus whose hashes do not fit into one process is searched in
groups, all rows of a text in the same group.

Two normalized texts are equal if both of their 64-bit hashes are equal. Among 10^9 different texts
the probability that any two are confused is below 2e-21: 10^18 / 2 pairs, each with 2^-128.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import CHECK_KEY, SPLIT_KEY, hash_strings, normalize_text
from sentiflow.data.manifest_types import DuplicateCounts, RepeatCounts, TextCounts
from sentiflow.data.schema import SPLITS

KEYS = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("label", pa.int8()),
        pa.field("normalized", pa.uint64(), nullable=False),
        pa.field("check", pa.uint64(), nullable=False),
        pa.field("split", pa.int8(), nullable=False),
    ]
)
"""Accepted rows. ``normalized`` and ``check`` are hashes of the normalized text, under
``arrays.SPLIT_KEY`` and ``arrays.CHECK_KEY``; ``split`` is an index in ``schema.SPLITS``."""

DROPPED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Rows to leave out, in the order of ``row_id``; ``reason`` is one of ``REASONS``."""

CONTRADICTING, REPEATED, HELD_OUT = "contradicting", "repeated", "held_out"
REASONS = (CONTRADICTING, REPEATED, HELD_OUT)
"""Reasons to leave a text out: it has several labels, it is there already, or it is also that of a
validation or test row."""

_PAIRS = [(earlier, later) for later in range(len(SPLITS)) for earlier in range(later)]


def hash_texts(text: pa.Array) -> dict[str, np.ndarray]:
    """Compute the hashes by which rows are compared; each text is normalized and hashed once.

    Args:
        text: N texts as written, without nulls.

    Returns:
        The columns ``normalized`` and ``check`` of ``KEYS``, each N uint64.
    """
    normalized = np.asarray(normalize_text(text))
    return {
        "normalized": hash_strings(normalized, key=SPLIT_KEY),
        "check": hash_strings(normalized, key=CHECK_KEY),
    }


def find(
    keys: pa.Table, *, mode: str, fixed: Collection[str] = ()
) -> tuple[DuplicateCounts, pa.Table]:
    """Count repeated, leaking and contradicting texts, and choose the rows to leave out.

    The result does not depend on the order of the rows. The result for a text does not depend on
    other texts.

    Args:
        keys: As ``KEYS``, rows and columns in any order: all rows of each text, each row once.
        mode: ``keep`` drops nothing. ``drop_contradicting`` drops all rows of contradicting texts.
            ``drop`` drops these, and keeps one row of every other normalized text: the labelled row
            with the lowest ``row_id``, or the row with the lowest if none is labelled.
        fixed: Splits whose rows were given. Where there are some, the rows of a text stay in one
            split: test before validation before train. Given test rows all stay, in any mode.

    Returns:
        Their counts; those of several groups add up. The rows to leave out, as ``DROPPED``.
    """
    num_rows = _count_rows(keys["split"].to_pandas())
    is_repeated = keys["normalized"].to_pandas().duplicated(keep=False)  # most texts are unique
    rows = keys.filter(pa.array(is_repeated)).to_pandas().sort_values("row_id", ignore_index=True)
    text = rows.groupby(["normalized", "check"]).ngroup()
    labels = rows["label"].groupby(text)
    contradicts = labels.transform("min") < labels.transform("max")
    split = rows["split"]
    stays = (split == SPLITS.index("test")) & ("test" in fixed)
    is_held_out = (split < split.groupby(text).transform("max")) & bool(fixed)
    labelled_first = (2 * is_held_out + rows["label"].isna()).sort_values(kind="stable").index
    is_surplus = text[labelled_first].duplicated() & ~contradicts
    reasons = {HELD_OUT: is_held_out} if fixed else {}
    reasons |= {
        CONTRADICTING: contradicts & (mode != "keep") & ~stays,
        REPEATED: is_surplus & (mode == "drop") & ~stays,
    }
    reason = np.select(list(reasons.values()), list(reasons), "")
    counts: DuplicateCounts = {
        "rows": num_rows,
        "normalized": _count(rows.groupby([text, "split"]).size()),
        "contradicting": {
            "texts": text[contradicts].nunique(),
            "rows": _count_rows(rows["split"][contradicts]),
        },
        "dropped": {name: _count_rows(rows["split"][reason == name]) for name in reasons},
    }
    dropped = pa.table([pa.array(rows["row_id"]), pa.array(reason)], schema=DROPPED)
    return counts, dropped.filter(pc.not_equal(dropped["reason"], ""))


def _count(rows: pd.Series) -> TextCounts:
    """Count repeated and leaked texts, given the number of rows by text and split."""
    table = rows.unstack(fill_value=0).reindex(columns=range(len(SPLITS)), fill_value=0)
    by_split = table.to_numpy()
    return {
        **_count_repeats(by_split.sum(axis=1)),
        "within": {name: _count_repeats(by_split[:, i]) for i, name in enumerate(SPLITS)},
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


def _count_rows(split: pd.Series) -> dict[str, int]:
    """Count rows by split, given the split of each."""
    return dict(zip(SPLITS, np.bincount(split, minlength=len(SPLITS)).tolist(), strict=True))
