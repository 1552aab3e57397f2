"""Manual labels: rows are drawn to be labelled, read again, and found in a corpus with weights."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import Config, TrendsSettings
from sentiflow.data import label_files, lineage, manifest
from sentiflow.data.arrays import hash_texts
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import TEXT, name_any
from sentiflow.metrics import sampling
from sentiflow.metrics.paired import write_p
from sentiflow.shares import rows
from sentiflow.storage.uris import display_uri
from sentiflow.tracking import training_rows

_SAMPLE = re.compile(r"(?P<size>\d+) rows(?: by (?P<by>.+))?")
"""What the column ``sample`` has: all that the draw depends on beside the corpus."""
_MAX_FOREIGN = 0.1
"""Part of the rows of a sample that may not be drawn from a corpus again."""
_IMPROBABLE = 0.01
"""Labelled rows that differ so improbably from all rows are no random sample."""


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
    values = lineage.label_values(scored)
    tables, missing = zip(*(_read_file(uri, classes, values) for uri in uris), strict=True)
    labels = pd.concat(tables, ignore_index=True)
    numbers = labels.astype({"row_id": str})
    label_files.reject(numbers, numbers.duplicated("row_id"), "was named before", column="row_id")
    if not len(labels):
        raise UserError(
            f"{display_uri(uris[0])} has no label",
            hint=f"write {name_any(classes)} in column label",
        )
    sample = labels["sample"].iloc[0]
    label_files.reject(labels, labels["sample"] != sample, f"is not {sample!r}", column="sample")
    notes = [f"{sum(missing):,} rows of trends.labels have no label yet"] * any(missing)
    table = labels.set_index("row_id")[["label"]]
    if not sample:
        return Labels(table.assign(weight=1.0), False, notes)
    drawn_as = _SAMPLE.fullmatch(sample)
    if not drawn_as:
        raise UserError(f"{labels['place'][0]}: {sample!r} is no sample, such as '300 rows'")
    grouping = settings.model_copy(update={"by": tuple(filter(None, [drawn_as["by"]]))})
    rows.check_columns(grouping, scored, setting=f"{display_uri(uris[0])}: column sample")
    drawn = _draw(grouping, scored, uri, int(drawn_as["size"]), table.index.to_numpy())
    weight = drawn.set_index("row_id")["weight"].reindex(table.index)
    if num_foreign := int(weight.isna().sum()):
        line = (
            f"{num_foreign:,} of {len(table):,} rows of trends.labels are not in the sample of "
            f"{sample} of these predictions"
        )
        if num_foreign > _MAX_FOREIGN * len(table):
            raise UserError(
                line,
                hint="the corpus has changed since, or they were not drawn by --sample: draw again",
            )
        notes.append(f"{line}: their labels measure no error of the model")
    return Labels(table.assign(weight=weight.fillna(0)), True, notes)


def _read_file(
    uri: str, classes: Sequence[str], values: Mapping[str, int]
) -> tuple[pd.DataFrame, int]:
    """Read the rows with a label, the name of a class or a value of it; count those without."""
    hint = "sentiflow trends CONFIG --sample 300 --output FILE.csv draws rows to label"
    table = label_files.read(uri, setting="trends.labels", needs=("row_id", "label"), hint=hint)
    is_filled = table["label"] != ""
    num_missing = int((~is_filled & (table["row_id"] != "")).sum())
    table = table.assign(sample=table.get("sample", ""))[is_filled]
    label, row_id = label_files.read_labels(table, classes, values), label_files.read_row_ids(table)
    return table[["sample", "place"]].assign(row_id=row_id, label=label), num_missing


def draw(config: Config, size: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Draw unlabelled rows to label by hand, in random order; the same each time.

    Returns:
        ``row_id``, ``sample`` (from which :func:`read` draws the same rows), the values of
        ``trends.by``, ``text``, ``label`` (empty); and the classes.

    Raises:
        UserError: There are no complete predictions, every row has a label, or there are no texts,
            neither in the predictions nor in the prepared data.
    """
    settings, uri = config.trends, config.score.output_uri
    scored = manifest.require(uri, stage="score", setting="score.output_uri")
    rows.check_columns(settings, scored)
    prepared, has_text = lineage.corpus_of(scored), rows.find_text_column(scored) is not None
    if not has_text and not prepared:
        raise UserError(
            "the predictions have no text to label",
            hint="name text in score.keep_columns, and score again",
        )
    table = _draw(settings, scored, uri, size, np.zeros(0, np.int64), with_text=has_text)
    if not has_text and prepared:
        row_ids = table["row_id"].to_numpy()
        table["text"] = lineage.read_prepared(scored, prepared, row_ids, [TEXT])[TEXT].to_pandas()
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
    for batch in rows.read(settings, scored, uri):
        is_open = (batch.label < 0) | np.isin(batch.row_id, labelled)
        of_batch = batch.keys[group][is_open].value_counts(dropna=False)
        counts = pd.concat([counts, of_batch]).groupby(level=0, dropna=False).sum()
        rows.check_number(counts, settings)
    if not len(counts):
        raise UserError(
            "every row of the predictions has a label", hint="run without --sample: it counts them"
        )
    chances, drawn = _choose_chances(counts, size), None
    for batch in rows.read(settings, scored, uri, with_text=with_text):
        is_open = (batch.label < 0) | np.isin(batch.row_id, labelled)
        row_id, keys = batch.row_id[is_open], batch.keys[is_open]
        chance = chances.reindex(keys[group]).to_numpy()
        new = keys.assign(
            row_id=row_id,
            weight=1 / chance,
            text=batch.text.filter(pa.array(is_open)).to_pandas().to_numpy() if batch.text else "",
            rank=sampling.rank_rows(chance, row_id),
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


class LabelFinder:
    """Finds the label of each row, and its weight in the sample."""

    def __init__(self, scored: Manifest, settings: TrendsSettings, uri: str) -> None:
        """Read the manual labels, and find what the model was trained on.

        Raises:
            UserError: A file of labels is wrong.
        """
        self.labels = read(settings, scored, uri) if settings.labels else None
        self.notes: list[str] = []
        self.is_known = True
        """Whether all rows and texts that the model was trained on are known."""
        self.seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        """By version the numbers of rows, and the texts, that the model was trained on."""
        self.num_matched = self.num_seen = 0
        """Rows of ``trends.labels`` in the predictions, and those that the model was trained on."""
        has_text = bool(rows.find_text_column(scored))
        for version, model in lineage.models_of(scored).items():
            texts, _ = training_rows.find_texts([model] if has_text else [])
            try:
                row_ids, is_known = training_rows.find_row_ids(
                    lineage.of_version(scored, version), name="the model"
                )
                self.is_known &= is_known
            except UserError as error:
                row_ids = np.zeros(0, np.int64)
                if not has_text:
                    self.notes.append(f"the correction may be too small: {error}")
            self.seen[version] = row_ids, texts
        if self.labels is not None:
            self.notes += self.labels.notes

    def find(self, batch: rows.PredictionBatch) -> tuple[np.ndarray, np.ndarray]:
        """Return labels, -1 for none, and weights, 0 for labels that are only counted."""
        label, weight = batch.label.astype(np.int64), np.ones(len(batch.label))
        if self.labels is not None:
            manual = self.labels.table.reindex(batch.row_id)
            is_manual = manual["label"].notna().to_numpy()
            label[is_manual] = manual["label"][is_manual]
            weight = manual["weight"].fillna(0).to_numpy()
            self.num_matched += int(is_manual.sum())
        is_new = (label >= 0) & (weight > 0)
        for version, (row_ids, texts) in self.seen.items():
            place = np.flatnonzero(is_new & (batch.keys[rows.VERSION] == version))
            is_seen = np.isin(batch.row_id[place], row_ids, assume_unique=True)
            if batch.text is not None and len(texts):
                hashes = hash_texts(batch.text.take(pa.array(place)).fill_null(""))
                is_seen |= np.isin(hashes, texts)
            is_new[place] = ~is_seen
        if self.labels is not None:
            self.num_seen += int(((weight > 0) & ~is_new).sum())
        return label, np.where(is_new, weight, 0.0)


def describe_choice(cells: np.ndarray, size: float, classes: tuple[str, ...]) -> list[str]:
    """Say how the labelled rows differ from all, if that is improbable in a random sample.

    Args:
        cells: Those of ``sampling.count_cells``, of all rows and of the sample.
        size: The effective size of the sample.
        classes: The classes.
    """
    p_values = sampling.check_randomness(cells[0], cells[1], size)
    if p_values.min() >= _IMPROBABLE:
        return []
    of_classes, of_steps = (
        cells.sum(axis=axis) / cells.sum(axis=(1, 2))[:, None] for axis in (2, 1)
    )
    at = int(np.abs(of_classes[1] - of_classes[0]).argmax())
    what, (every, sample) = f"are predicted {classes[at]}", of_classes[:, at]
    if p_values[1] < p_values[0]:
        at = int(np.abs(np.diff(of_steps, axis=0).cumsum()).argmax()) + 1
        what = f"have a probability of {at / sampling.NUM_STEPS:.2f} or more"
        every, sample = of_steps[:, at:].sum(axis=1)
    return [
        f"the labelled texts are no random sample: {sample:.1%} of them {what}, of all "
        f"{every:.1%} ({write_p(p_values.min())}); the intervals hold only for texts like them, "
        "and no group or period is claimed to differ"
    ]
