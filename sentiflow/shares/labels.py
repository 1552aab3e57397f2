"""Rows to label by hand: drawn, written; read again, with their weights."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import TEXT, name_any
from sentiflow.metrics.sampling import choose_weights, rank_rows
from sentiflow.shares import rows
from sentiflow.shares.rows import Batch, Groups
from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed

STAGE, SEED = "trends", 0
_STEPS = 100
"""Steps of what a label would teach."""
_FIRST_LINE = 2
"""Line of the first row of a file with a header."""


@dataclass(frozen=True)
class Labels:
    """Labels by hand, ordered by row."""

    row_id: np.ndarray
    label: np.ndarray
    """Positions among the classes."""
    weight: np.ndarray
    """Inverse of the probability with which the row was drawn; 1 if all rows have the same."""
    num_missing: int
    """Rows of the files without a label."""

    def find(self, row_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find which rows are labelled, and where."""
        place = np.searchsorted(self.row_id, row_id)
        place[place == len(self.row_id)] = 0
        return self.row_id[place] == row_id, place


def read(uris: Sequence[str], classes: Sequence[str]) -> Labels:
    """Read the files of ``trends.labels``.

    Raises:
        UserError: A file has not the columns, a label that is no class, a row twice, or no label.
    """
    tables = [_read_file(uri, classes) for uri in uris]
    every = pd.concat(tables, ignore_index=True)
    twice = every["row_id"].duplicated()
    if twice.any():
        at = every[twice].iloc[0]
        raise UserError(f"{at['place']}: row_id {at['row_id']} was named before")
    found = every[every["label"] >= 0].sort_values("row_id")
    if not len(found):
        raise UserError(
            f"{as_typed(uris[0])} has no label", hint=f"write {name_any(classes)} in column label"
        )
    row_id, label, weight = (found[name].to_numpy() for name in ("row_id", "label", "weight"))
    return Labels(row_id, label, weight, len(every) - len(found))


def _read_file(uri: str, classes: Sequence[str]) -> pd.DataFrame:
    name = as_typed(uri)
    table = _read_table(uri, name)
    if missing := [column for column in ("row_id", "label") if column not in table]:
        raise UserError(
            f"{name} has no column {' and no column '.join(missing)}; "
            f"there are {', '.join(map(str, table.columns))}",
            hint="sentiflow trends CONFIG --sample 300 --output FILE.csv draws rows to label",
        )
    place = [f"{name}: line {number + _FIRST_LINE}" for number in range(len(table))]
    written = table["label"].fillna("").astype(str).str.strip()
    codes = {label.casefold(): code for code, label in enumerate(classes)} | {"": -1}
    label = written.str.casefold().map(codes)
    row_id = pd.to_numeric(table["row_id"], errors="coerce")
    weight = pd.to_numeric(table["weight"], errors="coerce") if "weight" in table else label * 0 + 1
    for values, column, meaning in (
        (label, "label", f"is none of {', '.join(classes)}"),
        (row_id.where(row_id % 1 == 0), "row_id", "is no row number"),
        (weight.where((weight >= 1) & np.isfinite(weight)), "weight", "is no weight of at least 1"),
    ):
        if (wrong := values.isna()).any():
            at = int(np.flatnonzero(wrong)[0])
            more = f" ({wrong.sum() - 1:,} more)" if wrong.sum() > 1 else ""
            raise UserError(
                f"{place[at]}: {column} {table[column].iloc[at]!r} {meaning}{more}",
                hint="correct the file and run the same command again",
            )
    columns = {"row_id": row_id.astype("int64"), "label": label.astype("int64")}
    return pd.DataFrame(columns | {"weight": weight.astype("float64"), "place": place})


