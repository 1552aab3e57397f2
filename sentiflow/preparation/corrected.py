"""Corrections + parts of the corpus -> the rows that they correct, before anything else is read.

Each part lists the rows that corrections name; then one table has the label of each.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster.map_stages import Label
from sentiflow.config.class_names import UNLABELLED
from sentiflow.data import label_files, parts
from sentiflow.data.arrays import hash_texts, one_array
from sentiflow.data.row_checks import RowRules
from sentiflow.errors import UserError
from sentiflow.preparation.part_files import PrepareJob
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri

CANDIDATES = "corrected_rows"


def read_rows(part: parts.Part, *, job: PrepareJob) -> pa.Table:
    """Read all rows of a part as they are, also those that will be rejected."""
    return parts.read(part, RowRules(keep_raw=False)).select(["row_id", "text"])


def write_candidates(
    table: pa.Table, part: Label, *, job: PrepareJob, row_ids: np.ndarray, texts: np.ndarray
) -> None:
    """Write the rows of a part that have the row id or the text of a correction.

    Args:
        table: All rows of the part.
        part: The part.
        job: Arguments of all tasks.
        row_ids: Those of corrections without a text.
        texts: Hashes of the texts of the others.

    Columns:
        written: ``row_id``, ``text`` (its hash).
    """
    row_id, text = table["row_id"].to_numpy(), pc.fill_null(one_array(table["text"]), "")
    hashes = hash_texts(text)
    chosen = np.isin(row_id, row_ids) | np.isin(hashes, texts)
    rows = pa.table({"row_id": row_id, "text": hashes})
    filesystem.write_arrow(job.work_file(CANDIDATES, part.number), rows.filter(pa.array(chosen)))


def resolve(rows: pd.DataFrame, corpus: pd.DataFrame, uris: tuple[str, ...]) -> pd.DataFrame:
    """Decide which rows of the corpus are corrected.

    A correction with a text is one of all rows with this text, normalized; one without a text is
    that of its row id.

    Args:
        rows: Those of :func:`label_files.read_corrections`.
        corpus: The rows of all parts, see :func:`write_candidates`.
        uris: The files.

    Returns:
        ``row_id`` in rising order, ``label`` (a name; empty: none).

    Raises:
        UserError: A row is not in the corpus, two corrections of a row differ, or nothing in a file
            is in the corpus.
    """
    rows = rows.rename_axis("item").reset_index()
    has_text = rows["has_text"]
    by_row = rows[~has_text].merge(corpus.drop(columns="text"), on="row_id")
    by_text = rows[has_text].drop(columns="row_id").merge(corpus, on="text")
    every = pd.concat([by_row, by_text], ignore_index=True).sort_values(["row_id", "item"])
    for number, uri in enumerate(uris):
        if not (every["file"] == number).any():
            raise UserError(
                f"{label_files.CORRECTIONS}: nothing in {display_uri(uri)} is in prepare.csv",
                hint="is it of another corpus? Its texts have to be those of prepare.csv",
            )
    is_missing = ~rows["item"].isin(every["item"])
    label_files.reject(
        rows.astype({"row_id": str}),
        is_missing & ~has_text,
        "is not in prepare.csv",
        column="row_id",
    )
    if num_missing := is_missing.sum():
        say("prepare", f"{num_missing:,} corrections have a text that prepare.csv lacks; the first "
            f"is {rows.loc[is_missing, label_files.PLACE].iloc[0]}")  # fmt: skip
    label = every["label"].str.casefold()
    is_other = label != label.groupby(every["row_id"]).transform("first")
    if is_other.any():
        other = every[is_other].iloc[0]
        first = every[every["row_id"] == other["row_id"]].iloc[0]
        raise UserError(
            f"{other[label_files.PLACE]}: label {other['label'] or UNLABELLED}, but "
            f"{first[label_files.PLACE]} names the same row or text with label "
            f"{first['label'] or UNLABELLED}",
            hint="correct the file and run the same command again",
        )
    return every.drop_duplicates("row_id")[["row_id", "label"]].reset_index(drop=True)
