"""Scored directory -> its rows, batch by batch: probabilities, labels, groups."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import authors, lineage, manifest, time_faults, times
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import TEXT
from sentiflow.progress import Progress

CONSTANT_KEY = ""
"""A key with the same value in all rows: it makes one group of them."""
VERSION = "model_version"
"""A key that is always there: errors are measured for each version of the model separately."""


@dataclass(frozen=True)
class PredictionBatch:
    """N scored rows with their predictions among C classes."""

    row_id: np.ndarray
    """N numbers of rows in the corpus."""
    label: np.ndarray
    """N positions among the classes; -1 for none."""
    prediction: np.ndarray
    """N positions among the classes."""
    probabilities: np.ndarray
    """``(N, C)``; 0 for classes that the model does not have."""
    keys: pd.DataFrame
    """The groups of N rows. Columns: each of ``trends.by``, with values or the beginnings of
    periods; ``CONSTANT_KEY``; and ``VERSION``."""
    author: np.ndarray | None
    """Hashes of the names of N authors; None if the predictions have no column of users. A text
    without an author gets the hash of its row number, so it is the only text of its author."""
    text: pa.Array | None
    """N texts; None if the predictions have no texts, or if no texts were asked for."""


def find_text_column(scored: Manifest) -> str | None:
    """Name the column of predictions that has the text; None if it was not kept."""
    kept = scored["settings"]["keep_columns"]
    for name in (scored["settings"]["text_column"], TEXT):
        if name in kept:
            return str(name)
    return None


def check_columns(
    settings: TrendsSettings, scored: Manifest, *, setting: str = "trends.by"
) -> None:
    """Check that predictions have the columns of ``trends.by``, and that times have a unit.

    Args:
        settings: Has ``by``.
        scored: Manifest of the predictions.
        setting: The setting that names the columns, for messages.

    Raises:
        UserError: A column is missing, or is a time and named without a unit.
    """
    available = [*scored["settings"]["keep_columns"], "split", "predicted_label"]
    if "models" in scored:
        available.append(VERSION)
    missing = [column for column, _ in settings.keys if column not in available]
    if missing:
        raise UserError(
            f"{setting}: the predictions have no column {', '.join(missing)}; "
            f"there are {', '.join(available)}",
            hint="name the column in score.keep_columns, and score again",
        )
    types = scored.get("kept_types", {})
    columns = lineage.format_of(scored).columns
    written_time = columns.time if columns else None
    for column, unit in settings.keys:
        is_time = types.get(column, "").startswith(("timestamp", "date"))
        if not unit and (is_time or column == written_time):
            raise UserError(
                f"{setting}: {column} is a time", hint=f"name a unit, such as {column}:week"
            )


def read(
    settings: TrendsSettings, scored: Manifest, uri: str, *, with_text: bool = False
) -> Iterator[PredictionBatch]:
    """Read all predictions, batch by batch: the memory needed does not depend on their number.

    Args:
        settings: What to group by.
        scored: Manifest of the scored directory.
        uri: The scored directory.
        with_text: Read the texts, too, if the predictions have texts.

    Raises:
        UserError: A file is gone or damaged, or a column with a unit of time has no times.
    """
    probabilities = [PROBABILITY + name for name in lineage.classes_of_model(scored)]
    every_probability = [PROBABILITY + name for name in manifest.find_classes(scored)]
    form = lineage.format_of(scored)
    text = find_text_column(scored) if with_text else None
    named = form.columns.user if form.columns else None
    user = authors.find_column(scored["settings"]["keep_columns"], named)
    versions = list(lineage.models_of(scored))
    has_versions = len(versions) > 1
    columns = ["row_id", "label", "prediction", *probabilities]
    if text:
        columns.append(text)
    if user:
        columns.append(user)
    columns += [column for column, _ in settings.keys]
    if has_versions:
        columns.append(VERSION)
    once_each = list(dict.fromkeys(columns))
    tables = lineage.read_tables(uri, scored, ("predictions/",), once_each)
    with Progress("trends", total=scored["counts"]["accepted"], unit="rows") as progress:
        for table in tables:
            rows = table.combine_chunks()
            keys = _read_keys(rows, settings, form.time_format)
            keys[VERSION] = rows[VERSION].to_pandas() if has_versions else versions[0]
            known = rows.select(probabilities).to_pandas()
            matrix = known.reindex(columns=every_probability, fill_value=0)
            row_id = rows["row_id"].to_numpy()
            yield PredictionBatch(
                row_id=row_id,
                label=pc.fill_null(rows["label"], -1).to_numpy(),
                prediction=rows["prediction"].to_numpy(),
                probabilities=matrix.to_numpy(np.float64),
                keys=keys,
                author=authors.hash_authors(rows[user], row_id) if user else None,
                text=rows[text].combine_chunks().cast(pa.string()) if text else None,
            )
            progress.advance(len(rows))


def find_end(scored: Manifest, uri: str) -> int:
    """Return the highest row number plus 1: rows that are added later have higher numbers.

    Args:
        scored: Manifest of the scored directory.
        uri: The scored directory.

    Raises:
        UserError: A file is gone or damaged.
    """
    end = 0
    for table in lineage.read_tables(uri, scored, ("predictions/",), ["row_id"]):
        if len(table):
            end = max(end, pc.max(table["row_id"]).as_py() + 1)
    return end


def _read_keys(rows: pa.Table, settings: TrendsSettings, time_format: str | None) -> pd.DataFrame:
    """Read the group of each row by each of ``trends.by``."""
    keys = pd.DataFrame({CONSTANT_KEY: np.zeros(len(rows), np.int8)})
    for by, (column, unit) in zip(settings.by, settings.keys, strict=True):
        values = rows[column].combine_chunks()
        if unit:
            key = _find_periods(values, column, unit, time_format, settings.time_zone)
        else:
            key = values.cast(pa.string()).fill_null("(none)")
        keys[by] = key.to_pandas()
    return keys


def _find_periods(
    values: pa.Array, name: str, unit: str, time_format: str | None, zone: str
) -> pa.Array:
    """Find the beginning of the period of each time, in local time. A date has no time zone.

    Args:
        values: Times, dates, or written times.
        name: Their column.
        unit: Unit of the periods, such as ``week``.
        time_format: The format of written times.
        zone: Time zone of the periods.

    Raises:
        UserError: No value is a time, or a written time has another format.
    """
    if pa.types.is_date(values.type):
        return pc.floor_temporal(values.cast(pa.timestamp("us")), unit=unit)
    moments = values
    if not pa.types.is_timestamp(values.type):
        moments = _read_times(values, name, time_format)
    if len(moments) and moments.null_count == len(moments):
        raise UserError(
            f"trends.by: {name} holds no times, but values such as {values[0].as_py()!r}",
            hint=f"name {name} without :{unit}, or a column of times",
        )
    in_utc = moments.cast(pa.timestamp("us", "UTC"))
    in_zone = in_utc.cast(pa.timestamp("us", zone))
    return pc.floor_temporal(pc.local_timestamp(in_zone), unit=unit)


def _read_times(values: pa.Array, name: str, time_format: str | None) -> pa.Array:
    """Read written times, such as ISO 8601 in the names of folders whatever the format of a CSV is.

    Raises:
        UserError: The format does not read the times; see ``time_faults.find_fault``.
    """
    written = pc.fill_null(values.cast(pa.string()), "")
    fault, is_wrong = time_faults.find_fault(written, time_format)
    if is_wrong and time_format:
        _, is_wrong = time_faults.find_fault(written, None)
        if not is_wrong:
            return times.parse(written, None)
    if is_wrong:
        raise UserError(
            f"trends.by: {name}: {fault}", hint="set format.time_format, and score again"
        )
    return times.parse(written, time_format)
