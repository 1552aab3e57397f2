"""What an evaluation has found -> the few lines to remember."""

from collections.abc import Iterator, Sequence

from sentiflow.data.schema import SPLITS
from sentiflow.evaluation.measurements import CrossValidated, Highlight, Measurements, name_texts
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.other_models import Baseline, TeacherComparison
from sentiflow.evaluation.slices import SliceMetrics
from sentiflow.metrics import paired
from sentiflow.metrics.calibration import CalibrationError
from sentiflow.metrics.classification import Metrics, compare_shares

_MAX_NAMED = 3
"""Classes, and pairs of classes, that a line names."""


def summarize(
    measured: Measurements,
    probed: ModelChecks,
    baselines: Sequence[Baseline] = (),
    teacher: TeacherComparison | None = None,
    folds: CrossValidated | None = None,
) -> list[Highlight]:
    """Choose what is worth a line, in the order of the report."""
    return [
        *(_summarize_folds(folds) if folds else ()),
        *_summarize_metrics(measured),
        *_compare_with_guessing(folds.metrics if folds else measured.metrics),
        *_summarize_others((folds and folds.baselines) or baselines, teacher),
        *_summarize_classes(measured.metrics),
        *_summarize_certainty(measured),
        *_summarize_texts(measured),
        *_summarize_probe(probed),
    ]


def _summarize_folds(folds: CrossValidated) -> Iterator[Highlight]:
    metrics = folds.metrics
    yield Highlight(
        f"{metrics.accuracy:.1%}",
        f"of the labelled texts get the right label, {folds.origin} "
        f"(95 % interval {metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%})",
        "figures",
    )
    if not metrics.is_binary:
        low, high = min(folds.f1_of_folds), max(folds.f1_of_folds)
        yield Highlight(
            f"{metrics.f1_macro:.3f}",
            f"is their macro F1 ({low:.3f} to {high:.3f} in single folds)",
            "figures",
        )


def _summarize_metrics(measured: Measurements) -> Iterator[Highlight]:
    metrics = measured.metrics
    of_choice = ", by which the model was chosen," if measured.split == SPLITS[1] else ""
    yield Highlight(
        f"{metrics.accuracy:.1%}",
        f"of {metrics.num_rows:,} {name_texts(measured.split)}{of_choice} are labelled correctly "
        f"(95 % interval {metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%})",
        "figures",
    )
    if not metrics.is_binary:
        ends = measured.describe_interval("f1_macro", "{:.3f}")
        yield Highlight(
            f"{metrics.f1_macro:.3f}",
            f"is the macro F1 of {len(measured.classes)} classes ({ends})",
            "figures",
        )


def _compare_with_guessing(metrics: Metrics) -> Iterator[Highlight]:
    name, share = metrics.most_frequent
    if metrics.accuracy_low <= share:
        than = "worse" if metrics.accuracy_high < share else "not shown to be better"
        yield Highlight(
            f"{share:.1%}",
            f"is the accuracy of “{name}” for every text: the model is {than} than guessing",
            "figures",
        )


def _summarize_others(
    baselines: Sequence[Baseline], teacher: TeacherComparison | None
) -> Iterator[Highlight]:
    for b in baselines:
        yield Highlight(f"{b.accuracy:.1%}", f"is the accuracy of {b.name}: {b.verdict}", "figures")
    if teacher:
        yield Highlight(
            f"{teacher.agreement:.1%}",
            f"of the texts get the label of the {teacher.name}: {teacher.verdict}",
            "figures",
        )


def _summarize_classes(metrics: Metrics) -> Iterator[Highlight]:
    """Name the classes and the pairs that go wrong most, where there are many."""
    if not metrics.has_many:
        return
    worst = [(name, metrics.by_class[name]) for name in metrics.worst_first[:_MAX_NAMED]]
    named = [
        f"{name} {of_class.f1 or 0:.3f} ({of_class.num_rows:,} labelled)"
        for name, of_class in worst
    ]
    yield Highlight(
        f"{worst[0][1].f1 or 0:.3f}",
        f"is the lowest F1 of {len(metrics.by_class)} classes: {', '.join(named)}",
        "classes",
    )
    if pairs := [pair for pair in metrics.confused_pairs if pair.num_texts > 1][:_MAX_NAMED]:
        named = [f"{pair.first} and {pair.second} ({pair.num_texts:,})" for pair in pairs]
        yield Highlight(
            f"{pairs[0].num_texts:,}",
            f"mistakes are between the classes that are confused most: {', then '.join(named)}",
            "confusion",
        )


