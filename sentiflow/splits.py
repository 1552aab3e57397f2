"""Row -> train, validation or test."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.schema import SPLITS

RULES_VERSION = 1
"""Changes whenever a text would go to another split."""
_HASH_KEY = "sentiflow-splits"
_WHITE_SPACE = r"[\s\p{Z}\x{0B}\x{1C}-\x{1F}\x{85}]+"
_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))


def assign_by_hash(
    text: pa.Array, *, validation_fraction: float, test_fraction: float
) -> np.ndarray:
    """Assign rows by a stable hash of their normalized text.

    Equal texts never part, and a text's split does not depend on the other texts: adding data
    moves nothing.

    Args:
        text: The texts, string.
        validation_fraction: Share of the possible hashes that stands for validation.
        test_fraction: Share that stands for test.

    Returns:
        For each row, int8, its index in ``schema.SPLITS``.
    """
    position = hash_text(text) / np.float64(2**64)
    split = np.full(len(text), _TRAIN, np.int8)
    split[position < validation_fraction + test_fraction] = _VALIDATION
    split[position < test_fraction] = _TEST
    return split


def assign_by_row_number(row_id: np.ndarray) -> np.ndarray:
    """Assign rows as the tutorial does: number modulo 5 is 0 to 2 train, 3 test, 4 validation.

    Example:
        >>> assign_by_row_number(np.arange(5)).tolist()
        [0, 0, 0, 2, 1]
    """
    return np.array([_TRAIN, _TRAIN, _TRAIN, _TEST, _VALIDATION], np.int8)[row_id % 5]


def hash_text(text: pa.Array) -> np.ndarray:
    """Hash normalized texts to uint64, the same on every machine and in every run.

    :func:`normalize_text`, then ``pandas.util.hash_array`` under a fixed key (SipHash-2-4, its
    result mixed once more).
    """
    normalized = normalize_text(text).to_numpy(zero_copy_only=False)
    return pd.util.hash_array(normalized, hash_key=_HASH_KEY, categorize=False)


def normalize_text(text: pa.Array) -> pa.Array:
    """Reduce texts to what makes them equal: compatibility forms, case, runs of white space.

    The compatibility form is NFKD; texts are equal in it exactly if they are in NFKC, which Arrow
    does not compute right up to version 25 (apache/arrow#51225).
    """
    if not pc.all(pc.string_is_ascii(text)).as_py():
        text = pc.utf8_normalize(text, form="NFKD")
    collapsed = pc.replace_substring_regex(pc.utf8_lower(text), _WHITE_SPACE, " ")
    return pc.utf8_trim_whitespace(collapsed)
