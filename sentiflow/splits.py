"""Row -> train, validation or test."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.errors import UserError
from sentiflow.schema import SPLITS

RULES_VERSION = 1
"""Changes whenever a text would go to another split."""
SPLIT_KEY = "sentiflow-splits"
"""The key of the hash that decides a split."""
CHECK_KEY = "sentiflow-checks"
"""The key of a second hash: together with the first it tells texts apart."""

_BLANK = r"[\s\p{Z}\x{0B}\x{1C}-\x{1F}\x{85}]"
_BLANK_OTHER_THAN_SPACE = r"[\t-\r\x{1C}-\x{1F}\x{85}\x{1680}\x{2028}\x{2029}]"
_SURPLUS_BLANKS = f" {_BLANK}+|{_BLANK_OTHER_THAN_SPACE}{_BLANK}*"
"""Every run of white space but a lone space. Of the rest of Unicode's white space, NFKD makes
spaces. RE2 would need seven times as long to replace lone spaces by themselves."""
_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))


def assign_by_hash(
    hashes: np.ndarray, *, validation_fraction: float, test_fraction: float
) -> np.ndarray:
    """Assign rows by the stable hash of their normalized text, or of their user's name.

    Equal texts never part, and a text's split does not depend on the other texts: adding data
    moves nothing.

    Args:
        hashes: Of :func:`hash_strings` under ``SPLIT_KEY``, uint64.
        validation_fraction: Share of the possible hashes that stands for validation.
        test_fraction: Share that stands for test.

    Returns:
        For each row, int8, its index in ``schema.SPLITS``.
    """
    position = hashes / np.float64(2**64)
    split = np.full(len(hashes), _TRAIN, np.int8)
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


def assign_by_time(seconds: np.ndarray, *, bounds: tuple[int, int]) -> np.ndarray:
    """Assign rows by their time: train before validation before test.

    Args:
        seconds: The rows' times, int64.
        bounds: The last second of train and the last of validation, of :func:`time_bounds`.

    Returns:
        For each row, int8, its index in ``schema.SPLITS``.

    Example:
        >>> assign_by_time(np.array([10, 11, 20, 21]), bounds=(10, 20)).tolist()
        [0, 1, 1, 2]
    """
    return np.searchsorted(np.array(bounds), seconds, side="left").astype(np.int8)


def time_bounds(
    seconds: np.ndarray, counts: np.ndarray, *, validation_fraction: float, test_fraction: float
) -> tuple[int, int]:
    """Choose where validation and test begin, so that each split has about its share of the rows.

    Rows of one time never part, so the shares are met only to within one time's rows, or less
    well where a split would otherwise be empty. Of all bounds that leave no split empty, these
    are the ones with the fewest rows between them and the exact shares, summed over the two.

    Args:
        seconds: Times since 1970, int64, in any order; the counts of one that repeats add up.
        counts: How many rows have each of them, 1 or more.
        validation_fraction: Share of the rows for validation.
        test_fraction: Share for test.

    Returns:
        The last second of train and the last of validation.

    Raises:
        UserError: There are fewer than three distinct times.
    """
    times, place = np.unique(seconds, return_inverse=True)
    if len(times) < len(SPLITS):
        raise UserError(
            f"a split by time needs three distinct times, and the rows have {len(times)}",
            hint="take more rows, or another prepare.split.kind",
        )
    until = np.cumsum(np.bincount(place, weights=counts))
    off_first = np.abs(until - until[-1] * (1 - validation_fraction - test_fraction))
    off_second = np.abs(until - until[-1] * (1 - test_fraction))
    first, second = int(np.argmin(off_first[:-2])), 1 + int(np.argmin(off_second[1:-1]))
    if first == second:
        before = off_first[first - 1] + off_second[first]
        after = off_first[first] + off_second[first + 1]
        first, second = (first - 1, first) if before <= after else (first, first + 1)
    return int(times[first]), int(times[second])


def hash_strings(strings: pa.Array | np.ndarray, *, key: str = SPLIT_KEY) -> np.ndarray:
    """Hash strings to uint64, the same on every machine and in every run.

    ``pandas.util.hash_array``: SipHash-2-4, its result mixed once more. Hashes under different
    keys are independent of each other.

    Args:
        strings: Without nulls. An array of Python strings spares the conversion to them, if the
            same strings are hashed under several keys.
        key: 16 ASCII characters.
    """
    return pd.util.hash_array(np.asarray(strings), hash_key=key, categorize=False)


def normalize_text(text: pa.Array) -> pa.Array:
    """Reduce texts to what makes them equal: compatibility forms, case, runs of white space.

    The compatibility form is NFKD; texts are equal in it exactly if they are in NFKC, which Arrow
    does not compute right up to version 25 (apache/arrow#51225).

    Most tweets are ASCII with lone spaces, and need only lower case: the rest alone pays for
    Unicode and for the regular expression.
    """
    if len(text) == 0:
        return text
    intricate = pa.array(_find_intricate(text))
    decomposed = pc.utf8_lower(pc.utf8_normalize(text.filter(intricate), form="NFKD"))
    collapsed = pc.replace_substring_regex(decomposed, _SURPLUS_BLANKS, " ")
    return pc.utf8_trim_whitespace(pc.replace_with_mask(pc.ascii_lower(text), intricate, collapsed))


def _find_intricate(text: pa.Array) -> np.ndarray:
    """Mark the rows with a byte outside of printable ASCII, or with two spaces side by side.

    A row that begins with a space may be marked because of the row before it.
    """
    data, offsets = _buffers(text)
    found = data - np.uint8(0x20) >= np.uint8(0x7F - 0x20)
    space = data == ord(" ")
    found[1:] |= space[1:] & space[:-1]
    return np.diff(np.searchsorted(np.flatnonzero(found), offsets)) > 0


def _buffers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """View a string array, or a slice of one, as its bytes and its rows' offsets into them."""
    assert text.type == pa.string(), "the offsets are read as int32"
    _, offsets_buffer, data_buffer = text.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]
