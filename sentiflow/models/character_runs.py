"""Text -> the same text with shorter runs of one character: ``sooo`` becomes ``so``."""

import string
from unicodedata import category

import numpy as np
import pyarrow as pa

from sentiflow.data.arrays import string_buffers


def byte_table(characters: str) -> np.ndarray:
    """Make a table of 256 bool: whether each byte is one of these characters."""
    return np.isin(np.arange(256), [ord(character) for character in characters])


_IS_LETTER = byte_table(string.ascii_lowercase)
"""Small letters of ASCII."""
_CONTINUES_LETTER = np.arange(256) & 0xC0 == 0x80
"""Bytes of UTF-8 after the first one of a letter."""
_IN_WORD = _IS_LETTER | _CONTINUES_LETTER | byte_table("\xc3")
"""Bytes of Latin letters, German umlauts included."""
_IS_MARK = byte_table("".join(mark for mark in string.punctuation if mark not in ".-^"))
"""Punctuation marks whose runs are shortened to one."""
_IS_LONG = byte_table(string.ascii_lowercase + "-")
"""Characters whose runs of three and more are shortened."""
_DOUBLED = byte_table("l-")
"""Two of a run of these characters stay."""
_DOUBLED_WITHIN = byte_table("elost")
"""Two of a run of these letters stay before another letter."""
_TRIPLED = byte_table("flmnprst")
"""A run of three of these letters stays within a longer word."""


def squeeze_runs(text: pa.Array, *, keep_compounds: bool = True) -> pa.Array:
    """Shorten runs of one ASCII character: of marks to one, of three or more letters to one or two.

    Two letters stay where English often has two (``gooood``, ``alllll``), otherwise one (``sooo``,
    ``haaate``). Of three or more ``-`` two stay. Three consonants stay within a longer word, for
    German compounds. Digits, dots, ``^`` and white space are not changed. The rule works on bytes
    because RE2 has no backreferences.

    Args:
        text: N strings in lower case.
        keep_compounds: Whether three consonants stay; earlier rules of the tokenizer shorten them.

    Example:
        >>> squeeze_runs(pa.array(["sooo gooood!!!!!", "1000", "aa", "schifffahrt"])).to_pylist()
        ['so good!', '1000', 'aa', 'schifffahrt']
    """
    data, offsets = string_buffers(text)
    dropped = _find_excess(data, offsets, keep_compounds=keep_compounds)
    new_offsets = (offsets - np.searchsorted(dropped, offsets)).astype(np.int32)
    kept = np.delete(data, dropped)
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(new_offsets), pa.py_buffer(kept))


def _find_excess(data: np.ndarray, offsets: np.ndarray, *, keep_compounds: bool) -> np.ndarray:
    """List the positions of the bytes that squeezing drops, in order.

    Args:
        data: The bytes of all rows.
        offsets: Where each row begins, and the end of the last one.
        keep_compounds: See :func:`squeeze_runs`.
    """
    is_border = np.zeros(len(data) + 1, bool)
    is_border[offsets] = True
    same = ~is_border  # whether a byte equals the one before it in its row
    same[1:-1] &= data[1:] == data[:-1]
    at = np.flatnonzero(same)
    byte = data[at]
    continues = same[at + 1]  # whether the run goes on
    is_third = same[at - 1]  # or a later one
    next_byte = data[np.minimum(at + 1, len(data) - 1)]
    is_within = ~is_border[at + 1] & _IS_LETTER[next_byte]
    two_stay = _DOUBLED[byte] | (is_within & _DOUBLED_WITHIN[byte])
    # A run of two letters stays. Of a longer one the first stays, and the last one where two stay.
    is_excess_letter = _IS_LONG[byte] & (continues | (is_third & ~two_stay))
    is_excess = _IS_MARK[byte] | is_excess_letter
    if not keep_compounds:
        return at[is_excess]

    third = np.flatnonzero(is_third & ~continues & _TRIPLED[byte])
    third = third[(at[third] >= 4) & (at[third] + 3 < len(data))]
    in_compound = third[_are_in_compounds(at[third], data, is_border, same)]
    is_excess[in_compound] = False
    is_excess[in_compound - 1] = False
    return at[is_excess]


def _are_in_compounds(
    at: np.ndarray, data: np.ndarray, is_border: np.ndarray, same: np.ndarray
) -> np.ndarray:
    """Whether runs of three letters stand in a longer word, without another run next to them.

    Args:
        at: Position of the last letter of each run; four bytes before it and three after it exist.
        data: The bytes of all rows.
        is_border: Whether a row begins at each position, or the last one ends there.
        same: Whether the byte at each position equals the one before it in its row.
    """
    around = at[:, None] + np.arange(-4, 4)  # two letters before the run, three after it
    is_longer_run = same[at - 2]
    is_run_before = same[at - 3]
    is_word = _IN_WORD[data[around]].all(axis=1) & ~is_border[around[:, 1:]].any(axis=1)
    begins_letter = ~_CONTINUES_LETTER[data[at - 4]]
    is_run_after = same[at + 2] & same[at + 3]
    return ~is_longer_run & ~is_run_before & is_word & begins_letter & ~is_run_after


def squeeze_unicode_runs(text: str) -> str:
    """Shorten runs of one character outside of ASCII to one.

    These are runs of two or more punctuation marks, and of three or more letters or their marks.

    Example:
        >>> squeeze_unicode_runs("جمييييل。。")
        'جميل。'
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    is_repeated = (codes[1:] == codes[:-1]) & (codes[1:] >= 0x80)
    same = np.append(False, is_repeated)  # whether a character equals the one before it
    at = np.flatnonzero(same)
    kinds = np.array([category(chr(code))[0] for code in codes[at]], str)
    is_long = np.append(same, False)[at + 1] | same[at - 1]  # in a run of three or more
    is_mark = kinds == "P"
    is_letter = np.isin(kinds, ["L", "M"])
    dropped = at[is_mark | (is_letter & is_long)]
    return np.delete(codes, dropped).tobytes().decode("utf-32-le")
