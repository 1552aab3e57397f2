"""Files of manual labels -> labels with weights.

The files do not hold the weights, because a spreadsheet may change them. When the labels are read,
the same draws are made again (``shares.draws``), which gives the weights, and the rows that an
annotator has left out.
"""

from dataclasses import dataclass
from math import isnan

import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import label_files, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import name_any
from sentiflow.metrics import agreement
from sentiflow.shares import draw_history, drawn_sample, draws, rows, written_labels
from sentiflow.shares.drawn_sample import DrawnSample
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.written_labels import NO_LABEL, SECOND, WrittenLabels
from sentiflow.storage.uris import display_uri

_NOT_DRAWN = (
    "the files of trends.labels do not say that --sample drew their rows (column sample), so these "
    "count as if each text had had the same chance to be labelled"
)
"""Note on files that name no draw."""


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
    def num_labelled(self) -> int:
        """Count the labelled rows."""
        return int((self.table["label"] >= 0).sum())


def read(
    settings: TrendsSettings, scored: Manifest, uri: str, kept: KeptTables | None = None
) -> Labels:
    """Read the files of ``trends.labels``; draw their sample again for the weights of its rows.

    Args:
        settings: Names the files.
        scored: Manifest of the scored directory.
        uri: The scored directory.
        kept: Tables of an earlier result; the tables for the next one are added. Default: none.

    Raises:
        UserError: A file lacks a column or has a label that is no class, a row is named twice, no
            row has a label, or the sample cannot be drawn again.
    """
    name = display_uri(settings.labels[0])
    classes = manifest.find_classes(scored)
    written = written_labels.read(settings.labels, scored)
    labelled = written.labelled
    history = written_labels.find_history(written.histories)
    as_text = labelled.astype({"row_id": str})  # a message quotes the row id
    label_files.reject(as_text, as_text.duplicated("row_id"), "was named before", column="row_id")
    if not len(labelled):
        hint = f"write {name_any(classes)} in column label"
        raise UserError(f"{name} has no label", hint=hint)
    of_annotators = []
    found = _compare_annotators(labelled, len(classes))
    if found:
        of_annotators.append(_describe_agreement(found))
    of_annotators += _describe_second(labelled)
    table = labelled.set_index("row_id")[["label"]]
    if not history:
        return Labels(
            table=table.assign(weight=1.0),
            sample=None,
            agreement=found,
            notes=[*_describe_missing(written.num_missing), *of_annotators, _NOT_DRAWN],
        )
    for draw in history:
        by = (draw.by,) if draw.by else ()
        grouping = settings.model_copy(update={"by": by})
        rows.check_columns(grouping, scored, setting=f"{name}: column sample")
    without_groups = settings.model_copy(update={"by": ()})  # only the row numbers are needed
    kept = kept or KeptTables()
    drawn = draws.replay(without_groups, scored, uri, history, written.row_ids, kept)
    has_order = written_labels.find_orders(written.histories, len(history))
    sample = drawn_sample.find_reached(drawn, table.index, has_order)
    table = _add_weights(table, sample)
    return Labels(
        table=table,
        sample=sample,
        agreement=found,
        notes=_describe_sample(written, drawn, sample, history, table) + of_annotators,
    )


def _describe_sample(
    written: WrittenLabels,
    drawn: draws.Drawn,
    sample: DrawnSample,
    history: draw_history.History,
    table: pd.DataFrame,
) -> list[str]:
    """Say which rows are not in the sample, and which it does not stand for.

    Args:
        written: What the files have.
        drawn: The rows of the draws.
        sample: The rows that an annotator has reached.
        history: The draws.
        table: Rows as in ``Labels.table``.

    Raises:
        UserError: Too many labelled rows are not in the sample.
    """
    # First, as it refuses files of another corpus. A sample without any row has nothing to tell.
    outside = _describe_outside(table, len(written.labelled), history)
    skipped = table.index[table["label"] < 0]
    num_skipped_in_files = int(np.isin(skipped, written.row_ids).sum())
    return [
        *drawn_sample.describe_skipped(sample, table),
        *_describe_missing(written.num_missing - num_skipped_in_files),
        *drawn_sample.describe_uncovered(drawn, sample, history),
        *drawn_sample.describe_absent(drawn, history, written.row_ids),
        *outside,
    ]


def _describe_missing(num_missing: int) -> list[str]:
    """Say how many rows of the files are still to be labelled; no line if none."""
    if not num_missing:
        return []
    return [f"{num_missing:,} rows of trends.labels have no label yet"]


def _add_weights(table: pd.DataFrame, sample: DrawnSample) -> pd.DataFrame:
    """Add the weights of a sample, and its rows that were skipped.

    Args:
        table: ``label`` of the labelled rows, by ``row_id``.
        sample: The rows that an annotator has reached.
    """
    every = np.ones(len(sample.row_id), bool)
    weight = pd.Series(sample.weigh(every), sample.row_id)
    skipped = weight.index.difference(table.index)
    of_skipped = pd.DataFrame({"label": NO_LABEL}, index=skipped)
    table = pd.concat([table, of_skipped]).rename_axis("row_id")
    return table.assign(weight=weight.reindex(table.index).fillna(0))


def _compare_annotators(labelled: pd.DataFrame, num_classes: int) -> agreement.Agreement | None:
    """Compare the labels of two annotators; None if no row has both."""
    both = labelled[labelled["both"]]
    if not len(both):
        return None
    first = both["label"].to_numpy()
    return agreement.measure(first, both[SECOND].to_numpy(), num_classes)


def _describe_second(labelled: pd.DataFrame) -> list[str]:
    """Say how many labels are by the second annotator alone; no line if none."""
    num_second = int((~labelled["both"] & (labelled[SECOND] >= 0)).sum())
    if not num_second:
        return []
    return [f"{num_second:,} of {len(labelled):,} labels are by the second annotator alone"]


def _describe_agreement(found: agreement.Agreement) -> str:
    """Say how far two annotators agree, and what it means."""
    kappa = "no kappa, as all rows have one label"
    if not isnan(found.kappa):
        kappa = f"kappa {found.kappa:.2f}, 95% interval {found.low:.2f} to {found.high:.2f}"
    return (
        f"two annotators agree in {found.agreement:.1%} of {found.rows:,} rows ({kappa}): if they "
        f"err equally often and independently, {1 - found.ceiling:.1%} of the labels are wrong "
        f"(95% interval {1 - found.ceiling_high:.1%} to {1 - found.ceiling_low:.1%}), and no model "
        f"can show more than {found.ceiling:.1%} accuracy on them; intervals of shares do not "
        "allow for wrong labels"
    )


def _describe_outside(
    table: pd.DataFrame, num_labelled: int, history: draw_history.History
) -> list[str]:
    """Say how many labelled rows are not in the sample that was drawn again; no line if none.

    Args:
        table: Rows as in ``Labels.table``.
        num_labelled: Number of labelled rows.
        history: The draws.

    Raises:
        UserError: Their share is above ``draws.MAX_MISSING``.
    """
    num_outside = int((table["weight"] == 0).sum())
    if not num_outside:
        return []
    line = (
        f"{num_outside:,} of {num_labelled:,} rows of trends.labels are not in the sample of "
        f"{draw_history.write_history(history)} of these predictions"
    )
    if num_outside > draws.MAX_MISSING * num_labelled:
        raise UserError(
            line,
            hint="the corpus is another one, or you chose rows yourself: draw a sample again",
        )
    return [f"{line}: their labels do not measure the error of the model"]
