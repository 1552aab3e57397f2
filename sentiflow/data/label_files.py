"""Files of labelled rows (Parquet, or CSV from a spreadsheet) -> row ids, texts and labels.

The labels are manual (``prepare.corrections``, ``trends.labels``), or predictions of another
program, such as a large language model. Predictions of teachers become :class:`Answers`, a table in
which texts are looked up.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.class_names import UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, table_files, table_plans
from sentiflow.data.arrays import find_sorted, hash_texts, one_array
from sentiflow.errors import UserError, few
from sentiflow.storage import compression, errors, filesystem, parquet
from sentiflow.storage.uris import display_uri

TEACHERS = "train.distill.teachers"
CORRECTIONS = "prepare.corrections"
PLACE = "place"
"""Column that :func:`read` adds for messages: the file, and the line of a CSV (the header is line
1) or the row of Parquet (from 0)."""
PROBABILITY = "probability_"
"""Prefix of probability columns."""
NO_ROW = -1
"""Value of ``row_id`` in a row that has none."""
_TOLERANCE = 0.02
"""Maximum difference between the sum of a row's probabilities and 1, and maximum excess of one
probability over 1: programs may round probabilities."""
_FORMULA = r"'*[=+\-@\t\r]"
"""Beginning of a text that a spreadsheet takes for a formula. It may have quotes before it, since
:func:`to_csv` adds one."""
_WHOLE = r"[0-9]{1,19}(?:\.0?)?"
"""A row number in a spreadsheet: ``7``, ``7.`` or ``7.0``. ``1.000`` is not accepted, because it
may mean a thousand."""
_BLOCK_BYTES = 1 << 22
"""Bytes of a CSV to read at once."""


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
    name = display_uri(uri)
    table = _read_table(uri, name, setting)
    _check_columns(table, name, needs=needs, hint=hint)
    places = _name_places(uri, table)
    for column, values in table.items():
        if str(column).startswith(PROBABILITY):
            table[column] = _read_probabilities(table.assign(**{PLACE: places}), str(column))
        else:
            written = values.astype(object).where(values.notna(), "").astype(str)
            table[column] = written if column == "text" else written.str.strip()
    is_empty = table.isna() | (table == "")
    return table.assign(**{PLACE: places})[~is_empty.all(axis=1)]


def _read_probabilities(table: pd.DataFrame, column: str) -> pd.Series:
    """Convert a column of probabilities to float64; empty values become NaN."""
    values = table[column]
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    is_text = numbers.isna() & values.notna() & (values != "")
    reject(table, is_text, "is not a number with a decimal point", column=column)
    return numbers


def _check_columns(table: pd.DataFrame, name: str, *, needs: Sequence[str], hint: str) -> None:
    """Check that a table has the needed columns, and that its labels are names."""
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


def _name_places(uri: str, table: pd.DataFrame) -> pd.Series:
    """Name the place of each row, for messages."""
    if uri.endswith(".parquet"):
        unit = "row"
        first = 0
    else:
        unit = "line"
        first = 2  # the header is line 1
    numbers = pd.Series(range(first, first + len(table)), table.index)
    return f"{display_uri(uri)}: {unit} " + numbers.astype(str)


def _read_table(uri: str, name: str, setting: str) -> pd.DataFrame:
    """Read a file as a table.

    The values of a CSV are strings. Its delimiter is the comma, semicolon or tab, whichever is most
    frequent in its header.
    """
    try:
        if uri.endswith(".parquet"):
            return parquet.read(uri).to_pandas(integer_object_nulls=True)
        text = b"".join(compression.read_blocks(uri, _BLOCK_BYTES)).decode("utf-8-sig")
        header = text.partition("\n")[0]
        return pd.read_csv(
            io.StringIO(text),
            sep=max(",;\t", key=header.count),
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        )
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
    table: pd.DataFrame, wrong: "pd.Series | np.ndarray", problem: str, *, column: str = ""
) -> None:
    """Reject a file if some of its rows are wrong; name the first one, and its value in ``column``.

    Args:
        table: The rows, with ``PLACE``.
        wrong: Whether each row is wrong, bool.
        problem: What is wrong, as the end of a sentence.
        column: The column with the wrong values, if there is one.

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
    raise UserError(message, hint="correct the file and run the same command again")


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


