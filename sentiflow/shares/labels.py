"""Scored directory -> rows drawn to label by hand; files of manual labels -> labels with weights.

The files do not hold the weights, because a spreadsheet may change them. When the labels are read,
the same draws are made again (``shares.draws``), which gives the weights, and the rows that an
annotator has left out.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.sections import Config, TrendsSettings
from sentiflow.data import input_files, label_files, lineage, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import TEXT, name_any
from sentiflow.metrics import agreement, sampling
from sentiflow.metrics.paired import write_p
from sentiflow.shares import draws, rows, sample_log
from sentiflow.storage.uris import display_uri

_MAX_FOREIGN = 0.1
"""Maximum share of labelled rows that may be missing when their sample is drawn again. Above it,
the corpus has changed, or somebody has chosen rows by hand."""
_IMPROBABLE = 0.01
"""Labelled rows are not a random sample if their difference from all rows has a lower p-value."""
_SECOND = "label_2"
"""The column of a second annotator's labels."""
_NO_LABEL = -1
_NEVER = 1e-9
"""Rows whose chance to be drawn is at most this are never drawn; a chance is computed with small
errors of rounding."""


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
class DrawnSample:
    """The rows of K draws up to the last labelled row of each draw, N in total."""

    row_id: np.ndarray
    """N row numbers."""
    draw: np.ndarray
    """The draw of each row, from 0."""
    chances: np.ndarray
    """``(N, K)``, the chance of each row to be in each draw."""
    sizes: np.ndarray
    """The number of rows of each draw, also those after its last labelled row."""
    end: int
    """Rows with this number and greater ones came after the last draw that has a label."""

    def weigh(self, is_usable: np.ndarray) -> np.ndarray:
        """Weigh each row by the inverse of its chance to be in the usable part of a draw.

        A draw of which only a part is labelled is a smaller draw: its rows are in random order.
        Chances are relative to the draw with the largest part.

        Rows that had caught up with others are expected in no later draw, but some are in one by
        chance. If the earlier draws are not usable, such a row would have an infinite weight. So
        the chance is at least what such a draw varies by: a draw is as if cut off at a chance whose
        standard error is the chance / √(rows drawn so far).

        Args:
            is_usable: Whether each row may measure the error of a model, bool.

        Returns:
            N weights; 0 for rows that are not usable.
        """
        num_usable = np.bincount(self.draw[is_usable], minlength=len(self.sizes))
        part = num_usable / np.maximum(self.sizes, 1)
        if not part.any():
            return np.zeros(len(self.row_id))
        part = part / part.max()
        chance = self.chances @ part
        if part.min() < 1:
            own = np.arange(len(self.sizes)) <= self.draw[:, None]
            up_to_own = (self.chances * own).sum(axis=1)
            num_drawn = np.cumsum(self.sizes)[self.draw]
            by_chance = part[self.draw] * up_to_own / (2 * np.sqrt(num_drawn))
            chance = np.maximum(chance, by_chance)
        return np.divide(1, chance, out=np.zeros(len(chance)), where=is_usable)


@dataclass(frozen=True)
class Labels:
    """The labelled rows of ``trends.labels``."""

    table: pd.DataFrame
    """Indexed by ``row_id``. ``label``: a position among the classes; -1 for a drawn row that was
    skipped, that is, left out before the last labelled row. ``weight``: the inverse of the row's
    chance to be drawn; 0 for a row that is not in the sample, whose label is counted but does not
    measure the error of the model. If there is no sample, all weights are 1."""
    sample: DrawnSample | None
    """The rows that ``--sample`` drew; None if the rows were chosen in another way."""
    agreement: agreement.Agreement | None
    """Of two annotators; None if there is only one."""
    notes: list[str]
    """What a reader should know about the labels."""

    @property
    def is_drawn(self) -> bool:
        """Say whether ``--sample`` drew the rows; otherwise they were chosen in another way."""
        return self.sample is not None

    @property
    def num_labelled(self) -> int:
        """Count the labelled rows."""
        return int((self.table["label"] >= 0).sum())


