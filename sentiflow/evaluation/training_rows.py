"""Scored directory -> row numbers in the training and validation splits of its model."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.data import lineage, manifest
from sentiflow.data.manifest import identify_file
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import join

_DECISIVE = tuple(f"tweets/split={split}/" for split in SPLITS[:2])
"""Of prepared data: rows that decide weights, epoch and temperature."""


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a scored corpus that a model was trained or chosen by."""

    row_ids: np.ndarray
    is_known: bool
    """Whether every training that led to the model could be read."""


def find(scored: Manifest, *, name: str, by_splits: bool = True) -> TrainingRows:
    """Find the rows of a model's training, and of the trainings it was initialized from.

    Args:
        scored: Manifest of the scored directory.
        name: What to call the model in a message.
        by_splits: Whether rows count that the column ``split`` of the predictions shows too: those
            of the model's own training, if the scored corpus is its prepared data.

    Returns:
        Rows are identified by file and number, not by text: rows of other files do not count.

    Raises:
        UserError: The model was trained on some of the corpus's files, where rows have other
            numbers; or prepared rows are damaged.
    """
    training, found = lineage.training_of(scored), [np.empty(0, np.int64)]
    corpus, is_known = scored["inputs"]["corpus"]["fingerprint"], bool(training)
    while training:
        is_own = training["inputs"]["prepared"]["fingerprint"] == corpus
        rows = [] if is_own and not by_splits else _find_in(training, scored, name)
        found, is_known = [*found, *(rows or ())], is_known and rows is not None
        if "init_from" not in training["inputs"]:
            break
        first = manifest.read_input(training["inputs"], "init_from")
        training = manifest.read_input(first["inputs"], "training") if first else None
        is_known = is_known and bool(training)
    return TrainingRows(np.unique(np.concatenate(found)), is_known)


def _find_in(training: Manifest, scored: Manifest, name: str) -> list[np.ndarray] | None:
    """Find the rows of one training in the scored corpus; None if they are unknown."""
    named = training["inputs"]["prepared"]
    prepared = manifest.read_input(training["inputs"], "prepared")
    corpus, uri = scored["inputs"]["corpus"], named["uri"]
    if named["fingerprint"] == corpus["fingerprint"]:
        return _read_row_ids(prepared, uri) if prepared else []  # predictions know the splits
    files = lineage.input_files_of(scored)
    if files is None or not prepared:
        return None
    csv = prepared["inputs"]["csv"]
    if files["fingerprint"] == csv["fingerprint"]:
        same_numbers = lineage.has_header(scored) == lineage.has_header(prepared)
        return _read_row_ids(prepared, uri) if same_numbers else None
    trained_on = {identify_file(item) for item in csv["files"]}
    inside = tuple(join(uri, path) for path in _DECISIVE)
    for item in files["files"]:
        if identify_file(item) in trained_on or item["uri"].startswith(inside):
            raise UserError(
                f"{name} was trained on rows of {item['uri']}, and has scored them with other "
                "row numbers",
                hint="score its prepared data instead: it was not trained on their test rows",
            )
    return []


def _read_row_ids(prepared: Manifest, uri: str) -> list[np.ndarray]:
    paths = [item["path"] for item in prepared["files"] if item["path"].startswith(_DECISIVE)]
    try:
        tables = [filesystem.read_parquet(join(uri, path), columns=["row_id"]) for path in paths]
    except (pa.ArrowInvalid, OSError) as error:
        hint = "without it the training rows are unknown"
        problem = UserError(f"{uri} is gone or damaged", hint=hint)
        raise errors.explain(error, uri=uri) or problem from error
    return [table["row_id"].to_numpy() for table in tables]
