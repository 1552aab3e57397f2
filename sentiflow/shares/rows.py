"""Scored directory -> its rows, batch by batch: probabilities, labels, the groups they are in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.sections import TrendsSettings
from sentiflow.data import manifest, tweets
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import PROBABILITY, TEXT
from sentiflow.progress import Progress

NO_VALUE = "(none)"
"""Group of rows without a value."""


@dataclass(frozen=True)
class Batch:
    """N scored rows, and what a model predicts for them; C classes."""

    row_id: np.ndarray
    label: np.ndarray
    """N positions among the classes; -1 for none."""
    prediction: np.ndarray
    probabilities: np.ndarray
    """``(N, C)``; 0 for classes that the model does not have."""
    keys: tuple[pa.Array, ...]
    """For each of ``trends.by`` the values, or the beginnings of the periods."""
    text: pa.Array | None
    """The texts, where predictions have them and they were asked for."""


def find_text_column(scored: Manifest) -> str | None:
    """Name the column of predictions that has the text; None if it was not kept."""
    named = (scored["settings"]["text_column"], TEXT)
    return next((name for name in named if name in scored["settings"]["keep_columns"]), None)


def check_columns(settings: TrendsSettings, scored: Manifest) -> None:
    """Check that predictions have the columns of ``trends.by``, and times where these are cut.

    Raises:
        UserError: They have not.
    """
    kept = scored["settings"]["keep_columns"]
    there = [*kept, "split", "predicted_label"]
    if missing := [column for column, _ in settings.keys if column not in there]:
        raise UserError(
            f"trends.by: the predictions have no column {', '.join(missing)}; "
            f"there are {', '.join(there)}",
            hint="name the column in score.keep_columns, and score again",
        )
    types = scored.get("kept_types", {})
    for column, unit in settings.keys:
        if not unit and types.get(column, "").startswith(("timestamp", "date")):
            raise UserError(
                f"trends.by: {column} is a time", hint=f"name a unit, such as {column}:week"
            )


def read(
    settings: TrendsSettings, scored: Manifest, uri: str, *, label: str, with_text: bool = False
) -> Iterator[Batch]:
    """Read all predictions; the memory needed does not depend on their number.

    Args:
        settings: What to group by.
        scored: Manifest of the predictions.
        uri: Their directory.
        label: What to call the work in a progress line.
        with_text: Read the texts, too, where predictions have them.

    Raises:
        UserError: A file is gone or damaged, or a column to cut by time has no time.
    """
    classes, known = manifest.find_classes(scored), lineage.classes_of_model(scored)
    probabilities = [PROBABILITY + name for name in known]
    text = find_text_column(scored) if with_text else None
    columns = ["row_id", "label", "prediction", *probabilities, *([text] if text else [])]
    columns += [column for column, _ in settings.keys]
    form = (lineage.corpus_of(scored) or scored)["settings"].get("format") or {}
    time_format = FormatSettings.model_validate(form).time_format
    hint = "score again with sentiflow score CONFIG --overwrite"
    tables = lineage.read_tables(
        uri, scored, ("predictions/",), columns=list(dict.fromkeys(columns)), hint=hint
    )
    with Progress(label, total=scored["counts"]["accepted"], unit="rows") as progress:
        for table in tables:
            rows = table.combine_chunks()
            found = np.zeros((len(rows), len(classes)))
            for number, name in enumerate(probabilities):
                found[:, number] = rows[name].to_numpy()
            yield Batch(
                row_id=rows["row_id"].to_numpy(),
                label=pc.fill_null(rows["label"], -1).to_numpy(),
                prediction=rows["prediction"].to_numpy(),
                probabilities=found,
                keys=tuple(_read_key(rows[c], c, unit, time_format) for c, unit in settings.keys),
                text=rows[text].combine_chunks().cast(pa.string()) if text else None,
            )
            progress.advance(len(rows))


def _read_key(column: pa.ChunkedArray, name: str, unit: str, time_format: str | None) -> pa.Array:
    values = column.combine_chunks()
    if not unit:
        return pc.fill_null(values.cast(pa.string()), NO_VALUE)
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s"))
    elif not pa.types.is_timestamp(values.type):
        values = tweets.read_times(pc.fill_null(values.cast(pa.string()), ""), time_format)
    cut = pc.floor_temporal(values, unit=unit).cast(pa.timestamp("us"))
    if len(cut) and cut.null_count == len(cut):
        raise UserError(
            f"trends.by: {name} holds no time, such as {column[0].as_py()!r}",
            hint=f"name {name} without :{unit}, or a column of times",
        )
    return cut


class Groups:
    """The groups that rows are in, numbered in the order in which they are first seen."""

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        """Start without any group."""
        self.keys = keys
        self.number: dict[tuple[object, ...], int] = {}

    def find(self, keys: Sequence[pa.Array], num_rows: int) -> np.ndarray:
        """Number the group of each row.

        Raises:
            UserError: There are too many groups.
        """
        if not keys:
            self.number.setdefault((), 0)
            return np.zeros(num_rows, np.int64)
        coded = [key.dictionary_encode(null_encoding="encode") for key in keys]
        code = np.zeros(num_rows, np.int64)
        for key in coded:
            code = code * max(len(key.dictionary), 1) + key.indices.to_numpy()
        found, place = np.unique(code, return_inverse=True)
        numbers = np.empty(len(found), np.int64)
        for at, one in enumerate(found.tolist()):
            values: list[object] = []
            for key in reversed(coded):
                one, index = divmod(one, len(key.dictionary))
                values.insert(0, key.dictionary[index].as_py())
            numbers[at] = self.number.setdefault(tuple(values), len(self.number))
        if len(self.number) > MAX_GROUPS:
            named = ", ".join(f"{column}:{unit}" if unit else column for column, unit in self.keys)
            raise UserError(
                f"trends.by: {named} gives more than {MAX_GROUPS:,} groups",
                hint="name columns with fewer values, or a longer unit of time",
            )
        return numbers[place]


MAX_GROUPS = 10_000
