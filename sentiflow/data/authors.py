"""Columns of predictions or prepared rows -> the author of each row."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data.manifest_types import Manifest

USER = "user"
"""Column of prepared rows with the name of the author."""


def find_column(kept: Sequence[str], named: str | int | None) -> str | None:
    """Name the column that has the authors; None if it was not kept.

    Args:
        kept: The columns that a stage has kept.
        named: The column of users in the input files, as ``format.columns`` names it.

    Example:
        >>> find_column(["text", "author"], "author"), find_column(["text"], "author")
        ('author', None)
    """
    for name in (USER, named):
        if name and name in kept:
            return str(name)
    return None


def are_whole(prepared: Manifest) -> bool:
    """Say whether each author of prepared data is in one split: the split is by user."""
    split = prepared["settings"].get("split") or {}
    return bool(split.get("kind") == "user")


def hash_authors(names: pa.ChunkedArray | pa.Array, row_id: np.ndarray) -> np.ndarray:
    """Hash the author of each row, or the number of the row if it has no author.

    Example:
        >>> hashes = hash_authors(pa.array(["ann", None, "ann", ""]), np.arange(4))
        >>> bool(hashes[0] == hashes[2]), len(set(hashes.tolist()))
        (True, 3)
    """
    written = names.cast(pa.string()).to_pandas().fillna("")
    of_names = pd.util.hash_array(written.to_numpy(object))
    of_rows = pd.util.hash_array(row_id)
    return np.where(written == "", of_rows, of_names)
