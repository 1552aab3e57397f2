"""Texts -> folds: which rows a fold answers, which it trains on, and which choose its epoch."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.data.arrays import hash_strings, normalize_text
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError

_KEY = "sentiflow--folds"
"""Key of the hash that decides the fold of a text; that of its split is independent of it."""


@dataclass(frozen=True)
class Folds:
    """The folds of prepared rows; equal texts are in the same one."""

    num_folds: int
    splits: tuple[str, ...]
    """Those whose rows are drawn from the corpus; given test rows are in no fold."""
    validation_fraction: float
    """Of the rows of all other folds."""

    @classmethod
    def of(cls, prepared: Manifest, num_folds: int) -> "Folds":
        """Divide the rows of prepared data."""
        fixed, split = prepared.get("fixed_splits", ()), prepared["settings"]["split"]
        return cls(
            num_folds,
            tuple(name for name in SPLITS if name not in fixed),
            split["validation_fraction"] / (1 - split["test_fraction"]),
        )

    def place(self, text: pa.Array) -> np.ndarray:
        """Place texts by the hash of their normal form, from 0 to ``num_folds``.

        The whole part is the fold of a text, the rest its place within the fold.
        """
        share = hash_strings(normalize_text(text), key=_KEY) / np.float64(2**64)
        return np.asarray((share * self.num_folds).clip(max=np.nextafter(self.num_folds, 0)))

    def choose(self, position: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Choose rows by their places: those that a fold trains on, and its validation rows."""
        is_other = position.astype(int) != number
        is_validation = is_other & (position % 1 < self.validation_fraction)
        return is_other & ~is_validation, is_validation

    def check(self, text: pa.Array, label: np.ndarray) -> None:
        """Refuse labelled rows of which a fold leaves fewer than two classes to train on.

        Raises:
            UserError: That is so.
        """
        position = self.place(text)
        for number in range(self.num_folds):
            if len(np.unique(label[self.choose(position, number)[0]])) < 2:
                raise UserError(
                    f"train.folds: without fold {number + 1} of {self.num_folds} fewer than two "
                    "classes have rows, as equal texts are in one fold; different texts in "
                    f"{len(label):,} rows: {len(np.unique(position)):,}",
                    hint="add other texts, or set train.folds=0",
                )