class _WrittenRows(NamedTuple):
    """The rows of files of labels."""

    labelled: pd.DataFrame
    """``sample``, ``place``, ``row_id``, ``label`` and ``label_2`` (-1: none) of labelled rows."""
    row_ids: np.ndarray
    """Numbers of all rows, with or without a label."""
    num_missing: int
    """Rows without a label."""
    histories: dict[str, str]
    """The values of the column ``sample``, each with the place where it is first found."""


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
    classes = manifest.find_classes(scored)
    written = _read_files(settings.labels, scored)
    labels = written.labelled
    history = _find_history(written.histories) if written.histories else ()
    as_text = labels.astype({"row_id": str})
    label_files.reject(as_text, as_text.duplicated("row_id"), "was named before", column="row_id")
    if not len(labels):
        hint = f"write {name_any(classes)} in column label"
        raise UserError(f"{name} has no label", hint=hint)
    notes = []
    found = _compare_annotators(labels, len(classes))
    if found:
        notes.append(_describe_agreement(found))
    table = labels.set_index("row_id")[["label"]]
    if not history:
        if written.num_missing:
            notes.insert(0, f"{written.num_missing:,} rows of trends.labels have no label yet")
        table = table.assign(weight=1.0)
        return Labels(table=table, sample=None, agreement=found, notes=notes)

    for draw in history:
        by = (draw.by,) if draw.by else ()
        grouping = settings.model_copy(update={"by": by})
        rows.check_columns(grouping, scored, setting=f"{name}: column sample")
    no_groups = settings.model_copy(update={"by": ()})
    drawn = draws.replay(no_groups, scored, uri, history, written.row_ids)
    has_order = _find_orders(written.histories, len(history))
    sample = _find_reached(drawn, table.index, has_order)
    weight = pd.Series(sample.weigh(np.ones(len(sample.row_id), bool)), sample.row_id)
    table = _add_weights(table, weight)
    num_foreign = int((table["weight"] == 0).sum())
    of_sample = _describe_sample(drawn, sample, table, history, written.num_missing)
    if num_foreign:
        of_sample.append(_note_foreign(num_foreign, len(labels), history))
    return Labels(table=table, sample=sample, agreement=found, notes=of_sample + notes)


def _read_files(uris: Sequence[str], scored: Manifest) -> _WrittenRows:
    """Read the rows of files."""
    classes = manifest.find_classes(scored)
    values = lineage.label_values(scored)
    parts = [_read_file(uri, classes, values) for uri in uris]
    histories: dict[str, str] = {}
    for part in parts:
        histories = {**part.histories, **histories}
    return _WrittenRows(
        labelled=pd.concat([part.labelled for part in parts], ignore_index=True),
        row_ids=np.concatenate([part.row_ids for part in parts]),
        num_missing=sum(part.num_missing for part in parts),
        histories=histories,
    )


def _read_file(uri: str, classes: Sequence[str], values: Mapping[str, int]) -> _WrittenRows:
    """Read the rows of a file.

    A row that only the second annotator has labelled takes this label. Where both have, the label
    of the first counts.

    Args:
        uri: The file.
        classes: The classes of the corpus.
        values: Labels as the input files write them, each with the position of its class. A label
            may be such a value or the name of a class.
    """
    hint = "sentiflow trends CONFIG --sample 300 --output FILE.csv draws rows to label"
    table = label_files.read(uri, setting="trends.labels", needs=("row_id", "label"), hint=hint)
    table = table.assign(sample=table.get("sample", ""), label_2=table.get(_SECOND, ""))
    is_filled = (table["label"] != "") | (table[_SECOND] != "")
    is_row = is_filled | (table["row_id"] != "")
    table = table[is_row]
    is_filled = is_filled[is_row]
    once_each = table.drop_duplicates("sample")
    row_ids = label_files.find_row_ids(table)
    table = table[is_filled]
    second = _read_column(table, classes, values, column=_SECOND)
    first = _read_column(table, classes, values, column="label")
    labelled = table[["sample", "place"]].assign(
        row_id=label_files.read_row_ids(table),
        label=first.where(first >= 0, second),
        both=(first >= 0) & (second >= 0),
        label_2=second,
    )
    return _WrittenRows(
        labelled=labelled,
        row_ids=row_ids,
        num_missing=int((~is_filled).sum()),
        histories=dict(zip(once_each["sample"], once_each["place"], strict=True)),
    )


