"""Rows of repeated texts -> the texts with the most rows, such as campaigns, each with an example.

All rows of a text are in one group (:mod:`repeated_texts`), so the counts are exact, and the
driver has a few texts of each group.
"""

import bisect
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import TypedDict

from sentiflow.data.manifest_types import FileEntry, RepeatedText
from sentiflow.data.schema import SPLITS
from sentiflow.errors import shorten
from sentiflow.storage import parquet
from sentiflow.storage.uris import join

NUM_TEXTS = 10
"""Texts that are listed at most."""
_MIN_ROWS = 5
"""Texts with fewer rows are not listed."""
_MAX_LENGTH = 140
"""Characters of an example that are shown."""
_EPOCH = date(1970, 1, 1)


class RepeatedRows(TypedDict):
    """The rows of a text, as JSON."""

    rows: int
    users: int | None
    """Different users of the rows; None if no users are read."""
    days: tuple[int, int] | None
    """The first and the last day, in days since 1970; None if no times are read."""
    row_id: int
    """The row to show: the first row that is kept, otherwise the first one."""
    split: int
    """Its split, an index in ``schema.SPLITS``."""
    is_dropped: bool
    """Whether all rows are left out."""


def find_most_repeated(
    rows: pd.DataFrame, text: pd.Series, *, is_dropped: np.ndarray
) -> list[RepeatedRows]:
    """Find the texts with the most rows.

    Args:
        rows: Rows of repeated texts in the order of ``row_id``, with the columns of
            ``duplicates.KEYS``, and those of ``duplicates.ORIGIN`` that were read.
        text: Number of the text of each row, from 0.
        is_dropped: Whether each row is left out.

    Returns:
        At most ``NUM_TEXTS`` texts, the text with the most rows first.
    """
    num_rows = np.bincount(text)
    first = np.flatnonzero(~text.duplicated())  # the place of the first row of each text
    num_rows_of_first = num_rows[text.to_numpy()[first]]
    is_enough = num_rows_of_first >= _MIN_ROWS
    first = first[is_enough]
    most_first = np.argsort(-num_rows_of_first[is_enough], kind="stable")[:NUM_TEXTS]
    chosen = text.to_numpy()[first[most_first]]
    is_chosen = text.isin(chosen).to_numpy()
    places = defaultdict(list)
    for place in np.flatnonzero(is_chosen).tolist():
        places[text.iat[place]].append(place)
    return [_describe(rows.iloc[places[number]], is_dropped[places[number]]) for number in chosen]


def _describe(rows: pd.DataFrame, is_dropped: np.ndarray) -> RepeatedRows:
    """Describe the rows of one text, given in the order of ``row_id``."""
    shown = rows.iloc[np.argmin(is_dropped)]  # the first row that is kept, if any is
    users = None
    if "user" in rows:
        users = int(rows["user"].nunique())
    days = None
    if "day" in rows and rows["day"].notna().any():
        days = (int(rows["day"].min()), int(rows["day"].max()))
    return {
        "rows": len(rows),
        "users": users,
        "days": days,
        "row_id": int(shown["row_id"]),
        "split": int(shown["split"]),
        "is_dropped": bool(is_dropped.all()),
    }


def choose(found: Sequence[Sequence[RepeatedRows]]) -> list[RepeatedRows]:
    """Choose the texts with the most rows of all groups."""
    texts = itertools.chain.from_iterable(found)
    return sorted(texts, key=lambda text: (-text["rows"], text["row_id"]))[:NUM_TEXTS]


def read_kept(
    texts: Sequence[RepeatedRows],
    files: Sequence[FileEntry],
    *,
    first_rows: Sequence[int],
    root: str,
) -> dict[int, str]:
    """Read the texts of rows that are kept from the prepared table ``tweets``, batch by batch.

    Args:
        texts: Texts with a kept row.
        files: Files of the prepared tables.
        first_rows: Number of the first row of each part.
        root: Directory of the prepared tables.

    Returns:
        The texts by ``row_id``.
    """
    rows_of_file = defaultdict(list)
    for text in texts:
        part = find_part(text["row_id"], first_rows)
        start = f"tweets/split={SPLITS[text['split']]}/part-{part:05d}-"
        path = next(file["path"] for file in files if file["path"].startswith(start))
        rows_of_file[path].append(text["row_id"])
    found = dict[int, str]()
    for path, row_ids in rows_of_file.items():
        for batch in parquet.read_batches(join(root, path), columns=["row_id", "text"]):
            found |= pick(batch, row_ids)
    return found


def find_part(row_id: int, first_rows: Sequence[int]) -> int:
    """Find the part of a row, given the number of the first row of each part."""
    return bisect.bisect_right(first_rows, row_id) - 1


def pick(table: pa.Table, row_ids: Sequence[int]) -> dict[int, str]:
    """Pick the texts of some rows by ``row_id``; rows that the table lacks are left out."""
    is_wanted = pc.is_in(table["row_id"], value_set=pa.array(row_ids, pa.int64()))
    rows = table.filter(is_wanted)
    return dict(zip(rows["row_id"].to_pylist(), rows["text"].to_pylist(), strict=True))


def describe(texts: Sequence[RepeatedRows], examples: Mapping[int, str]) -> list[RepeatedText]:
    """Describe texts for the manifest.

    Args:
        texts: The texts.
        examples: The text of each row to show, by ``row_id``.
    """
    described = list[RepeatedText]()
    for text in texts:
        item: RepeatedText = {
            "rows": text["rows"],
            "row_id": text["row_id"],
            "text": shorten(" ".join(examples[text["row_id"]].split()), _MAX_LENGTH),
        }
        if text["users"] is not None:
            item["users"] = text["users"]
        if text["days"] is not None:
            first, last = text["days"]
            item["first_day"] = str(_EPOCH + timedelta(first))
            item["last_day"] = str(_EPOCH + timedelta(last))
        described.append(item)
    return described