def _summarize_certainty(measured: Measurements) -> Iterator[Highlight]:
    if gaps := compare_shares(measured.metrics.confusion, name_texts(measured.split)):
        yield Highlight(*gaps[0], "confusion")
    yield _summarize_calibration(measured.calibration_error[measured.split])
    if unsure := measured.unsure:
        meaning = "of the texts are unsure, and left to people"
        if unsure.error is not None:
            meaning += (
                f"; {unsure.error:.1%} of the answers to the others are wrong (95 % interval "
                f"{unsure.error_low:.1%} to {unsure.error_high:.1%}), {unsure.verdict}"
            )
        yield Highlight(f"{unsure.fraction:.1%}", meaning, "certainty")


def _summarize_calibration(error: CalibrationError) -> Highlight:
    """Claim a gap between probabilities and outcomes only where it is beyond chance."""
    gap, chance = (f"{100 * value:.1f}" for value in (error.value, error.chance))
    if error.p_value < paired.SURE:
        return Highlight(
            f"{gap} points",
            "is the average gap between probability and outcome (chance alone reaches "
            f"{chance}; {paired.write_p(error.p_value)})",
            "probabilities",
        )
    return Highlight(
        "No gap",
        f"between probability and outcome is shown: the average gap of {gap} points is within the "
        f"{chance} that chance alone reaches",
        "probabilities",
    )


def _summarize_texts(measured: Measurements) -> Iterator[Highlight]:
    for is_found in (False, True):
        if worse := [s for s in measured.slices if s.is_worse and s.is_found == is_found]:
            worst = min(worse, key=lambda item: item.accuracy)
            yield Highlight(f"{worst.accuracy:.1%}", _describe_worst(worst, len(worse)), "slices")
    fraction = measured.label_errors.fraction
    if fraction and measured.slices and measured.can_judge_labels:
        yield Highlight(
            f"{fraction:.1%}",
            "of the labels may be wrong, by an estimate that trusts the model",
            "mistakes",
        )


def _describe_worst(worst: SliceMetrics, num_worse: int) -> str:
    assert worst.p_adjusted is not None, "it is worse"
    assert worst.difference is not None, "it is worse"
    size = f"{worst.num_rows:,} texts; {paired.write_p(worst.p_adjusted)}"
    if not worst.is_found:
        return f"is the accuracy of the worst slice beyond chance: {worst.name} ({size})"
    others = f"; {num_worse - 1} more in the report" if num_worse > 1 else ""
    return (
        f"is the accuracy on texts with {worst.name}, a slice found by a search: "
        f"{-100 * worst.difference:.1f} points below the rest ({size}){others}"
    )


def _summarize_probe(probed: ModelChecks) -> Iterator[Highlight]:
    if probed.behavior:
        worst = min(probed.behavior, key=lambda test: test.pass_rate)
        yield Highlight(
            f"{worst.pass_rate:.0%}",
            f"is the lowest pass rate of {len(probed.behavior)} behavior tests, in English: "
            f"{worst.name}",
            "behavior",
        )
    if beyond_chance := [bias for bias in probed.group_bias if bias.p_adjusted < paired.SURE]:
        widest = max(beyond_chance, key=lambda bias: bias.spread)
        yield Highlight(
            f"{100 * widest.spread:.1f} points",
            f"is the largest gap in probability between groups by {widest.category}: "
            f"{widest.terms[0].term} and {widest.terms[-1].term}, in the same sentences "
            f"({paired.write_p(widest.p_adjusted)})",
            "groups",
        )