def read_labels(
    table: pd.DataFrame,
    classes: Sequence[str],
    values: Mapping[str, int | None],
    *,
    column: str = "label",
) -> pd.Series:
    """Convert labels to positions of classes.

    A label is one of ``values``, or the name of a class. Its case does not matter for names of
    classes, and for values in lower case.

    Args:
        table: Rows with a label.
        classes: The names in their order.
        values: Written values, each with its position in ``classes``; None: no label.
        column: Column with the labels.

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
    reject(table, labels == unknown, f"is none of {', '.join(few(classes))}", column=column)
    return labels.astype("int64")


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
        return table.to_csv(index=False, sep="\t").encode("utf-16")
    return table.to_csv(index=False, sep=",").encode("utf-8-sig")


@dataclass(frozen=True)
class CorrectedRows:
    """N rows of the corpus whose labels are replaced."""

    row_id: np.ndarray
    """N distinct row ids in ascending order."""
    label: np.ndarray
    """N positions in the classes; -1: the row has no label."""

    def find_labels(self, row_id: pa.Array) -> tuple[np.ndarray, pa.Array]:
        """Look up the rows of a part by their ids.

        Returns:
            Whether each row is corrected, bool; and its new label, int8, null if it has none.
        """
        is_corrected, place = find_sorted(self.row_id, row_id.to_numpy())
        label = np.full(len(is_corrected), -1)
        label[is_corrected] = self.label[place[is_corrected]]
        return is_corrected, pa.array(label, pa.int8(), mask=label < 0)


def read_corrections(uris: Sequence[str], form: FormatSettings) -> pd.DataFrame:
    """Read the labelled rows of the files of ``prepare.corrections``.

    Args:
        uris: The files.
        form: The section ``format``, which knows the classes and the written values.

    Columns:
        file: Position of the file in ``uris``.
        place: File and line.
        row_id: ``NO_ROW`` if there is none.
        has_text: Whether the row has a text.
        text: Hash of the normalized text.
        label: The name of a class; with ``labels: auto`` the written label. Empty: the label of the
            row is removed.

    Raises:
        UserError: A file lacks a column, has no label at all, or a label is unknown.
    """
    tables = [_read_corrections(uri, form).assign(file=number) for number, uri in enumerate(uris)]
    return pd.concat(tables, ignore_index=True)


def _read_corrections(uri: str, form: FormatSettings) -> pd.DataFrame:
    """Read the labelled rows of one file, see :func:`read_corrections`."""
    hint = "corrections have row_id or text, and label"
    table = read(uri, setting=CORRECTIONS, needs=("label", "row_id or text"), hint=hint)
    table = table[table["label"] != ""]
    if not len(table):
        named = ", ".join(few(form.classes or ())) or "the name of a class"
        raise UserError(f"{display_uri(uri)} has no label", hint=f"write {named} in column label")
    empty = pd.Series("", table.index)
    number = table.get("row_id", empty)
    text = table.get("text", empty)
    if not uri.endswith(".parquet"):  # remove the quote that to_csv puts before a formula
        text = text.str.replace(f"^'(?={_FORMULA})", "", regex=True)
    has_text = text.str.strip() != ""
    has_number = number != ""
    reject(
        table,
        ~has_text & ~has_number,
        "belongs to no row: it has neither row_id nor text",
        column="label",
    )
    row_id = pd.Series(NO_ROW, table.index, dtype="int64")
    if has_number.any():
        row_id[has_number] = read_row_ids(table[has_number])
    hashes = hash_texts(pa.array(text, pa.string()))
    label = _name_labels(table, form)
    return table[[PLACE]].assign(row_id=row_id, has_text=has_text, text=hashes, label=label)


def _name_labels(table: pd.DataFrame, form: FormatSettings) -> pd.Series:
    """Name the class of each correction; empty: the label of the row is removed."""
    if form.classes is None:  # labels: auto
        is_named = table["label"].str.casefold() != UNLABELLED
        return table["label"].where(is_named, "")
    values: dict[str, int | None] = {}
    if form.kind == "sentiment140":
        values.update(table_files.NUMBERED)
    values.update(csv_format.written_labels(form))
    values[UNLABELLED] = None
    names = dict(enumerate(form.classes)) | {-1: ""}
    return read_labels(table, form.classes, values).map(names)


@dataclass(frozen=True)
class Answers:
    """Predictions for N texts of C classes; a text takes 8 + 4 C bytes."""

    keys: np.ndarray
    """Hashes of normalized texts: N distinct uint64 in ascending order."""
    probabilities: np.ndarray
    """(N, C) float32; each row sums to 1."""

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up M hashes.

        Returns:
            Whether each text has a prediction, M bool; and its probabilities, (M, C) float32, which
            are 0 if it has none.
        """
        is_known, place = find_sorted(self.keys, keys)
        probabilities = np.zeros((len(keys), self.probabilities.shape[1]), np.float32)
        probabilities[is_known] = self.probabilities[place[is_known]]
        return is_known, probabilities

    def to_table(self) -> pa.Table:
        """Return the predictions as a table that :meth:`from_table` reads."""
        num_classes = self.probabilities.shape[1]
        flat = pa.array(self.probabilities.ravel(), pa.float32())
        lists = pa.FixedSizeListArray.from_arrays(flat, num_classes)
        return pa.table({"text": self.keys, "probabilities": lists})

    @classmethod
    def from_table(cls, table: pa.Table) -> "Answers":
        """Take the predictions from a table of :meth:`to_table`."""
        table = table.combine_chunks()
        lists = table["probabilities"].combine_chunks()
        flat = lists.flatten().to_numpy().reshape(len(table), lists.type.list_size)
        return cls(table["text"].to_numpy(), flat)

    def save(self, uri: str) -> None:
        """Write a file that :meth:`load` reads."""
        filesystem.write_arrow(uri, self.to_table())

    @classmethod
    def load(cls, uri: str) -> "Answers":
        """Read a file that :meth:`save` has written."""
        return cls.from_table(filesystem.read_arrow(uri))


