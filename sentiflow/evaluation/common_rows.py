"""Two runs, named by the user -> the labelled rows of both that neither model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import lineage, manifest
from sentiflow.data.arrays import one_array, put_columns
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_rows, prediction_files
from sentiflow.evaluation.evaluated_rows import (
    TEXT,
    WHOLE,
    classes_of,
    find_common_classes,
    of_split,
    predicted_of,
)
from sentiflow.evaluation.slices import OWN
from sentiflow.metrics.predicted import Predicted
from sentiflow.storage.uris import absolute_uri, join, names_model
from sentiflow.tracking import training_rows

_TEST = SPLITS[2]
_HOW_TO_NAME = (
    "name a scored directory, or the output_uri of a run, which MLflow shows as a tag of the run"
)


@dataclass(frozen=True)
class ScoredRun:
    """A scored directory that a user named."""

    name: str
    uri: str
    record: Manifest
    """Manifest of the directory."""
    file: prediction_files.PredictionFile | None = None
    """Predictions that replace those of the directory."""

    @property
    def has_probabilities(self) -> bool:
        """Say whether there are probabilities: a file may have predicted labels alone."""
        return self.file is None or self.file.has_probabilities


Pair = tuple[ScoredRun, ScoredRun]


@dataclass(frozen=True)
class ComparedRows:
    """N rows that both models have scored and neither was trained on."""

    table: pa.Table
    """``row_id``, in rising order; ``text`` where one of the two runs has it; the columns of
    user-defined slices, with the prefix ``OWN``."""
    predicted: tuple[Predicted, Predicted]
    """Of both models; a class has the same number in both."""
    split: str
    num_only_in: tuple[int, int]
    """Labelled rows of the split that the other model has no prediction for in this split."""
    num_seen_by: tuple[int, int]
    """Rows of the other model's split that are in this model's training or validation split. They
    are not compared and not counted in ``num_only_in``."""
    notes: list[str]
    """What a reader should know about them."""


def find_pair(first: str, second: str) -> Pair:
    """Find two runs, or a run and a file of predictions for its test rows.

    Raises:
        UserError: One has no predictions.
    """
    first_is_file = first.endswith(prediction_files.SUFFIXES)
    second_is_file = second.endswith(prediction_files.SUFFIXES)
    if first_is_file and second_is_file:
        raise UserError(
            f"{first} and {second} are files of predictions",
            hint="one of the two must be a run, which has the labels of the test rows",
        )
    if first_is_file:
        run = _find(second)
        return _read_file(first, run), run
    run = _find(first)
    if second_is_file:
        return run, _read_file(second, run)
    return run, _find(second)


def _find(name: str) -> ScoredRun:
    """Find the predictions of a run."""
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


def _read_file(name: str, run: ScoredRun) -> ScoredRun:
    """Read a file of predictions for the test rows of a run."""
    file = prediction_files.read(absolute_uri(name), run.record)
    return replace(run, name=name, file=file)


def read(pair: Pair, *, columns: Sequence[str] = ()) -> ComparedRows:
    """Find the common rows of two test splits, or of two corpora without splits.

    Args:
        pair: The two directories.
        columns: User-defined columns, which the first has.

    Raises:
        UserError: A row number means different rows in the two, labels differ, there is no common
            row, or a file is damaged.
    """
    _check_numbers(pair)
    tables = _read_tables(pair, columns)
    split = _find_split(pair, tables)
    tables, notes_on_classes = _prepare_rows(pair, tables, split)
    common = _find_common(pair, tables)
    first, second = (_take(table, common.row_ids) for table in tables)
    classes = tuple(dict.fromkeys(classes_of(first) + classes_of(second)))
    predicted = (predicted_of(first).among(classes), predicted_of(second).among(classes))
    _check_labels(pair, common.row_ids, predicted)
    return ComparedRows(
        table=_keep_for_slices(first, second),
        predicted=predicted,
        split=split,
        num_only_in=common.num_only_in,
        num_seen_by=common.num_seen_by,
        notes=_note_unknown(pair, common.is_known) + _note_versions(pair) + notes_on_classes,
    )


def _read_tables(pair: Pair, columns: Sequence[str]) -> list[pa.Table]:
    """Read the evaluated rows of both; a file of predictions has the rows of the run."""
    first, second = pair
    evaluated_rows.check_columns(columns, first.record, setting="--slice")
    of_first = evaluated_rows.read(first.uri, first.record, columns=columns)
    if first.file or second.file:
        return [of_first, of_first]
    return [of_first, evaluated_rows.read(second.uri, second.record)]


class _CommonRows(NamedTuple):
    """Which rows are compared, and why others are not."""

    row_ids: np.ndarray
    """In rising order."""
    num_only_in: tuple[int, int]
    num_seen_by: tuple[int, int]
    is_known: tuple[bool, bool]
    """Whether every training that led to each model could be read."""


def _find_common(pair: Pair, tables: list[pa.Table]) -> _CommonRows:
    """Find the rows that both models have scored and neither was trained on.

    Raises:
        UserError: There are none.
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


