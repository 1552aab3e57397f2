"""Two runs, named by the user -> the labelled rows of both that neither model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import lineage
from sentiflow.data.arrays import put_columns
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.schema import TEST
from sentiflow.errors import UserError
from sentiflow.evaluation import (
    evaluated_classes,
    evaluated_rows,
    replaced_predictions,
    rows_by_text,
)
from sentiflow.evaluation.evaluated_rows import (
    AUTHOR,
    TEXT,
    WHOLE,
    classes_of,
    number_classes,
    of_split,
    predicted_of,
)
from sentiflow.evaluation.rows_by_text import JoinedRows
from sentiflow.evaluation.scored_runs import Pair
from sentiflow.evaluation.slices import OWN
from sentiflow.metrics.predicted import Predicted
from sentiflow.tracking import training_rows


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
    num_labelled: tuple[int, int]
    """Labelled rows of the split in each run, compared or not."""
    joined_by: str = "row_id"
    """By what the rows of the runs are joined: ``row_id``; ``text`` if they have different
    files."""
    num_authors: int = 0
    """Authors of the rows, where these are whole authors whose names were kept; otherwise 0."""


def read(pair: Pair, *, columns: Sequence[str] = ()) -> ComparedRows:
    """Read the common rows of two test splits, or of two corpora without splits.

    Rows of the same files are joined by number, rows of different files by text.

    Args:
        pair: The two runs.
        columns: Columns of the first run that the user named for slices.

    Raises:
        UserError: A row number means different rows in the two runs, labels differ, there is no
            common row, rows of different files have no texts, or a file is damaged.
    """
    have_same_numbers = _have_same_numbers(pair)
    tables = _read_tables(pair, columns)
    split = _find_split(pair, tables)
    tables, notes_on_classes = _prepare_rows(pair, tables, split)
    common = _find_common(pair, tables) if have_same_numbers else rows_by_text.join(pair, tables)
    first, second = _share_authors(
        [table.take(place) for table, place in zip(tables, common.positions, strict=True)]
    )
    classes = tuple(dict.fromkeys(classes_of(first) + classes_of(second)))
    predicted = (predicted_of(first).among(classes), predicted_of(second).among(classes))
    class_values = _find_class_values(pair)
    if class_values is not None:
        predicted = (
            number_classes(predicted[0], class_values),
            number_classes(predicted[1], class_values),
        )
    _check_labels(pair, first["row_id"].to_numpy(), predicted)
    num_authors = 0
    if AUTHOR in first.column_names:
        num_authors = len(pc.unique(first[AUTHOR]))
    return ComparedRows(
        table=_keep_for_slices(first, second),
        predicted=predicted,
        split=split,
        num_only_in=common.num_only_in,
        num_seen_by=common.num_seen_by,
        num_labelled=(len(tables[0]), len(tables[1])),
        joined_by="row_id" if have_same_numbers else "text",
        notes=[
            *common.notes,
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


def _find_common(pair: Pair, tables: list[pa.Table]) -> JoinedRows:
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
    return JoinedRows(
        positions=(_find_places(of_first, common), _find_places(of_second, common)),
        num_only_in=(len(unseen_of_first) - len(common), len(unseen_of_second) - len(common)),
        num_seen_by=(int(seen_by_first.sum()), int(seen_by_second.sum())),
        is_known=(first_is_known, second_is_known),
        notes=[],
    )


def _find_places(row_ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Find the positions of wanted rows among rows, which are in any order."""
    order = np.argsort(row_ids)
    return np.asarray(order[np.searchsorted(row_ids, wanted, sorter=order)])


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
            rows = replaced_predictions.replace_predictions(rows, scored.file)
        else:
            notes += [f"{name}: {note}" for note in notes_on_rows]
        prepared.append(rows)
    return prepared, notes


def _have_same_numbers(pair: Pair) -> bool:
    """Say whether a row number means the same row in both runs.

    It does not if the rows come from different files, or from files that are unknown.

    Raises:
        UserError: Only one run counts the first record of the same files as a header.
    """
    first, second = pair
    names = f"{first.name} and {second.name}"
    if not _have_same_rows(lineage.corpus_of(first.record), lineage.corpus_of(second.record)):
        return False
    of_first = lineage.format_of(first.record)
    of_second = lineage.format_of(second.record)
    if of_first.has_header != of_second.has_header:
        raise UserError(
            f"{names} number their rows differently: only one reads the first record of a file as "
            "a header",
            hint="use the same format.header, and score again",
        )
    return True


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
