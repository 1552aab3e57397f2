"""Files of labelled rows (Parquet, or CSV from a spreadsheet) -> tables, and back to a spreadsheet.

The labels are manual (``prepare.corrections``, ``trends.labels``), or predictions of another
program, such as a large language model. :mod:`label_values` reads the values of the columns.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data.schema import PROBABILITY as PROBABILITY
from sentiflow.errors import UserError
from sentiflow.storage import compression, parquet
from sentiflow.storage.uris import display_uri

PLACE = "place"
"""Column that :func:`read` adds for messages: the file, and the line of a CSV (the header is line
1) or the row of Parquet (from 0)."""
_FORMULA = "'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""Beginning of a text that a spreadsheet takes for a formula; the last four are ``=+-@`` in full
width, which Excel takes for the same. It may have quotes before it, since :func:`to_csv` adds one.
"""
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


def fault_in(uri: str, problem: str, hint: str) -> UserError:
    """Make the error for a problem in a file."""
    return UserError(f"{display_uri(uri)} {problem}", hint=hint)