def _read_column(
    table: pd.DataFrame, classes: Sequence[str], values: Mapping[str, int], *, column: str
) -> pd.Series:
    """Convert a column of labels to positions of classes, -1 for an empty field."""
    codes = pd.Series(_NO_LABEL, table.index)
    is_filled = table[column] != ""
    codes[is_filled] = label_files.read_labels(table[is_filled], classes, values, column=column)
    return codes


def _find_history(places: Mapping[str, str]) -> draws.History:
    """Find the history of all files: the longest, as it holds the draws of the others.

    Args:
        places: Values of the column ``sample``, each with its place.

    Returns:
        The draws; empty if the rows were not drawn.

    Raises:
        UserError: A value cannot be read, only some rows were drawn, or files have other histories.
    """
    histories = {}
    for written, place in places.items():
        history = draws.read_history(written) if written else ()
        if history is None:
            raise UserError(
                f"{place}: sample {written!r} is not written as '300 of 10,208 rows' or "
                "'300 of 10,208 rows by X'"
            )
        histories[place] = history
    first_place = next(iter(histories))
    longest = max(histories.values(), key=len)
    for place, history in histories.items():
        if bool(history) != bool(longest):
            raise UserError(
                f"{place}: some rows of trends.labels were drawn by --sample, and others were not",
                hint="name only files of one kind",
            )
        if not draws.is_before(history, longest):
            raise UserError(
                f"{place}: sample {draws.write_history(history)!r} and sample "
                f"{draws.write_history(longest)!r} are not draws of one corpus, one after the "
                "other",
                hint=f"name the files of one corpus (the first is at {first_place})",
            )
    return longest


def _find_orders(places: Mapping[str, str], num_draws: int) -> np.ndarray:
    """Say of each draw whether the order of its rows is known, bool.

    Files of an earlier version, which do not say how many rows there were, have another order.
    """
    has_order = np.ones(num_draws, bool)
    for written in places:
        history = draws.read_history(written)
        if history and history[-1].num_rows is None:
            has_order[len(history) - 1] = False
    return has_order


def _find_reached(drawn: draws.Drawn, labelled: pd.Index, has_order: np.ndarray) -> DrawnSample:
    """Find the rows of each draw up to its last labelled row: the others were not reached.

    Args:
        drawn: The rows in the order of the draws.
        labelled: Numbers of the labelled rows.
        has_order: Whether the order of each draw is known. If not, rows without a label count as
            not reached.
    """
    num_draws = len(has_order)
    row_id = drawn.rows["row_id"].to_numpy()
    draw = drawn.rows["draw"].to_numpy()
    place = np.arange(len(row_id))
    is_labelled = np.isin(row_id, labelled)
    last = np.full(num_draws, -1)
    np.maximum.at(last, draw[is_labelled], place[is_labelled])
    is_reached = is_labelled | (has_order[draw] & (place <= last[draw]))
    return DrawnSample(
        row_id=row_id[is_reached],
        draw=draw[is_reached],
        chances=drawn.chances[is_reached],
        sizes=np.bincount(draw, minlength=num_draws),
        end=int(drawn.ends[draw[is_reached].max(initial=0)]),
    )


