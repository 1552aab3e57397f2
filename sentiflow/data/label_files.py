"""Tables of labelled rows, CSV as spreadsheets write it or Parquet -> row ids, texts and labels.

They are labels by hand (``prepare.corrections``, ``trends.labels``), or predictions of any program,
such as a large language model: those of a teacher become a table to look texts up in.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
_TOLERANCE = 0.02
"""How far from 1 the sum of a row may be: a program may write few digits."""
CORRECTIONS = "prepare.corrections"
PLACE = "place"
"""The column that :func:`read` adds: file and line of a row, for messages; of Parquet its number
from 0."""
PROBABILITY = "probability_"
"""Names of columns of numbers begin so."""
NO_ROW = -1
"""Stands for a ``row_id`` that is not given."""
_FORMULA = r"'*[=+\-@\t\r]"
_WHOLE = r"[0-9]{1,19}(?:\.0?)?"
"""``1.000`` may be a thousand."""


def read(uri: str, *, setting: str, needs: Sequence[str], hint: str) -> pd.DataFrame:
    """Read the rows of a file that are not empty.

    Args:
        uri: The file.
        setting: The setting that names it.
        needs: The columns that it must have; one may be written ``row_id or text``.
        hint: What to do if it lacks one.

    Returns:
        Its columns as strings without white space around them, but the texts; empty where they are
        null. Probabilities are float64. And ``PLACE``.

    Raises:
        UserError: There is no such table, or it lacks a column.
    """
    name = display_uri(uri)
    table = _read_table(uri, name, setting)
    columns = list(map(str, table.columns))
    if missing := [one for one in needs if not {*one.split(" or ")} & {*columns}]:
        problem = f"{name} has no column {' and no column '.join(missing)}"
        raise UserError(f"{problem}; there are {', '.join(columns)}", hint=hint)
    is_number = "label" in needs and pd.api.types.is_integer_dtype(table["label"])
    if is_number and "prediction" in table:
        raise UserError(
            f"{name}: its labels are the numbers of a model's classes",
            hint="write their names; sentiflow evaluate CONFIG --overwrite writes mistakes.parquet "
            "with names",
        )
    what, first = ("row", 0) if uri.endswith(".parquet") else ("line", 2)
    places = f"{name}: {what} " + pd.Series(range(first, first + len(table)), table.index).astype(
        str
    )
    for column, values in table.items():
        if str(column).startswith(PROBABILITY):
            numbers = pd.to_numeric(values, errors="coerce").astype("float64")
            is_text = numbers.isna() & values.notna() & (values != "")
            reject(
                table.assign(**{PLACE: places}),
                is_text,
                "is no number with a decimal point",
                column=str(column),
            )
            table[column] = numbers
        else:
            written = values.astype(object).where(values.notna(), "").astype(str)
            table[column] = written if column == "text" else written.str.strip()
    is_empty = table.isna() | (table == "")
    return table.assign(**{PLACE: places})[~is_empty.all(axis=1)]


def _read_table(uri: str, name: str, setting: str) -> pd.DataFrame:
    try:
        if uri.endswith(".parquet"):
            return parquet.read(uri).to_pandas(integer_object_nulls=True)
        text = b"".join(compression.read_blocks(uri, 1 << 22)).decode("utf-8-sig")
        return pd.read_csv(
            io.StringIO(text),
            sep=max(",;\t", key=text.partition("\n")[0].count),
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        )
    except FileNotFoundError as error:
        raise UserError(f"{setting}: there is no {name}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is no text in UTF-8", hint="save it as CSV UTF-8 in the spreadsheet"
        ) from error
    except (ValueError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{name} cannot be read as a table", hint=str(error).splitlines()[0]
        ) from error


def reject(
    table: pd.DataFrame, wrong: "pd.Series | np.ndarray", problem: str, *, column: str = ""
) -> None:
    """Reject a file with wrong rows, naming the first, and its value of a column.

    Raises:
        UserError: There are some.
    """
    if wrong.any():
        first, num_more = table[wrong].iloc[0], wrong.sum() - 1
        more = f" ({num_more:,} more)" if num_more else ""
        value = f"{column} {first[column]!r} " if column else ""
        raise UserError(
            f"{first[PLACE]}: {value}{problem}{more}",
            hint="correct the file and run the same command again",
        )


def read_row_ids(table: pd.DataFrame) -> pd.Series:
    """Convert the column ``row_id`` to int64; spreadsheets may write ``7.0`` for 7.

    Raises:
        UserError: A value is no row number.
    """
    is_whole = table["row_id"].str.fullmatch(_WHOLE)
    digits = table["row_id"].str.replace(r"\..*", "", regex=True)
    wrong = ~is_whole | (digits.str.zfill(19) > str((1 << 63) - 1))
    reject(table, wrong, "is no row number", column="row_id")
    return digits.astype("int64")


def read_labels(
    table: pd.DataFrame,
    classes: Sequence[str],
    values: Mapping[str, int | None],
    *,
    column: str = "label",
) -> pd.Series:
    """Convert labels: a written value, or the name of a class in any case.

    Args:
        table: Rows with a label.
        classes: The names in their order.
        values: Written values by their position in ``classes``; None: the row has no label.
        column: Has the labels.

    Returns:
        Positions in ``classes``; -1 for no label.

    Raises:
        UserError: A label is none of these.
    """
    names = {name.casefold(): code for code, name in enumerate(classes)}
    codes = {
        label: values.get(label, values.get(label.casefold(), names.get(label.casefold(), -2)))
        for label in table[column].unique()
    }
    labels = table[column].map({label: -1 if c is None else c for label, c in codes.items()})
    reject(table, labels == -2, f"is none of {', '.join(few(classes))}", column=column)
    return labels.astype("int64")


def to_csv(table: pd.DataFrame, *, is_wide: bool = False) -> bytes:
    """Write rows to label for a spreadsheet, which takes no text for a formula.

    Args:
        table: The rows.
        is_wide: Write tabs and UTF-16, the "Unicode text" of spreadsheets in any language, in place
            of commas and UTF-8.
    """
    safe = {
        str(name): values.str.replace(f"^(?={_FORMULA})", "'", regex=True)
        for name, values in table.items()
        if pd.api.types.is_string_dtype(values)
    }
    delimiter, encoding = ("\t", "utf-16") if is_wide else (",", "utf-8-sig")
    return table.assign(**safe).to_csv(index=False, sep=delimiter).encode(encoding)


@dataclass(frozen=True)
class CorrectedRows:
    """N rows of the corpus whose labels are replaced."""

    row_id: np.ndarray
    """In rising order, each once."""
    label: np.ndarray
    """Positions in the classes; -1: the row has no label."""

    def labels_of(self, row_id: pa.Array) -> tuple[np.ndarray, pa.Array]:
        """Find which rows of a part are corrected, and their labels: int8, null for none."""
        is_corrected, place = find_sorted(self.row_id, row_id.to_numpy())
        label = np.full(len(is_corrected), -1)
        label[is_corrected] = self.label[place[is_corrected]]
        return is_corrected, pa.array(label, pa.int8(), mask=label < 0)


def read_corrections(uris: Sequence[str], form: FormatSettings) -> pd.DataFrame:
    """Read the rows with a label of the files of ``prepare.corrections``.

    Args:
        uris: The files.
        form: The section ``format``, which knows the classes and the written values.

    Returns:
        ``file`` (its position in ``uris``), ``place`` (file and line), ``row_id`` (``NO_ROW`` if
        there is none), ``has_text``, ``text`` (a hash of the normalized text), ``label`` (the name
        of a class, as it is written for ``labels: auto``; empty: the row has no label).

    Raises:
        UserError: A file lacks a column or any label, or a label is unknown.
    """
    return pd.concat(
        [_read_file(uri, form).assign(file=number) for number, uri in enumerate(uris)],
        ignore_index=True,
    )


def _read_file(uri: str, form: FormatSettings) -> pd.DataFrame:
    hint = "corrections have row_id or text, and label"
    table = read(uri, setting=CORRECTIONS, needs=("label", "row_id or text"), hint=hint)
    table = table[table["label"] != ""]
    if not len(table):
        named = ", ".join(few(form.classes or ())) or "the name of a class"
        raise UserError(f"{display_uri(uri)} has no label", hint=f"write {named} in column label")
    empty = pd.Series("", table.index)
    number, text = table.get("row_id", empty), table.get("text", empty)
    if not uri.endswith(".parquet"):  # what to_csv puts before a formula
        text = text.str.replace(f"^'(?={_FORMULA})", "", regex=True)
    has_text, has_number = text.str.strip() != "", number != ""
    reject(
        table,
        ~has_text & ~has_number,
        "is of no row: it has neither row_id nor text",
        column="label",
    )
    row_id = pd.Series(NO_ROW, table.index, dtype="int64")
    if has_number.any():
        row_id[has_number] = read_row_ids(table[has_number])
    if form.classes is None:  # labels: auto
        label = table["label"].where(table["label"].str.casefold() != UNLABELLED, "")
    else:
        numbered = table_files.NUMBERED if form.kind == "sentiment140" else ()
        values = dict([*numbered, *csv_format.meanings(form), (UNLABELLED, None)])
        names = dict(enumerate(form.classes)) | {-1: ""}
        label = read_labels(table, form.classes, values).map(names)
    hashes = hash_texts(pa.array(text, pa.string()))
    return table[[PLACE]].assign(row_id=row_id, has_text=has_text, text=hashes, label=label)


@dataclass(frozen=True)
class Answers:
    """Predictions for N texts; 8 bytes each, and 4 for each of the C classes."""

    keys: np.ndarray
    """Hashes of normalized texts, N uint64 in rising order, each once."""
    probabilities: np.ndarray
    """(N, C) float32; each row sums to 1."""

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look M hashes up.

        Returns:
            Whether there is a prediction, M bool; (M, C) float32, 0 where there is none.
        """
        is_known, place = find_sorted(self.keys, keys)
        probabilities = np.zeros((len(keys), self.probabilities.shape[1]), np.float32)
        probabilities[is_known] = self.probabilities[place[is_known]]
        return is_known, probabilities

    def to_table(self) -> pa.Table:
        """Return a table for :meth:`from_table`."""
        lists = pa.FixedSizeListArray.from_arrays(
            pa.array(self.probabilities.ravel(), pa.float32()), self.probabilities.shape[1]
        )
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
        """Read a file of :meth:`save`."""
        return cls.from_table(filesystem.read_arrow(uri))


