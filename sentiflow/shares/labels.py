"""Rows to label by hand: drawn, written; read again, with their weights."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import label_files, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import TEXT, name_any
from sentiflow.metrics.sampling import choose_weights, rank_rows
from sentiflow.shares import rows
from sentiflow.shares.rows import Batch
from sentiflow.storage.uris import as_typed

STAGE, SEED = "trends", 0
_STEPS = 100
"""Steps of what a label would teach."""
_CELL = ["group", "step"]


def read(uris: Sequence[str], classes: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Read the files of ``trends.labels``.

    Returns:
        By ``row_id``: ``label``, a position among the classes, and ``weight``, the inverse of the
        probability with which the row was drawn, or 1 if all rows have the same; and the number of
        rows without a label.

    Raises:
        UserError: A file has not the columns, a label that is no class, a row twice, or no label.
    """
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
    return found.set_index("row_id")[["label", "weight"]], sum(missing)


def _read_file(uri: str, classes: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Read the rows with a label; count those without."""
    name = as_typed(uri)
    hint = "sentiflow trends CONFIG --sample 300 --output FILE.csv draws rows to label"
    table = label_files.read(uri, setting="trends.labels", hint=hint)
    label_files.require(table, ("row_id",), name, hint=hint)
    is_filled = table["label"] != ""
    num_missing = int((~is_filled & (table["row_id"].str.strip() != "")).sum())
    table = table[is_filled]
    label, row_id = label_files.read_labels(table, classes), label_files.read_row_ids(table)
    weight = pd.Series(1.0, table.index)
    if "weight" in table:
        weight = pd.to_numeric(table["weight"], errors="coerce").astype("float64")
        wrong = ~((weight >= 1) & np.isfinite(weight))
        label_files.refuse(table, wrong, "weight", "is no weight of at least 1")
    columns = {"row_id": row_id, "label": label, "weight": weight, "place": table["place"]}
    return pd.DataFrame(columns), num_missing


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
    scored = manifest.require(uri, stage="score", setting="trends.scored_uri")
    rows.check_columns(settings, scored)
    grouping = settings.model_copy(update={"by": settings.by[:1]})
    text, counts = _check_texts(scored), pd.DataFrame(columns=[*_CELL, "rows"])
    for batch in rows.read(grouping, scored, uri, label=STAGE):
        found = _grade(batch)[batch.label < 0].value_counts(dropna=False).reset_index(name="rows")
        counts = pd.concat([counts, found]).groupby(_CELL, dropna=False, as_index=False).sum()
        rows.check_number(counts.drop_duplicates("group"), grouping)
    if not len(counts):
        raise UserError(
            "every row of the predictions has a label", hint="run without --sample: it counts them"
        )
    chances = _choose_chances(counts, size)
    rng, drawn = np.random.default_rng(SEED), None
    for batch in rows.read(grouping, scored, uri, label=STAGE, with_text=True):
        uniform, is_open = rng.random(len(batch.row_id)), batch.label < 0
        chance = _grade(batch)[is_open].merge(chances, how="left")["chance"].to_numpy()
        texts = batch.text.to_pandas() if batch.text else pd.Series("", range(len(is_open)))
        new = pd.DataFrame(
            {
                "row_id": batch.row_id[is_open],
                "weight": (1 / chance).round(4),
                "text": texts[is_open].to_numpy(),
                "rank": rank_rows(chance, uniform[is_open]),
            }
        )
        drawn = pd.concat([drawn, new]).nsmallest(size, "rank")
    assert drawn is not None, "there are unlabelled rows"
    table = drawn.drop(columns="rank").iloc[rng.permutation(len(drawn))].reset_index(drop=True)
    if text is None:
        table["text"] = _find_texts(table["row_id"].to_numpy(), scored)
    return table.assign(label=""), manifest.find_classes(scored)


def _grade(batch: Batch) -> pd.DataFrame:
    """Find the group of each row, and what its label would teach, rounded to a step."""
    taught = choose_weights(batch.probabilities)
    step = np.rint(taught * _STEPS).astype(np.int64)
    return pd.DataFrame({"group": batch.keys.iloc[:, -1], "step": step})


def _choose_chances(counts: pd.DataFrame, size: int) -> pd.DataFrame:
    """Choose the chance of a row by group and step, so that ``size`` rows are drawn in all."""
    from scipy.optimize import brentq

    num_rows = counts["rows"].to_numpy(float)
    if size >= num_rows.sum():
        return counts.assign(chance=1.0)
    of_group = counts.groupby("group", dropna=False)["rows"].transform("sum").to_numpy(float)
    taught = counts["step"].to_numpy(float) / _STEPS / np.sqrt(of_group)
    rate = brentq(
        lambda rate: (num_rows * np.minimum(taught * rate, 1)).sum() - size, 0, 1 / taught.min()
    )
    return counts.assign(chance=np.minimum(taught * rate, 1))


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
