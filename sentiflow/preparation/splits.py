"""Row -> train, validation or test."""

import numpy as np

from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))


def assign_by_hash(
    hashes: np.ndarray, *, validation_fraction: float, test_fraction: float
) -> np.ndarray:
    """Assign rows by the stable hash of their normalized text, or of the name of their user.

    Equal texts are always in the same split, and the split of a text does not depend on other
    texts: adding data moves no row.

    Args:
        hashes: Hashes by :func:`sentiflow.data.text_hash.hash_strings` with ``SPLIT_KEY``, uint64.
        validation_fraction: Share of the possible hashes for validation.
        test_fraction: Share for test.

    Returns:
        The index in ``schema.SPLITS`` of each row, int8.
    """
    position = hashes / np.float64(2**64)
    split = np.full(len(hashes), _TRAIN, np.int8)
    split[position < validation_fraction + test_fraction] = _VALIDATION
    split[position < test_fraction] = _TEST
    return split


def assign_by_row_number(row_id: np.ndarray) -> np.ndarray:
    """Assign rows as in the tutorial: number modulo 5 is 0 to 2 train, 3 test, 4 validation.

    Example:
        >>> assign_by_row_number(np.arange(5)).tolist()
        [0, 0, 0, 2, 1]
    """
    return np.array([_TRAIN, _TRAIN, _TRAIN, _TEST, _VALIDATION], np.int8)[row_id % 5]


def assign_by_time(seconds: np.ndarray, *, bounds: tuple[int, int]) -> np.ndarray:
    """Assign rows by their time: train before validation before test.

    Args:
        seconds: Time of each row, int64.
        bounds: The last second of train and that of validation, by :func:`time_bounds`.

    Returns:
        The index in ``schema.SPLITS`` of each row, int8.

    Example:
        >>> assign_by_time(np.array([10, 11, 20, 21]), bounds=(10, 20)).tolist()
        [0, 1, 1, 2]
    """
    return np.searchsorted(np.array(bounds), seconds, side="left").astype(np.int8)


def time_bounds(
    seconds: np.ndarray, counts: np.ndarray, *, validation_fraction: float, test_fraction: float
) -> tuple[int, int]:
    """Choose where validation and test begin, so that each split has about its share of the rows.

    Rows of the same time are always in the same split, so the shares are approximate. Among all
    bounds without an empty split, the result has the smallest difference from the exact shares, in
    rows, summed over both bounds.

    Args:
        seconds: Seconds since 1970, int64, in any order; counts of repeated times are added.
        counts: Number of rows of each time, 1 or more.
        validation_fraction: Share of the rows for validation.
        test_fraction: Share for test.

    Returns:
        The last second of train and that of validation.

    Raises:
        UserError: There are fewer than three distinct times.
    """
    times, index = np.unique(seconds, return_inverse=True)
    if len(times) < len(SPLITS):
        raise UserError(
            f"a split by time needs three distinct times, and the rows have {len(times)}",
            hint="use more rows, or another prepare.split.kind",
        )
    until = np.cumsum(np.bincount(index, weights=counts))
    off_first = np.abs(until - until[-1] * (1 - validation_fraction - test_fraction))
    off_second = np.abs(until - until[-1] * (1 - test_fraction))
    first, second = int(np.argmin(off_first[:-2])), 1 + int(np.argmin(off_second[1:-1]))
    if first == second:
        before = off_first[first - 1] + off_second[first]
        after = off_first[first] + off_second[first + 1]
        first, second = (first - 1, first) if before <= after else (first, first + 1)
    return int(times[first]), int(times[second])