def _read_table(uri: str, name: str) -> pd.DataFrame:
    """Read a file of Parquet, or of CSV as spreadsheets write it."""
    try:
        if uri.endswith(".parquet"):
            return filesystem.read_parquet(uri).to_pandas()
        text = filesystem.read_bytes(uri).decode("utf-8-sig")
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)
        return pd.read_csv(io.StringIO(text), sep=delimiter, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError(f"trends.labels: there is no {name}") from error
    except (ValueError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name} cannot be read as a table", hint=reason) from error


@dataclass
class _Drawn:
    """The rows that a sample has so far: those of the lowest keys."""

    key: np.ndarray
    row_id: np.ndarray
    weight: np.ndarray
    text: np.ndarray

    def keep_lowest(self, size: int) -> None:
        """Forget all but ``size`` rows."""
        if len(self.key) > size:
            kept = np.argpartition(self.key, size - 1)[:size]
            for name, values in vars(self).items():
                setattr(self, name, values[kept])


def draw(settings: TrendsSettings, size: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Draw unlabelled rows to label by hand, in random order; the same each time.

    A row's chance is proportional to what its label would teach, see ``choose_weights``, and to
    1 / sqrt(rows of its group), the group by the first of ``trends.by``: small groups get more than
    their part (M. D. Bankier, "Power allocations", American Statistician 42, 1988).

    Returns:
        ``row_id``, ``weight`` (the inverse of the chance), ``text``, ``label`` (empty); and the
        classes.

    Raises:
        UserError: There are no complete predictions, every row has a label, or the texts were not
            kept.
    """
    uri = settings.scored_uri
    scored = manifest.require(uri, stage="score", setting="trends.scored_uri", check_files=True)
    rows.check_columns(settings, scored)
    grouping = settings.model_copy(update={"by": settings.by[:1]})
    text = _check_texts(scored)
    groups, counts = Groups(grouping.keys), np.zeros((0, _STEPS + 1))
    for batch in rows.read(grouping, scored, uri, label=STAGE):
        group, is_open = groups.find(batch.keys, len(batch.row_id)), batch.label < 0
        cell = group[is_open] * (_STEPS + 1) + _grade(batch)[is_open]
        found = np.bincount(cell, minlength=len(groups.number) * (_STEPS + 1))
        counts = np.pad(counts, [(0, len(groups.number) - len(counts)), (0, 0)])
        counts += found.reshape(counts.shape)
    if not counts.sum():
        raise UserError(
            "every row of the predictions has a label", hint="run without --sample: it counts them"
        )
    chances = _choose_chances(counts, size)
    rng, empty = np.random.default_rng(SEED), np.zeros(0)
    drawn = _Drawn(empty, np.zeros(0, np.int64), empty, np.zeros(0, object))
    for batch in rows.read(grouping, scored, uri, label=STAGE, with_text=True):
        group, uniform = groups.find(batch.keys, len(batch.row_id)), rng.random(len(batch.row_id))
        chance = chances[group, _grade(batch)]
        rank = rank_rows(chance, uniform)
        chosen = np.flatnonzero(batch.label < 0)
        chosen = chosen[np.argsort(rank[chosen])[:size]]
        texts = batch.text.take(chosen).to_pandas() if batch.text else np.full(len(chosen), "")
        new = _Drawn(rank[chosen], batch.row_id[chosen], 1 / chance[chosen], texts)
        for name, values in vars(drawn).items():
            setattr(drawn, name, np.concatenate([values, getattr(new, name)]))
        drawn.keep_lowest(size)
    order = rng.permutation(len(drawn.key))
    columns = {"row_id": drawn.row_id, "weight": drawn.weight.round(4), "text": drawn.text}
    table = pd.DataFrame(columns).iloc[order].reset_index(drop=True)
    if text is None:
        table["text"] = _find_texts(table["row_id"].to_numpy(), scored)
    return table.assign(label=""), manifest.find_classes(scored)


def _grade(batch: Batch) -> np.ndarray:
    """Round what a label of each row would teach to a step from 0 to ``_STEPS``."""
    return np.rint(choose_weights(batch.probabilities) * _STEPS).astype(np.int64)


def _choose_chances(counts: np.ndarray, size: int) -> np.ndarray:
    """Choose the chance of a row by group and step, so that ``size`` rows are drawn in all."""
    from scipy.optimize import brentq

    if size >= counts.sum():
        return np.ones_like(counts)
    scale = 1 / np.sqrt(np.maximum(counts.sum(axis=1, keepdims=True), 1))
    taught = np.arange(_STEPS + 1) / _STEPS * scale
    rate = brentq(
        lambda rate: (counts * np.minimum(taught * rate, 1)).sum() - size,
        0,
        1 / taught[counts > 0].min(),
    )
    return np.minimum(taught * rate, 1)


def _check_texts(scored: Manifest) -> str | None:
    """Name the column of predictions with the texts; None if they are in the prepared data.

    Raises:
        UserError: They are in neither.
    """
    column = rows.find_text_column(scored)
    if column is None and not lineage.corpus_of(scored):
        raise UserError(
            "the predictions have no text to label",
            hint="name text in score.keep_columns, and score again",
        )
    return column


def _find_texts(row_id: np.ndarray, scored: Manifest) -> list[str]:
    prepared = lineage.corpus_of(scored)
    assert prepared is not None, "_check_texts comes first"
    texts: dict[int, str] = {}
    folders = tuple(f"tweets/split={split}/" for split in SPLITS)
    place, hint = scored["inputs"]["corpus"]["uri"], "prepare again"
    for table in lineage.read_tables(place, prepared, folders, columns=["row_id", TEXT], hint=hint):
        found = table.filter(np.isin(table["row_id"].to_numpy(), row_id))
        texts |= dict(zip(found["row_id"].to_pylist(), found[TEXT].to_pylist(), strict=True))
    return [texts[number] for number in row_id.tolist()]


def to_csv(table: pd.DataFrame) -> bytes:
    """Write rows to label for a spreadsheet, which takes no text for a formula."""
    texts = table["text"].str.replace(r"^(?=[=+\-@\t\r])", "'", regex=True)
    text = table.assign(text=texts).to_csv(index=False, quoting=csv.QUOTE_MINIMAL)
    return text.encode("utf-8-sig")
