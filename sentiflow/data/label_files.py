"""Files of labelled rows (Parquet, or CSV from a spreadsheet) -> row ids, labels, probabilities.

The labels are manual (``prepare.corrections``, ``trends.labels``), or predictions of another
program, such as a large language model.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from sentiflow.config import class_names, ordered_classes
from sentiflow.data.schema import PROBABILITY as PROBABILITY
from sentiflow.errors import MOST_LISTED, UserError, few
from sentiflow.storage import compression, parquet
from sentiflow.storage.uris import display_uri

PLACE = "place"
"""Column that :func:`read` adds for messages: the file, and the line of a CSV (the header is line
1) or the row of Parquet (from 0)."""
_TOLERANCE = 0.02
"""Maximum difference between the sum of a row's probabilities and 1, and maximum excess of one
probability over 1: programs may round probabilities."""
_FORMULA = "'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""Beginning of a text that a spreadsheet takes for a formula; the last four are ``=+-@`` in full
width, which Excel takes for the same. It may have quotes before it, since :func:`to_csv` adds one.
"""
_WHOLE = r"[0-9]{1,19}(?:\.0?)?"
"""A row number in a spreadsheet: ``7``, ``7.`` or ``7.0``. ``1.000`` is not accepted, because it
may mean a thousand."""
BLOCK_BYTES = 1 << 22
"""Bytes of a CSV to read at once."""
CORRECT = "correct the file and run the same command again"
"""Hint for a wrong row."""
CSV_OPTIONS: dict[str, Any] = {"dtype": str, "keep_default_na": False, "skip_blank_lines": False}
"""How pandas reads a CSV: all values are strings."""


def read(uri: str, *, setting: str, needs: Sequence[str], hint: str) -> pd.DataFrame:
    """Read all rows of a file except empty ones.

    Args:
        uri: The file.
        setting: The setting that names it, for messages.
        needs: The columns that it must have. ``row_id or text`` means that one of the
            two is enough.
        hint: What to do if a column is missing.

    Returns:
        Its columns, and ``PLACE``. Probabilities are float64. Other columns are strings: null
        becomes an empty string, and white space at both ends is removed, except in ``text``.

    Raises:
        UserError: The file is missing or is no table, it lacks a needed column, its labels are
            numbers of classes, or a probability is not a number.
    """
    return convert(_read_checked(uri, setting=setting, needs=needs, hint=hint), uri)


def convert(table: pd.DataFrame, uri: str, *, start: int = 0) -> pd.DataFrame:
    """Convert rows of a file as :func:`read` does.

    Args:
        table: The rows, as the file has them.
        uri: The file, for messages.
        start: Number of rows before them in the file.

    Raises:
        UserError: A probability is not a number.
    """
    places = _name_places([uri], [len(table)], start=start).set_axis(table.index)
    for column, values in table.items():
        if str(column).startswith(PROBABILITY):
            table[column] = _read_probabilities(table.assign(**{PLACE: places}), str(column))
        else:
            table[column] = _read_strings(values)
    is_empty = table.isna() | (table == "")
    return table.assign(**{PLACE: places})[~is_empty.all(axis=1)]


def read_columns(
    uris: Sequence[str], columns: Sequence[str], *, setting: str, needs: Sequence[str], hint: str
) -> pd.DataFrame:
    """Read some columns of files as one table: all rows except those without a value in them.

    A hundred small files take a fifth of the time of a :func:`read` for each.

    Args:
        uris: The files.
        columns: The columns; one that a file lacks is empty. None holds probabilities.
        setting: As for :func:`read`, like the other arguments.
        needs: The columns that each file must have.
        hint: What to do if a column is missing.

    Returns:
        These columns as :func:`read` has them, and ``PLACE``.

    Raises:
        UserError: A file is missing or is no table, or lacks a needed column.
    """
    parts: dict[str, list[np.ndarray]] = {column: [] for column in columns}
    num_rows = []
    for uri in uris:
        table = _read_checked(uri, setting=setting, needs=needs, hint=hint)
        num_rows.append(len(table))
        for column, arrays in parts.items():
            if column in table:  # as objects, else a null in another file makes 7.0 of 7
                arrays.append(table[column].to_numpy(object))
            else:
                arrays.append(np.full(len(table), "", object))
    whole = pd.DataFrame({column: np.concatenate(arrays) for column, arrays in parts.items()})
    for column in columns:
        whole[column] = _read_strings(whole[column])
    has_value = (whole != "").any(axis=1)
    return whole.assign(**{PLACE: _name_places(uris, num_rows)})[has_value]


def _read_checked(uri: str, *, setting: str, needs: Sequence[str], hint: str) -> pd.DataFrame:
    """Read a file as it is.

    The arguments are those of :func:`read`.

    Raises:
        UserError: The file is missing or is no table, it lacks a needed column, or its labels are
            numbers of classes.
    """
    name = display_uri(uri)
    table = _read_table(uri, name, setting)
    check_columns(table, name, needs=needs, hint=hint)
    return table


def _read_strings(values: pd.Series) -> pd.Series:
    """Convert values to strings: null becomes an empty one; only texts keep white space at ends."""
    written = values.astype(object).where(values.notna(), "").astype(str)
    return written if values.name == "text" else written.str.strip()


def _read_probabilities(table: pd.DataFrame, column: str) -> pd.Series:
    """Convert a column of probabilities to float64; empty values become NaN."""
    values = table[column]
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    is_text = numbers.isna() & values.notna() & (values != "")
    reject(table, is_text, "is not a number with a decimal point", column=column)
    return numbers


