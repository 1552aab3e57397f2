"""Parquet files of a teacher's answers -> a table to look the answers to texts or rows up in.

The answers may be those of any program, such as a large language model. A row of the files answers
a text, or the row of the prepared data that it names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sentiflow.data import schema, table_files, table_plans
from sentiflow.data.arrow_buffers import one_array
from sentiflow.data.row_ids import find_sorted
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.uris import as_typed

if TYPE_CHECKING:
    import pandas as pd

PROBABILITY = "probability_"
UNLABELLED = "unlabelled"
"""Stands in the column ``split`` for rows of ``prepare.unlabelled``."""
SETTING = "train.distill.teachers"
_TOLERANCE = 0.02
"""How far from 1 the sum of a row may be: a program may write few digits."""
_SPLITS = (*schema.SPLITS, UNLABELLED)


@dataclass(frozen=True)
class AnswerFiles:
    """Files of answers, whose columns are known to fit."""

    uris: tuple[str, ...]
    by_text: bool
    """Whether an answer is found by its text; if not, by its row."""
    classes: tuple[str, ...]
    """Classes that the files have a probability of."""

    @property
    def columns(self) -> list[str]:
        """Name the columns of probabilities."""
        return [PROBABILITY + name for name in self.classes]


@dataclass(frozen=True)
class Answers:
    """N answers, in the order of their keys; 8 bytes each, and 4 for each of the C classes."""

    by_text: bool
    keys: np.ndarray
    """N uint64, each once: hashes of normalized texts, or those of :func:`row_keys`."""
    probabilities: np.ndarray
    """(N, C) float32; each row sums to 1."""

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look M keys up.

        Returns:
            Whether there is an answer, M bool; the answers, (M, C) float32, 0 where there is none.
        """
        is_known, place = find_sorted(self.keys, keys)
        found = np.zeros((len(keys), self.probabilities.shape[1]), np.float32)
        found[is_known] = self.probabilities[place[is_known]]
        return is_known, found

    def save(self, uri: str) -> None:
        """Write a file that :meth:`load` reads."""
        flat = pa.array(self.probabilities.ravel(), pa.float32())
        lists = pa.FixedSizeListArray.from_arrays(flat, self.probabilities.shape[1])
        name = "text" if self.by_text else "row"
        filesystem.write_arrow(uri, pa.table({name: self.keys, "probabilities": lists}))

    @classmethod
    def load(cls, uri: str) -> "Answers":
        """Read a file of :meth:`save`."""
        table = filesystem.read_arrow(uri).combine_chunks()
        lists = table["probabilities"].combine_chunks()
        flat = lists.flatten().to_numpy().reshape(len(table), lists.type.list_size)
        return cls(table.column_names[0] == "text", table[0].to_numpy(), flat)


def row_keys(row_ids: np.ndarray, *, unlabelled: bool | np.ndarray = False) -> np.ndarray:
    """Number rows without overlap, N uint64: row n of ``prepare.unlabelled`` is row -1 - n."""
    return np.where(unlabelled, -1 - row_ids, row_ids).astype(np.int64).view(np.uint64)


def look_at(uris: Sequence[str], classes: Sequence[str] | None) -> AnswerFiles:
    """Check the columns of files of answers; no row is read.

    Args:
        uris: Parquet files, which have the same columns.
        classes: Those that there must be a probability of; None: any.

    Raises:
        UserError: A file is not Parquet, or lacks a column.
    """
    found = []
    for uri, footer in zip(uris, filesystem.map_files(table_files.look_at, uris), strict=True):
        names = footer.arrow.names
        has = tuple(n.removeprefix(PROBABILITY) for n in names if n.startswith(PROBABILITY))
        if missing := [name for name in classes or has or ("<class>",) if name not in has]:
            columns = ", ".join(PROBABILITY + name for name in missing)
            raise _fault(uri, f"has no column {columns}", hint=f"it has {', '.join(names)}")
        if "text" not in names and "row_id" not in names:
            raise _fault(uri, "has neither text nor row_id", hint="add the texts that it answers")
        found.append(AnswerFiles(tuple(uris), "text" in names, has))
        _check_types(uri, footer.arrow, found[-1])
        if found[-1] != found[0]:
            raise _fault(uri, f"has other columns than {as_typed(uris[0])}", hint="make them equal")
    return found[0]


