"""Table of texts -> the same table with added columns: the steps of preparation.

Each step is a function of an Arrow table, and can be called alone. A row with a ``reason`` is
rejected or left out; it stays in the table until the files are written.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.prepare_sections import SplitSettings
from sentiflow.config.text_units import END, EXACT, WORDS, Cut, DuplicateKey, Unit
from sentiflow.data import parts
from sentiflow.data.arrays import hash_strings, normalize_text, one_array, put_columns
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.models import tokenizer, units, vocabulary
from sentiflow.models.tokens import Tokens
from sentiflow.preparation import duplicates

_TRAIN = SPLITS.index("train")
_VALIDATION = SPLITS.index("validation")
_TEST = SPLITS.index("test")
EVERY_NTH = "every_nth"
"""Reason of a row that ``prepare.every_nth`` leaves out."""
LEFT_OUT = (EVERY_NTH, *duplicates.REASONS)
"""Reasons to leave out a row; it does not count as rejected."""


def leave_out(table: pa.Table, *, every_nth: int = 1, dropped: pa.Table | None = None) -> pa.Table:
    """Set the reason of rows that the settings leave out.

    Args:
        table: Has ``row_id`` and ``reason``.
        every_nth: A row stays if its number is a multiple of this.
        dropped: Rows that ``prepare.duplicates`` drops, with the columns of ``duplicates.DROPPED``.
    """
    reason = one_array(table["reason"])
    row_id = one_array(table["row_id"])
    if dropped is not None and len(dropped):
        place = pc.index_in(row_id, value_set=one_array(dropped["row_id"]))
        reason = pc.coalesce(reason, one_array(dropped["reason"]).take(place))
    if every_nth > 1:
        is_skipped = pa.array(row_id.to_numpy() % every_nth != 0)
        reason = pc.if_else(is_skipped, EVERY_NTH, reason)
    return put_columns(table, {"reason": reason})


def hash_texts(table: pa.Table, *, key: DuplicateKey = EXACT) -> pa.Table:
    """Add the hashes by which texts are compared: ``normalized`` and ``check``.

    Args:
        table: Has ``text`` and ``reason``.
        key: The key by which texts count as equal.
    """
    hashes = duplicates.hash_texts(parts.accepted_texts(table), key)
    return put_columns(table, {name: pa.array(values) for name, values in hashes.items()})


def assign_splits(
    table: pa.Table, *, rule: SplitSettings, time_bounds: tuple[int, int] | None = None
) -> pa.Table:
    """Set ``split``: the index in ``schema.SPLITS`` of each row, int8.

    Args:
        table: Has ``row_id``, ``normalized``, ``split`` (the name of a fixed split, or null), and
            ``user`` or ``time`` where the rule needs it.
        rule: The settings.
        time_bounds: Last second of train and of validation, if the split is by time.
    """
    if rule.kind == "tutorial":
        split = assign_by_row_number(table["row_id"].to_numpy())
    elif rule.kind == "time":
        assert time_bounds is not None, "all times have been counted"
        seconds = pc.fill_null(table["time"].cast(pa.int64()), 0).to_numpy()
        split = assign_by_time(seconds, bounds=time_bounds)
    else:
        if rule.kind == "user":
            user = pc.fill_null(one_array(table["user"]), "")
            hashes = hash_strings(normalize_text(user))
        else:
            hashes = table["normalized"].to_numpy()
        split = assign_by_hash(
            hashes,
            validation_fraction=rule.validation_fraction,
            test_fraction=rule.test_fraction,
        )
    fixed = pc.index_in(one_array(table["split"]), value_set=pa.array(SPLITS))
    return put_columns(table, {"split": pc.coalesce(fixed.cast(pa.int8()), pa.array(split))})


def find_origin(table: pa.Table, *, user_column: str) -> dict[str, pa.Array | pa.ChunkedArray]:
    """Make the columns of ``duplicates.ORIGIN``, as far as the columns for them were read.

    Args:
        table: Accepted rows. It may have the column of users, and ``time``.
        user_column: The column with the users.
    """
    columns = dict[str, pa.Array | pa.ChunkedArray]()
    if user_column in table.column_names and pa.types.is_string(table[user_column].type):
        user = one_array(table[user_column])
        hashes = pa.array(hash_strings(pc.fill_null(user, "")))
        columns["user"] = pc.if_else(user.is_valid(), hashes, None)
    if "time" in table.column_names and pa.types.is_timestamp(table["time"].type):
        columns["day"] = table["time"].cast(pa.date32()).cast(pa.int32())
    return columns


def tokenize(table: pa.Table, *, rule: str, unit: Unit = WORDS) -> pa.Table:
    """Add ``tokens``: the units of each text, none for a row with a reason.

    Each unit is stored once: the lists have indexes into one array of distinct units.

    Args:
        table: Has ``text`` and ``reason``.
        rule: Name of the tokenizer.
        unit: What the network reads, see :func:`models.units.split`.
    """
    tokens = tokenizer.tokenize(parts.accepted_texts(table), name=rule)
    return put_columns(table, {"tokens": units.split(tokens, unit).to_lists()})


def encode(
    table: pa.Table, *, words: vocabulary.Vocabulary, max_length: int, cut: Cut = END
) -> pa.Table:
    """Add the ids of the units.

    Args:
        table: Has ``tokens``, the units of each text.
        words: The vocabulary.
        max_length: Maximum number of ids that are kept of each text.
        cut: Which ids are kept, see :func:`models.tokens.find_kept`.

    Columns:
        added: ``token_ids``; ``length``, the number of ids; ``num_unknown``, the number of units
            that the vocabulary lacks; ``is_cut``, whether a text has more ids than are kept.
    """
    tokens = tokens_of(table)
    encoded = words.encode(tokens, max_length=max_length, cut=cut)
    # without an id for unknown words, unknown tokens are dropped and do not count as cut
    num_dropped = 0 if words.has_unknown else encoded.num_unknown
    is_cut = np.diff(tokens.offsets) - num_dropped > max_length
    added = {
        "token_ids": encoded.token_ids,
        "length": pc.list_value_length(encoded.token_ids).cast(pa.int32()),
        "num_unknown": pa.array(encoded.num_unknown),
        "is_cut": pa.array(is_cut),
    }
    return put_columns(table, added)


def tokens_of(table: pa.Table) -> Tokens:
    """Convert the column ``tokens`` back to ``Tokens``."""
    return Tokens.from_lists(one_array(table["tokens"]))


def assign_by_hash(
    hashes: np.ndarray, *, validation_fraction: float, test_fraction: float
) -> np.ndarray:
    """Assign rows by a stable hash of their normalized text or of their user's name.

    Equal texts are always in the same split, and the split of a text does not depend on other
    texts: adding data moves no row.

    Args:
        hashes: Hashes by :func:`sentiflow.data.arrays.hash_strings` with ``SPLIT_KEY``, uint64.
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
    split_of_remainder = np.array([_TRAIN, _TRAIN, _TRAIN, _TEST, _VALIDATION], np.int8)
    return split_of_remainder[row_id % 5]


