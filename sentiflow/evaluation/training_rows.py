"""Scored directory -> numbers of the rows that its model was trained on, or chosen by."""

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

_SEEN = tuple(f"tweets/split={split}/" for split in SPLITS[:2])
"""Of prepared data: what weights, epoch and temperature hang on."""


@dataclass(frozen=True)
class SeenRows:
    """What is known of the rows that a model has seen of a scored corpus."""

    row_ids: np.ndarray
    is_known: bool
    """Whether every training that led to the model could be looked at."""


def find(scored: Manifest, *, name: str, by_splits: bool = True) -> SeenRows:
    """Follow a model to the data that it was trained on, and that the model it began from was.

    Args:
        scored: Manifest of the scored directory.
        name: What to call the model in a message.
        by_splits: Whether rows of the prepared data that was scored count, of which the splits tell
            as much.

    Returns:
        Numbers of rows of the scored corpus, of training and validation. Rows of other files than
        those of the corpus have not been seen, whatever their texts.

    Raises:
        UserError: Some, not all of the corpus's files were trained on, under other row numbers; or
            prepared rows are damaged.
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
    return SeenRows(np.unique(np.concatenate(found)), is_known)


def _find_in(training: Manifest, scored: Manifest, name: str) -> list[np.ndarray] | None:
    """Find rows of the scored corpus among those of one training; None if it cannot be known."""
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
    inside = tuple(join(uri, path) for path in _SEEN)
    for item in files["files"]:
        if identify_file(item) in trained_on or item["uri"].startswith(inside):
            raise UserError(
                f"{name} was trained on rows of {item['uri']}, and has scored them under other "
                "numbers",
                hint="score its prepared data instead, whose test rows it has not seen",
            )
    return []


def _read_row_ids(prepared: Manifest, uri: str) -> list[np.ndarray]:
    paths = [item["path"] for item in prepared["files"] if item["path"].startswith(_SEEN)]
    try:
        tables = [filesystem.read_parquet(join(uri, path), columns=["row_id"]) for path in paths]
    except (pa.ArrowInvalid, OSError) as error:
        hint = "which rows were trained on can be read there alone"
        problem = UserError(f"{uri} is gone or damaged", hint=hint)
        raise errors.explain(error, uri=uri) or problem from error
    return [table["row_id"].to_numpy() for table in tables]