def _add_weights(table: pd.DataFrame, weight: pd.Series) -> pd.DataFrame:
    """Add the weights of the sample, and its rows that were skipped.

    Args:
        table: ``label`` of the labelled rows, by ``row_id``.
        weight: The weights of the rows that were reached.
    """
    skipped = weight.index.difference(table.index)
    of_skipped = pd.DataFrame({"label": _NO_LABEL}, index=skipped)
    table = pd.concat([table, of_skipped]).rename_axis("row_id")
    return table.assign(weight=weight.reindex(table.index).fillna(0))


def _describe_sample(
    drawn: draws.Drawn,
    sample: DrawnSample,
    table: pd.DataFrame,
    history: draws.History,
    num_missing: int,
) -> list[str]:
    """Say which rows have no label: skipped, not reached, or in no draw."""
    notes = []
    is_skipped = table["label"] < 0
    num_skipped = int(is_skipped.sum())
    if num_skipped:
        weight = table["weight"]
        share = weight[is_skipped].sum() / weight.sum()
        notes.append(
            f"{num_skipped:,} of {len(sample.row_id):,} rows of the sample were skipped "
            f"({share:.1%} by weight): they have no label, but rows after them in the order of the "
            "draw have one; shares are of the other texts, and intervals are wider, as the skipped "
            "texts may all be of one class or of none"
        )
    num_later = num_missing - num_skipped
    if num_later > 0:
        notes.append(f"{num_later:,} rows of trends.labels have no label yet")
    if drawn.num_new:
        notes.append(
            f"{drawn.num_new:,} rows came after the last draw: their shares are estimated with the "
            "error on earlier rows; draw again (--sample), which takes rows of them, too"
        )
    num_reached = np.bincount(sample.draw, minlength=len(history))
    is_covered = (drawn.cell_chances[:, num_reached > 0] > _NEVER).any(axis=1)
    num_uncovered = int(drawn.cell_rows[~is_covered].sum())
    if num_uncovered:
        unlabelled = [history[number] for number in np.flatnonzero(num_reached == 0)]
        names = " and ".join(f"{draw.size:,} of {draw.num_rows:,}" for draw in unlabelled)
        notes.append(
            f"no label of the draws of {names}: {num_uncovered:,} rows could be in no other draw, "
            "and are estimated with the error on other rows"
        )
    return notes


def _compare_annotators(labels: pd.DataFrame, num_classes: int) -> agreement.Agreement | None:
    """Compare the labels of two annotators; None if no row has both."""
    both = labels[labels["both"]]
    if not len(both):
        return None
    first = both["label"].to_numpy()
    return agreement.measure(first, both[_SECOND].to_numpy(), num_classes)


def _describe_agreement(found: agreement.Agreement) -> str:
    """Say how far two annotators agree, and what it means."""
    kappa = "no kappa, as all rows have one label"
    if not isnan(found.kappa):
        kappa = f"kappa {found.kappa:.2f}, 95% interval {found.low:.2f} to {found.high:.2f}"
    return (
        f"two annotators agree in {found.agreement:.1%} of {found.rows:,} rows ({kappa}): if they "
        f"err independently, {1 - found.ceiling:.1%} of the labels are wrong, and no model can "
        f"show more than {found.ceiling:.1%} accuracy on them; intervals do not allow for wrong "
        "labels"
    )


def _note_foreign(num_foreign: int, num_rows: int, history: draws.History) -> str:
    """Say how many labelled rows are foreign: not in the sample that was drawn again.

    Raises:
        UserError: The share of foreign rows is above ``_MAX_FOREIGN``.
    """
    line = (
        f"{num_foreign:,} of {num_rows:,} rows of trends.labels are not in the sample of "
        f"{draws.write_history(history)} of these predictions"
    )
    if num_foreign > _MAX_FOREIGN * num_rows:
        raise UserError(
            line,
            hint="the corpus is another one, or you chose rows yourself: draw a sample again",
        )
    return f"{line}: their labels do not measure the error of the model"