def add_answers(
    table: pa.Table, is_answered: np.ndarray, answers: np.ndarray, *, keep_labels: bool = True
) -> pa.Table:
    """Add the answers of teachers to N rows; those without an answer are left out.

    Args:
        table: The rows, with ``label``: -1, or one of C classes.
        is_answered: N bool.
        answers: ``(N, C)``, those of the teachers.
        keep_labels: Give rows that have a label, but no answer, 1 for their label.

    Columns:
        added: ``teacher`` (list<float>).
    """
    labels, num_classes = table["label"].to_numpy(), answers.shape[1]
    hard = np.eye(num_classes)[np.maximum(labels, 0)]
    taught = np.where(is_answered[:, None], answers, hard).astype(np.float32)
    offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32) * num_classes)
    lists = pa.ListArray.from_arrays(offsets, pa.array(taught.ravel()))
    is_kept = is_answered | (labels >= 0) if keep_labels else is_answered
    return table.append_column("teacher", lists).filter(pa.array(is_kept))


def read_answers(uris: Sequence[str], classes: Sequence[str]) -> Answers:
    """Read all predictions; a text that was answered more than once gets the mean.

    Args:
        uris: The files.
        classes: The C classes. Probabilities of others are left out, and the remaining ones scaled
            to a sum of 1; a prediction of which nothing remains is none.

    Raises:
        UserError: A file is not Parquet or lacks a column, a probability is none, those of a row do
            not sum to 1, or a text is missing.
    """
    nothing = pd.DataFrame(np.zeros((0, len(classes))), np.zeros(0, np.uint64))
    every = pd.concat([nothing, *(table for uri in uris for table in _read_answers(uri, classes))])
    chosen = every[every.sum(axis=1) > 0]
    mean = chosen.div(chosen.sum(axis=1), axis=0).groupby(level=0).mean()
    return Answers(mean.index.to_numpy(), mean.to_numpy(np.float32))