def check_columns(table: pd.DataFrame, name: str, *, needs: Sequence[str], hint: str) -> None:
    """Check that a table has the needed columns, and that its labels are names.

    Raises:
        UserError: It lacks a column, or its labels are numbers of classes.
    """
    columns = [str(column) for column in table.columns]
    missing = []
    for needed in needs:
        choices = needed.split(" or ")
        if not any(choice in columns for choice in choices):
            missing.append(needed)
    if missing:
        problem = f"{name} has no column {' and no column '.join(missing)}"
        raise UserError(f"{problem}; its columns are {', '.join(columns)}", hint=hint)
    # a table with predictions, such as mistakes.parquet, may have positions of classes as labels
    are_numbers = "label" in needs and pd.api.types.is_integer_dtype(table["label"])
    if are_numbers and "prediction" in table:
        raise UserError(
            f"{name}: its labels are the numbers of a model's classes",
            hint="write the names of the classes; sentiflow evaluate CONFIG --overwrite writes "
            "mistakes.parquet with names",
        )


def _name_places(uris: Sequence[str], num_rows: Sequence[int], *, start: int = 0) -> pd.Series:
    """Name the place of each row of files, one after the other, for messages.

    Args:
        uris: The files.
        num_rows: The number of rows of each.
        start: Number of rows before these in each file.
    """
    names = []
    numbers = []
    for uri, number in zip(uris, num_rows, strict=True):
        if uri.endswith(".parquet"):
            unit = "row"
            first = 0
        else:
            unit = "line"
            first = 2  # the header is line 1
        first += start
        names.append(f"{display_uri(uri)}: {unit} ")
        numbers.append(np.arange(first, first + number))
    of_rows = pd.Series(np.repeat(np.array(names, object), num_rows))
    return of_rows + pd.Series(np.concatenate(numbers)).astype(str)


def name_row(uri: str, number: int) -> str:
    """Name the place of a row of a file, counted from 0, for messages."""
    return str(_name_places([uri], [1], start=number).iloc[0])


def _read_table(uri: str, name: str, setting: str) -> pd.DataFrame:
    """Read a file as a table.

    The values of a CSV are strings. Its delimiter is the comma, semicolon or tab, whichever is most
    frequent in its header.
    """
    with explaining(name, setting):
        if uri.endswith(".parquet"):
            return parquet.read(uri).to_pandas(integer_object_nulls=True)
        text = b"".join(compression.read_blocks(uri, BLOCK_BYTES)).decode("utf-8-sig")
        header = text.partition("\n")[0]
        return pd.read_csv(io.StringIO(text), sep=find_delimiter(header), **CSV_OPTIONS)


def find_delimiter(header: str) -> str:
    """Find the delimiter of a CSV: the most frequent one in its header."""
    return max(",;\t", key=header.count)


@contextmanager
def explaining(name: str, setting: str) -> Iterator[None]:
    """Turn errors of a file that is missing or is no table into user errors.

    Args:
        name: The file, for messages.
        setting: The setting that names it.

    Raises:
        UserError: There is no file, it is not text in UTF-8, or it is no table.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{setting}: there is no {name}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not text in UTF-8", hint="save it as CSV UTF-8 in the spreadsheet"
        ) from error
    except (ValueError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{name} cannot be read as a table", hint=str(error).splitlines()[0]
        ) from error


def reject(
    table: pd.DataFrame,
    wrong: "pd.Series | np.ndarray",
    problem: str,
    *,
    column: str = "",
    hint: str = CORRECT,
    way_out: str = "",
) -> None:
    """Reject a file if some of its rows are wrong; name the first one, and its value in ``column``.

    Args:
        table: The rows, with ``PLACE``.
        wrong: Whether each row is wrong, bool.
        problem: What is wrong, as the end of a sentence.
        column: The column with the wrong values, if there is one.
        hint: What to do.
        way_out: What to do instead of correcting the file, if there is a choice.

    Raises:
        UserError: There is a wrong row.
    """
    if not wrong.any():
        return
    first = table[wrong].iloc[0]
    message = f"{first[PLACE]}: "
    if column:
        message += f"{column} {first[column]!r} "
    message += problem
    num_more = wrong.sum() - 1
    if num_more:
        message += f" ({num_more:,} more)"
    raise UserError(message, hint=f"{hint}; or {way_out}" if way_out else hint)


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


def to_csv(table: pd.DataFrame, *, is_wide: bool = False) -> bytes:
    """Write rows as a CSV for people to label in a spreadsheet.

    A text that a spreadsheet would take for a formula gets a quote at its beginning.

    Args:
        table: The rows.
        is_wide: Write tabs and UTF-16 instead of commas and UTF-8: the "Unicode text" that
            spreadsheets in any language read.
    """
    safe = {}
    for name, values in table.items():
        if pd.api.types.is_string_dtype(values):
            safe[str(name)] = values.str.replace(f"^(?={_FORMULA})", "'", regex=True)
    table = table.assign(**safe)
    if is_wide:
        return _write_csv(table, "\t").encode("utf-16")
    return _write_csv(table, ",").encode("utf-8-sig")


def _write_csv(table: pd.DataFrame, sep: str) -> str:
    """Write a CSV; a text with a carriage return is only quoted if lines end with one."""
    return table.to_csv(index=False, sep=sep, lineterminator="\r\n")


def unquote_formulas(text: pd.Series) -> pd.Series:
    """Remove the quotes that :func:`to_csv` puts before formulas."""
    return text.str.replace(f"^'(?={_FORMULA})", "", regex=True)


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


def fault_in(uri: str, problem: str, hint: str) -> UserError:
    """Make the error for a problem in a file."""
    return UserError(f"{display_uri(uri)} {problem}", hint=hint)
