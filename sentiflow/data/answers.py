"""Files of a teacher's predictions -> :class:`Answers`, a table in which texts are looked up.

The files are Parquet, with a text and a probability for each class in a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data import table_files, table_plans
from sentiflow.data.arrays import find_sorted, hash_texts, one_array
from sentiflow.data.label_files import PROBABILITY, fault_in
from sentiflow.data.label_values import RowFault, find_faults
from sentiflow.errors import few
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.uris import display_uri

TEACHERS = "train.distill.teachers"
"""The setting that names the files, for messages; it may name trained models, too."""


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
            faults = [*find_faults(probabilities), RowFault(has_no_text, "has no text")]
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
