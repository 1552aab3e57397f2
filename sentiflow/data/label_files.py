"""Files with labels by hand, CSV as spreadsheets write it or Parquet -> their filled-in rows."""

import csv
import io
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from sentiflow.config.classes import UNLABELLED
from sentiflow.errors import UserError
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import as_typed

PLACE = "place"
"""The column that :func:`read` adds: file and line of a row, for messages."""
_FIRST_LINE = 2
"""Line of the first row of a file with a header."""
_FORMULA = r"'*[=+\-@\t\r]"
_WHOLE = r"[0-9]{1,18}(?:\.0*)?"


def read(uri: str, *, setting: str, hint: str) -> pd.DataFrame:
    """Read the rows with a label of a file.

    Args:
        uri: The file.
        setting: The setting that names it.
        hint: What to do if it has no column ``label``.

    Returns:
        Its columns as strings, empty where they are null, and ``PLACE``; the index counts all rows.

    Raises:
        UserError: There is no such table, or it has no column ``label``.
    """
    name = as_typed(uri)
    table = _read_table(uri, name, setting)
    require(table, ("label",), name, hint=hint)
    table = table.assign(**{PLACE: [f"{name}: line {i + _FIRST_LINE}" for i in range(len(table))]})
    return table.assign(label=table["label"].str.strip())


def require(table: pd.DataFrame, columns: Sequence[str], name: str, *, hint: str) -> None:
    """Make sure that a file has some columns.

    Raises:
        UserError: It lacks one.
    """
    if missing := [column for column in columns if column not in table]:
        there = ", ".join(column for column in map(str, table.columns) if column != PLACE)
        raise UserError(
            f"{name} has no column {' and no column '.join(missing)}; there are {there}", hint=hint
        )


def refuse(table: pd.DataFrame, wrong: pd.Series, column: str, meaning: str) -> None:
    """Refuse a file with wrong values, naming the first.

    Raises:
        UserError: There are some.
    """
    if wrong.any():
        first = table[wrong].iloc[0]
        more = f" ({wrong.sum() - 1:,} more)" if wrong.sum() > 1 else ""
        raise UserError(
            f"{first[PLACE]}: {column} {first[column]!r} {meaning}{more}",
            hint="correct the file and run the same command again",
        )


def read_row_ids(table: pd.DataFrame) -> pd.Series:
    """Convert the column ``row_id`` to int64; spreadsheets may write ``7.0`` for 7.

    Raises:
        UserError: A value is no row number.
    """
    written = table["row_id"].str.strip()
    refuse(table, ~written.str.fullmatch(_WHOLE), "row_id", "is no row number")
    return written.str.replace(r"\..*", "", regex=True).astype("int64")


def read_labels(
    table: pd.DataFrame, classes: Sequence[str], values: Mapping[str, int | None] | None = None
) -> pd.Series:
    """Convert the column ``label``: a written value, or the name of a class in any case.

    Args:
        table: Rows with a label.
        classes: The names in their order.
        values: Written values by their position in ``classes``; None: the row has no label.

    Returns:
        Positions in ``classes``; -1 for no label.

    Raises:
        UserError: A label is none of these.
    """
    known: dict[str, int | None] = {name.casefold(): code for code, name in enumerate(classes)}
    if values is not None:
        known[UNLABELLED] = None
    codes = {
        label: (values or {}).get(label, known.get(label.casefold(), -2))
        for label in table["label"].unique()
    }
    found = table["label"].map({label: -1 if c is None else c for label, c in codes.items()})
    refuse(table, found == -2, "label", f"is none of {', '.join(classes)}")
    return found.astype("int64")


def read_texts(table: pd.DataFrame, uri: str) -> pd.Series:
    """Return the column ``text`` without the apostrophes that :func:`to_csv` puts before some."""
    if uri.endswith(".parquet"):
        return table["text"]
    return table["text"].str.replace(f"^'(?={_FORMULA})", "", regex=True)


def to_csv(table: pd.DataFrame) -> bytes:
    """Write rows to label for a spreadsheet, which takes no text for a formula."""
    safe = {
        str(name): values.str.replace(f"^(?={_FORMULA})", "'", regex=True)
        for name, values in table.items()
        if pd.api.types.is_string_dtype(values)
    }
    text = table.assign(**safe).to_csv(index=False, quoting=csv.QUOTE_MINIMAL)
    return text.encode("utf-8-sig")


def _read_table(uri: str, name: str, setting: str) -> pd.DataFrame:
    try:
        if uri.endswith(".parquet"):
            return _to_strings(parquet.read(uri), name)
        text = filesystem.read_bytes(uri).decode("utf-8-sig")
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)
        table = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        )
        return table.fillna("")
    except FileNotFoundError as error:
        raise UserError(f"{setting}: there is no {name}") from error
    except UnicodeDecodeError as error:
        hint = "save it as CSV UTF-8 in the spreadsheet"
        raise UserError(f"{name} is no text in UTF-8", hint=hint) from error
    except (ValueError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name} cannot be read as a table", hint=reason) from error


def _to_strings(table: pa.Table, name: str) -> pd.DataFrame:
    """Convert the columns of a Parquet file; nulls and not-a-number become empty.

    Raises:
        UserError: Its labels are the numbers of predictions, whose meaning the file does not have.
    """
    is_number = "label" in table.column_names and pa.types.is_integer(table["label"].type)
    if is_number and "prediction" in table.column_names:
        raise UserError(
            f"{name}: its labels are the numbers of a model's classes",
            hint="write their names; sentiflow evaluate CONFIG --overwrite writes mistakes.parquet "
            "with names",
        )
    columns = {}
    for column in table.column_names:
        values = table[column].to_pandas(integer_object_nulls=True)
        columns[column] = values.astype(object).where(values.notna(), "").astype(str)
    return pd.DataFrame(columns)
