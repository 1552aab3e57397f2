"""Two scored directories -> the rows to compare two models by, with both predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import lineage
from sentiflow.data.manifest_types import Input, Manifest
from sentiflow.data.schema import LABEL_NAMES, SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_rows, training_rows
from sentiflow.evaluation.evaluated_rows import WHOLE, headline_split
from sentiflow.evaluation.training_rows import TrainingRows

_COMPARED_SPLITS = (SPLITS[2], WHOLE)
_TEXT, _TIME = "text", "time"


@dataclass(frozen=True)
class Scored:
    """A scored directory that a user named."""

    name: str
    uri: str
    record: Manifest
    """Its manifest."""

    @property
    def corpus(self) -> Input:
        """What was scored."""
        corpus: Input = self.record["inputs"]["corpus"]
        return corpus


Pair = tuple[Scored, Scored]


@dataclass(frozen=True)
class ComparedRows:
    """N rows, labelled 0 or 1, that both models have scored and neither was trained on."""

    table: pa.Table
    """``row_id``, ``label``; ``prediction_0``, ``probability_0`` of the first model, ``_1`` of the
    second; ``text`` and ``time`` where one of both has them."""
    split: str
    num_only_in: tuple[int, int]
    """Labelled rows of the split that the other model has no prediction for in this split."""
    num_seen_by: tuple[int, int]
    """Rows of the other model's split that are in this model's training or validation split. They
    are not compared and not counted in ``num_only_in``."""
    notes: tuple[str, ...]
    """What a reader should know about them."""


def read(pair: Pair) -> ComparedRows:
    """Find the common rows of two test splits, or of two corpora without splits.

    Raises:
        UserError: The two number different rows, labels differ, there is no common row, or a file
            is damaged.
    """
    _check_numbers(pair)
    tables = [evaluated_rows.read(scored.uri, scored.record) for scored in pair]
    split = _find_split(pair, tables)
    chosen = [evaluated_rows.of_split(table, split) for table in tables]
    _check_labels(pair, [t.filter(pc.equal(t["split"], split)) for t in tables])
    seen = [training_rows.find(scored.record, name=scored.name) for scored in pair]
    row_ids = [table["row_id"].to_numpy() for table in chosen]
    is_seen = [[np.isin(ids, known.row_ids) for known in seen] for ids in row_ids]
    left = [
        ids[~by_first & ~by_second]
        for ids, (by_first, by_second) in zip(row_ids, is_seen, strict=True)
    ]
    common = np.intersect1d(*left)
    if not len(common):
        raise UserError(
            f"{pair[0].name} and {pair[1].name} have no labelled row in common that neither model "
            "was trained on",
            hint="score the same prepared data with both models",
        )
    return ComparedRows(
        _put_together(chosen, common),
        split,
        (len(left[0]) - len(common), len(left[1]) - len(common)),
        (int(is_seen[1][0].sum()), int(is_seen[0][1].sum())),
        tuple(_notes(pair, seen)),
    )


def _check_numbers(pair: Pair) -> None:
    """Make sure that the same row number is the same row in both.

    Raises:
        UserError: They come from different files, or their files are unknown.
    """
    names = f"{pair[0].name} and {pair[1].name}"
    if pair[0].corpus["fingerprint"] != pair[1].corpus["fingerprint"]:
        files = [_files_of(scored, names) for scored in pair]
        one, other = ([item["uri"] for item in found["files"]] for found in files)
        if files[0]["fingerprint"] != files[1]["fingerprint"]:
            what = "with different content" if one == other else f"{_list(one)}; {_list(other)}"
            raise UserError(
                f"{names} have scored different files ({what})",
                hint="score the same corpus with both models",
            )
    if lineage.has_header(pair[0].record) != lineage.has_header(pair[1].record):
        raise UserError(
            f"{names} number their rows differently: only one reads the first record of a file as "
            "a header",
            hint="use the same format.header, and score again",
        )


def _files_of(scored: Scored, names: str) -> Input:
    found = lineage.input_files_of(scored.record)
    if found is None:
        raise UserError(
            f"{names} have scored two preparations, and {scored.corpus['uri']} is gone or was "
            "redone: it is unknown whether their rows are the same",
            hint="score the same prepared data with both models",
        )
    return found


def _list(uris: Sequence[str]) -> str:
    return ", ".join(uris[:3]) + (f" and {len(uris) - 3} more" if len(uris) > 3 else "")


def _find_split(pair: Pair, tables: list[pa.Table]) -> str:
    """Find the split to compare by: ``test``, or ``all`` where there are no splits.

    Raises:
        UserError: Only one has splits, or a test split has no row labelled negative or positive.
    """
    found = []
    for scored, table in zip(pair, tables, strict=True):
        names = [name for name in _COMPARED_SPLITS if len(evaluated_rows.of_split(table, name))]
        if not names:
            raise UserError(
                f"{scored.name} has no test row labelled negative or positive",
                hint="prepare with a test_fraction above 0",
            )
        found.append(headline_split(names))
    if found[0] != found[1]:
        kinds = {"test": "test rows", WHOLE: "no splits"}
        texts = [f"{s.name} has {kinds[name]}" for s, name in zip(pair, found, strict=True)]
        raise UserError(
            f"{', '.join(texts)}: it is unknown which rows neither model was trained on",
            hint="score the same prepared data with both models",
        )
    return found[0]


def _check_labels(pair: Pair, tables: list[pa.Table]) -> None:
    """Make sure that common rows have the same labels.

    Raises:
        UserError: They do not. The message names the first such row.
    """
    one, other = (table.select(["row_id", "label"]) for table in tables)
    place = pc.index_in(one["row_id"], value_set=other["row_id"].combine_chunks())
    there = other["label"].take(place)
    differs = pc.fill_null(pc.not_equal(one["label"], there), False)
    number = pc.sum(differs).as_py()
    if not number:
        return
    at = pc.index(differs, True).as_py()
    row, labels = one["row_id"][at].as_py(), [one["label"][at].as_py(), there[at].as_py()]
    names = [f"{LABEL_NAMES[labels[i]]} in {pair[i].name}" for i in (0, 1)]
    raise UserError(
        f"{number:,} common rows have different labels: row {row:,} is {' and '.join(names)}",
        hint="score the same corpus with both models, with the same format.labels",
    )


def _put_together(tables: list[pa.Table], row_ids: np.ndarray) -> pa.Table:
    """Join the rows of both tables, in the order of their numbers."""
    taken = []
    for table in tables:
        place = pc.index_in(pa.array(row_ids), value_set=table["row_id"].combine_chunks())
        taken.append(table.take(place).combine_chunks())
    rows = taken[0].select(["row_id", "label"])
    for i, name in ((i, name) for i in (0, 1) for name in ("prediction", "probability")):
        rows = rows.append_column(f"{name}_{i}", taken[i][name])
    for name in (_TEXT, _TIME):
        source = next((table for table in taken if name in table.column_names), None)
        rows = rows if source is None else rows.append_column(name, source[name])
    return rows


def _notes(pair: Pair, seen: Sequence[TrainingRows]) -> list[str]:
    return [
        f"it is unknown which rows the model of {scored.name} was trained on"
        for scored, known in zip(pair, seen, strict=True)
        if not known.is_known
    ]
