"""Scored directory -> rows drawn to label by hand; files of manual labels -> labels with weights.

The files do not hold the weights, because a spreadsheet may change them. When the labels are read,
the same sample is drawn again, which gives its weights.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import Config, TrendsSettings
from sentiflow.data import label_files, lineage, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import TEXT, name_any
from sentiflow.metrics import sampling
from sentiflow.metrics.paired import write_p
from sentiflow.shares import rows
from sentiflow.storage.uris import display_uri

_SAMPLE = re.compile(r"(?P<size>\d+) rows(?: by (?P<by>.+))?")
"""A value of the column ``sample``: the size of the sample, and the column by whose groups it was
drawn. With the corpus, these two determine the drawn rows."""
_MAX_FOREIGN = 0.1
"""Maximum share of labelled rows that may be missing when their sample is drawn again. Above it,
the corpus has changed, or somebody has chosen rows by hand."""
_IMPROBABLE = 0.01
"""Labelled rows are not a random sample if their difference from all rows has a lower p-value."""


@dataclass
class CellCounts:
    """Rows by predicted class and probability: sums of ``sampling.count_cells`` over the batches.

    Shape:
        - population, sample: ``(C, NUM_BINS)``.
    """

    population: np.ndarray
    """All rows that the sample stands for."""
    sample: np.ndarray
    """The sum of the weights of the sample."""

    @classmethod
    def zeros(cls, num_classes: int) -> "CellCounts":
        """Make the counts of no rows."""
        shape = (num_classes, sampling.NUM_BINS)
        return cls(population=np.zeros(shape), sample=np.zeros(shape))


@dataclass(frozen=True)
class Labels:
    """The labelled rows of ``trends.labels``."""

    table: pd.DataFrame
    """Indexed by ``row_id``. ``label``: a position among the classes. ``weight``: the inverse of
    the row's chance to be drawn; 0 for a row that is not in the sample, whose label is counted but
    does not measure the error of the model. If there is no sample, all weights are 1."""
    is_drawn: bool
    """Whether ``--sample`` drew the rows; otherwise they were chosen in another way."""
    notes: list[str]
    """What a reader should know about the labels."""


def read(settings: TrendsSettings, scored: Manifest, uri: str) -> Labels:
    """Read the files of ``trends.labels``; draw their sample again for the weights of its rows.

    Args:
        settings: Names the files.
        scored: Manifest of the scored directory.
        uri: The scored directory.

    Raises:
        UserError: A file lacks a column or has a label that is no class, a row is named twice, no
            row has a label, or the sample cannot be drawn again.
    """
    name = display_uri(settings.labels[0])
    labels, num_missing = _read_files(settings.labels, scored)
    as_text = labels.astype({"row_id": str})
    label_files.reject(as_text, as_text.duplicated("row_id"), "was named before", column="row_id")
    if not len(labels):
        classes = manifest.find_classes(scored)
        hint = f"write {name_any(classes)} in column label"
        raise UserError(f"{name} has no label", hint=hint)
    sample = labels["sample"].iloc[0]  # the same in all rows, as the next line checks
    label_files.reject(labels, labels["sample"] != sample, f"is not {sample!r}", column="sample")
    notes = []
    if num_missing:
        notes.append(f"{num_missing:,} rows of trends.labels have no label yet")
    table = labels.set_index("row_id")[["label"]]
    if not sample:
        return Labels(table=table.assign(weight=1.0), is_drawn=False, notes=notes)

    drawn_as = _SAMPLE.fullmatch(sample)
    if not drawn_as:
        place = labels["place"][0]
        raise UserError(
            f"{place}: sample {sample!r} is not written as '300 rows' or '300 rows by X'"
        )
    by = (drawn_as["by"],) if drawn_as["by"] else ()
    grouping = settings.model_copy(update={"by": by})
    rows.check_columns(grouping, scored, setting=f"{name}: column sample")
    size = int(drawn_as["size"])
    drawn = _draw_sample(grouping, scored, uri, size, table.index.to_numpy())
    weight = drawn.set_index("row_id")["weight"].reindex(table.index)
    num_foreign = int(weight.isna().sum())
    if num_foreign:
        notes.append(_note_foreign(num_foreign, len(table), sample))
    return Labels(table=table.assign(weight=weight.fillna(0)), is_drawn=True, notes=notes)


def _read_files(uris: Sequence[str], scored: Manifest) -> tuple[pd.DataFrame, int]:
    """Read the labelled rows of files; count the rows without a label.

    Returns:
        ``sample``, ``place``, ``row_id`` and ``label`` of the labelled rows, and the count.
    """
    classes = manifest.find_classes(scored)
    values = lineage.label_values(scored)
    tables = []
    num_missing = 0
    for uri in uris:
        table, num_empty = _read_file(uri, classes, values)
        tables.append(table)
        num_missing += num_empty
    return pd.concat(tables, ignore_index=True), num_missing


def _read_file(
    uri: str, classes: Sequence[str], values: Mapping[str, int]
) -> tuple[pd.DataFrame, int]:
    """Read the labelled rows of a file; count the rows without a label.

    Args:
        uri: The file.
        classes: The classes of the corpus.
        values: Labels as the input files write them, each with the position of its class. A label
            may be such a value or the name of a class.

    Returns:
        ``sample``, ``place``, ``row_id`` and ``label`` of the labelled rows, and the count.
    """
    hint = "sentiflow trends CONFIG --sample 300 --output FILE.csv draws rows to label"
    table = label_files.read(uri, setting="trends.labels", needs=("row_id", "label"), hint=hint)
    is_filled = table["label"] != ""
    num_missing = int((~is_filled & (table["row_id"] != "")).sum())
    table = table.assign(sample=table.get("sample", ""))[is_filled]
    label = label_files.read_labels(table, classes, values)
    row_id = label_files.read_row_ids(table)
    return table[["sample", "place"]].assign(row_id=row_id, label=label), num_missing


def _note_foreign(num_foreign: int, num_rows: int, sample: str) -> str:
    """Say how many labelled rows are foreign: not in the sample that was drawn again.

    Raises:
        UserError: The share of foreign rows is above ``_MAX_FOREIGN``.
    """
    line = (
        f"{num_foreign:,} of {num_rows:,} rows of trends.labels are not in the sample of "
        f"{sample} of these predictions"
    )
    if num_foreign > _MAX_FOREIGN * num_rows:
        raise UserError(
            line,
            hint="the corpus has changed since, or you chose rows yourself: draw a sample again",
        )
    return f"{line}: their labels do not measure the error of the model"


def draw(config: Config, size: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Draw unlabelled rows to label by hand, in random order.

    Another call with the same settings and predictions draws the same rows.

    Returns:
        ``row_id``, ``sample`` (by which :func:`read` draws the same rows again), the columns of
        ``trends.by``, ``text``, ``label`` (empty); and the classes.

    Raises:
        UserError: There are no complete predictions, every row has a label, or neither the
            predictions nor the prepared data have texts.
    """
    settings = config.trends
    uri = config.score.output_uri
    scored = manifest.require(uri, stage="score", setting="score.output_uri")
    rows.check_columns(settings, scored)
    prepared = lineage.prepared_of(scored)
    has_text = rows.find_text_column(scored) is not None
    if not has_text and not prepared:
        raise UserError(
            "the predictions have no text to label",
            hint="name text in score.keep_columns, and score again",
        )
    no_rows = np.zeros(0, np.int64)
    table = _draw_sample(settings, scored, uri, size, no_rows, with_text=has_text)
    if not has_text and prepared:
        row_ids = table["row_id"].to_numpy()
        table["text"] = lineage.read_prepared(scored, prepared, row_ids, [TEXT])[TEXT].to_pandas()
    sample = f"{size} rows"
    if settings.by:
        sample += f" by {settings.by[0]}"
    by = [name for name in settings.by if name not in ("row_id", "sample", "text", "label")]
    table = table.assign(sample=sample, label="")[["row_id", "sample", *by, "text", "label"]]
    return table, manifest.find_classes(scored)


