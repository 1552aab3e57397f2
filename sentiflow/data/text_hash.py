"""Text -> its normal form, and a hash that is the same on every machine."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrow_buffers import string_buffers

SPLIT_KEY = "sentiflow-splits"
"""The key of the hash that decides a split."""
CHECK_KEY = "sentiflow-checks"
"""The key of a second hash: together with the first it tells texts apart."""

_BLANK = r"[\s\p{Z}\x{0B}\x{1C}-\x{1F}\x{85}]"
_BLANK_OTHER_THAN_SPACE = r"[\t-\r\x{1C}-\x{1F}\x{85}\x{1680}\x{2028}\x{2029}]"
_SURPLUS_BLANKS = f" {_BLANK}+|{_BLANK_OTHER_THAN_SPACE}{_BLANK}*"
"""Every run of white space but a lone space. Of the rest of Unicode's white space, NFKD makes
spaces. RE2 would need seven times as long to replace lone spaces by themselves."""


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
    data, offsets = string_buffers(text)
    found = data - np.uint8(0x20) >= np.uint8(0x7F - 0x20)
    space = data == ord(" ")
    found[1:] |= space[1:] & space[:-1]
    return np.diff(np.searchsorted(np.flatnonzero(found), offsets)) > 0
