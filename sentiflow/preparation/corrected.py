"""Corrections + parts of the corpus -> the rows that they correct, before anything else is read.

Each part lists the rows that corrections may name; then it is decided for each file whether its row
ids are those of this corpus, and one table has the label of each corrected row.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster.map_stages import Label
from sentiflow.data import corrections, parts
from sentiflow.data.arrow_buffers import one_array
from sentiflow.data.corrections import NO_ROW
from sentiflow.data.label_files import PLACE
from sentiflow.data.text_hash import hash_texts
from sentiflow.errors import UserError
from sentiflow.preparation.part_files import Job, load_table
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed

_NAMED = "corrections"
CANDIDATES = "corrected_rows"
_WAY_OUT = (
    "correct the file; if its row ids are those of another corpus, leave out its column row_id: "
    "then its texts decide"
)


def write_named(rows: pd.DataFrame, job: Job) -> None:
    """Write which rows and texts corrections name, for :func:`write_candidates`."""
    text = pa.array(rows["text"], mask=~rows["has_text"].to_numpy())
    filesystem.write_arrow(
        job.work_file(_NAMED, 0), pa.table({"row_id": rows["row_id"].to_numpy(), "text": text})
    )


def read_rows(part: parts.Part) -> pa.Table:
    """Read all rows of a part as they are, also those that will be rejected."""
    table = parts.read(part, keep_raw=False)
    return table.select(["row_id", "text", "label", "unknown_label"])


def write_candidates(table: pa.Table, part: Label, *, job: Job) -> None:
    """Write the rows of a part that have the row id or the text of a correction.

    Columns:
        written: ``row_id``, ``text`` (its hash), ``before`` (the label that the corpus has: the
            name of the class, or as written if it is unknown).
    """
    named = load_table(job.work_file(_NAMED, 0), job.key)
    row_id, text = table["row_id"].to_numpy(), pc.fill_null(one_array(table["text"]), "")
    hashes = hash_texts(text)
    chosen = np.isin(row_id, named["row_id"].to_numpy())
    chosen |= np.isin(hashes, named["text"].drop_null().to_numpy())
    classes = pa.array(job.format.classes or (), pa.string())
    known = classes.take(one_array(table["label"]))
    unknown = pc.utf8_trim_whitespace(one_array(table["unknown_label"]))
    before = pc.fill_null(pc.coalesce(unknown, known), "")
    rows = pa.table({"row_id": row_id, "text": hashes, "before": before})
    filesystem.write_arrow(job.work_file(CANDIDATES, part.number), rows.filter(pa.array(chosen)))


def resolve(rows: pd.DataFrame, corpus: pd.DataFrame, uris: tuple[str, ...]) -> pd.DataFrame:
    """Decide which rows of the corpus are corrected.

    A file with row ids and texts numbers the rows of this corpus if a row has the text that the
    file says; then the row ids decide, and every row must have its text. If none has, the file is
    of another corpus, and its texts decide: all rows with the same normalized text are corrected.

    Args:
        rows: Those of :func:`corrections.read`.
        corpus: The rows of all parts, see :func:`write_candidates`.
        uris: The files.

    Returns:
        ``row_id`` in rising order, ``label`` (a name; empty: none), ``before``.

    Raises:
        UserError: A row is not in the corpus or has another text, two corrections of a row differ,
            or nothing in a file is in the corpus.
    """
    rows = rows.rename_axis("item").reset_index()
    chosen = []
    for number, uri in enumerate(uris):
        of_file = rows[rows["file"] == number]
        found = _resolve_file(of_file, corpus, as_typed(uri))
        if found.empty:
            raise UserError(
                f"{corrections.SETTING}: nothing in {as_typed(uri)} is in prepare.csv",
                hint="is it of another corpus? Its texts have to be those of prepare.csv",
            )
        missing = of_file[~of_file["item"].isin(found["item"])]
        if len(missing):
            say("prepare", f"{len(missing):,} corrections have a text that prepare.csv lacks; the "
                f"first is {missing[PLACE].iloc[0]}")  # fmt: skip
        chosen.append(found)
    every = pd.concat(chosen, ignore_index=True).sort_values(["row_id", "item"])
    corrections.refuse_conflict(every, every["row_id"])
    every = every.drop_duplicates("row_id")
    return every[["row_id", "label", "before"]].reset_index(drop=True)


def _resolve_file(rows: pd.DataFrame, corpus: pd.DataFrame, name: str) -> pd.DataFrame:
    """Join the corrections of one file with the rows that they correct."""
    has_row, has_text = rows["row_id"] != NO_ROW, rows["has_text"]
    is_known = rows["row_id"].isin(corpus["row_id"])
    with_same_text = rows.merge(corpus, on=["row_id", "text"])["item"]
    agrees = rows["item"].isin(with_same_text) | (is_known & ~has_text)
    if (has_row & has_text).any() and not (agrees & has_text).any():
        if (has_row & ~has_text).any():
            raise UserError(
                f"{rows.loc[has_row & ~has_text, PLACE].iloc[0]}: it has no text, and the row ids "
                "of the file are not those of prepare.csv",
                hint="add the text, or leave the row out",
            )
        say("prepare", f"{name}: no row_id has its text in prepare.csv: it is of another corpus, "
            "and its texts decide")  # fmt: skip
        has_row &= False
    for is_fit, fault in (
        (is_known, "is not in prepare.csv"),
        (agrees, "has another text in prepare.csv"),
    ):
        wrong = rows[has_row & ~is_fit]
        if len(wrong):
            more = f" ({len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
            place, row_id = wrong[PLACE].iloc[0], wrong["row_id"].iloc[0]
            raise UserError(f"{place}: row_id {row_id} {fault}{more}", hint=_WAY_OUT)
    by_row = rows[has_row].merge(corpus.drop(columns="text"), on="row_id")
    by_text = rows[~has_row].drop(columns="row_id").merge(corpus, on="text")
    return pd.concat([by_row, by_text])
