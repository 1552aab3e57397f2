"""Two runs, named by the user -> the labelled rows of both that neither model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import manifest
from sentiflow.data.arrays import one_array, put_columns
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_rows, lineage, prediction_files
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

_COMPARED_SPLITS = (SPLITS[2], WHOLE)


@dataclass(frozen=True)
class ScoredRun:
    """A scored directory that a user named."""

    name: str
    uri: str
    record: Manifest
    """Manifest of the directory."""
    file: prediction_files.PredictionFile | None = None
    """Predictions that stand in place of those of the directory."""


Pair = tuple[ScoredRun, ScoredRun]


@dataclass(frozen=True)
class ComparedRows:
    """N rows that both models have scored and neither was trained on."""

    table: pa.Table
    """``row_id``, in rising order; ``text`` where one of both has it; columns of the user's own,
    their names after ``OWN``."""
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
    files = [name for name in (first, second) if name.endswith(prediction_files.SUFFIXES)]
    runs = {n: _find(n) for n in (first, second) if n not in files}
    if not runs:
        raise UserError(
            f"{first} and {second} are files of predictions",
            hint="one of the two must be a run, which has the labels of the test rows",
        )
    for name in files:
        run = next(iter(runs.values()))
        file = prediction_files.read(absolute_uri(name), run.record)
        runs[name] = replace(run, name=name, file=file)
    return runs[first], runs[second]


def _find(name: str) -> ScoredRun:
    """Find the predictions of a run."""
    hint = "name a scored directory, or the output_uri of a run, a tag of its MLflow runs"
    if names_model(name):
        raise UserError(f"{name} is a model, not a run with predictions", hint=hint)
    uri = absolute_uri(name)
    for location in (uri, join(uri, "scored")):
        if manifest.read(location, stage="score"):
            return ScoredRun(
                name, location, manifest.require(location, stage="score", setting=name)
            )
    raise UserError(f"{name} holds no finished predictions", hint=f"score it first; or {hint}")


def read(pair: Pair, *, columns: Sequence[str] = ()) -> ComparedRows:
    """Find the common rows of two test splits, or of two corpora without splits.

    Args:
        pair: The two directories.
        columns: Columns of the user's own, which the first has.

    Raises:
        UserError: The two number different rows, labels differ, there is no common row, or a file
            is damaged.
    """
    _check_numbers(pair)
    evaluated_rows.check_columns(columns, pair[0].record, setting="--slice")
    tables = [evaluated_rows.read(pair[0].uri, pair[0].record, columns=columns)]
    is_file = any(scored.file for scored in pair)
    tables.append(tables[0] if is_file else evaluated_rows.read(pair[1].uri, pair[1].record))
    split = _find_split(pair, tables)
    tables, notes = _count_others(pair, tables, split)
    seen = [lineage.find_training_rows(scored.record, name=scored.name) for scored in pair]
    row_ids = [table["row_id"].to_numpy() for table in tables]
    seen_by_any = np.concatenate([trained_on for trained_on, _ in seen])
    unseen = [ids[~np.isin(ids, seen_by_any)] for ids in row_ids]
    common = np.intersect1d(*unseen)
    if not len(common):
        raise UserError(
            f"{pair[0].name} and {pair[1].name} have no labelled row in common that neither model "
            "was trained on",
            hint="score the same prepared data with both models",
        )
    first, second = (
        table.take(pc.index_in(pa.array(common), value_set=one_array(table["row_id"])))
        for table in tables
    )
    classes = tuple(dict.fromkeys(classes_of(first) + classes_of(second)))
    predicted = (predicted_of(first).among(classes), predicted_of(second).among(classes))
    _check_labels(pair, common, predicted)
    further = [name for name in first.column_names if name == TEXT or name.startswith(OWN)]
    shared = {TEXT: second[TEXT]} if TEXT in {*second.column_names} - {*further} else {}
    return ComparedRows(
        put_columns(first.select(["row_id", *further]), shared),
        predicted,
        split,
        num_only_in=(len(unseen[0]) - len(common), len(unseen[1]) - len(common)),
        num_seen_by=(
            int(np.isin(row_ids[1], seen[0][0]).sum()),
            int(np.isin(row_ids[0], seen[1][0]).sum()),
        ),
        notes=[
            f"it is unknown which rows {'' if scored.file else 'the model of '}{scored.name} was "
            "trained on"
            for scored, (_, is_known) in zip(pair, seen, strict=True)
            if not is_known or scored.file
        ]
        + [
            f"several models have made the predictions of {scored.name}: model versions "
            f"{', '.join(lineage.models_of(scored.record))}"
            for scored in pair
            if not scored.file and len(lineage.models_of(scored.record)) > 1
        ]
        + notes,
    )


def _count_others(
    pair: Pair, tables: list[pa.Table], split: str
) -> tuple[list[pa.Table], list[str]]:
    """Count rows of other classes as mistakes; leave out of both what one model leaves out.

    Raises:
        UserError: The models have fewer than two classes in common, or labels are unknown.
    """
    names = ("the first", "the second") if pair[0].name == pair[1].name else [s.name for s in pair]
    find_common_classes(dict(zip(names, map(classes_of, tables), strict=True)))
    left_out = set[str]().union(
        *(lineage.left_out_of(scored.record["inputs"]["model"]) for scored in pair)
    )
    counted, notes = [], dict[str, None]()
    for name, scored, table in zip(names, pair, tables, strict=True):
        rows, noted = evaluated_rows.count_others(
            table.filter(pc.equal(table["split"], split)), scored.record, left_out
        )
        rows = of_split(rows, split)
        if scored.file:
            rows, noted = prediction_files.put(rows, scored.file), []
        counted.append(rows)
        notes |= dict.fromkeys(f"{name}: {note}" for note in noted)
    return counted, [*notes]


def _check_numbers(pair: Pair) -> None:
    """Make sure that the same row number is the same row in both.

    Raises:
        UserError: They come from different files, or their files are unknown.
    """
    names = f"{pair[0].name} and {pair[1].name}"
    corpora = [scored.record["inputs"]["corpus"] for scored in pair]
    if corpora[0]["fingerprint"] != corpora[1]["fingerprint"]:
        first, second = (lineage.input_files_of(scored.record) for scored in pair)
        tests = [lineage.given_test_files_of(scored.record) for scored in pair]
        are_given = tests[0] and tests[0] == tests[1]  # they are numbered first
        is_same = first and second and first["fingerprint"] == second["fingerprint"]
        if not is_same and not are_given:
            one, other = (lineage.name_corpus(scored.record) for scored in pair)
            raise UserError(
                f"{names} have scored different files, or prepared data that are gone or were "
                f"redone: {one}; {other}",
                hint="score the same corpus with both models, or give both the same prepare.test",
            )
    if len({lineage.format_of(scored.record).has_header for scored in pair}) > 1:
        raise UserError(
            f"{names} number their rows differently: only one reads the first record of a file as "
            "a header",
            hint="use the same format.header, and score again",
        )


def _find_split(pair: Pair, tables: list[pa.Table]) -> str:
    """Find the split to compare by: ``test``, or ``all`` where there are no splits.

    Raises:
        UserError: Only one has splits, or a test split has no labelled row.
    """
    splits = [
        next((name for name in _COMPARED_SPLITS if len(of_split(table, name))), "")
        for table in tables
    ]
    if "" in splits:
        raise UserError(
            f"{pair[splits.index('')].name} has no labelled test row",
            hint="prepare with a test_fraction above 0",
        )
    if splits[0] != splits[1]:
        of_splits, of_whole = (pair[splits.index(name)].name for name in _COMPARED_SPLITS)
        raise UserError(
            f"{of_splits} has test rows, {of_whole} has no splits: it is unknown which rows "
            "neither model was trained on",
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
    names = [
        f"{of_one.classes[of_one.label[differing[0]]]} in {scored.name}"
        for of_one, scored in zip(predicted, pair, strict=True)
    ]
    raise UserError(
        f"{len(differing):,} common rows have different labels: row {row_ids[differing[0]]:,} is "
        f"{' and '.join(names)}",
        hint="score the same corpus with both models, with the same format.labels and "
        "prepare.corrections",
    )
