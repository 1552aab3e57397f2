"""Scored directory -> its rows, batch by batch: probabilities, labels, groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import TIME_UNITS, TrendsSettings
from sentiflow.data import authors, lineage, manifest, row_sources, time_faults, times
from sentiflow.data.arrays import hash_texts
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import TEXT
from sentiflow.progress import Progress
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.uris import join

CONSTANT_KEY = ""
"""A key with the same value in all rows: it makes one group of them."""
VERSION = "model_version"
"""A key that is always there: errors are measured for each version of the model separately."""


@dataclass(frozen=True)
class PredictionBatch:
    """N scored rows with their predictions among C classes."""

    row_id: np.ndarray
    """N numbers of rows in the corpus."""
    arrival: np.ndarray
    """N numbers that rise in the order in which the rows came: their row numbers. If the files have
    their own ids, it is the number of predictions before the row."""
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
    known_hashes: np.ndarray | None = None
    """Hashes of N texts, if these are kept in place of the texts."""

    def hash_texts(self) -> np.ndarray | None:
        """Hash the N texts; None if there are none."""
        if self.known_hashes is not None or self.text is None:
            return self.known_hashes
        return hash_texts(self.text.fill_null(""))


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
        UserError: A column is missing, or is a time and named without a unit, or with another one.
    """
    available = [*scored["settings"]["keep_columns"], "split", "predicted_label"]
    if "models" in scored:
        available.append(VERSION)
    missing = [column for column, _ in settings.keys if column not in available]
    for name in missing:
        column, _, unit = name.rpartition(":")
        if column in available:
            raise UserError(
                f"{setting}: {name}: {unit!r} is no unit of time; the units are "
                f"{', '.join(TIME_UNITS)}",
                hint=f"name a unit, such as {column}:{TIME_UNITS[-1]}",
            )
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


class PredictionReader:
    """Reads predictions part by part: the memory needed does not depend on their number."""

    def __init__(
        self, settings: TrendsSettings, scored: Manifest, uri: str, *, with_text: bool = False
    ) -> None:
        """List the parts and the columns to read.

        Args:
            settings: What to group by.
            scored: Manifest of the scored directory.
            uri: The scored directory.
            with_text: Read the texts, too, if the predictions have texts.
        """
        self._settings = settings
        self._scored = scored
        self._uri = uri
        self._probabilities = [PROBABILITY + name for name in lineage.classes_of_model(scored)]
        self._every_probability = [PROBABILITY + name for name in manifest.find_classes(scored)]
        form = lineage.format_of(scored)
        named = form.columns.user if form.columns else None
        self._time_format = form.time_format
        self._text = find_text_column(scored) if with_text else None
        self._user = authors.find_column(scored["settings"]["keep_columns"], named)
        first_version = next(iter(lineage.models_of(scored)))
        self._version = None if first_version else first_version
        self._sizes: dict[str, int] | None = None
        self.parts: list[FileEntry] = []
        """The files of predictions, in the order of their rows."""
        for item in scored["files"]:
            if item["path"].startswith("predictions/"):
                self.parts.append(item)
        self.starts = _find_starts(scored, self.parts)
        """Number of predictions before each part, by its path; empty if rows are numbered."""

    @property
    def rule(self) -> dict[str, Any]:
        """Say all that decides what is read from a part; JSON."""
        return {
            "uri": self._uri,
            "columns": self._list_columns(),
            "classes": self._every_probability,
            "by": list(self._settings.by),
            "time_zone": self._settings.time_zone,
            "time_format": self._time_format,
        }

    def read(self) -> Iterator[PredictionBatch]:
        """Read all predictions, batch by batch.

        Raises:
            UserError: A file is gone or damaged, or a column with a unit of time has no times.
        """
        with Progress("trends", total=self._scored["counts"]["accepted"], unit="rows") as progress:
            for part in self.parts:
                for batch in self.read_part(part):
                    yield batch
                    progress.advance(len(batch.row_id))

    def read_part(
        self, part: FileEntry, *, only: np.ndarray | None = None
    ) -> Iterator[PredictionBatch]:
        """Read the predictions of a part, batch by batch.

        Args:
            part: One of :attr:`parts`.
            only: Numbers of the rows to read. Default: all rows.

        Raises:
            UserError: The file is gone or damaged, or a column with a unit of time has no times.
        """
        if self._sizes is None:
            self._sizes = filesystem.sizes(self._uri)
        columns = self._list_columns()
        start = self.starts.get(part["path"])
        with manifest.naming_replacement(self._uri, self._scored):
            for table in lineage.read_file(self._uri, self._scored, part, columns, self._sizes):
                arrival = table["row_id"].to_numpy()
                if start is not None:
                    arrival = np.arange(start, start + len(table))
                    start += len(table)
                if only is None:
                    yield self._to_batch(table, arrival)
                    continue
                is_wanted = np.isin(table["row_id"].to_numpy(), only)
                if is_wanted.any():
                    yield self._to_batch(table.filter(pa.array(is_wanted)), arrival[is_wanted])

    def _list_columns(self) -> list[str]:
        columns = ["row_id", "label", "prediction", *self._probabilities]
        if self._text:
            columns.append(self._text)
        if self._user:
            columns.append(self._user)
        columns += [column for column, _ in self._settings.keys]
        if self._version is None:
            columns.append(VERSION)
        return list(dict.fromkeys(columns))

    def _to_batch(self, table: pa.Table, arrival: np.ndarray) -> PredictionBatch:
        """Convert rows as they are in a file, given their numbers in the order of arrival."""
        rows = table.combine_chunks()
        keys = _read_keys(rows, self._settings, self._time_format)
        keys[VERSION] = rows[VERSION].to_pandas() if self._version is None else self._version
        known = rows.select(self._probabilities).to_pandas()
        matrix = known.reindex(columns=self._every_probability, fill_value=0)
        row_id = rows["row_id"].to_numpy()
        user = rows[self._user] if self._user else None
        text = rows[self._text].combine_chunks().cast(pa.string()) if self._text else None
        return PredictionBatch(
            row_id=row_id,
            arrival=arrival,
            label=pc.fill_null(rows["label"], -1).to_numpy(),
            prediction=rows["prediction"].to_numpy(),
            probabilities=matrix.to_numpy(np.float64),
            keys=keys,
            author=None if user is None else authors.hash_authors(user, row_id),
            text=text,
        )


