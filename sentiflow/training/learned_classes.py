"""Prepared data + settings -> the classes that a model learns, their rows and their weights."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import set_apart
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest, prepared_data, schema
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import MOST_LISTED, UserError, few
from sentiflow.storage.uris import display_uri


@dataclass(frozen=True)
class LearnedClasses:
    """The C classes of a model."""

    names: tuple[str, ...]
    """In the order of the prepared classes. A label of the model is a position here."""
    counts: np.ndarray
    """Rows of each class in training, (C,) int64."""
    positions: np.ndarray
    """The model's label of each prepared label, -1 for a class that is not learned, int8."""
    weights: np.ndarray | None
    """Weight of the rows of each class in the loss, (C,) float32, with a mean of 1 over the
    training rows; None if all are 1."""
    left_out: tuple[str, ...] = ()
    """See ``PackageSettings.left_out``."""
    values: tuple[float, ...] | None = None
    """The numbers of ordered classes; None: the classes have no order."""
    num_unlabelled: int = 0
    """Unlabelled texts with a known word. Pretraining reads them besides the labelled rows."""

    @property
    def num_rows(self) -> int:
        """Rows of an epoch of training."""
        return int(self.counts.sum())

    @property
    def num_pretrained(self) -> int:
        """Texts of an epoch of pretraining."""
        return self.num_rows + self.num_unlabelled

    @property
    def priors(self) -> tuple[float, ...]:
        """Share of each class in training."""
        return tuple((self.counts / self.counts.sum()).tolist())

    def describe(self) -> str:
        """List the classes with their rows and weights. If there are many, list only the rarest."""
        order = list(range(len(self.names)))
        if len(order) > MOST_LISTED:
            order.sort(key=lambda place: self.counts[place])
        listed = list[str]()
        for place in order:
            text = f"{self.counts[place]:,}"
            if self.weights is not None:
                text += f", weight {self.weights[place]:.2f}"
            listed.append(f"{set_apart(self.names[place])} ({text})")
        return ", ".join(few(listed, "in the manifest"))


def choose(
    prepared: Manifest, settings: TrainSettings, splits: Sequence[str] = schema.SPLITS[:1]
) -> LearnedClasses:
    """Choose the classes that a model learns, and weigh them.

    Args:
        prepared: Manifest of the prepared data. Its train split has every class to learn.
        settings: The section ``train``.
        splits: The splits that the model is trained on.

    Raises:
        UserError: A class has no rows, or there are fewer than two classes.
    """
    classes = manifest.find_classes(prepared)
    learnable = prepared_data.find_learnable(prepared)
    names = _choose_names(prepared, settings, learnable)
    counts = np.zeros(len(names), np.int64)
    for split in splits:
        counts += [count_rows(prepared, split, [name]) for name in names]
    positions = [names.index(name) if name in names else -1 for name in classes]
    left_out = [name for name in classes if name not in names]
    if not settings.classes:
        # A class with too few rows is not left out: its rows count as mistakes.
        left_out = [name for name in left_out if name not in learnable]
    return LearnedClasses(
        names=names,
        counts=counts,
        positions=np.array(positions, np.int8),
        weights=_weigh(settings.class_weights, counts),
        left_out=tuple(left_out),
        values=_find_values(prepared, names),
        num_unlabelled=_count_unlabelled(prepared),
    )


def _choose_names(
    prepared: Manifest, settings: TrainSettings, learnable: Sequence[str]
) -> tuple[str, ...]:
    """Name the classes to learn, in the order of the prepared classes.

    Raises:
        UserError: A class has no rows, or there are fewer than two classes.
    """
    counts = {name: count_rows(prepared, "train", [name]) for name in learnable}
    shown = ", ".join(few([f"{number:,} {set_apart(name)}" for name, number in counts.items()]))
    split_has = f"the train split has {shown}"
    unknown = [name for name in settings.classes or () if not counts.get(name)]
    if unknown:
        quoted = [set_apart(name) for name in unknown]
        raise UserError(
            f"train.classes: no row to learn has the class {' or '.join(few(quoted))}",
            hint=split_has,
        )
    chosen = settings.classes or prepared_data.find_default_classes(prepared)
    names = tuple(name for name in learnable if name in chosen)
    if len(names) < 2:
        raise UserError("a classifier needs rows of two classes or more", hint=split_has)
    return names


