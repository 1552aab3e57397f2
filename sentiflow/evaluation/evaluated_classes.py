"""Classes of evaluated rows and of models: unknown to the model, left out, or common to models."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import set_apart
from sentiflow.data import lineage, manifest, row_checks
from sentiflow.data.arrays import put_columns
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError, few

_MAX_UNKNOWN = 0.01
"""Maximum share of unknown labels in a corpus: with more, there is no evaluation."""


def match_classes(
    rows: pa.Table, scored: Manifest, left_out: Collection[str] = ()
) -> tuple[pa.Table, list[str]]:
    """Number the labels by the classes of the model and, after them, the classes it does not know.

    Rows of unknown classes count as mistakes: the class gets the probability 0 in every row. So its
    recall and F1 are 0, and the log loss of its rows comes from ``PROBABILITY_FLOOR``. Rows of
    classes that the settings of the training leave out are left out here, too.

    Args:
        rows: As ``evaluated_rows.read`` returns them.
        scored: Manifest of the predictions.
        left_out: Further classes to leave out.

    Returns:
        The rows, whose ``label`` is now a position in ``evaluated_rows.classes_of(rows)``; notes on
        classes that the model does not know and on classes that are left out.

    Raises:
        UserError: Too many labels of the corpus are unknown.
    """
    notes = _note_unknown_labels(scored)
    names = manifest.find_classes(scored)
    known = lineage.classes_of_model(scored)
    all_left_out = {*left_out, *lineage.left_out_of(scored["inputs"]["model"])}
    label = rows["label"].to_numpy()
    counts = np.bincount(label, minlength=len(names)).tolist()
    rows_unknown = {}
    rows_left_out = {}
    for name, count in zip(names, counts, strict=True):
        if count and name in all_left_out:
            rows_left_out[name] = count
        elif count and name not in known:
            rows_unknown[name] = count
    classes = (*known, *rows_unknown)
    code = np.full(len(names), -1, np.int8)  # -1: rows of this class are left out
    for number, name in enumerate(names):
        if name in classes and name not in all_left_out:
            code[number] = classes.index(name)
    added = {"label": pa.array(code[label])}
    for name in rows_unknown:
        added[PROBABILITY + name] = pa.array(np.zeros(len(rows), np.float32))
    rows = put_columns(rows, added)
    if rows_left_out:
        rows = rows.filter(pc.field("label") >= 0)
    return rows, notes + _note_classes(rows_unknown, rows_left_out)


def _note_classes(rows_unknown: Mapping[str, int], rows_left_out: Mapping[str, int]) -> list[str]:
    """Say which classes the model does not know and which are left out.

    Args:
        rows_unknown: Number of rows of each class that the model does not know.
        rows_left_out: Number of rows of each class that is left out.
    """
    notes = []
    if rows_unknown:
        notes.append(
            "the model does not know these labels, and their rows count as mistakes: "
            + _list_counts(rows_unknown)
        )
    if rows_left_out:
        notes.append(
            "rows are left out, as the settings of the training leave out their classes: "
            + _list_counts(rows_left_out)
        )
    return notes


def _list_counts(counts: Mapping[str, int]) -> str:
    """List classes with their numbers of rows."""
    return ", ".join(few([f"{set_apart(name)} {count:,}" for name, count in counts.items()]))


def _note_unknown_labels(scored: Manifest) -> list[str]:
    """Say how many labels of the corpus are unknown: no class, and not listed as unlabelled.

    Scoring makes them null, so their rows are in no figure.

    Raises:
        UserError: The share of unknown labels is above ``_MAX_UNKNOWN``.
    """
    num_unknown = scored["counts"].get("unknown_labels", 0)
    if not num_unknown:
        return []
    num_labels = num_unknown + scored["counts"].get("labelled", 0)
    listed = row_checks.list_unknown(scored.get("unknown_values", {}))
    what = f"{num_unknown:,} of {num_labels:,} labels are unknown: {listed}"
    if num_unknown > _MAX_UNKNOWN * num_labels:
        raise UserError(
            f"{lineage.corpus_of(scored).name}: {what}",
            hint="correct the file, or name the labels in score.format.labels, as a class (their "
            "rows are mistakes) or as unlabelled (they are left out), and score again",
        )
    return [f"rows with an unknown label are in no figure: {what}"]


def find_common_classes(
    of_models: Mapping[str, Sequence[str]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the classes that all models have, and the classes that only some have.

    Args:
        of_models: The classes of each model, by its name.

    Raises:
        UserError: Fewer than two classes are common.
    """
    of_any = dict.fromkeys(name for classes in of_models.values() for name in classes)
    common = []
    others = []
    for name in of_any:
        is_common = all(name in classes for classes in of_models.values())
        if is_common:
            common.append(name)
        else:
            others.append(name)
    if len(common) < 2:
        listed = [f"{name} has {', '.join(few(classes))}" for name, classes in of_models.items()]
        raise UserError(
            f"the models have fewer than two classes in common: {' and '.join(listed)}",
            hint="compare models of the same classes",
        )
    return tuple(common), tuple(others)
