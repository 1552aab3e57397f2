"""Two runs with different files -> the rows with the same text that neither model has learned.

Different files number their rows differently, so rows are joined by their normalized texts. Texts
that a model has learned are found as for ``promote``, by :mod:`training_rows`.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data import lineage
from sentiflow.data.arrays import hash_texts, one_array
from sentiflow.errors import UserError, rows_are
from sentiflow.evaluation.evaluated_rows import TEXT, classes_of
from sentiflow.evaluation.scored_runs import Pair, ScoredRun
from sentiflow.tracking import training_rows

_HASH = "hash"
_LABEL = "label"
_PLACE = "place"
"""Position of a row in the table of its run."""
_REPEAT = "repeat"
"""How many rows with the same text and label come before a row."""


class JoinedRows(NamedTuple):
    """Rows that two runs have in common, joined by row number or by text."""

    positions: tuple[np.ndarray, np.ndarray]
    """Their positions in the tables of the first and the second run."""
    num_only_in: tuple[int, int]
    """Rows that only the first or the second run has; learned rows do not count."""
    num_seen_by: tuple[int, int]
    """Rows of the other run that the first or the second model has learned."""
    is_known: tuple[bool, bool]
    """Whether every training that led to each model could be read."""
    notes: list[str]
    """Which rows were left out for other reasons."""


def join(pair: Pair, tables: list[pa.Table]) -> JoinedRows:
    """Join rows that have the same text and label, and that neither model has learned.

    If a text occurs more than once in a run, its first row is joined with the first row of the
    other run, and so on.

    Args:
        pair: The two runs.
        tables: Their rows of the compared split.

    Raises:
        UserError: A run has no texts, its model is a refit for its own corpus, or there is no
            common row.
    """
    hashes = [_hash_rows(pair, number, tables[number]) for number in (0, 1)]
    learned = [_find_learned(scored) for scored in pair]
    # by run, then by model
    is_learned = [
        [training_rows.are_learned(of_run, of_model.hashes) for of_model in learned]
        for of_run in hashes
    ]
    unseen = []
    for of_run, by_model, table in zip(hashes, is_learned, tables, strict=True):
        unseen.append(_list_rows(of_run, table, ~(by_model[0] | by_model[1])))
    keys = [_HASH, _LABEL, _REPEAT]
    joined = unseen[0].merge(unseen[1], on=keys, suffixes=("_0", "_1"))  # in the order of the first
    positions = (joined[f"{_PLACE}_0"].to_numpy(), joined[f"{_PLACE}_1"].to_numpy())
    if not len(joined):
        raise UserError(
            f"{_describe_pair(pair)}: no labelled text is in both that neither model was trained "
            "on",
            hint="score the same prepared data with both models, or give both the same "
            "prepare.test",
        )
    others = [
        rows[~rows[_PLACE].isin(found)] for rows, found in zip(unseen, positions, strict=True)
    ]
    has_other_label = [others[i][_HASH].isin(others[1 - i][_HASH]) for i in (0, 1)]
    num_contradicting = [int(found.sum()) for found in has_other_label]
    num_learned_here = [int((is_learned[i][i] & ~is_learned[i][1 - i]).sum()) for i in (0, 1)]
    return JoinedRows(
        positions=positions,
        num_only_in=(
            len(others[0]) - num_contradicting[0],
            len(others[1]) - num_contradicting[1],
        ),
        num_seen_by=(int(is_learned[1][0].sum()), int(is_learned[0][1].sum())),
        is_known=(learned[0].is_known, learned[1].is_known),
        notes=[
            *_note_learned_here(pair, num_learned_here),
            *_note_contradicting(pair, num_contradicting),
        ],
    )


class _Learned(NamedTuple):
    """What the models of a run have learned."""

    hashes: np.ndarray
    """Hashes of texts, in rising order."""
    is_known: bool
    """Whether every training could be read."""


def _find_learned(scored: ScoredRun) -> _Learned:
    """Find the texts that the models of a run have learned.

    Raises:
        UserError: The model is a refit, and has learned all labelled rows of its corpus.
    """
    training_rows.refuse_refit(scored.record, name=scored.name)
    models = list(lineage.models_of(scored.record).values())
    hashes, are_known = training_rows.find_text_hashes(models)
    return _Learned(hashes, all(are_known))


def _hash_rows(pair: Pair, number: int, table: pa.Table) -> np.ndarray:
    """Hash the texts of a run.

    Raises:
        UserError: It has none.
    """
    if TEXT not in table.column_names:
        raise UserError(
            f"{_describe_pair(pair)}: their rows can only be joined by text, and there are no "
            f"texts for the predictions of {pair[number].name}",
            hint="score the same corpus with both models; or name text in score.keep_columns, and "
            "score again",
        )
    return hash_texts(one_array(table[TEXT]))


def _list_rows(hashes: np.ndarray, table: pa.Table, is_unseen: np.ndarray) -> pd.DataFrame:
    """List the rows of a run that no model has learned, by row id, with what joins them."""
    place = np.flatnonzero(is_unseen)
    names = np.array(classes_of(table), object)
    rows = pd.DataFrame(
        {
            _HASH: hashes[place],
            _LABEL: names[table["label"].to_numpy()[place]],
            _PLACE: place,
        }
    )
    in_order = rows.iloc[np.argsort(table["row_id"].to_numpy()[place])]
    return in_order.assign(**{_REPEAT: in_order.groupby([_HASH, _LABEL]).cumcount()})


def _describe_pair(pair: Pair) -> str:
    """Say why the rows of two runs have no common numbers."""
    first, second = pair
    corpora = [lineage.corpus_of(scored.record).name for scored in pair]
    return (
        f"{first.name} and {second.name} have scored different files, or prepared data that are "
        f"gone or were redone ({corpora[0]}; {corpora[1]})"
    )


def _note_learned_here(pair: Pair, num_rows: list[int]) -> list[str]:
    """Note rows that have the text of a train or validation row of their own run."""
    notes = []
    for scored, count in zip(pair, num_rows, strict=True):
        if count:
            notes.append(
                f"{rows_are(count)} left out: the model of {scored.name} was trained on, or chosen "
                "by, the same text in another split"
            )
    return notes


def _note_contradicting(pair: Pair, num_rows: list[int]) -> list[str]:
    """Note texts that have different labels in the two runs."""
    if not any(num_rows):
        return []
    counts = [f"{count:,} of {each.name}" for count, each in zip(num_rows, pair, strict=True)]
    return [f"rows with another label in the other run are left out: {' and '.join(counts)}"]
