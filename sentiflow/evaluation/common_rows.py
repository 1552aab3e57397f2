"""Two runs, named by the user -> the labelled rows of both that neither model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import lineage, manifest
from sentiflow.data.arrays import one_array, put_columns
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import TEST
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_classes, evaluated_rows, prediction_files
from sentiflow.evaluation.evaluated_rows import (
    AUTHOR,
    TEXT,
    WHOLE,
    classes_of,
    number_classes,
    of_split,
    predicted_of,
)
from sentiflow.evaluation.slices import OWN
from sentiflow.metrics.predicted import Predicted
from sentiflow.storage.uris import absolute_uri, join, names_model
from sentiflow.tracking import training_rows

_HOW_TO_NAME = (
    "name a scored directory, or the output_uri of a run, which MLflow shows as a tag of the run"
)


@dataclass(frozen=True)
class ScoredRun:
    """A scored directory that a user named, or a file of predictions for its rows."""

    name: str
    """As the user wrote it."""
    uri: str
    """The scored directory."""
    record: Manifest
    """Manifest of the directory."""
    file: prediction_files.PredictionFile | None = None
    """A file whose predictions replace the predictions of the directory; None without a file."""

    @property
    def has_probabilities(self) -> bool:
        """Say whether the predictions have probabilities: a file may have labels alone."""
        return self.file is None or self.file.has_probabilities


Pair = tuple[ScoredRun, ScoredRun]


@dataclass(frozen=True)
class ComparedRows:
    """N rows that both models have scored, and that neither was trained on."""

    table: pa.Table
    """``row_id``, in rising order; ``text`` where one of the two runs has it; the columns of
    user-defined slices, with the prefix ``OWN``."""
    predicted: tuple[Predicted, Predicted]
    """The predictions of the first and the second model; a class has the same number in both."""
    split: str
    """The compared split: ``test``; ``all`` for a corpus without splits."""
    num_only_in: tuple[int, int]
    """Labelled rows of the split that the other model has no prediction for in this split."""
    num_seen_by: tuple[int, int]
    """Rows of the other model's split that are in this model's training or validation split. They
    are not compared and not counted in ``num_only_in``."""
    notes: list[str]
    """What a reader should know about the rows."""
    num_authors: int = 0
    """Authors of the rows, where these are whole authors whose names were kept; otherwise 0."""


def find_pair(first: str, second: str) -> Pair:
    """Find two runs, or a run and a file of predictions for its test rows.

    Raises:
        UserError: Both are files, a run has no predictions, or a file is faulty.
    """
    first_is_file = first.endswith(prediction_files.SUFFIXES)
    second_is_file = second.endswith(prediction_files.SUFFIXES)
    if first_is_file and second_is_file:
        raise UserError(
            f"{first} and {second} are files of predictions",
            hint="one of the two must be a run, which has the labels of the test rows",
        )
    if first_is_file:
        run = _find_run(second)
        return _read_prediction_file(first, run), run
    run = _find_run(first)
    if second_is_file:
        return run, _read_prediction_file(second, run)
    return run, _find_run(second)


def was_replaced(pair: Pair) -> bool:
    """Say whether a job has replaced the predictions of a run since they were found."""
    return any(manifest.was_replaced(scored.uri, scored.record) for scored in pair)


def _find_run(name: str) -> ScoredRun:
    """Find the predictions of a run.

    Raises:
        UserError: It has no finished predictions, or it is a model.
    """
    if names_model(name):
        raise UserError(f"{name} is a model, not a run with predictions", hint=_HOW_TO_NAME)
    uri = absolute_uri(name)
    for location in (uri, join(uri, "scored")):
        if manifest.read(location, stage="score"):
            record = manifest.require(location, stage="score", setting=name)
            return ScoredRun(name=name, uri=location, record=record)
    raise UserError(
        f"{name} holds no finished predictions", hint=f"score it first; or {_HOW_TO_NAME}"
    )


def _read_prediction_file(name: str, run: ScoredRun) -> ScoredRun:
    """Read a file of predictions for the test rows of a run.

    Returns:
        The run under the name of the file, with its predictions.
    """
    file = prediction_files.read(absolute_uri(name), run.record)
    return replace(run, name=name, file=file)


def read(pair: Pair, *, columns: Sequence[str] = ()) -> ComparedRows:
    """Read the common rows of two test splits, or of two corpora without splits.

    Args:
        pair: The two runs.
        columns: Columns of the first run that the user named for slices.

    Raises:
        UserError: A row number means different rows in the two runs, labels differ, there is no
            common row, or a file is damaged.
    """
    _check_numbering(pair)
    tables = _read_tables(pair, columns)
    split = _find_split(pair, tables)
    tables, notes_on_classes = _prepare_rows(pair, tables, split)
    common = _find_common(pair, tables)
    first, second = _share_authors([_take_rows(table, common.row_ids) for table in tables])
    classes = tuple(dict.fromkeys(classes_of(first) + classes_of(second)))
    predicted = (predicted_of(first).among(classes), predicted_of(second).among(classes))
    class_values = _find_class_values(pair)
    if class_values is not None:
        predicted = (
            number_classes(predicted[0], class_values),
            number_classes(predicted[1], class_values),
        )
    _check_labels(pair, common.row_ids, predicted)
    num_authors = 0
    if AUTHOR in first.column_names:
        num_authors = len(pc.unique(first[AUTHOR]))
    return ComparedRows(
        table=_keep_for_slices(first, second),
        predicted=predicted,
        split=split,
        num_only_in=common.num_only_in,
        num_seen_by=common.num_seen_by,
        notes=[
            *_note_unknown(pair, common.is_known),
            *_note_versions(pair),
            *_note_authors(pair, num_authors),
            *notes_on_classes,
        ],
        num_authors=num_authors,
    )


def _find_class_values(pair: Pair) -> dict[str, float] | None:
    """Return the numbers of ordered classes; None if neither run has an order.

    If only one has, both are measured by it: so a model shows what it gains from the order.
    """
    values: dict[str, float] = {}
    for scored in reversed(pair):
        values |= lineage.class_values_of(scored.record) or {}
    return values or None


def _read_tables(pair: Pair, columns: Sequence[str]) -> list[pa.Table]:
    """Read the evaluated rows of both runs.

    If one is a file of predictions, both get the rows of the run: the predictions are replaced
    later, by :func:`_prepare_rows`.
    """
    first, second = pair
    corpus = lineage.corpus_of(first.record)
    evaluated_rows.check_columns(columns, first.record, corpus, setting="--slice")
    of_first = evaluated_rows.read(first.uri, first.record, columns=columns)
    if first.file or second.file:
        return [of_first, of_first]
    return [of_first, evaluated_rows.read(second.uri, second.record)]


class _CommonRows(NamedTuple):
    """Which rows are compared, and how many rows are not."""

    row_ids: np.ndarray
    """Numbers of the compared rows, in rising order."""
    num_only_in: tuple[int, int]
    """As in :class:`ComparedRows`."""
    num_seen_by: tuple[int, int]
    """As in :class:`ComparedRows`."""
    is_known: tuple[bool, bool]
    """Whether every training that led to each model could be read."""


def _find_common(pair: Pair, tables: list[pa.Table]) -> _CommonRows:
    """Find the rows that both models have scored, and that neither was trained on.

    Raises:
        UserError: There is no such row.
    """
    first, second = pair
    learned_by_first, first_is_known = training_rows.find_row_ids(first.record, name=first.name)
    learned_by_second, second_is_known = training_rows.find_row_ids(second.record, name=second.name)
    learned = np.concatenate([learned_by_first, learned_by_second])
    of_first, of_second = (table["row_id"].to_numpy() for table in tables)
    unseen_of_first = of_first[~np.isin(of_first, learned)]
    unseen_of_second = of_second[~np.isin(of_second, learned)]
    common = np.intersect1d(unseen_of_first, unseen_of_second)
    if not len(common):
        raise UserError(
            f"{first.name} and {second.name} have no labelled row in common that neither model "
            "was trained on",
            hint="score the same prepared data with both models",
        )
    seen_by_first = np.isin(of_second, learned_by_first)
    seen_by_second = np.isin(of_first, learned_by_second)
    return _CommonRows(
        row_ids=common,
        num_only_in=(len(unseen_of_first) - len(common), len(unseen_of_second) - len(common)),
        num_seen_by=(int(seen_by_first.sum()), int(seen_by_second.sum())),
        is_known=(first_is_known, second_is_known),
    )


def _take_rows(table: pa.Table, row_ids: np.ndarray) -> pa.Table:
    """Take rows by their numbers, in this order."""
    return table.take(pc.index_in(pa.array(row_ids), value_set=one_array(table["row_id"])))


def _share_authors(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Give the authors of the first table that has them to both, as the rows are the same."""
    for table in tables:
        if AUTHOR in table.column_names:
            return [put_columns(each, {AUTHOR: table[AUTHOR]}) for each in tables]
    return list(tables)


