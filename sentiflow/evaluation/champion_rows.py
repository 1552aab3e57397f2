"""Prepared data -> the labelled test rows on which candidate and champion are compared."""

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import authors, lineage, manifest
from sentiflow.data.arrays import hash_texts, one_array, put_columns
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import TEST
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import AUTHOR
from sentiflow.tracking import training_rows


def read(
    uri: str, prepared: Manifest, excluded: Collection[str]
) -> tuple[pa.Table, dict[str, int]]:
    """Read texts, labels and, where the split is by user, authors of the labelled test rows.

    Returns:
        The rows without excluded classes; how many rows of each excluded class were left out.

    Raises:
        UserError: The test split has no labelled row, or only rows of excluded classes.
    """
    folders = lineage.name_folders([TEST])
    columns = ["text", "label"]
    author = _find_author_column(prepared)
    if author:
        columns += ["row_id", author]
    tables = lineage.read_tables(uri, prepared, folders, columns)
    labelled = [table.filter(pc.field("label").is_valid()) for table in tables]
    rows = pa.concat_tables(labelled) if labelled else pa.table({"text": [], "label": []})
    if author and labelled:
        hashes = authors.hash_authors(rows[author], rows["row_id"].to_numpy())
        rows = put_columns(rows, {AUTHOR: pa.array(hashes)})
    names = manifest.find_classes(prepared)
    codes = [code for code, name in enumerate(names) if name in excluded]
    label = rows["label"].to_numpy().astype(np.int64)
    counts = np.bincount(label, minlength=len(names)).tolist()
    if not len(rows):
        raise UserError(
            f"{uri} has no labelled row in its test split", hint="set train.prepared_uri"
        )
    left_out = {names[code]: counts[code] for code in codes if counts[code]}
    rows = rows.filter(~pc.field("label").isin(codes))
    if not len(rows):
        raise UserError(
            f"all {sum(left_out.values()):,} labelled rows in the test split of {uri} have a class "
            f"that a model left out in its training: {', '.join(left_out)}",
            hint="set train.prepared_uri to data with other classes",
        )
    return rows, left_out


def _find_author_column(prepared: Manifest) -> str | None:
    """Name the column with the authors, where the test rows are whole authors and it was kept."""
    if not authors.are_whole(prepared):
        return None
    return authors.find_column(prepared["settings"].get("keep_columns", ()), None)


def find_seen(rows: pa.Table, seen: np.ndarray, uri: str) -> np.ndarray:
    """Say of each row whether its text was seen in a training.

    Args:
        rows: Test rows.
        seen: Hashes of the texts that were seen.
        uri: The prepared data, for the message.

    Raises:
        UserError: All texts were seen.
    """
    is_seen = training_rows.are_learned(hash_texts(one_array(rows["text"])), seen)
    if is_seen.all():
        raise UserError(
            f"all {len(rows):,} labelled texts in the test split of {uri} were seen in the "
            "training of candidate or champion",
            hint="set train.prepared_uri to data with the same prepare.split for both",
        )
    return is_seen


def number_labels(rows: pa.Table, names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Turn labels, which are positions in ``names``, into positions in ``classes``."""
    code = np.array([classes.index(name) for name in names])
    return np.asarray(code[rows["label"].to_numpy()])
