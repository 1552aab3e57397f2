"""Predictions and labels -> a row for each group, period and class: shares with intervals."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.class_names import BINARY
from sentiflow.config.sections import TrendsSettings
from sentiflow.data import manifest, times
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.metrics import look_boundaries, share_changes, shares
from sentiflow.metrics.agreement import Agreement
from sentiflow.metrics.rating_scale import RatingScale
from sentiflow.shares import prediction_sums, ratings
from sentiflow.shares.breakdowns import ALL, MAX_UNKNOWN, Breakdown, break_down, break_down_means
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.label_finder import LabelFinder
from sentiflow.shares.part_sums import SEEN
from sentiflow.shares.prediction_sums import PredictionSums
from sentiflow.shares.randomness import describe_differences, describe_uneven_parts
from sentiflow.shares.rows import CONSTANT_KEY, VERSION
from sentiflow.shares.wording import Wording, write_period

COLUMNS = pa.schema(
    [
        pa.field("by", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("period", pa.timestamp("us")),
        pa.field("class", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("predicted_share", pa.float64(), nullable=False),
        pa.field("corrected_share", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("labelled", pa.int64(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
    ]
)
"""Columns of ``trends.parquet``."""
_MIN_TOLD = 0.01
"""Copies of training texts are told if they are at least this share of all texts."""


@dataclass(frozen=True)
class ShareTable:
    """The shares of C classes in a scored corpus."""

    classes: tuple[str, ...]
    breakdowns: list[Breakdown]
    """All rows; then by each of ``trends.by``, by both, and by model if there are several."""
    notes: list[str]
    """What a reader should know first."""
    num_rows: int
    num_sample: int
    """Labelled rows that measure the errors of the model."""
    num_counted: int
    """Labelled rows that are only counted, such as rows that the model was trained on."""
    num_skipped: int
    """Rows of the sample that an annotator has left out."""
    agreement: Agreement | None
    """Of two annotators; None if there is only one."""
    is_random: bool
    """Whether the sample may be random; if not, no group or period is claimed to differ."""
    looks: dict[str, share_changes.Looks]
    """By name of a breakdown by time alone: whether a share has changed, at every look."""
    scale: RatingScale | None = None
    """The values of ordered classes, if this is a table of mean ratings: it has one class,
    ``ratings.MEAN``, whose share is the mean, from 0 to 1."""
    means: "ShareTable | None" = None
    """The mean ratings; None if the classes have no order, and in a table of mean ratings."""

    @property
    def whole(self) -> pd.DataFrame:
        """Return the shares in all rows, a row for each class."""
        return self.breakdowns[0].table.set_index("class", drop=False)

    @property
    def focus(self) -> str:
        """Name the class that groups and periods are compared by, see :func:`choose_focus`."""
        return choose_focus(self.classes, self.whole["share"])

    def wording(self, name: str) -> Wording:
        """Say how a class, or the mean rating, is written about."""
        return Wording(name, self.scale)

    @property
    def method(self) -> str:
        """Say how the shares in all rows were estimated: one of ``shares.METHODS``."""
        return str(self.breakdowns[0].table["method"][0])


def measure(
    settings: TrendsSettings, scored: Manifest, uri: str, kept: KeptTables | None = None
) -> ShareTable:
    """Measure the shares of the classes in all rows, and by each column of ``trends.by``.

    Args:
        settings: The section ``trends``.
        scored: Manifest of the scored directory.
        uri: The scored directory.
        kept: Tables of an earlier result; the tables for the next one are added. Default: none.

    Raises:
        UserError: A file of labels is wrong, or names rows that are not in the predictions.
    """
    classes = manifest.find_classes(scored)
    kept = kept or KeptTables()
    finder = LabelFinder(scored, settings, uri, kept)
    sums = prediction_sums.collect(settings, scored, uri, finder, kept)
    notes = [*finder.notes, *_check_matched(settings, scored, finder)]
    if finder.num_seen:
        notes.append(
            f"{finder.num_seen:,} rows of trends.labels were used to train or choose the model: "
            "their labels do not measure its error"
        )
    differences = _find_differences(sums, classes)
    if finder.labels is None or finder.labels.sample is None:
        notes = [*_find_uneven_labels(settings, sums), *notes]
    breakdowns = break_down(settings, sums, classes, can_compare=not differences)
    focus = choose_focus(classes, breakdowns[0].table["share"])
    if sums.has_versions:
        notes += _describe_models(breakdowns, classes[0])
    # Each column is a sum for one class.
    totals = sums.by([CONSTANT_KEY]).sum().groupby(level=0).sum()
    if (breakdowns[0].table["method"] != shares.UNCORRECTED).any():
        notes += _describe_seen(sums)
    notes += ratings.note_unknown(scored)
    if totals["labelled"] and not finder.is_known:
        notes.append("it is unknown whether the model was trained on some labelled rows")
    in_order = _is_in_order(finder)
    part = look_boundaries.divide_level(len(classes), classes.index(focus))
    if sums.scale is not None:
        part = look_boundaries.divide_level_with_mean(len(classes))[:-1]
    found = ShareTable(
        classes=classes,
        breakdowns=breakdowns,
        notes=[*differences, *notes, *_note_gaps(settings, breakdowns), *_note_methods(breakdowns)],
        num_rows=int(totals["rows"]),
        num_sample=int(totals["labelled"]),
        num_counted=int(totals["counted"]),
        num_skipped=int(totals.get("skipped", 0)),
        agreement=finder.labels.agreement if finder.labels else None,
        is_random=not differences,
        looks=_find_changes(settings, sums.by, part, in_order=in_order),
    )
    if sums.scale is None:
        return found
    means = _measure_means(settings, sums, sums.scale, found, in_order=in_order)
    return replace(found, notes=[*found.notes, *means.notes], means=means)


def _measure_means(
    settings: TrendsSettings,
    sums: PredictionSums,
    scale: RatingScale,
    of_classes: ShareTable,
    *,
    in_order: bool,
) -> ShareTable:
    """Measure the mean rating in all rows, and by each column of ``trends.by``.

    Args:
        settings: The section ``trends``.
        sums: The sums of the predictions.
        scale: The values of the classes.
        of_classes: The shares of the classes.
        in_order: See ``share_changes.find_changes``.
    """
    can_compare = of_classes.is_random
    breakdowns = break_down_means(settings, sums, scale.step, can_compare=can_compare)
    part = look_boundaries.divide_level_with_mean(len(of_classes.classes))[-1:]
    return replace(
        of_classes,
        classes=(ratings.MEAN,),
        breakdowns=breakdowns,
        notes=[f"{ratings.MEAN} {note}" for note in _note_methods(breakdowns)],
        looks=_find_changes(settings, sums.by_value, part, in_order=in_order),
        scale=scale,
    )


def choose_focus(classes: tuple[str, ...], share: pd.Series) -> str:
    """Choose the class that groups and periods are compared by: negative, or else the largest.

    Args:
        classes: C names.
        share: The share of each in all rows.
    """
    negative = BINARY[0]
    if negative in classes:
        return negative
    return classes[int(np.argmax(share.to_numpy()))]


def _is_in_order(finder: LabelFinder) -> bool:
    """Say whether labels came in the order of the rows, as far as it is known."""
    if finder.labels is None or finder.labels.sample is None:
        return True
    return finder.labels.sample.is_in_order


def _find_changes(
    settings: TrendsSettings,
    sums_by: Callable[[list[str]], pd.DataFrame],
    part: np.ndarray,
    *,
    in_order: bool,
) -> dict[str, share_changes.Looks]:
    """Look for a change of a share over time, for each key that is a time.

    Args:
        settings: The section ``trends``.
        sums_by: Adds up the sums by some keys.
        part: See ``share_changes.find_changes``, like the other arguments.
        in_order: The same.
    """
    looks = {}
    for name, (_, unit) in zip(settings.by, settings.keys, strict=True):
        if not unit:
            continue
        of_periods = sums_by([name]).groupby(level=[name, VERSION]).sum()
        if len(of_periods):  # not all rows lack a time
            index = of_periods.index
            looks[name] = share_changes.find_changes(
                of_periods,
                period=pd.factorize(index.get_level_values(name), sort=True)[0],
                model=pd.factorize(index.get_level_values(VERSION))[0],
                part=part,
                in_order=in_order,
            )
    return looks


def _check_matched(settings: TrendsSettings, scored: Manifest, finder: LabelFinder) -> list[str]:
    """Check that all rows of ``trends.labels`` are in the predictions.

    If another program has left out rows, a line says how many labels are missing.

    Raises:
        UserError: Some are not, though all rows are predicted.
    """
    if finder.labels is None:
        return []
    num_missing = finder.labels.num_labelled - finder.num_matched
    rows_without = scored["given"]["rows_without"] if "given" in scored else 0
    if 0 < num_missing <= rows_without:
        return [
            f"{num_missing:,} of {finder.labels.num_labelled:,} labels of trends.labels are left "
            "out: their rows have no prediction"
        ]
    if num_missing:
        raise UserError(
            f"trends.labels: {num_missing:,} row ids of {', '.join(settings.labels)} are not in "
            "the predictions",
            hint="the labels belong to another corpus, or the file was damaged",
        )
    return []


def _find_differences(sums: PredictionSums, classes: tuple[str, ...]) -> list[str]:
    """Say for each model if its labelled rows are not a random sample of the rows it scored."""
    differences = []
    by_model = sums.by([VERSION])
    is_seen = by_model.index.get_level_values(SEEN).to_numpy(bool)
    by_model = by_model[~is_seen]
    versions = by_model.index.get_level_values(VERSION)
    weights = by_model["w", 0]
    squared_weights = by_model["ww", 0]
    for version, weight, squared in zip(versions, weights, squared_weights, strict=True):
        if not weight:
            continue
        effective_size = weight**2 / squared
        prefix = f"model version {version}: " if sums.has_versions else ""
        notes = describe_differences(sums.bin_counts[version], effective_size, classes)
        differences += [f"{prefix}{note}" for note in notes]
    return differences


def _find_uneven_labels(settings: TrendsSettings, sums: PredictionSums) -> list[str]:
    """Say for each model and each of ``trends.by`` if groups have very different parts of labels.

    Only for labels that are taken to be a random sample: ``--sample`` draws parts on purpose.
    """
    notes = []
    for by, (_, unit) in zip(settings.by, settings.keys, strict=True):
        if by == VERSION:
            continue  # each model is corrected by its own labels
        of_groups = sums.by([by])
        is_seen = of_groups.index.get_level_values(SEEN).to_numpy(bool)
        of_groups = of_groups[~is_seen]
        for version, of_version in of_groups.groupby(level=VERSION):
            keys = of_version.index.get_level_values(by)
            names = [write_period(key, unit) if unit else f"{by} {key}" for key in keys]
            prefix = f"model version {version}: " if sums.has_versions else ""
            found = describe_uneven_parts(of_version, names)
            notes += [f"{prefix}{note}" for note in found]
    return notes


def _describe_seen(sums: PredictionSums) -> list[str]:
    """Say how many texts the model has seen, and what measures its error on them."""
    whole = sums.by([CONSTANT_KEY])
    is_seen = whole.index.get_level_values(SEEN).to_numpy(bool)
    of_seen = whole[is_seen]
    num_rows = int(of_seen["rows", 0].sum())
    share = num_rows / whole["rows", 0].sum()
    if share < _MIN_TOLD:
        return []
    num_labelled = int(of_seen["labelled", 0].sum())
    line = (
        f"{num_rows:,} texts ({share:.1%}) are copies of texts that the model was trained on: "
        "they are corrected by themselves"
    )
    if num_labelled < shares.MIN_CORRECTED:
        line += (
            f"; {num_labelled:,} of them measure its error there, which are too few, so any share "
            "among them is possible"
        )
    else:
        line += f", by {num_labelled:,} labels"
    return [line]


def _describe_models(breakdowns: list[Breakdown], name: str) -> list[str]:
    """Say for each model how many rows it has scored, and how many of them are labelled.

    Args:
        breakdowns: One of them is by model.
        name: Any class, because the number of rows is the same for all classes.
    """
    by_model = next(item for item in breakdowns if item.by == VERSION)
    lines = []
    for model in by_model.of(name).itertuples():
        line = f"model version {model.group}: {model.rows:,} rows, {model.labelled:,} labelled"
        if model.method == shares.UNCORRECTED:
            line += (
                "; too few to measure its error: any share among its rows is possible, and shares "
                f"of which they are more than {MAX_UNKNOWN:.0%} are not corrected"
            )
        lines.append(line)
    return lines


def _note_gaps(settings: TrendsSettings, breakdowns: list[Breakdown]) -> list[str]:
    """Say how many rows are in no period, and how many are in periods of the future."""
    lines = {item.by: item.of(item.table["class"][0]) for item in breakdowns}
    num_rows = lines[ALL]["rows"].sum()
    future = times.first_future().replace(tzinfo=None)
    notes = []
    for by, (column, unit) in zip(settings.by, settings.keys, strict=True):
        if not unit:
            continue
        periods = lines.get(by, lines[ALL][:0])  # none if all rows lack a time
        num_missing = num_rows - periods["rows"].sum()
        if num_missing:
            notes.append(f"{num_missing:,} rows have no time in {column} and are in no period")
        of_future = periods[periods["period"] > future]
        if len(of_future):
            notes.append(
                f"{of_future['rows'].sum():,} rows are in periods of the future by {column}, the "
                f"last one of {of_future['period'].max():%Y-%m-%d}: check these times"
            )
    return notes


def _note_methods(breakdowns: list[Breakdown]) -> list[str]:
    """Say where groups have no interval, or predicted shares in place of corrected ones."""
    notes = []
    for item in breakdowns:
        method = item.of(item.table["class"].iloc[0])["method"]
        num_unbounded = int((method == shares.UNBOUNDED).sum())
        if num_unbounded:
            coarser = "a longer unit of time" if item.unit else "a column with fewer values"
            notes.append(
                f"by {item.by}: too few labels for groups: {num_unbounded:,} of {len(method):,} "
                "have no interval, because fewer than two labels in a labelled group do not tell "
                f"how much the groups differ; label more rows, or name {coarser}"
            )
        num_predicted = int((method == shares.PREDICTED).sum())
        if num_predicted:
            notes.append(
                f"by {item.by}: on the labelled texts the share of predicted labels is nearer to "
                f"the groups' shares than the corrected share, so {num_predicted:,} of "
                f"{len(method):,} groups have it (predicted)"
            )
    return notes


def tabulate(trends: ShareTable) -> pa.Table:
    """Make the table ``trends.parquet``, with the columns of ``COLUMNS``."""
    tables = []
    for item in trends.breakdowns:
        table = item.table.assign(by=item.by)
        tables.append(pa.Table.from_pandas(table, schema=COLUMNS, preserve_index=False))
    return pa.concat_tables(tables)


def tabulate_means(means: ShareTable) -> pa.Table:
    """Make the table ``means.parquet``, with the columns of ``ratings.COLUMNS``."""
    assert means.scale is not None, "a table of mean ratings"
    tables = []
    for item in means.breakdowns:
        table = item.table.assign(by=item.by)
        table["predicted_mean"] = means.scale.to_rating(table["predicted_share"])
        table["expected_mean"] = means.scale.to_rating(table["expected_share"])
        table["corrected_mean"] = means.scale.to_rating(table["corrected_share"])
        for name in ("low", "high"):
            table[name] = means.scale.to_rating(table[name])
        tables.append(pa.Table.from_pandas(table, schema=ratings.COLUMNS, preserve_index=False))
    return pa.concat_tables(tables)
