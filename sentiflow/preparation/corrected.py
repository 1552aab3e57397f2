"""Corrections + parts of the corpus -> a table of the corrected rows and their new labels.

It is made before any other step. Each part lists the rows that corrections name; then the lists are
joined with the corrections.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.config.class_names import UNLABELLED
from sentiflow.data import label_files, parts
from sentiflow.data.arrays import hash_texts, one_array
from sentiflow.data.corrections import CORRECTIONS
from sentiflow.data.row_checks import RowRules
from sentiflow.errors import UserError
from sentiflow.preparation.part_files import PrepareJob
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri

CANDIDATES = "corrected_rows"
"""Table of the rows of a part that corrections name, by row id or text."""


def read_rows(part: parts.Part, *, job: PrepareJob) -> pa.Table:
    """Read all rows of a part, including rows that will be rejected."""
    return parts.read(part, RowRules(keep_raw=False)).select(["row_id", "text"])


def write_candidates(
    table: pa.Table, part: PartId, *, job: PrepareJob, row_ids: np.ndarray, texts: np.ndarray
) -> None:
    """Write the rows of a part that have the row id or the text of a correction.

    Args:
        table: All rows of the part.
        part: The part.
        job: Arguments of all tasks.
        row_ids: Row ids of the corrections without a text.
        texts: Hashes of the texts of the corrections with a text.

    Columns:
        written: ``row_id``, ``text`` (its hash).
    """
    row_id = table["row_id"].to_numpy()
    text = hash_texts(pc.fill_null(one_array(table["text"]), ""))
    is_named = np.isin(row_id, row_ids) | np.isin(text, texts)
    rows = pa.table({"row_id": row_id, "text": text}).filter(pa.array(is_named))
    filesystem.write_arrow(job.work_file(CANDIDATES, part.number), rows)


def resolve(rows: pd.DataFrame, corpus: pd.DataFrame, uris: tuple[str, ...]) -> pd.DataFrame:
    """Decide which rows of the corpus are corrected.

    A correction with a text applies to all rows with this text, normalized. A correction without a
    text applies to the row with its row id.

    Args:
        rows: The corrections, see :func:`corrections.read_corrections`.
        corpus: The rows of all parts, see :func:`write_candidates`.
        uris: The files of the corrections.

    Returns:
        ``row_id`` in ascending order, and ``label``: the name of a class, empty for no label.

    Raises:
        UserError: A row is not in the corpus, two corrections of a row differ, or the corpus has no
            row of a file.
    """
    rows = rows.rename_axis("item").reset_index()  # item: the number of the correction
    has_text = rows["has_text"]
    by_row = rows[~has_text].merge(corpus.drop(columns="text"), on="row_id")
    by_text = rows[has_text].drop(columns="row_id").merge(corpus, on="text")
    found = pd.concat([by_row, by_text], ignore_index=True).sort_values(["row_id", "item"])
    _check_found(rows, found, uris)
    _check_agreement(found)
    return found.drop_duplicates("row_id")[["row_id", "label"]].reset_index(drop=True)


def _check_found(rows: pd.DataFrame, found: pd.DataFrame, uris: tuple[str, ...]) -> None:
    """Check that the corpus has the rows of corrections; log how many texts it lacks.

    Raises:
        UserError: The corpus has no row of a file, or lacks a row id.
    """
    for number, uri in enumerate(uris):
        if not (found["file"] == number).any():
            raise UserError(
                f"{CORRECTIONS}: nothing in {display_uri(uri)} is in prepare.csv",
                hint="does it belong to another corpus? Its texts have to be in prepare.csv",
            )
    is_missing = ~rows["item"].isin(found["item"])
    label_files.reject(
        rows.astype({"row_id": str}),
        is_missing & ~rows["has_text"],
        "is not in prepare.csv",
        column="row_id",
    )
    places = rows[label_files.PLACE][is_missing]
    if len(places):
        say(
            "prepare",
            f"{len(places):,} corrections have a text that prepare.csv lacks; the first is "
            f"{places.iloc[0]}",
        )


def _check_agreement(found: pd.DataFrame) -> None:
    """Check that all corrections of a row have the same label.

    Args:
        found: One row for each pair of corrected row and correction, in the order of both.

    Raises:
        UserError: Two corrections of a row differ.
    """
    label = found["label"].str.casefold()
    is_other = label != label.groupby(found["row_id"]).transform("first")
    if not is_other.any():
        return
    other = found[is_other].iloc[0]
    first = found[found["row_id"] == other["row_id"]].iloc[0]
    raise UserError(
        f"{other[label_files.PLACE]}: label {other['label'] or UNLABELLED}, but "
        f"{first[label_files.PLACE]} names the same row or text with label "
        f"{first['label'] or UNLABELLED}",
        hint="correct the file and run the same command again",
    )