def _note_authors(pair: Pair, num_authors: int) -> list[str]:
    """Note by what the rows are compared, if they are whole authors."""
    if num_authors:
        return [f"the rows are of {num_authors:,} authors: intervals and tests are by author"]
    return evaluated_rows.note_unknown_authors(pair[0].record)


def _keep_for_slices(first: pa.Table, second: pa.Table) -> pa.Table:
    """Keep the columns that slices are made of.

    They come from the first run. If only the second run has texts, the texts come from the second.
    """
    kept = [name for name in first.column_names if name == TEXT or name.startswith(OWN)]
    table = first.select(["row_id", *kept])
    if TEXT not in kept and TEXT in second.column_names:
        return put_columns(table, {TEXT: second[TEXT]})
    return table


def _note_unknown(pair: Pair, is_known: tuple[bool, bool]) -> list[str]:
    """Note which models may have been trained on compared rows.

    Of a file of predictions, it is never known what its model was trained on.
    """
    notes = []
    for scored, all_read in zip(pair, is_known, strict=True):
        if scored.file:
            notes.append(f"it is unknown which rows {scored.name} was trained on")
        elif not all_read:
            notes.append(f"it is unknown which rows the model of {scored.name} was trained on")
    return notes


def _note_versions(pair: Pair) -> list[str]:
    """Note which runs have predictions of several models."""
    notes = []
    for scored in pair:
        versions = lineage.models_of(scored.record)
        if len(versions) > 1 and not scored.file:
            notes.append(
                f"several models have made the predictions of {scored.name}: model versions "
                f"{', '.join(versions)}"
            )
    return notes


