"""What an evaluation finds -> the content of ``metrics.json``."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sentiflow.evaluation.cross_validation import CrossValidated
from sentiflow.evaluation.measurements import Measurements
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.other_models import Baseline, TeacherComparison


class Highlight(NamedTuple):
    """A number and what it means: ``0.706``, ``is the macro F1``."""

    number: str
    meaning: str
    """Continues the sentence that the number begins."""
    section: str
    """Section of the report with the details."""


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that an evaluation finds."""

    name: str
    """Name of the experiment."""
    measured: Measurements
    checks: ModelChecks
    is_unseen: bool
    """Whether it is certain that the model was trained on, or chosen by, none of the rows."""
    notes: Sequence[str]
    """What a reader should know first."""
    highlights: Sequence[Highlight]
    baselines: Sequence[Baseline] = ()
    """Simple models on the same rows; the most frequent label is in the metrics."""
    no_baseline: str = ""
    """Why there is none; empty if there is one."""
    teacher: TeacherComparison | None = None
    """The model compared with its teachers, if it is distilled."""
    no_teacher: str = ""
    """Why a distilled model is not compared with its teachers."""
    cross_validated: CrossValidated | None = None
    """If the training has folds."""

    @property
    def f1_macro_note(self) -> str:
        """Compare macro F1 without classes that are only predicted; empty: no model has any."""
        remark = self.measured.metrics.f1_macro_remark
        others = []
        for each in self.baselines:
            if each.f1_macro is None or each.f1_macro_of_labelled is None:
                continue
            if remark or not math.isclose(each.f1_macro, each.f1_macro_of_labelled):
                others.append(f"{each.name} has {each.f1_macro_of_labelled:.4f}")
        if not remark and not others:
            return ""
        sentences = ["The macro F1 is of the classes in the labels or the predictions"]
        if remark:
            sentences.append(remark[0].upper() + remark[1:])
        if others:
            sentences.append(f"Over the classes in the labels, {', '.join(others)}")
        return ". ".join(sentences) + "."

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        return {
            "name": self.name,
            "classes": self.measured.classes,
            **asdict(self.measured),
            # Replaces the field: metrics choose what they write.
            "figures": {
                split: metrics.to_json() for split, metrics in self.measured.figures.items()
            },
            "is_unseen": self.is_unseen,
            "notes": self.notes,
            **asdict(self.checks),
            "most_frequent": self.measured.metrics.most_frequent,
            "baselines": [each.to_json() for each in self.baselines],
            "no_baseline": self.no_baseline,
            "teacher": asdict(self.teacher) if self.teacher else None,
            "no_teacher": self.no_teacher,
            "cross_validated": self.cross_validated.to_json() if self.cross_validated else None,
            "conclusions": self.highlights,
        }
