"""Texts -> folds: which rows a fold answers, which it trains on, and which choose its epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import prepared_data
from sentiflow.data.arrays import hash_strings, normalize_text
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.training import learned_classes, rates

_KEY = "sentiflow--folds"
"""Key of the hash that decides the fold of a text. The split of a text is independent of it."""


def count_trained(settings: TrainSettings, prepared: Manifest, classes: Sequence[str]) -> int:
    """Count the folds whose models are trained, see :func:`rates.count_folds`.

    Args:
        settings: The section ``train``.
        prepared: Manifest of the prepared data.
        classes: The classes to learn.
    """
    splits = Folds.of(prepared, settings.folds).splits
    num_rows = sum(learned_classes.count_rows(prepared, split, classes) for split in splits)
    has_given_test = prepared_data.has_given_test(prepared)
    return rates.count_folds(settings, num_rows, has_given_test=has_given_test)


@dataclass(frozen=True)
class Folds:
    """The folds of prepared rows; equal texts are in the same one."""

    num_folds: int
    splits: tuple[str, ...]
    """The splits whose rows are in folds. Given test rows are in none."""
    validation_fraction: float
    """Share of the validation rows among the rows outside a fold."""

    @classmethod
    def of(cls, prepared: Manifest, num_folds: int) -> "Folds":
        """Describe the folds of prepared data."""
        fixed = prepared.get("fixed_splits", ())
        split = prepared["settings"]["split"]
        return cls(
            num_folds=num_folds,
            splits=tuple(name for name in SPLITS if name not in fixed),
            validation_fraction=split["validation_fraction"] / (1 - split["test_fraction"]),
        )

    def place(self, text: pa.Array) -> np.ndarray:
        """Compute positions of texts, from 0 to ``num_folds``, by the hash of their normal form.

        The integer part is the fold of a text, the fraction its position within the fold.
        """
        share = hash_strings(normalize_text(text), key=_KEY) / np.float64(2**64)
        below_last = np.nextafter(self.num_folds, 0)
        return np.asarray((share * self.num_folds).clip(max=below_last))

    def choose(self, position: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Choose the rows that the model of a fold is trained on, and its validation rows.

        Args:
            position: Positions of N rows, see :meth:`place`.
            number: Number of the fold, from 0.

        Returns:
            Two masks, (N,) bool: the train rows and the validation rows.
        """
        is_other = position.astype(int) != number
        is_validation = is_other & (position % 1 < self.validation_fraction)
        return is_other & ~is_validation, is_validation

    def check(self, text: pa.Array, label: np.ndarray) -> None:
        """Check that each fold leaves labelled rows of two classes or more to train on.

        Raises:
            UserError: Outside a fold there are fewer than two classes.
        """
        position = self.place(text)
        for number in range(self.num_folds):
            is_train, _ = self.choose(position, number)
            if len(np.unique(label[is_train])) < 2:
                raise UserError(
                    f"train.folds: outside fold {number + 1} of {self.num_folds} fewer than two "
                    "classes have rows, as equal texts are in the same fold (rows: "
                    f"{len(label):,}, different texts: {len(np.unique(position)):,})",
                    hint="add other texts, or set train.folds=0",
                )
