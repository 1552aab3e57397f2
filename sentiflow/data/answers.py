"""Parquet files of a teacher's predictions -> a table to look the predictions for texts up in.

They may be those of any program, such as a large language model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data import table_files, table_plans
from sentiflow.data.arrays import find_sorted, hash_texts, one_array
from sentiflow.data.label_files import PROBABILITY
from sentiflow.errors import UserError, few
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.uris import display_uri

SETTING = "train.distill.teachers"
_TOLERANCE = 0.02
"""How far from 1 the sum of a row may be: a program may write few digits."""


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

    def save(self, uri: str) -> None:
        """Write a file that :meth:`load` reads."""
        flat = pa.array(self.probabilities.ravel(), pa.float32())
        lists = pa.FixedSizeListArray.from_arrays(flat, self.probabilities.shape[1])
        filesystem.write_arrow(uri, pa.table({"text": self.keys, "probabilities": lists}))

    @classmethod
    def load(cls, uri: str) -> "Answers":
        """Read a file of :meth:`save`."""
        table = filesystem.read_arrow(uri).combine_chunks()
        lists = table["probabilities"].combine_chunks()
        flat = lists.flatten().to_numpy().reshape(len(table), lists.type.list_size)
        return cls(table["text"].to_numpy(), flat)


def read(uris: Sequence[str], classes: Sequence[str]) -> Answers:
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
    every = pd.concat([nothing, *(table for uri in uris for table in _read(uri, classes))])
    chosen = every[every.sum(axis=1) > 0]
    mean = chosen.div(chosen.sum(axis=1), axis=0).groupby(level=0).mean()
    return Answers(mean.index.to_numpy(), mean.to_numpy(np.float32))


def _read(uri: str, classes: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read the probabilities of the classes, (N, C) float64, by the hashes of the texts."""
    arrow = table_files.read_footer(uri).arrow
    table_plans.check_text(uri, arrow, "text", setting=SETTING)
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
