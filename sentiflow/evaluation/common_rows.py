"""Two scored directories -> the labelled rows that both have and neither model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrow_buffers import one_array
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_rows, lineage, prediction_files
from sentiflow.evaluation.evaluated_rows import (
    PROBABILITY,
    TEXT,
    TIME,
    WHOLE,
    classes_of,
    find_common_classes,
    of_split,
    predicted_of,
)
from sentiflow.evaluation.prediction_files import PredictionFile
from sentiflow.evaluation.slices import OWN
from sentiflow.metrics.predicted import Predicted

_COMPARED_SPLITS = (SPLITS[2], WHOLE)


@dataclass(frozen=True)
class Scored:
    """A scored directory that a user named."""

    name: str
    uri: str
    record: Manifest
    """Manifest of the directory."""
    file: PredictionFile | None = None
    """Predictions that stand in place of those of the directory."""


Pair = tuple[Scored, Scored]


@dataclass(frozen=True)
class ComparedRows:
    """N rows that both models have scored and neither was trained on.

    A class that a model does not know has a probability of 0.
    """

    table: pa.Table
    """``row_id``, in rising order; ``label_0``, ``prediction_0``, ``probability_0`` or one column a
    class (``probability_neutral_0``) of the first model, ``_1`` of the second; ``text`` and
    ``time`` where one of both has them; columns of the user's own, their names after ``OWN``."""
    split: str
    num_only_in: tuple[int, int]
    """Labelled rows of the split that the other model has no prediction for in this split."""
    num_seen_by: tuple[int, int]
    """Rows of the other model's split that are in this model's training or validation split. They
    are not compared and not counted in ``num_only_in``."""
    notes: list[str]
    """What a reader should know about them."""

    @property
    def predicted(self) -> tuple[Predicted, Predicted]:
        """Return the predictions of both models; a class has the same number in both."""
        first, second = (self._take(end) for end in ("_0", "_1"))
        return first, second

    def _take(self, end: str) -> Predicted:
        names = [name for name in self.table.column_names if name.endswith(end)]
        of_model = self.table.select(names)
        return predicted_of(of_model.rename_columns([name.removesuffix(end) for name in names]))


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
    tables = [table.filter(pc.equal(table["split"], split)) for table in tables]
    tables, notes = _count_others(pair, tables, split)
    tables, classes = _number_alike(tables)
    seen = [lineage.find_training_rows(scored.record, name=scored.name) for scored in pair]
    row_ids = [table["row_id"].to_numpy() for table in tables]
    seen_by_any = np.concatenate([known.row_ids for known in seen])
    unseen = [ids[~np.isin(ids, seen_by_any)] for ids in row_ids]
    common = _join(tables[0], tables[1], np.intersect1d(*unseen))
    del tables  # those of many classes are large
    if not len(common):
        raise UserError(
            f"{pair[0].name} and {pair[1].name} have no labelled row in common that neither model "
            "was trained on",
            hint="score the same prepared data with both models",
        )
    _check_labels(pair, common, classes)
    return ComparedRows(
        common,
        split,
        num_only_in=(len(unseen[0]) - len(common), len(unseen[1]) - len(common)),
        num_seen_by=(
            int(np.isin(row_ids[1], seen[0].row_ids).sum()),
            int(np.isin(row_ids[0], seen[1].row_ids).sum()),
        ),
        notes=[
            f"it is unknown which rows {'' if scored.file else 'the model of '}{scored.name} was "
            "trained on"
            for scored, known in zip(pair, seen, strict=True)
            if not known.is_known or scored.file
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
    models = [scored.record["inputs"]["model"] for scored in pair]
    left_out = set[str]().union(*map(lineage.left_out_of, models))
    counted, notes = [], dict[str, None]()
    for name, scored, table in zip(names, pair, tables, strict=True):
        rows, noted = evaluated_rows.count_others(table, scored.record, left_out)
        rows = of_split(rows, split)
        if scored.file:
            rows, noted = prediction_files.put(rows, scored.file), []
        counted.append(rows)
        notes |= dict.fromkeys(f"{name}: {note}" for note in noted)
    return counted, [*notes]


def _number_alike(tables: list[pa.Table]) -> tuple[list[pa.Table], tuple[str, ...]]:
    """Give each class the same number in both tables: the first's classes, then the second's.

    Tables of the same classes stay as they are.

    Returns:
        The tables; the names of all classes.
    """
    own = [classes_of(table) for table in tables]
    classes = tuple(dict.fromkeys(own[0] + own[1]))
    if own == [classes, classes]:
        return tables, classes
    return [_renumber(table, classes) for table in tables], classes


def _renumber(rows: pa.Table, classes: tuple[str, ...]) -> pa.Table:
    """Replace positions in the classes of a table by those in ``classes``."""
    predicted = predicted_of(rows)
    code = np.array([classes.index(name) for name in predicted.classes], np.int8)
    probabilities = np.zeros((len(rows), len(classes)), np.float32)
    probabilities[:, code] = predicted.probabilities
    own = [name for name in rows.column_names if name.startswith(OWN)]
    kept = [n for n in rows.column_names if n in ("row_id", "split", "num_tokens", TEXT, TIME)]
    renumbered = rows.select(kept + own)
    for name in ("label", "prediction"):
        renumbered = renumbered.append_column(name, pa.array(code[rows[name].to_numpy()]))
    for number, name in enumerate(classes):
        renumbered = renumbered.append_column(
            PROBABILITY + name, pa.array(probabilities[:, number])
        )
    return renumbered


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
    if lineage.has_header(pair[0].record) != lineage.has_header(pair[1].record):
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
    found = [
        next((name for name in _COMPARED_SPLITS if len(of_split(table, name))), "")
        for table in tables
    ]
    if "" in found:
        raise UserError(
            f"{pair[found.index('')].name} has no labelled test row",
            hint="prepare with a test_fraction above 0",
        )
    if found[0] != found[1]:
        kinds = {"test": "test rows", WHOLE: "no splits"}
        texts = [f"{s.name} has {kinds[name]}" for s, name in zip(pair, found, strict=True)]
        raise UserError(
            f"{', '.join(texts)}: it is unknown which rows neither model was trained on",
            hint="score the same prepared data with both models",
        )
    return found[0]


def _join(first: pa.Table, second: pa.Table, row_ids: np.ndarray) -> pa.Table:
    """Join some rows by number; texts and times are the first's, where it has them."""
    repeated = {n for n in first.column_names if n in (TEXT, TIME) or n.startswith(OWN)}
    second = second.select([name for name in second.column_names if name not in repeated])
    shared = {*first.column_names} & {*second.column_names} - {"row_id"}
    columns: dict[str, pa.Array] = {"row_id": pa.array(row_ids)}
    for end, table in (("_0", first), ("_1", second)):
        own = table["row_id"].to_numpy()
        order = np.argsort(own)
        places = pa.array(order[np.searchsorted(own, row_ids, sorter=order)])
        for name in table.drop_columns(["row_id"]).column_names:
            column = one_array(table[name].take(places))
            columns[f"{name}{end}" if name in shared else name] = column
    return pa.table(columns)


def _check_labels(pair: Pair, common: pa.Table, classes: Sequence[str]) -> None:
    """Make sure that common rows have the same labels.

    Raises:
        UserError: They do not. The message names the first such row.
    """
    differing = common.filter(pc.not_equal(common["label_0"], common["label_1"]))
    if not len(differing):
        return
    row = differing.slice(0, 1).to_pylist()[0]
    names = [f"{classes[row[f'label_{i}']]} in {pair[i].name}" for i in (0, 1)]
    raise UserError(
        f"{len(differing):,} common rows have different labels: row {row['row_id']:,} is "
        f"{' and '.join(names)}",
        hint="score the same corpus with both models, with the same format.labels and "
        "prepare.corrections",
    )