def add_answers(
    table: pa.Table, is_answered: np.ndarray, answers: np.ndarray, *, keep_labels: bool = True
) -> pa.Table:
    """Add the answers of teachers to N rows.

    Rows without an answer are left out; with ``keep_labels``, only if they have no label either.

    Args:
        table: The rows, with ``label``: -1, or one of C classes.
        is_answered: Whether the teachers have answered each row, N bool.
        answers: The probabilities of the classes, ``(N, C)``.
        keep_labels: Keep rows with a label but no answer; their label gets probability 1.

    Columns:
        added: ``teacher`` (list<float>).
    """
    labels = table["label"].to_numpy()
    num_classes = answers.shape[1]
    one_hot = np.eye(num_classes)[np.maximum(labels, 0)]
    taught = np.where(is_answered[:, None], answers, one_hot).astype(np.float32)
    offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32) * num_classes)
    lists = pa.ListArray.from_arrays(offsets, pa.array(taught.ravel()))
    is_kept = is_answered
    if keep_labels:
        is_kept = is_answered | (labels >= 0)
    return table.append_column("teacher", lists).filter(pa.array(is_kept))


def read_answers(uris: Sequence[str], classes: Sequence[str]) -> Answers:
    """Read all predictions; a text that was answered more than once gets the mean.

    Args:
        uris: The files.
        classes: The C classes. A file may have more classes: their probabilities are ignored, and
            the probabilities of the C classes are scaled to a sum of 1. A prediction that gives
            these classes only zeros is left out.

    Raises:
        UserError: A file is not Parquet or lacks a column, a probability is not from 0 to 1, the
            probabilities of a row do not sum to 1, or a text is missing.
    """
    # an empty table first, because the files may have no row
    tables = [pd.DataFrame(np.zeros((0, len(classes))), np.zeros(0, np.uint64))]
    for uri in uris:
        tables.extend(_read_answers(uri, classes))
    answers = pd.concat(tables)
    answers = answers[answers.sum(axis=1) > 0]
    answers = answers.div(answers.sum(axis=1), axis=0)
    mean = answers.groupby(level=0).mean()
    return Answers(mean.index.to_numpy(), mean.to_numpy(np.float32))


