"""Corrections + parts of the corpus -> the rows that they correct, before anything else is read.

Each part lists the rows that corrections name; then it is decided for each file whether its row ids
are those of this corpus, and one table has the label of each corrected row.
"""

import functools

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import corrections, parts
from sentiflow.data.arrow_buffers import one_array
from sentiflow.data.corrections import NO_ROW
from sentiflow.data.label_files import PLACE
from sentiflow.errors import UserError
from sentiflow.preparation.part_files import Job
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed

_NAMED, _MATCHES = "corrections", "matches"
_WAY_OUT = (
    "correct the file; if its row ids are those of another corpus, leave out its column row_id: "
    "then its texts decide"
)


def write_named(rows: pd.DataFrame, job: Job) -> None:
    """Write which rows and texts corrections name, for :func:`write_matches`."""
    named = pa.Table.from_pandas(rows[["row_id", "has_text", "text"]], preserve_index=False)
    filesystem.write_arrow(job.work_file(_NAMED, 0), named)


@functools.lru_cache(maxsize=1)
def _load_named(uri: str, key: str) -> pd.DataFrame:
    """Load the table of :func:`write_named` once for each worker process."""
    return filesystem.read_arrow(uri).to_pandas().rename_axis("item").reset_index()


def read_rows(part: parts.Part) -> pa.Table:
    """Read all rows of a part as they are, also those that will be rejected."""
    table = parts.read(part, keep_raw=False)
    return table.select(["row_id", "text", "label", "unknown_label"])


def write_matches(table: pa.Table, part: int, *, job: Job) -> None:
    """Write the rows of a part that corrections name: by row (``is_row``), and by text.

    Columns:
        written: ``item`` (position of the correction), ``row_id``, ``is_row``, ``agrees`` (the row
            has the text of the correction, or this has none), ``before`` (the label that the corpus
            has: the name of the class, or as written if it is unknown).
    """
    named = _load_named(job.work_file(_NAMED, 0), job.key)
    classes = pa.array(job.format.classes or (), pa.string())
    known = classes.take(one_array(table["label"]))
    unknown = pc.utf8_trim_whitespace(one_array(table["unknown_label"]))
    text = pc.fill_null(one_array(table["text"]), "")
    rows = pd.DataFrame(
        {
            "row_id": table["row_id"].to_numpy(),
            "found": corrections.hash_texts(text),
            "before": pc.fill_null(pc.coalesce(unknown, known), "").to_pandas(),
        }
    )
    by_text = named[named["has_text"]].drop(columns="row_id")
    by_text = by_text.merge(rows, left_on="text", right_on="found").assign(is_row=False)
    by_row = named[named["row_id"] != NO_ROW].merge(rows, on="row_id").assign(is_row=True)
    matches = pd.concat([by_row, by_text])
    matches["agrees"] = ~matches["has_text"].astype(bool) | (matches["text"] == matches["found"])
    columns = ["item", "row_id", "is_row", "agrees", "before"]
    matches = pa.Table.from_pandas(matches[columns], _MATCH, preserve_index=False)
    filesystem.write_arrow(job.work_file(_MATCHES, part), matches)


_MATCH = pa.schema(
    [
        pa.field("item", pa.int64()),
        pa.field("row_id", pa.int64()),
        pa.field("is_row", pa.bool_()),
        pa.field("agrees", pa.bool_()),
        pa.field("before", pa.string()),
    ]
)


def resolve(rows: pd.DataFrame, matches: pd.DataFrame, uris: tuple[str, ...]) -> pd.DataFrame:
    """Decide which rows of the corpus are corrected.

    A file with row ids and texts numbers the rows of this corpus if a row has the text that the
    file says; then the row ids decide, and every row must have its text. If none has, the file is
    of another corpus, and its texts decide: all rows with the same normalized text are corrected.

    Args:
        rows: Those of :func:`corrections.read`.
        matches: Those of all parts, see :func:`write_matches`.
        uris: The files.

    Returns:
        ``row_id`` in rising order, ``label`` (a name; empty: none), ``before``.

    Raises:
        UserError: A row is not in the corpus or has another text, two corrections of a row differ,
            or nothing in a file is in the corpus.
    """
    chosen = []
    for number, uri in enumerate(uris):
        of_file = rows[rows["file"] == number]
        found = matches[matches["item"].isin(of_file.index)]
        matched = _resolve_file(of_file, found, as_typed(uri))
        if matched.empty:
            raise UserError(
                f"{corrections.SETTING}: nothing in {as_typed(uri)} is in prepare.csv",
                hint="is it of another corpus? Its texts have to be those of prepare.csv",
            )
        num_missing = len(of_file) - matched["item"].nunique()
        if num_missing:
            first = of_file[~of_file.index.isin(matched["item"])].iloc[0]
            say("prepare", f"{num_missing:,} corrections have a text that prepare.csv lacks; the "
                f"first is {first[PLACE]}")  # fmt: skip
        chosen.append(matched)
    every = pd.concat(chosen, ignore_index=True)
    every = every.join(rows[[PLACE, "label"]], on="item").sort_values(["row_id", "item"])
    corrections.refuse_conflict(every, every["row_id"])
    every = every.drop_duplicates("row_id")
    return every[["row_id", "label", "before"]].reset_index(drop=True)


def _resolve_file(rows: pd.DataFrame, found: pd.DataFrame, name: str) -> pd.DataFrame:
    """Choose the matches of one file that count."""
    has_row = rows["row_id"] != NO_ROW
    has_both = has_row & rows["has_text"]
    by_row = found[found["is_row"]].set_index("item", drop=False)
    agreeing = by_row[by_row["agrees"]].index
    if has_both.any() and not rows[has_both].index.isin(agreeing).any():
        if (has_row & ~rows["has_text"]).any():
            first = rows[has_row & ~rows["has_text"]].iloc[0]
            raise UserError(
                f"{first[PLACE]}: it has no text, and the row ids of the file are not those of "
                "prepare.csv",
                hint="add the text, or leave the row out",
            )
        say("prepare", f"{name}: no row_id has its text in prepare.csv: it is of another corpus, "
            "and its texts decide")  # fmt: skip
        has_row &= False
    for wrong, what in (
        (~rows.index.isin(by_row.index), "is not in prepare.csv"),
        (~rows.index.isin(agreeing), "has another text in prepare.csv"),
    ):
        if (has_row & wrong).any():
            first = rows[has_row & wrong].iloc[0]
            more = f" ({(has_row & wrong).sum() - 1:,} more)" if (has_row & wrong).sum() > 1 else ""
            raise UserError(f"{first[PLACE]}: row_id {first['row_id']} {what}{more}", hint=_WAY_OUT)
    by_text = found[~found["is_row"] & ~found["item"].isin(rows[has_row].index)]
    return pd.concat([by_row[by_row.index.isin(rows[has_row].index)], by_text])


def write(table: pd.DataFrame, job: Job) -> None:
    """Write the rows that :func:`resolve` has found."""
    found = pa.Table.from_pandas(table, preserve_index=False)
    filesystem.write_arrow(job.corrected_file, found)
