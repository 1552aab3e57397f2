"""Texts in a container of Python, numpy, pandas or Arrow -> Arrow arrays of strings, in pieces."""

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.errors import UserError

Texts: TypeAlias = str | Iterable[str | None] | pd.Series | np.ndarray | pa.Array | pa.ChunkedArray
"""One text, or texts in any container; None, NaN and ``pd.NA`` stand for no text."""

_TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view())


def to_arrays(texts: Texts, *, size: int) -> Iterator[pa.Array]:
    """Convert texts to Arrow, and cut them into pieces.

    Args:
        texts: N texts.
        size: Texts in a piece; the last one may have fewer.

    Yields:
        Arrays of strings, in order; what is missing is empty.

    Raises:
        UserError: It is no list of texts, or something in it is no text.

    Example:
        >>> [array.to_pylist() for array in to_arrays(["good", None, "bad"], size=2)]
        [['good', ''], ['bad']]
    """
    whole = _to_arrow(texts)
    for start in range(0, len(whole), size):
        piece = whole[start : start + size]
        if isinstance(piece, pa.ChunkedArray):
            piece = piece.combine_chunks()
        yield piece.cast(pa.string()).fill_null("")


def _to_arrow(texts: Any) -> pa.Array | pa.ChunkedArray:
    """Convert texts to an array of any string type."""
    if isinstance(texts, str):
        texts = [texts]
    if isinstance(texts, bytes | Mapping | pd.DataFrame) or not isinstance(texts, Iterable):
        hint = "name its column: predict(frame['text'])" if hasattr(texts, "columns") else ""
        raise UserError(
            f"predict takes texts, not {type(texts).__name__}",
            hint=hint or "give a list of strings, a column of a table, or one string",
        )
    if not isinstance(texts, list | np.ndarray | pd.Series | pa.Array | pa.ChunkedArray):
        is_column = hasattr(texts, "__arrow_c_stream__")  # of another library of tables
        texts = pa.chunked_array(texts) if is_column else list(texts)
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else _infer(texts)
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if kind not in _TEXT_TYPES and array.null_count < len(array):
        raise _no_text(texts)
    return array


def _infer(texts: Any) -> pa.Array | pa.ChunkedArray:
    """Let Arrow find the type of texts."""
    try:
        return pa.array(texts, from_pandas=True)
    except UnicodeEncodeError:  # half of a pair of surrogates, as broken JSON has
        return _infer(
            [t.encode(errors="replace").decode() if isinstance(t, str) else t for t in texts]
        )
    except pa.ArrowException as error:
        raise _no_text(texts) from error


def _no_text(texts: Any) -> UserError:
    """Name the first value that is no text."""
    values = (item.as_py() if isinstance(item, pa.Scalar) else item for item in texts)
    number, value = next(
        (number, value)
        for number, value in enumerate(values)
        if not isinstance(value, str) and (np.ndim(value) > 0 or not pd.isna(value))
    )
    hint = "decode it" if isinstance(value, bytes) else "give strings, or None for no text"
    shown = reprlib.repr(value)
    return UserError(f"text {number} is {shown} of type {type(value).__name__}", hint=hint)