def _read_answers(uri: str, classes: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read the probabilities of the classes, (N, C) float64, by the hashes of the texts."""
    arrow = table_files.read_footer(uri).arrow
    table_plans.check_text(uri, arrow, "text", setting=TEACHERS)
    columns = [name for name in arrow.names if name.startswith(PROBABILITY)]
    needed = [PROBABILITY + name for name in classes]
    missing = [
        name for name in needed or columns or [f"{PROBABILITY}<class>"] if name not in columns
    ]
    if missing:
        names = ", ".join(few(arrow.names))
        raise fault_in(uri, f"has no column {', '.join(few(missing))}", f"it has {names}")
    for name in columns:
        kind = arrow.field(name).type
        if not pa.types.is_floating(kind) and not pa.types.is_integer(kind):
            raise fault_in(uri, f"has {name} of type {kind}", "convert it to a float")
    chosen, first = [columns.index(name) for name in needed], 0
    with errors.as_fault_of(uri, f"{display_uri(uri)} is damaged", hint="create it again"):
        for batch in parquet.read_batches(uri, columns=["text", *columns]):
            probabilities = batch.select(columns).to_pandas().to_numpy(np.float64)
            text = one_array(batch["text"].cast(pa.string()))
            faults = find_faults(probabilities)
            faults.append((text.is_null().to_numpy(zero_copy_only=False), "has no text"))
            for is_faulty, problem in faults:
                if is_faulty.any():
                    row = first + int(np.flatnonzero(is_faulty)[0])
                    raise fault_in(uri, f"{problem} in row {row:,}", "correct it, or leave it out")
            first += len(batch)
            yield pd.DataFrame(probabilities[:, chosen], hash_texts(text))


def find_faults(probabilities: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """Find the rows whose probabilities are none: which rows they are, and what is wrong."""
    is_share = (probabilities >= 0) & (probabilities <= 1 + _TOLERANCE)
    is_off = np.abs(probabilities.sum(axis=1) - 1) > _TOLERANCE
    return [
        (~is_share.all(axis=1), "has a probability not from 0 to 1"),
        (is_off, "has probabilities that do not sum to 1"),
    ]


def fault_in(uri: str, problem: str, hint: str) -> UserError:
    """Say what is wrong with a file."""
    return UserError(f"{display_uri(uri)} {problem}", hint=hint)