def _draw_sample(
    settings: TrendsSettings,
    scored: Manifest,
    uri: str,
    size: int,
    labelled_by_hand: np.ndarray,
    *,
    with_text: bool = False,
) -> pd.DataFrame:
    """Draw rows to label by their numbers and groups alone.

    Predictions do not matter, so the same rows are drawn after another model has scored the corpus.
    A row's chance is proportional to 1 / sqrt(rows of its group by the first of ``trends.by``), so
    small groups get more than their share (M. D. Bankier, "Power allocations", American
    Statistician 42, 1988).

    Args:
        settings: What to group by.
        scored: Manifest of the scored directory.
        uri: The scored directory.
        size: Number of rows to draw.
        labelled_by_hand: Numbers of rows that were labelled by hand after the sample was drawn. The
            predictions may have these labels now, but the rows count as unlabelled.
        with_text: Read the texts, too.

    Returns:
        The drawn rows in random order: ``row_id``, ``weight`` (the inverse of the chance), the
        columns of ``trends.by``, ``text``.

    Raises:
        UserError: Every row has a label.
    """
    group = settings.by[0] if settings.by else rows.CONSTANT_KEY
    counts = _count_unlabelled(settings, scored, uri, labelled_by_hand)
    chances = _choose_chances(counts, size)
    drawn = None
    for batch in rows.read(settings, scored, uri, with_text=with_text):
        is_open = _is_unlabelled(batch, labelled_by_hand)
        row_id = batch.row_id[is_open]
        keys = batch.keys[is_open]
        chance = chances.reindex(keys[group]).to_numpy()
        text: str | np.ndarray = ""
        if batch.text is not None:
            text = batch.text.filter(pa.array(is_open)).to_pandas().to_numpy()
        rank = sampling.rank_rows(chance, row_id)  # the rows with the smallest ranks are drawn
        new = keys.assign(row_id=row_id, weight=1 / chance, text=text, rank=rank)
        drawn = pd.concat([drawn, new]).nsmallest(size, "rank")
    assert drawn is not None, "there are unlabelled rows"
    return drawn.sample(frac=1, random_state=0, ignore_index=True)


