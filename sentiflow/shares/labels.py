"""Rows to label by hand: drawn, written; read again, with their weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import label_files, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import TEXT, name_any
from sentiflow.metrics.sampling import rank_rows
from sentiflow.shares import rows
from sentiflow.storage.uris import as_typed

STAGE = "trends"
_SAMPLE = re.compile(r"(?P<size>\d+) rows(?: by (?P<by>.+))?")
"""What the column ``sample`` has: all that the draw depends on beside the corpus."""
_MAX_FOREIGN = 0.1
"""Part of the rows of a sample that may not be drawn from a corpus again."""


@dataclass(frozen=True)
class Labels:
    """Rows of ``trends.labels``."""

    table: pd.DataFrame
    """By ``row_id``: ``label``, a position among the classes, and ``weight``, the inverse of the
    probability with which the row was drawn, or 1 if all rows have the same; 0 if it was not drawn:
    then the label is only counted."""
    is_drawn: bool
    """Whether they are of a sample of ours, or were chosen in another way."""
    notes: list[str]


def read(settings: TrendsSettings, scored: Manifest, uri: str) -> Labels:
    """Read the files of ``trends.labels``, and find the weights of their rows.

    The weights are not in the files, where a spreadsheet may change them: the sample is drawn again
    from the rows that had no label.

    Args:
        settings: Names the files.
        scored: Manifest of the predictions.
        uri: Their directory.

    Raises:
        UserError: A file has not the columns, a label that is no class, a row twice, or no label;
            or its sample cannot be drawn again.
    """
    uris, classes = settings.labels, manifest.find_classes(scored)
    tables, missing = zip(*(_read_file(uri, classes) for uri in uris), strict=True)
    found = pd.concat(tables, ignore_index=True)
    twice = found["row_id"].duplicated()
    if twice.any():
        at = found[twice].iloc[0]
        raise UserError(f"{at['place']}: row_id {at['row_id']} was named before")
    if not len(found):
        raise UserError(
            f"{as_typed(uris[0])} has no label", hint=f"write {name_any(classes)} in column label"
        )
    other = found["sample"] != found["sample"].iloc[0]
    label_files.reject(found, other, f"is not {found['sample'].iloc[0]!r}", column="sample")
    notes = [f"{sum(missing):,} rows of trends.labels have no label yet"] * any(missing)
    table, drawn_as = found.set_index("row_id"), _SAMPLE.fullmatch(found["sample"].iloc[0])
    if not drawn_as:
        return Labels(table[["label"]].assign(weight=1.0), False, notes)
    grouping = settings.model_copy(update={"by": tuple(filter(None, [drawn_as["by"]]))})
    rows.check_columns(grouping, scored, setting=f"{as_typed(uris[0])}: column sample")
    drawn = _draw(grouping, scored, uri, int(drawn_as["size"]), table.index.to_numpy())
    weight = drawn.set_index("row_id")["weight"].reindex(table.index)
    if num_foreign := int(weight.isna().sum()):
        line = (
            f"{num_foreign:,} of {len(table):,} rows of trends.labels are not in the sample of "
            f"{drawn_as[0]} of these predictions"
        )
        if num_foreign > _MAX_FOREIGN * len(table):
            hint = "the corpus has changed since, or they were not drawn by --sample: draw again"
            raise UserError(line, hint=hint)
        notes.append(f"{line}: their labels are counted, and say nothing of the model's errors")
    return Labels(table[["label"]].assign(weight=weight.fillna(0)), True, notes)


def _read_file(uri: str, classes: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Read the rows with a label; count those without."""
    hint = "sentiflow trends CONFIG --sample 300 --output FILE.csv draws rows to label"
    table = label_files.read(uri, setting="trends.labels", needs=("row_id", "label"), hint=hint)
    if "sample" not in table and "weight" in table:
        problem = f"{as_typed(uri)} has weights, which are not read"
        raise UserError(problem, hint=f"draw rows again: {hint}")
    is_filled = table["label"] != ""
    num_missing = int((~is_filled & (table["row_id"] != "")).sum())
    table = table.assign(sample=table.get("sample", ""))[is_filled]
    label, row_id = label_files.read_labels(table, classes, {}), label_files.read_row_ids(table)
    wrong = (table["sample"] != "") & ~table["sample"].str.fullmatch(_SAMPLE.pattern)
    label_files.reject(table, wrong, "is no sample, such as '300 rows'", column="sample")
    return table[["sample", "place"]].assign(row_id=row_id, label=label), num_missing