def _take(table: pa.Table, row_ids: np.ndarray) -> pa.Table:
    """Take rows by their numbers, in this order."""
    return table.take(pc.index_in(pa.array(row_ids), value_set=one_array(table["row_id"])))


def _keep_for_slices(first: pa.Table, second: pa.Table) -> pa.Table:
    """Keep the columns for slices: of the first run, and texts of the second if it has none."""
    kept = [name for name in first.column_names if name == TEXT or name.startswith(OWN)]
    table = first.select(["row_id", *kept])
    if TEXT not in kept and TEXT in second.column_names:
        return put_columns(table, {TEXT: second[TEXT]})
    return table


def _note_unknown(pair: Pair, is_known: tuple[bool, bool]) -> list[str]:
    """Note which models may have been trained on compared rows; nothing is known of a file."""
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
    """Prepare the rows of the compared split: their classes, and predictions of a file.

    Rows of classes that a model does not know are its mistakes. Classes that one training leaves
    out are left out of both tables.

    Returns:
        The rows of both; notes.

    Raises:
        UserError: The models have fewer than two classes in common, or labels are unknown.
    """
    names = [scored.name for scored in pair]
    if names[0] == names[1]:
        names = ["the first", "the second"]
    find_common_classes(
        {name: classes_of(table) for name, table in zip(names, tables, strict=True)}
    )
    left_out: set[str] = set()
    for scored in pair:
        left_out |= lineage.left_out_of(scored.record["inputs"]["model"])
    prepared = []
    notes = []
    for name, scored, table in zip(names, pair, tables, strict=True):
        rows = table.filter(pc.equal(table["split"], split))
        rows, notes_on_rows = evaluated_rows.add_unknown_classes(rows, scored.record, left_out)
        rows = of_split(rows, split)
        if scored.file:
            rows = prediction_files.put(rows, scored.file)
        else:
            notes += [f"{name}: {note}" for note in notes_on_rows]
        prepared.append(rows)
    return prepared, notes


def _check_numbers(pair: Pair) -> None:
    """Make sure that the same row number is the same row in both.

    Raises:
        UserError: They come from different files, or their files are unknown.
    """
    first, second = pair
    names = f"{first.name} and {second.name}"
    if not _have_same_corpus(first.record, second.record):
        corpora = f"{lineage.name_corpus(first.record)}; {lineage.name_corpus(second.record)}"
        raise UserError(
            f"{names} have scored different files, or prepared data that are gone or were "
            f"redone: {corpora}",
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


def _have_same_corpus(first: Manifest, second: Manifest) -> bool:
    """Say whether two scorings read the same corpus, the same files, or the same given test rows.

    Given test rows are numbered first, so their numbers do not depend on the other rows.
    """
    corpus = first["inputs"]["corpus"]
    other_corpus = second["inputs"]["corpus"]
    if corpus["fingerprint"] == other_corpus["fingerprint"]:
        return True
    files = lineage.input_files_of(first)
    others = lineage.input_files_of(second)
    if files and others and files["fingerprint"] == others["fingerprint"]:
        return True
    given = lineage.given_test_files_of(first)
    return bool(given) and given == lineage.given_test_files_of(second)


def _find_split(pair: Pair, tables: list[pa.Table]) -> str:
    """Find the split to compare by: ``test``, or ``all`` where there are no splits.

    Raises:
        UserError: Only one has splits, or a test split has no labelled row.
    """
    splits = []
    for scored, table in zip(pair, tables, strict=True):
        labelled = [name for name in (_TEST, WHOLE) if len(of_split(table, name))]
        if not labelled:
            raise UserError(
                f"{scored.name} has no labelled test row",
                hint="prepare with a test_fraction above 0",
            )
        splits.append(labelled[0])
    if splits[0] != splits[1]:
        with_splits = pair[splits.index(_TEST)].name
        without_splits = pair[splits.index(WHOLE)].name
        raise UserError(
            f"{with_splits} has test rows, {without_splits} has no splits: it is unknown which "
            "rows neither model was trained on",
            hint="score the same prepared data with both models",
        )
    return splits[0]


def _check_labels(pair: Pair, row_ids: np.ndarray, predicted: tuple[Predicted, Predicted]) -> None:
    """Make sure that common rows have the same labels.

    Raises:
        UserError: They do not. The message names the first such row.
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