def draw(config: Config, size: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Draw unlabelled rows to label by hand, in random order.

    The rows of earlier draws are not drawn again: draws are known from ``<output_uri>/samples/``
    and from ``trends.labels``. Another call draws the same rows until :func:`sample_log.record`
    adds the draw.

    Returns:
        ``row_id``, ``sample`` (by which :func:`read` draws the same rows again), the columns of
        ``trends.by``, ``text``, ``label`` (empty); and the classes.

    Raises:
        UserError: There are no complete predictions, every row has a label or was drawn, or neither
            the predictions nor the prepared data have texts.
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
    end = rows.find_end(scored, uri)
    before, drawn_before = _find_draws(config, scored, end)
    by = settings.by[0] if settings.by else ""
    history = (*before, draws.Draw(size=size, num_rows=end, by=by))
    drawn = draws.replay(settings, scored, uri, history, drawn_before, with_text=has_text)
    _check_earlier_draws(config, drawn.rows["row_id"], drawn_before)
    table = drawn.rows[drawn.rows["draw"] == len(before)].reset_index(drop=True)
    if not len(table):
        raise UserError(
            "every row without a label was drawn before",
            hint="label the files of earlier draws, and name them in trends.labels",
        )
    if not has_text and prepared:
        row_ids = table["row_id"].to_numpy()
        table["text"] = lineage.read_prepared(scored, prepared, row_ids, [TEXT])[TEXT].to_pandas()
    names = [name for name in settings.by if name not in ("row_id", "sample", "text", "label")]
    table = table.assign(sample=draws.write_history(history), label="")
    table = table[["row_id", "sample", *names, "text", "label"]]
    return table, manifest.find_classes(scored)


def _check_earlier_draws(config: Config, drawn: pd.Series, drawn_before: np.ndarray) -> None:
    """Check that the rows of earlier draws are drawn again.

    Raises:
        UserError: More than ``_MAX_FOREIGN`` of them are not.
    """
    num_foreign = int((~np.isin(drawn_before, drawn)).sum())
    if num_foreign > _MAX_FOREIGN * len(drawn_before):
        raise UserError(
            f"{num_foreign:,} of {len(drawn_before):,} rows of earlier draws are not drawn again: "
            "the corpus is another one, or a file was drawn by an earlier version and the corpus "
            "has grown since",
            hint=f"delete {display_uri(sample_log.find_folder(config))}, and leave such files out "
            "of trends.labels",
        )


def _find_files(patterns: Sequence[str]) -> list[str]:
    """List the files that match some patterns; there may be none before the first draw."""
    uris = []
    for pattern in patterns:
        with contextlib.suppress(UserError):
            uris += input_files.expand([pattern])
    return uris


def _find_draws(config: Config, scored: Manifest, end: int) -> tuple[draws.History, np.ndarray]:
    """Find the draws so far, and the rows that were drawn, as far as they are named.

    Args:
        config: Names the log of draws, and files of labels.
        scored: Manifest of the scored directory.
        end: Number of rows that are there now.

    Raises:
        UserError: The draws are of another corpus, or do not follow each other.
    """
    logged = sample_log.read(config)
    history = logged.history
    row_ids = np.array(logged.row_ids, np.int64)
    files = _find_files(config.trends.labels)
    if files:
        written = _read_files(files, scored)
        row_ids = np.union1d(row_ids, written.row_ids)
        of_files = _find_history(written.histories) if written.histories else ()
        if draws.is_before(history, of_files):
            history = of_files
        elif not draws.is_before(of_files, history):
            raise UserError(
                f"trends.labels: {draws.write_history(of_files)} is not one of the draws in "
                f"{display_uri(sample_log.find_folder(config))}",
                hint="name files of this corpus, or delete this folder",
            )
    dated = tuple(draw._replace(num_rows=draw.num_rows or end) for draw in history)
    num_rows = max((draw.num_rows or 0 for draw in dated), default=0)
    if num_rows > end:
        raise UserError(
            f"the last sample was drawn from {num_rows:,} rows, and the predictions have "
            f"{end:,}: they are of another corpus",
            hint=f"delete {display_uri(sample_log.find_folder(config))} to begin again",
        )
    return dated, row_ids


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
