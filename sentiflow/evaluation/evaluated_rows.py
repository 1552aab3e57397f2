"""Scored directory -> its labelled rows that the model was not trained on, with their texts."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.manifest_types import Manifest, Settings
from sentiflow.data.schema import NEGATIVE, POSITIVE, SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.storage.uris import join

WHOLE = "all"
"""Name of the rows of a corpus that has no splits."""
EVALUATED = (*SPLITS[1:], WHOLE)
"""Splits that a model is evaluated on."""

_COLUMNS = ("row_id", "split", "label", "prediction", "probability", "num_tokens")
_TEXT, _TIME = "text", "time"


def read(uri: str, scored: Manifest) -> pa.Table:
    """Read the labelled rows, with their texts where these are available.

    Args:
        uri: Of the scored directory.
        scored: Its manifest.

    Returns:
        ``row_id``, ``split`` (one of ``EVALUATED``), ``label`` (0, 1, or 2), ``prediction``,
        ``probability``, ``num_tokens``; ``text`` and ``time`` where they were kept by scoring, or
        are in the prepared data and these are not gone.

    Raises:
        UserError: No row is labelled negative or positive, or a file is damaged.
    """
    names = [item["path"] for item in scored["files"] if item["path"].startswith("predictions/")]
    kept = _find_kept(scored["settings"])
    hint = "score again with sentiflow score CONFIG --overwrite"
    columns = [*_COLUMNS, *kept]
    tables = [lineage.read_rows(join(uri, name), columns=columns, hint=hint) for name in names]
    rows = pa.concat_tables([table.filter(_is_evaluated(table)) for table in tables])
    require_labelled(rows, uri)
    split = rows.schema.get_field_index("split")
    rows = rows.set_column(split, "split", pc.fill_null(rows["split"], WHOLE))
    rows = _name_kept(rows, kept).combine_chunks()
    return rows if _TEXT in rows.column_names else _add_texts(rows, scored)


def require_labelled(rows: pa.Table, uri: str) -> None:
    """Make sure that there are labels to compare predictions with.

    Raises:
        UserError: No row is labelled negative or positive.
    """
    if not pc.any(is_binary(rows), min_count=0).as_py():
        raise UserError(
            f"{uri} has no labelled row that the model was not trained on",
            hint="evaluation needs rows labelled negative or positive",
        )


def headline_split(names: Sequence[str]) -> str:
    """Choose the split of the headline: test, else all rows, else validation."""
    return next(name for name in ("test", WHOLE, "validation") if name in names)


def of_split(rows: pa.Table, name: str) -> pa.Table:
    """Choose the rows of a split that are labelled negative or positive."""
    return rows.filter(pc.and_(pc.equal(rows["split"], name), is_binary(rows)))


def _is_evaluated(table: pa.Table) -> pa.ChunkedArray:
    """Find labelled rows that are not in the train split."""
    not_trained = pc.not_equal(pc.fill_null(table["split"], WHOLE), SPLITS[0])
    return pc.and_(pc.is_valid(table["label"]), not_trained)


def is_binary(table: pa.Table) -> pa.ChunkedArray:
    """Find the rows labelled negative or positive."""
    return pc.is_in(table["label"], value_set=pa.array([NEGATIVE, POSITIVE], pa.int8()))


def _find_kept(settings: Settings) -> dict[str, str]:
    """Name the kept columns that may hold texts and times, and which of the two."""
    names = {settings["text_column"]: _TEXT, _TEXT: _TEXT, _TIME: _TIME}
    return {name: names[name] for name in settings["keep_columns"] if name in names}


def _name_kept(rows: pa.Table, kept: dict[str, str]) -> pa.Table:
    """Rename kept columns by their role; drop those of another type."""
    for name, role in kept.items():
        column = rows[name]
        rows = rows.drop_columns(name)
        is_text = str(column.type) in ("string", "large_string", "string_view")
        if role == _TEXT and is_text and not column.null_count:
            column = column.cast(pa.string())
        elif not (role == _TIME and pa.types.is_timestamp(column.type)):
            continue
        if role not in rows.column_names:
            rows = rows.append_column(role, column)
    return rows


def _add_texts(rows: pa.Table, scored: Manifest) -> pa.Table:
    """Add texts, and times if kept, from the prepared tweets by row number."""
    prepared = lineage.corpus_of(scored)
    if not prepared:
        return rows
    uri, tweets = scored["inputs"]["corpus"]["uri"], []
    folders = tuple(f"tweets/split={split}/" for split in SPLITS[1:])
    wanted = np.sort(rows["row_id"].to_numpy())
    columns = ["row_id", _TEXT, _TIME]
    hint = "prepare again with sentiflow prepare CONFIG --overwrite"
    for item in prepared["files"]:
        if item["path"].startswith(folders):
            table = lineage.read_rows(join(uri, item["path"]), columns=columns, hint=hint)
            tweets.append(table.filter(_are_among(table["row_id"], wanted)))
    if not tweets:
        return rows
    found = pa.concat_tables(tweets)
    place = pc.index_in(rows["row_id"], value_set=found["row_id"])
    for name in (_TEXT, _TIME):
        if name in found.column_names and name not in rows.column_names:
            rows = rows.append_column(name, found[name].take(place))
    return rows.combine_chunks()


def _are_among(row_ids: pa.ChunkedArray, wanted: np.ndarray) -> pa.Array:
    """Say which numbers are in ``wanted``, which is sorted and not empty.

    A hash join would hash ``wanted`` again for each file, which takes time that grows with the
    square of the corpus.
    """
    numbers = row_ids.to_numpy()
    place = np.searchsorted(wanted, numbers)
    return pa.array(wanted[np.minimum(place, len(wanted) - 1)] == numbers)
