"""Another model on the same rows -> how the evaluated model compares with it.

The other model is a simple one (:mod:`baselines`), or the teachers of a distilled model
(:mod:`compared_teachers`).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from sentiflow.metrics import ordered, paired
from sentiflow.metrics.macro_f1 import macro_f1, macro_f1_of_labelled
from sentiflow.metrics.predicted import Predicted, count_confusion

_NUM_RESAMPLES = 1000
"""Resamples in the test of macro F1."""


@dataclass(frozen=True)
class ModelComparison:
    """The model compared with another one; a difference is the model's metric minus the other's."""

    num_rows: int
    """Rows that both models are measured on."""
    accuracy: float
    """Accuracy of the other model."""
    f1_macro: float | None
    """Macro F1 of the other model; None if it is undefined."""
    f1_macro_of_labelled: float | None
    """The same without classes that the other model predicts, but no row is labelled with."""
    accuracy_of_model: float
    f1_macro_of_model: float | None
    accuracy_difference: paired.Difference
    f1_macro_difference: paired.Difference | None

    @property
    def points(self) -> tuple[float, float, float]:
        """Return the difference of accuracy and the two ends of its interval, in points."""
        difference = self.accuracy_difference
        return 100 * difference.value, 100 * difference.low, 100 * difference.high

    @classmethod
    def of(cls, predicted: Predicted, prediction: np.ndarray, **further: Any) -> Self:
        """Compare a model with another model on the same rows.

        Args:
            predicted: Labels of the rows, and predictions of the model.
            prediction: Predictions of the other model, as positions in the same classes.
            further: The fields that a subclass adds.
        """
        label = predicted.label
        num_classes = len(predicted.classes)
        is_right = prediction == label
        accuracy_difference, _ = paired.compare_accuracy(
            is_right, predicted.right, predicted.groups
        )
        f1_macro_difference = paired.f1_macro_difference(
            label=label,
            first=prediction,
            second=predicted.prediction,
            num_classes=num_classes,
            num_resamples=_NUM_RESAMPLES,
            groups=predicted.groups,
        )
        confusion = count_confusion(label, prediction, num_labels=num_classes)
        return cls(
            num_rows=len(label),
            accuracy=float(is_right.mean()),
            f1_macro=macro_f1(confusion),
            f1_macro_of_labelled=macro_f1_of_labelled(confusion),
            accuracy_of_model=float(predicted.right.mean()),
            f1_macro_of_model=macro_f1(predicted.confusion),
            accuracy_difference=accuracy_difference,
            f1_macro_difference=f1_macro_difference,
            **further,
        )


@dataclass(frozen=True)
class RatingComparison:
    """The median labels of the model and of a simple one, for ordered classes."""

    mae: float
    """Mean absolute error of the simple model, in units of the ratings."""
    mae_of_model: float
    mae_difference: paired.Difference | None
    """The model's minus the simple one's: below 0 the model is better."""
    quadratic_kappa: float | None
    quadratic_kappa_of_model: float | None

    @classmethod
    def of(cls, predicted: Predicted, median: np.ndarray | None) -> "RatingComparison | None":
        """Compare median labels; None if the classes have no order, or no label has a number.

        Args:
            predicted: Labels of the rows, and predictions of the model.
            median: The median label of the simple model, as positions in the same classes.
        """
        if median is None or predicted.class_values is None:
            return None
        simple = replace(predicted, probabilities=np.eye(len(predicted.classes))[median])
        if predicted.is_binary:
            simple = replace(predicted, probabilities=median[:, None].astype(float))
        mae = ordered.measure_median_error(simple)
        mae_of_model = ordered.measure_median_error(predicted)
        if mae is None or mae_of_model is None:
            return None
        return cls(
            mae=mae,
            mae_of_model=mae_of_model,
            mae_difference=ordered.compare_median_errors(simple, predicted),
            quadratic_kappa=ordered.measure_kappa(simple),
            quadratic_kappa_of_model=ordered.measure_kappa(predicted),
        )

    @property
    def verdict(self) -> str:
        """Say in words how the median labels compare."""
        shown = f"the model's is {self.mae_of_model:.3f}"
        difference = self.mae_difference
        if difference is None:
            return shown
        interval = f"95% interval {difference.low:+.3f} to {difference.high:+.3f}"
        return f"{shown}, a difference of {difference.value:+.3f} ({interval})"


@dataclass(frozen=True)
class Baseline(ModelComparison):
    """The model compared with a simple one."""

    name: str
    num_train_rows: int
    """Rows that the simple model was trained on; over folds, for one fold."""
    num_train_rows_in_all: int
    """Rows that it could have been trained on."""
    max_train_rows: int
    """Limit of ``num_train_rows``."""
    c: float
    """``C`` of the logistic regression, chosen by cross-validation within the train rows."""
    seconds: float
    """Duration of training and prediction."""
    ratings: RatingComparison | None = None
    """Of ordered classes: the median labels of both."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields; ``ratings`` only of ordered classes."""
        fields = asdict(self)
        if self.ratings is None:
            del fields["ratings"]
        return fields

    @property
    def training(self) -> str:
        """Say in words how many texts it was trained on, the limit, and how long it took."""
        rows = f"{self.num_train_rows:,} of {self.num_train_rows_in_all:,} train texts"
        return f"trained on {rows} (limit {self.max_train_rows:,}) in {self.seconds:.1f} s"

    @property
    def verdict(self) -> str:
        """Say in words whether the model is better than the simple one."""
        points, low, high = self.points
        interval = f"95% interval of the difference {low:+.1f} to {high:+.1f}"
        if low > 0:
            return f"the model is {points:.1f} points better ({interval})"
        if high < 0:
            return f"the model is {-points:.1f} points worse ({interval})"
        return f"the model is not shown to be any better ({interval})"


@dataclass(frozen=True)
class TeacherComparison(ModelComparison):
    """A distilled model compared with its teachers, on rows that the teachers have answered.

    The mean of the teachers' probabilities counts as the other model.
    """

    num_teachers: int
    agreement: float
    """Share of the rows for which the model and the teachers predict the same class."""
    agreement_low: float
    """Lower end of the exact 95% interval."""
    agreement_high: float

    @property
    def name(self) -> str:
        """Return ``teacher``, or how many teachers there are."""
        return "teacher" if self.num_teachers == 1 else f"mean of {self.num_teachers} teachers"

    @property
    def verdict(self) -> str:
        """Say in words how the model compares in accuracy."""
        points, low, high = self.points
        return (
            f"accuracy {self.accuracy_of_model:.1%} against {self.accuracy:.1%}, a difference of "
            f"{points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"
        )