def _find_starts(scored: Manifest, parts: Sequence[FileEntry]) -> dict[str, int]:
    """Count the predictions before each part, if files have their own ids: these have any order.

    Parts are in the order in which their rows came: rows that are there stay where they are.
    """
    starts: dict[str, int] = {}
    if row_sources.has_own_ids(scored):
        num_rows = 0
        for part in parts:
            starts[part["path"]] = num_rows
            num_rows += part["rows"] or 0
    return starts


def find_end(scored: Manifest, uri: str) -> int:
    """Return the number in the order of arrival at which rows that are added later begin.

    It is the highest row number plus 1, which the manifest or the footer of a file tells. If the
    files have their own ids, it is the number of predictions.

    Args:
        scored: Manifest of the scored directory.
        uri: The scored directory.

    Raises:
        UserError: A file is gone or damaged.
    """
    end = 0
    has_own_ids = row_sources.has_own_ids(scored)
    for item in scored["files"]:
        if not item["path"].startswith("predictions/"):
            continue
        if has_own_ids:
            end += item["rows"] or 0
            continue
        if "row_id_range" in item:
            highest = item["row_id_range"][1]
        else:
            file = join(uri, item["path"])
            hint = "sentiflow score CONFIG --overwrite makes it again"
            with errors.as_fault_of(file, f"{file} is gone or damaged", hint=hint):
                highest = parquet.find_highest(file, "row_id")
        if highest is not None:
            end = max(end, highest + 1)
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
    if moments.null_count == len(moments):
        _refuse_values(values, name, unit)
    in_utc = moments.cast(pa.timestamp("us", "UTC"))
    in_zone = in_utc.cast(pa.timestamp("us", zone))
    return pc.floor_temporal(pc.local_timestamp(in_zone), unit=unit)


def _refuse_values(values: pa.Array, name: str, unit: str) -> None:
    """Refuse values of which none is a time, unless all are missing: null or empty.

    Raises:
        UserError: There is a value.
    """
    written = pc.fill_null(values.cast(pa.string()), "")
    found = values.filter(pc.not_equal(written, ""))
    if len(found):
        raise UserError(
            f"trends.by: {name} holds no times, but values such as {found[0].as_py()!r}",
            hint=f"name {name} without :{unit}, or a column of times",
        )


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