def _check_types(uri: str, arrow: pa.Schema, files: AnswerFiles) -> None:
    if files.by_text:
        table_plans.check_text(uri, arrow, "text", setting=SETTING)
    elif not pa.types.is_integer(arrow.field("row_id").type):
        raise _fault(uri, "has a row_id that is no whole number", hint="convert it to int64")
    for name in files.columns:
        kind = arrow.field(name).type
        if not pa.types.is_floating(kind) and not pa.types.is_integer(kind):
            raise _fault(uri, f"has {name} of type {kind}", hint="convert it to a float")


def check(files: AnswerFiles) -> None:
    """Check the values of all rows.

    Raises:
        UserError: A probability is none, those of a row do not sum to 1, or a key is missing.
    """
    for _ in _read(files):
        pass


def read(files: AnswerFiles, classes: Sequence[str]) -> Answers:
    """Read all answers; a text or row that was answered more than once gets the mean.

    Args:
        files: The files.
        classes: The C classes, some of those that the files have. Probabilities of the others are
            left out, and the rest is scaled to a sum of 1; an answer without a rest is none.

    Raises:
        UserError: As :func:`check`.
    """
    columns = [files.classes.index(name) for name in classes]
    pairs = [(keys, probabilities[:, columns]) for keys, probabilities in _read(files)]
    keys = np.concatenate([np.zeros(0, np.uint64), *(pair[0] for pair in pairs)])
    chosen = np.concatenate([np.zeros((0, len(columns))), *(pair[1] for pair in pairs)])
    has_rest = chosen.sum(axis=1) > 0
    keys, chosen = keys[has_rest], chosen[has_rest]
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    shares = (chosen / chosen.sum(axis=1, keepdims=True))[order]
    sums = np.add.reduceat(shares, starts, axis=0) if len(keys) else shares
    mean = sums / sums.sum(axis=1, keepdims=True)
    return Answers(files.by_text, distinct, mean.astype(np.float32))


def _read(files: AnswerFiles) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read keys and probabilities, (N, all classes) float64, of some rows at a time."""
    from sentiflow.data.text_hash import hash_texts  # imports pandas

    for uri in files.uris:
        first = 0
        for batch in _batches(uri, files):
            rows = batch.to_pandas()
            found = rows[files.columns].to_numpy(np.float64, na_value=np.nan)
            _check_rows(uri, first, rows, found)
            first += len(rows)
            if files.by_text:
                yield hash_texts(one_array(batch["text"].cast(pa.string()))), found
                continue
            unlabelled = rows["split"] == UNLABELLED if "split" in rows else False
            yield row_keys(rows["row_id"].to_numpy(np.int64), unlabelled=unlabelled), found


def _batches(uri: str, files: AnswerFiles) -> Iterator[pa.Table]:
    keys = ["text"] if files.by_text else ["row_id", "split"]
    try:
        yield from parquet.read_batches(uri, columns=[*keys, *files.columns])
    except (pa.ArrowInvalid, OSError) as error:
        problem = _fault(uri, "is damaged", hint="create it again")
        raise errors.explain(error, uri=uri) or problem from error


def _check_rows(uri: str, first: int, rows: "pd.DataFrame", probabilities: np.ndarray) -> None:
    """Refuse a file with a faulty row, naming the first; the rows begin at number ``first``."""
    key = "text" if "text" in rows else "row_id"
    faults = [
        (rows[key].isna().to_numpy(), f"has no {key}", "leave it out"),
        *find_faults(probabilities),
    ]
    if key == "row_id":
        faults.append(((rows["row_id"] < 0).to_numpy(), "has a negative row_id", "count from 0"))
    if "split" in rows:
        hint = f"a row_id belongs to {', '.join(_SPLITS)}; or give the text"
        faults.append((~rows["split"].isin(_SPLITS).to_numpy(), "has an unknown split", hint))
    for is_faulty, problem, hint in faults:
        if is_faulty.any():
            row = first + int(np.flatnonzero(is_faulty)[0])
            raise _fault(uri, f"{problem} in row {row:,}", hint=hint)


def find_faults(probabilities: np.ndarray) -> list[tuple[np.ndarray, str, str]]:
    """Find the rows whose probabilities are none: which rows they are, what is wrong, a hint."""
    is_share = (probabilities >= 0) & (probabilities <= 1 + _TOLERANCE)
    is_off = np.abs(probabilities.sum(axis=1) - 1) > _TOLERANCE
    return [
        (
            ~is_share.all(axis=1),
            "has no probabilities from 0 to 1",
            "give them, or leave the row out",
        ),
        (is_off, "has probabilities that do not sum to 1", "give those of all classes"),
    ]


def _fault(uri: str, problem: str, *, hint: str) -> UserError:
    return UserError(f"{SETTING}: {as_typed(uri)} {problem}", hint=hint)