def _find_values(prepared: Manifest, names: Sequence[str]) -> tuple[float, ...] | None:
    """Return the numbers of ordered classes; None if the classes have no order."""
    values = manifest.find_class_values(prepared)
    if values is None:
        return None
    by_class = dict(zip(manifest.find_classes(prepared), values, strict=True))
    chosen = [by_class[name] for name in names]
    return tuple(value for value in chosen if value is not None)  # prepared data have them all


def relabel(rows: pa.Table, positions: np.ndarray) -> pa.Table:
    """Give prepared rows the labels of the model; rows of a class that is left out are dropped.

    A table without labels has unlabelled texts, which all stay.

    Columns:
        replaced: ``label`` (int8; -1 for unlabelled texts). For unlabelled texts also ``row_id``,
            if it is there: text n gets -1 - n.
    """
    if "label" not in rows.column_names:
        if "row_id" in rows.column_names:
            rows = _replace(rows, "row_id", -1 - rows["row_id"].to_numpy())
        labels = pa.array(np.full(len(rows), -1, np.int8))
        return rows.append_column(schema.ENCODED.field("label"), labels)
    codes = pc.fill_null(rows["label"], -1).to_numpy()
    labels = np.where(codes >= 0, positions[codes], -1).astype(np.int8)
    return _replace(rows, "label", labels).filter(pa.array(labels >= 0))


def _replace(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    """Replace a column of encoded rows."""
    index = table.column_names.index(name)
    return table.set_column(index, schema.ENCODED.field(name), pa.array(values))


def count_rows(prepared: Manifest, split: str, names: Iterable[str]) -> int:
    """Count the rows of some classes in a split."""
    counts = prepared["counts"]["labels"].get(split, {})
    return sum(int(counts.get(name, 0)) for name in names)


def _count_unlabelled(prepared: Manifest) -> int:
    """Count the unlabelled texts with a known word."""
    counts = prepared["counts"].get("unlabelled")
    if not counts:
        return 0
    return counts["accepted"] - counts["without_token"]


def check_unseen(settings: TrainSettings, prepared: Manifest, learned: LearnedClasses) -> None:
    """Check that the settings ``unsure`` and ``folds`` fit the splits of the prepared data.

    Raises:
        UserError: ``unsure`` is set without validation rows or folds, so that no row is left to
            decide it by; or ``folds`` is set, but the splits were not drawn by text.
    """
    num_rows = count_rows(prepared, "validation", learned.names)
    if settings.unsure and not settings.folds and not num_rows:
        raise UserError(
            f"train.unsure: {display_uri(settings.prepared_uri)} has no validation rows to decide "
            "which texts are unsure",
            hint="set prepare.split.validation_fraction, or train.folds=5",
        )
    kind = prepared["settings"]["split"]["kind"]
    if settings.folds and kind not in ("hash", "column"):
        hint = "set train.folds=0"
        if not num_rows:
            hint += " and prepare.split.validation_fraction=0.1"
        raise UserError(
            f"train.folds: prepare.split.kind is {kind}, but folds are drawn by text", hint=hint
        )


def _weigh(weights: str | None, counts: np.ndarray) -> np.ndarray | None:
    """Compute the weight of each class; the mean over all rows is 1."""
    if weights is None:
        return None
    exponent = -0.5 if weights == "sqrt" else -1.0
    raw = counts.astype(np.float64) ** exponent
    return (raw * counts.sum() / (raw * counts).sum()).astype(np.float32)
