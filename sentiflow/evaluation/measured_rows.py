"""Predictions -> the labelled rows that the model was not trained on, and what they show."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import EvaluateSettings
from sentiflow.data import lineage
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import (
    compact_rows,
    evaluated_classes,
    evaluated_rows,
    measurements,
    slices,
    text_traits,
)
from sentiflow.evaluation.evaluate_plan import STEPS
from sentiflow.evaluation.evaluated_rows import AUTHOR
from sentiflow.evaluation.measurements import Measurements
from sentiflow.evaluation.text_source import TextSource
from sentiflow.evaluation.unseen_rows import leave_out_training_rows


class MeasuredRows(NamedTuple):
    """Labelled predictions that the model was not trained on, and what they show."""

    rows: pa.Table
    """The headline split, as ``text_traits.describe`` returns its rows."""
    texts: TextSource | None
    """Where the texts of the rows are; None if they are unknown."""
    measured: Measurements
    is_unseen: bool
    """Whether it is certain that none of the rows was used to train or choose the model."""
    notes: list[str]
    """What a reader should know first."""


class _DividedRows(NamedTuple):
    """Labelled predictions that the model was not trained on, by split."""

    by_split: dict[str, pa.Table]
    """As ``compact_rows.read`` returns the rows, with the classes of the evaluation."""
    sources: list[TextSource]
    """Where texts and slices of the rows are."""
    texts: TextSource | None
    """Where their texts are; None if they are unknown."""
    is_unseen: bool
    """See :class:`MeasuredRows`."""
    notes: list[str]
    """What a reader should know first."""


def measure_unseen(
    settings: EvaluateSettings, scored_uri: str, scored: Manifest, corpus: ScoredCorpus
) -> MeasuredRows:
    """Measure the labelled predictions that the model was not trained on.

    Raises:
        UserError: There are none, or a pattern of ``evaluate.slices`` matches no text.
        JobError: The prepared data were replaced since the evaluation was planned.
    """
    patterns = settings.slices.patterns
    columns = settings.slices.columns
    candidates = evaluated_rows.list_searched(scored, corpus)
    searched = [name for name in candidates if name not in columns]
    divided = _read_unseen(scored_uri, scored, corpus, columns=[*columns, *searched])
    by_split = divided.by_split
    split = evaluated_rows.headline_split(list(by_split))
    model = scored["inputs"]["model"]
    with STEPS.show("read"):
        by_split[split], sample = text_traits.describe(
            by_split[split],
            divided.sources,
            settings=model["settings"],
            patterns=patterns,
            searched=searched,
            with_words=settings.num_examples > 0,  # with 0 the report shows nothing of the texts
        )
    for name in list(by_split):  # not before: the sample is drawn by the hashes
        by_split[name] = evaluated_rows.replace_hashes(by_split[name])
    rows = by_split[split]
    slices.check_patterns(rows, patterns)
    pa.default_memory_pool().release_unused()  # what the texts took
    with STEPS.show("measure"):
        measured = measurements.measure(
            by_split,
            sample,
            model=model,
            patterns=patterns,
            columns=columns,
            searched=searched,
            class_values=lineage.class_values_of(scored),
        )
    notes = divided.notes
    if measured.split == "validation":
        notes.append(
            "there is no test split: the validation texts were also used to choose the model, so "
            "expect lower figures on other texts (prepare.split.test_fraction sets texts aside)"
        )
    notes += _note_authors(rows, measured)
    return MeasuredRows(
        rows=rows,
        texts=divided.texts,
        measured=measured,
        is_unseen=divided.is_unseen and measured.split != "validation",
        notes=notes,
    )


def _read_unseen(
    scored_uri: str, scored: Manifest, corpus: ScoredCorpus, *, columns: Sequence[str]
) -> _DividedRows:
    """Read the rows without those of the training, and divide them by split.

    Args:
        scored_uri: The scored directory.
        scored: Its manifest.
        corpus: The corpus that was scored.
        columns: Columns for slices.

    Raises:
        UserError: No row with a label is left.
        JobError: The prepared data were replaced since the evaluation was planned.
    """
    with STEPS.show("read"):
        numbers = compact_rows.read(scored_uri, scored, columns=columns)
        rows, is_unseen, notes = leave_out_training_rows(
            numbers.rows, scored, corpus, numbers.texts
        )
    sources = numbers.sources
    texts = numbers.texts
    del numbers  # so that its rows are freed once their classes are matched
    classes = evaluated_rows.classes_of(rows)
    if not (rows["label"].to_numpy() < len(classes)).any():
        raise UserError(
            f"{scored_uri} has no labelled row that the model was not trained on",
            hint=f"evaluation needs rows labelled {evaluated_rows.name_any(classes)}",
        )
    rows, notes_on_classes = evaluated_classes.match_classes(rows, scored)
    return _DividedRows(
        by_split=evaluated_rows.divide_by_split(rows),
        sources=sources,
        texts=texts,
        is_unseen=is_unseen,
        notes=[*notes, *evaluated_rows.note_unknown_authors(scored), *notes_on_classes],
    )


def _note_authors(rows: pa.Table, measured: Measurements) -> list[str]:
    """Say that intervals and tests are by author, or why there is no interval."""
    if AUTHOR not in rows.column_names:
        return []
    texts = measurements.name_texts(measured.split)
    if measured.metrics.no_interval:
        return [f"the {texts} give no interval: {measured.metrics.no_interval}"]
    num_authors = len(pc.unique(rows[AUTHOR]))
    return [f"the {texts} are of {num_authors:,} authors: intervals and tests are by author"]