def assign_by_time(seconds: np.ndarray, *, bounds: tuple[int, int]) -> np.ndarray:
    """Assign rows by their time: train before validation before test.

    Args:
        seconds: Time of each row, int64.
        bounds: The last second of train and the last second of validation, by
            :func:`time_bounds`.

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

    Rows of the same time are always in the same split, so the shares are approximate. Of all bounds
    without an empty split, the result is closest to the exact shares: the difference in rows,
    summed over both bounds, is smallest.

    Args:
        seconds: Seconds since 1970, int64, in any order; counts of repeated times are added.
        counts: Number of rows of each time, 1 or more.
        validation_fraction: Share of the rows for validation.
        test_fraction: Share for test.

    Returns:
        The last second of train, and the last second of validation.

    Raises:
        UserError: There are fewer than three distinct times.
    """
    times, index = np.unique(seconds, return_inverse=True)
    if len(times) < len(SPLITS):
        raise UserError(
            f"a split by time needs three distinct times, and the rows have {len(times)}",
            hint="use more rows, or another prepare.split.kind",
        )
    until = np.cumsum(np.bincount(index, weights=counts))  # rows up to each time
    # for each time: how far the split would be from its exact share if it ended with this time
    off_first = np.abs(until - until[-1] * (1 - validation_fraction - test_fraction))
    off_second = np.abs(until - until[-1] * (1 - test_fraction))
    first = int(np.argmin(off_first[:-2]))
    second = 1 + int(np.argmin(off_second[1:-1]))
    if first == second:  # the validation split would be empty: move the nearer bound
        if_first_moves = off_first[first - 1] + off_second[first]
        if_second_moves = off_first[first] + off_second[first + 1]
        if if_first_moves <= if_second_moves:
            first -= 1
        else:
            second += 1
    return int(times[first]), int(times[second])