def _count_unlabelled(
    settings: TrendsSettings, scored: Manifest, uri: str, labelled_by_hand: np.ndarray
) -> pd.Series:
    """Count the unlabelled rows of each group by the first of ``trends.by``.

    Raises:
        UserError: Every row has a label.
    """
    group = settings.by[0] if settings.by else rows.CONSTANT_KEY
    counts = pd.Series(dtype=np.int64)
    for batch in rows.read(settings, scored, uri):
        is_open = _is_unlabelled(batch, labelled_by_hand)
        of_batch = batch.keys[group][is_open].value_counts(dropna=False)
        counts = pd.concat([counts, of_batch]).groupby(level=0, dropna=False).sum()
    if not len(counts):
        raise UserError(
            "every row of the predictions has a label",
            hint="run without --sample, which counts the labels",
        )
    return counts


def _is_unlabelled(batch: rows.PredictionBatch, labelled_by_hand: np.ndarray) -> np.ndarray:
    """Say of each row whether it had no label when the sample was drawn."""
    return np.asarray((batch.label < 0) | np.isin(batch.row_id, labelled_by_hand))


def _choose_chances(counts: pd.Series, size: int) -> pd.Series:
    """Choose the chance of a row in each group, so that ``size`` rows are expected in total.

    Chances are proportional to 1 / sqrt(rows of the group), but at most 1. The factor is found
    numerically.

    Args:
        counts: Number of unlabelled rows of each group.
        size: Number of rows to draw.
    """
    from scipy.optimize import brentq

    num_rows = counts.to_numpy(float)
    if size >= num_rows.sum():
        return pd.Series(1.0, counts.index)
    relative = 1 / np.sqrt(num_rows)

    def count_excess(rate: float) -> float:
        expected_rows = num_rows * np.minimum(relative * rate, 1)
        return float(expected_rows.sum() - size)

    rate = brentq(count_excess, 0, 1 / relative.min())
    return pd.Series(np.minimum(relative * rate, 1), counts.index)


def describe_differences(counts: CellCounts, size: float, classes: tuple[str, ...]) -> list[str]:
    """Say how the labelled rows differ from all rows, if that is improbable in a random sample.

    Args:
        counts: The rows by predicted class and probability.
        size: The effective size of the sample.
        classes: The C classes.

    Returns:
        One note on the larger difference, by predicted class or by probability; or none.
    """
    p_values = sampling.check_randomness(counts.population, counts.sample, size)
    if p_values.min() >= _IMPROBABLE:
        return []
    cells = np.stack([counts.population, counts.sample])
    totals = cells.sum(axis=(1, 2))[:, None]
    p_of_classes, p_of_bins = p_values
    if p_of_bins < p_of_classes:
        of_bins = cells.sum(axis=1) / totals
        # The bin with the largest gap between the two cumulative distributions.
        gaps = np.diff(of_bins, axis=0).cumsum()
        at = int(np.abs(gaps).argmax()) + 1
        of_all, of_sample = of_bins[:, at:].sum(axis=1)
        what = f"have a probability of {at / sampling.NUM_BINS:.2f} or more"
    else:
        of_classes = cells.sum(axis=2) / totals
        at = int(np.abs(of_classes[1] - of_classes[0]).argmax())
        of_all, of_sample = of_classes[:, at]
        what = f"are predicted {classes[at]}"
    return [
        f"the labelled texts are not a random sample: {of_sample:.1%} of them {what}, but "
        f"{of_all:.1%} of all texts ({write_p(p_values.min())}); the intervals hold only for texts "
        "like the labelled ones, and no group or period is claimed to differ"
    ]
