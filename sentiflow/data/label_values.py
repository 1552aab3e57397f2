"""Columns of labelled rows -> row ids, positions of classes; and rows with wrong probabilities."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from sentiflow.config import class_names, ordered_classes
from sentiflow.data.label_files import CORRECT, reject
from sentiflow.errors import MOST_LISTED, few

_TOLERANCE = 0.02
"""Maximum difference between the sum of a row's probabilities and 1, and maximum excess of one
probability over 1: programs may round probabilities."""
_WHOLE = r"[0-9]{1,19}(?:\.0?)?"
"""A row number in a spreadsheet: ``7``, ``7.`` or ``7.0``. ``1.000`` is not accepted, because it
may mean a thousand."""


def read_row_ids(table: pd.DataFrame) -> pd.Series:
    """Convert the column ``row_id`` to int64; spreadsheets may write ``7.0`` for 7.

    Raises:
        UserError: A value is not a row number.
    """
    is_whole = table["row_id"].str.fullmatch(_WHOLE)
    digits = table["row_id"].str.replace(r"\..*", "", regex=True)
    # compared as texts of 19 digits, because a number above the maximum of int64 would overflow
    wrong = ~is_whole | (digits.str.zfill(19) > str((1 << 63) - 1))
    reject(table, wrong, "is not a row number", column="row_id")
    return digits.astype("int64")


def find_row_ids(table: pd.DataFrame) -> np.ndarray:
    """Return the numbers in the column ``row_id``, without the values that are no number."""
    digits = table["row_id"].str.extract(r"^([0-9]{1,18})(?:\.0?)?$")[0]
    return digits.dropna().astype("int64").to_numpy()


def read_labels(
    table: pd.DataFrame,
    classes: Sequence[str],
    values: Mapping[str, int | None],
    *,
    column: str = "label",
    hint: str = CORRECT,
    setting: str = "",
    values_setting: str = "",
) -> pd.Series:
    """Convert labels to positions of classes.

    A label is one of ``values``, or the name of a class. Its case does not matter for names of
    classes, and for values in lower case.

    Args:
        table: Rows with a label.
        classes: The names in their order.
        values: Written values, each with its position in ``classes``; None: no label.
        column: Column with the labels.
        hint: What to do about an unknown one.
        setting: The setting that can name further classes, for the message; empty: none can.
        values_setting: The setting that has numbers of ordered classes; empty: they have no order.

    Returns:
        Positions in ``classes``; -1 for no label.

    Raises:
        UserError: A label is unknown.
    """
    names = {name.casefold(): code for code, name in enumerate(classes)}
    unknown = -2
    codes = {}
    for label in table[column].unique():
        folded = label.casefold()
        code: int | None = unknown
        if label in values:
            code = values[label]
        elif folded in values:
            code = values[folded]
        elif folded in names:
            code = names[folded]
        codes[label] = -1 if code is None else code
    labels = table[column].map(codes)
    way_out = ""
    new_classes = [label for label, code in codes.items() if code == unknown]
    if setting and new_classes:
        way_out = _explain_new_classes(new_classes, classes, setting, values_setting)
    reject(
        table,
        labels == unknown,
        f"is none of {', '.join(few(classes))}",
        column=column,
        hint=hint,
        way_out=way_out,
    )
    return labels.astype("int64")


def _explain_new_classes(
    labels: Sequence[str], classes: Sequence[str], setting: str, values_setting: str
) -> str:
    """Say how unknown labels become classes; empty if they are too many, or can name no class.

    Args:
        labels: The unknown labels.
        classes: The classes that are known.
        setting: The setting that names the classes.
        values_setting: The setting that has numbers of ordered classes; empty: they have no order.
    """
    by_spelling = {label.casefold(): label for label in reversed(labels)}
    names = [label for label in labels if by_spelling[label.casefold()] == label]
    if len(names) > MOST_LISTED:
        return ""
    try:
        class_names.check_names([*classes, *names])
    except ValueError:
        return ""
    added = yaml.safe_dump(
        {name: name for name in names},
        default_flow_style=True,
        allow_unicode=True,
        sort_keys=False,
        width=math.inf,
    )
    what = "a new class" if len(names) == 1 else "new classes"
    advice = f"for {what}, add to {setting}: {added.strip().strip('{}')}"
    if values_setting:
        advice += ", at its place in the order"
        without = [name for name in names if ordered_classes.read_value(name) is None]
        if without:
            quoted = [class_names.set_apart(name) for name in without]
            advice += f"; and to {values_setting} the number of {', '.join(quoted)}"
    return advice


class RowFault(NamedTuple):
    """A problem of some rows."""

    is_faulty: np.ndarray
    """Whether each row has it, bool."""
    problem: str


def find_faults(probabilities: np.ndarray) -> list[RowFault]:
    """Find the rows that have a value not from 0 to 1, and the rows that do not sum to 1.

    Args:
        probabilities: A row for each prediction, a column for each class.
    """
    is_share = (probabilities >= 0) & (probabilities <= 1 + _TOLERANCE)
    are_shares = np.asarray(is_share.all(axis=1))
    is_off = np.abs(probabilities.sum(axis=1) - 1) > _TOLERANCE
    return [
        RowFault(~are_shares, "has a probability not from 0 to 1"),
        RowFault(is_off, "has probabilities that do not sum to 1"),
    ]