def draw(settings: TrendsSettings, size: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Draw unlabelled rows to label by hand, in random order; the same each time.

    Returns:
        ``row_id``, ``sample`` (from which :func:`read` draws the same rows), the values of
        ``trends.by``, ``text``, ``label`` (empty); and the classes.

    Raises:
        UserError: There are no complete predictions, every row has a label, or the texts were not
            kept.
    """
    uri = settings.scored_uri
    scored = manifest.require(uri, stage="score", setting="trends.scored_uri")
    rows.check_columns(settings, scored)
    text = _check_texts(scored)
    table = _draw(settings, scored, uri, size, np.zeros(0, np.int64), with_text=True)
    if text is None:
        table["text"] = _find_texts(table["row_id"].to_numpy(), scored)
    sample = f"{size} rows" + (f" by {settings.by[0]}" if settings.by else "")
    by = [name for name in settings.by if name not in ("row_id", "sample", "text", "label")]
    table = table.assign(sample=sample, label="")[["row_id", "sample", *by, "text", "label"]]
    return table, manifest.find_classes(scored)


def _draw(
    settings: TrendsSettings,
    scored: Manifest,
    uri: str,
    size: int,
    labelled: np.ndarray,
    *,
    with_text: bool = False,
) -> pd.DataFrame:
    """Draw rows by their numbers and groups alone, so that another model leads to the same rows.

    A row's chance is proportional to 1 / sqrt(rows of its group), the group by the first of
    ``trends.by``: small groups get more than their part (M. D. Bankier, "Power allocations",
    American Statistician 42, 1988).

    Args:
        settings: What to group by.
        scored: Manifest of the predictions.
        uri: Their directory.
        size: Rows to draw.
        labelled: Row numbers that count as unlabelled, as they have their label from the sample.
        with_text: Read the texts, too.

    Returns:
        ``row_id``, ``weight`` (the inverse of the chance), the values of ``trends.by``, ``text``; a
        row for each that was drawn, in random order.

    Raises:
        UserError: Every row has a label.
    """
    group, counts = settings.by[0] if settings.by else rows.EVERY, pd.Series(dtype=np.int64)
    for batch in rows.read(settings, scored, uri, label=STAGE):
        is_open = (batch.label < 0) | np.isin(batch.row_id, labelled)
        found = batch.keys[group][is_open].value_counts(dropna=False)
        counts = pd.concat([counts, found]).groupby(level=0, dropna=False).sum()
        rows.check_number(counts, settings)
    if not len(counts):
        raise UserError(
            "every row of the predictions has a label", hint="run without --sample: it counts them"
        )
    chances, drawn = _choose_chances(counts, size), None
    for batch in rows.read(settings, scored, uri, label=STAGE, with_text=with_text):
        is_open = (batch.label < 0) | np.isin(batch.row_id, labelled)
        row_id, keys = batch.row_id[is_open], batch.keys[is_open]
        chance = chances.reindex(keys[group]).to_numpy()
        new = keys.assign(
            row_id=row_id,
            weight=1 / chance,
            text=batch.text.filter(pa.array(is_open)).to_pandas().to_numpy() if batch.text else "",
            rank=rank_rows(chance, row_id),
        )
        drawn = pd.concat([drawn, new]).nsmallest(size, "rank")
    assert drawn is not None, "there are unlabelled rows"
    return drawn.sample(frac=1, random_state=0, ignore_index=True)


def _choose_chances(counts: pd.Series, size: int) -> pd.Series:
    """Choose the chance of a row of each group, so that ``size`` rows are drawn in all."""
    from scipy.optimize import brentq

    num_rows = counts.to_numpy(float)
    if size >= num_rows.sum():
        return counts * 0 + 1.0
    relative = 1 / np.sqrt(num_rows)
    rate = brentq(
        lambda rate: (num_rows * np.minimum(relative * rate, 1)).sum() - size, 0, 1 / relative.min()
    )
    return pd.Series(np.minimum(relative * rate, 1), counts.index)


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
