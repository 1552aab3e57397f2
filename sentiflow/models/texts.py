"""Texts in a container of Python, numpy, pandas or Arrow -> Arrow arrays of strings, in pieces."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.errors import UserError

Texts: TypeAlias = str | Iterable[str | None] | pd.Series | np.ndarray | pa.Array | pa.ChunkedArray
"""One text, or texts in any container; None, NaN and ``pd.NA`` stand for no text."""


def to_arrays(texts: Texts, *, size: int) -> Iterator[pa.Array]:
    """Convert texts piece by piece, so that only a few are held twice.

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
    first = 0
    for piece in _cut(texts, size):
        yield _to_array(piece, first)
        first += len(piece)


def _cut(texts: Any, size: int) -> Iterator[Any]:
    """Cut texts into pieces of the same container, those of an iterator into lists."""
    if isinstance(texts, str):
        texts = [texts]
    if isinstance(texts, bytes | Mapping | pd.DataFrame) or not isinstance(texts, Iterable):
        hint = "name its column: predict(frame['text'])" if hasattr(texts, "columns") else ""
        raise UserError(
            f"predict takes texts, not {type(texts).__name__}",
            hint=hint or "give a list of strings, a column of a table, or one string",
        )
    if not isinstance(texts, list | np.ndarray | pd.Series | pa.Array | pa.ChunkedArray):
        if hasattr(texts, "__arrow_c_stream__"):  # a column of another library of tables
            texts = pa.chunked_array(texts)
        else:
            rest = iter(texts)
            while piece := list(itertools.islice(rest, size)):
                yield piece
            return
    cut = texts.iloc if isinstance(texts, pd.Series) else texts
    for start in range(0, len(texts), size):
        yield cut[start : start + size]


def _to_array(piece: Any, first: int) -> pa.Array:
    """Convert a piece, whose first text has the number ``first``."""
    array = piece if isinstance(piece, pa.Array | pa.ChunkedArray) else _infer(piece, first)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not _is_text(array.type) and array.null_count < len(array):
        raise _no_text(piece, first)
    return array.cast(pa.string()).fill_null("")


def _infer(piece: Any, first: int) -> pa.Array | pa.ChunkedArray:
    """Let Arrow find the type of a piece."""
    try:
        return pa.array(piece, from_pandas=True)
    except UnicodeEncodeError:  # half of a pair of surrogates, as broken JSON has
        whole = [t.encode(errors="replace").decode() if isinstance(t, str) else t for t in piece]
        return _infer(whole, first)
    except pa.ArrowException as error:
        raise _no_text(piece, first) from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _no_text(piece: Any, first: int) -> UserError:
    """Name the first value that is no text."""
    for number, item in enumerate(piece, first):
        value = item.as_py() if isinstance(item, pa.Scalar) else item
        if isinstance(value, str) or value is None or value is pd.NA or value is pd.NaT:
            continue
        if isinstance(value, float) and np.isnan(value):
            continue
        shown = repr(value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        hint = "decode it" if isinstance(value, bytes) else "give strings, or None for no text"
        return UserError(f"text {number} is {shown} of type {type(value).__name__}", hint=hint)
    raise AssertionError("there is no such value")