def _prepare_rows(
    pair: Pair, tables: list[pa.Table], split: str
) -> tuple[list[pa.Table], list[str]]:
    """Choose the rows of the compared split, number their classes, put in predictions of a file.

    Rows of classes that a model does not know are its mistakes. Classes that one training leaves
    out are left out of both tables.

    Returns:
        The rows of the first and the second run; notes on their classes.

    Raises:
        UserError: The models have fewer than two classes in common, or labels are unknown.
    """
    names = [scored.name for scored in pair]
    if names[0] == names[1]:
        names = ["the first", "the second"]
    # This checks that there are common classes; which ones they are does not matter here.
    evaluated_classes.find_common_classes(
        {name: classes_of(table) for name, table in zip(names, tables, strict=True)}
    )
    left_out: set[str] = set()
    for scored in pair:
        left_out |= lineage.left_out_of(scored.record["inputs"]["model"])
    prepared = []
    notes = []
    for name, scored, table in zip(names, pair, tables, strict=True):
        rows = table.filter(pc.equal(table["split"], split))
        rows, notes_on_rows = evaluated_classes.match_classes(rows, scored.record, left_out)
        rows = of_split(rows, split)
        if scored.file:
            rows = prediction_files.replace_predictions(rows, scored.file)
        else:
            notes += [f"{name}: {note}" for note in notes_on_rows]
        prepared.append(rows)
    return prepared, notes


def _check_numbering(pair: Pair) -> None:
    """Check that a row number means the same row in both runs.

    Raises:
        UserError: The rows come from different files or from files that are unknown, or only one
            run counts the first record as a header.
    """
    first, second = pair
    names = f"{first.name} and {second.name}"
    corpus = lineage.corpus_of(first.record)
    other_corpus = lineage.corpus_of(second.record)
    if not _have_same_rows(corpus, other_corpus):
        raise UserError(
            f"{names} have scored different files, or prepared data that are gone or were "
            f"redone: {corpus.name}; {other_corpus.name}",
            hint="score the same corpus with both models, or give both the same prepare.test",
        )
    of_first = lineage.format_of(first.record)
    of_second = lineage.format_of(second.record)
    if of_first.has_header != of_second.has_header:
        raise UserError(
            f"{names} number their rows differently: only one reads the first record of a file as "
            "a header",
            hint="use the same format.header, and score again",
        )


def _have_same_rows(first: ScoredCorpus, second: ScoredCorpus) -> bool:
    """Say whether two corpora are the same, or have the same files or the same given test rows.

    Given test rows are the rows of ``prepare.test``. They are numbered first, so their numbers do
    not depend on the other rows.
    """
    if first.described["fingerprint"] == second.described["fingerprint"]:
        return True
    files = first.input_files
    others = second.input_files
    if files and others and files["fingerprint"] == others["fingerprint"]:
        return True
    given = first.given_test_files
    return bool(given) and given == second.given_test_files


def _find_split(pair: Pair, tables: list[pa.Table]) -> str:
    """Find the split to compare by: ``test``, or ``all`` if there are no splits.

    Raises:
        UserError: Only one run has splits, or a test split has no labelled row.
    """
    splits = []
    for scored, table in zip(pair, tables, strict=True):
        labelled = [name for name in (TEST, WHOLE) if len(of_split(table, name))]
        if not labelled:
            raise UserError(
                f"{scored.name} has no labelled test row",
                hint="prepare with a test_fraction above 0",
            )
        splits.append(labelled[0])
    if splits[0] != splits[1]:
        with_splits = pair[splits.index(TEST)].name
        without_splits = pair[splits.index(WHOLE)].name
        raise UserError(
            f"{with_splits} has test rows, {without_splits} has no splits: it is unknown which "
            "rows neither model was trained on",
            hint="score the same prepared data with both models",
        )
    return splits[0]


def _check_labels(pair: Pair, row_ids: np.ndarray, predicted: tuple[Predicted, Predicted]) -> None:
    """Check that common rows have the same labels in both runs.

    Raises:
        UserError: Some have different labels. The message names the first such row.
    """
    differing = np.flatnonzero(predicted[0].label != predicted[1].label)
    if not len(differing):
        return
    row = differing[0]
    labels = []
    for scored, rows in zip(pair, predicted, strict=True):
        labels.append(f"{rows.classes[rows.label[row]]} in {scored.name}")
    raise UserError(
        f"{len(differing):,} common rows have different labels: row {row_ids[row]:,} is "
        f"{' and '.join(labels)}",
        hint="score the same corpus with both models, with the same format.labels and "
        "prepare.corrections",
    )
