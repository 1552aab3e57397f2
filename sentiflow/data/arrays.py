"""Columns as arrays without a copy; looking up keys; normalizing and hashing texts.

A hash is the same on every machine.
"""

import sys
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import siphash

SPLIT_KEY = "sentiflow-splits"
"""Key of the hash that decides the split of a text."""
CHECK_KEY = "sentiflow-checks"
"""Key of a second hash; both hashes together identify a text."""
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
"""Letters of scripts without blanks between words, in a class of RE2 (Unicode Annex 14, classes ID,
CJ and SA)."""

# Classes of RE2: white space of any kind, and white space other than the space U+0020.
_BLANK = r"[\s\p{Z}\x{0B}\x{1C}-\x{1F}\x{85}]"
_BLANK_OTHER_THAN_SPACE = r"[\t-\r\x{1C}-\x{1F}\x{85}\x{1680}\x{2028}\x{2029}]"
_SURPLUS_BLANKS = f" {_BLANK}+|{_BLANK_OTHER_THAN_SPACE}{_BLANK}*"
"""Every run of white space except a single space. Replacing single spaces by themselves would make
RE2 seven times slower. NFKD turns the other white space of Unicode into spaces."""


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without a copy if it has one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def to_matrix(lists: pa.Array) -> np.ndarray:
    """Turn N lists of C numbers into an array ``(N, C)``."""
    return np.asarray(lists.flatten().to_numpy()).reshape(len(lists), -1)


def put_columns(table: pa.Table, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Add columns to a table, or replace its columns of the same names."""
    for name, column in columns.items():
        place = table.schema.get_field_index(name)
        if place < 0:
            table = table.append_column(name, column)
        else:
            table = table.set_column(place, name, column)
    return table


def string_buffers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """View a string array, or a slice of one, as its bytes and the offsets of its rows."""
    assert text.type == pa.string(), "the offsets are read as int32"
    _, offsets_buffer, data_buffer = text.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)
    offsets = offsets[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]


def find_sorted(known: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find keys among known keys, which are distinct and in rising order.

    Returns:
        For each key: whether it is known, and its place among the known keys. The place of an
        unknown key has no meaning.
    """
    if not len(known):
        return np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
    place = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return known[place] == keys, place


def sum_rows(table: np.ndarray, places: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum the rows of a table in each of N groups, in order: ``(N, C)``.

    The groups take one row after the other, all at once; the largest groups come first, so those
    that still have a row stay together.

    Args:
        table: ``(A, C)``.
        places: Rows of the table, one group after the other.
        offsets: N + 1 positions of the groups' first rows in ``places``.

    Example:
        >>> sum_rows(np.array([[1], [2], [4]]), np.array([0, 2, 2]), np.array([0, 2, 2, 3])).T
        array([[5, 0, 4]])
    """
    sizes = np.diff(offsets)
    order = np.argsort(-sizes, kind="stable")
    starts = offsets[:-1][order]
    ascending = sizes[order][::-1]
    sums = np.zeros((len(sizes), table.shape[1]), table.dtype)
    number = np.arange(sizes.max(initial=0))
    num_groups = len(sizes) - np.searchsorted(ascending, number, side="right")
    for row, num in enumerate(num_groups.tolist()):
        sums[:num] += table.take(places[starts[:num] + row], axis=0)
    result = np.empty_like(sums)
    result[order] = sums
    return result


def hash_strings(strings: pa.Array | np.ndarray, *, key: str = SPLIT_KEY) -> np.ndarray:
    """Hash strings to uint64, the same on every machine and in every run.

    It is SipHash-2-4, its result mixed once more, as in ``pandas.util.hash_array``. That function
    computes it where pandas is imported: it takes a tenth of the time for texts of 1,000 bytes, and
    as much for tweets and words. Hashes under different keys are independent of each other.

    Args:
        strings: Without nulls. Pass an array of Python strings if the same strings are hashed under
            several keys and pandas is imported: it avoids repeated conversion.
        key: 16 ASCII characters.
    """
    if sys.modules.get("pandas") is not None:
        import pandas as pd

        return pd.util.hash_array(np.asarray(strings), hash_key=key, categorize=False)
    if isinstance(strings, np.ndarray):
        strings = pa.array(strings, pa.string())
    hashes = siphash.hash_strings(*string_buffers(strings), key.encode())
    return _mix_bits(hashes)


def _mix_bits(numbers: np.ndarray) -> np.ndarray:
    """Mix the bits of unsigned 64-bit numbers, as ``pandas.util.hash_array`` does."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def hash_texts(text: pa.Array) -> np.ndarray:
    """Hash texts to uint64; texts that differ only in case or white space have the same hash.

    If 10 million texts are looked up among 100,000 others, the probability that any is found by
    mistake is 5e-8.
    """
    return hash_strings(normalize_text(text))


def normalize_text(text: pa.Array) -> pa.Array:
    """Normalize texts: compatibility forms, lower case, single spaces.

    The compatibility form is NFKD. Two texts are equal in NFKD exactly if they are equal in NFKC,
    which Arrow up to version 25 does not compute correctly (apache/arrow#51225).

    Most tweets are ASCII with single spaces and only need lower case. Unicode normalization and the
    regular expression are applied to the other texts.
    """
    if len(text) == 0:
        return text
    is_complex = pa.array(_is_complex(text))
    decomposed = pc.utf8_normalize(text.filter(is_complex), form="NFKD")
    lower = pc.utf8_lower(decomposed)
    collapsed = pc.replace_substring_regex(lower, _SURPLUS_BLANKS, " ")
    normalized = pc.replace_with_mask(pc.ascii_lower(text), is_complex, collapsed)
    return pc.utf8_trim_whitespace(normalized)


def _is_complex(text: pa.Array) -> np.ndarray:
    """Mark rows with a byte outside of printable ASCII, or with two adjacent spaces.

    A row that begins with a space may be marked because of the row before it.
    """
    data, offsets = string_buffers(text)
    # unsigned: bytes below 0x20 wrap around, so one comparison finds too small and too large bytes
    is_found = data - np.uint8(0x20) >= np.uint8(0x7F - 0x20)
    is_space = data == ord(" ")
    is_found[1:] |= is_space[1:] & is_space[:-1]
    num_before = np.searchsorted(np.flatnonzero(is_found), offsets)
    return np.diff(num_before) > 0