def _read_answers(uri: str, classes: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield tables of the classes' probabilities, (N, C) float64, indexed by the texts' hashes."""
    arrow = table_files.read_footer(uri).arrow
    table_plans.check_text(uri, arrow, "text", setting=TEACHERS)
    columns = [name for name in arrow.names if name.startswith(PROBABILITY)]
    needed = [PROBABILITY + name for name in classes]
    _check_probabilities(uri, arrow, columns, needed=needed)
    chosen = [columns.index(name) for name in needed]
    num_read = 0
    with errors.as_fault_of(uri, f"{display_uri(uri)} is damaged", hint="create it again"):
        for batch in parquet.read_batches(uri, columns=["text", *columns]):
            probabilities = batch.select(columns).to_pandas().to_numpy(np.float64)
            text = one_array(batch["text"].cast(pa.string()))
            has_no_text = text.is_null().to_numpy(zero_copy_only=False)
            faults = [*find_faults(probabilities), Fault(has_no_text, "has no text")]
            for fault in faults:
                if fault.is_faulty.any():
                    row = num_read + int(np.flatnonzero(fault.is_faulty)[0])
                    problem = f"{fault.problem} in row {row:,}"
                    raise fault_in(uri, problem, "correct it, or leave it out")
            num_read += len(batch)
            yield pd.DataFrame(probabilities[:, chosen], hash_texts(text))


def _check_probabilities(
    uri: str, arrow: pa.Schema, columns: Sequence[str], *, needed: Sequence[str]
) -> None:
    """Check that a file has the probabilities of the classes, as numbers."""
    missing = [name for name in needed if name not in columns]
    if not needed and not columns:
        missing = [f"{PROBABILITY}<class>"]
    if missing:
        names = ", ".join(few(arrow.names))
        raise fault_in(uri, f"has no column {', '.join(few(missing))}", f"it has {names}")
    for name in columns:
        kind = arrow.field(name).type
        if not pa.types.is_floating(kind) and not pa.types.is_integer(kind):
            raise fault_in(uri, f"has {name} of type {kind}", "convert it to a float")


class Fault(NamedTuple):
    """A problem of some rows."""

    is_faulty: np.ndarray
    """Whether each row has it, bool."""
    problem: str


def find_faults(probabilities: np.ndarray) -> list[Fault]:
    """Find the rows that have a value not from 0 to 1, and the rows that do not sum to 1.

    Args:
        probabilities: A row for each prediction, a column for each class.
    """
    is_share = (probabilities >= 0) & (probabilities <= 1 + _TOLERANCE)
    are_shares = np.asarray(is_share.all(axis=1))
    is_off = np.abs(probabilities.sum(axis=1) - 1) > _TOLERANCE
    return [
        Fault(~are_shares, "has a probability not from 0 to 1"),
        Fault(is_off, "has probabilities that do not sum to 1"),
    ]


def fault_in(uri: str, problem: str, hint: str) -> UserError:
    """Make the error for a problem in a file."""
    return UserError(f"{display_uri(uri)} {problem}", hint=hint)
