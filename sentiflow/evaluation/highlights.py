"""Measurements, checks and comparisons -> the few results to remember, a sentence each."""

from collections.abc import Iterator, Sequence

from sentiflow.config.class_names import set_apart
from sentiflow.evaluation.cross_validation import CrossValidated
from sentiflow.evaluation.measurements import (
    Measurements,
    UnsureMetrics,
    name_texts,
)
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.other_models import Baseline, TeacherComparison
from sentiflow.evaluation.result import Highlight
from sentiflow.evaluation.slice_metrics import SliceMetrics
from sentiflow.metrics import paired
from sentiflow.metrics.calibration import CalibrationError
from sentiflow.metrics.classification import MIN_ROWS, Metrics
from sentiflow.metrics.predicted_shares import compare_shares

_MAX_NAMED = 3
"""Classes, and pairs of classes, that a line names."""


def summarize(
    measured: Measurements,
    checks: ModelChecks,
    baselines: Sequence[Baseline] = (),
    teacher: TeacherComparison | None = None,
    folds: CrossValidated | None = None,
) -> list[Highlight]:
    """Choose the results that are worth a line, in the order of the report.

    Args:
        measured: The measurements.
        checks: The checks of the model.
        baselines: Comparisons with simple models.
        teacher: The comparison with the teachers, if the model is distilled.
        folds: The figures of cross-validation. If given, the cross-validated model is compared
            with guessing and with simple models, because these figures are of more rows.
    """
    headline = measured.metrics
    lines: list[Highlight] = []
    if folds:
        headline = folds.metrics
        baselines = folds.baselines or baselines
        lines.extend(_summarize_folds(folds))
    lines.extend(_summarize_metrics(measured))
    lines.extend(_compare_with_guessing(headline))
    lines.extend(_summarize_others(baselines, teacher))
    lines.extend(_summarize_classes(measured.metrics))
    lines.extend(_summarize_gaps(measured))
    lines.append(_summarize_calibration(measured.calibration_error[measured.split]))
    if measured.unsure:
        has_interval = not measured.metrics.no_interval
        lines.append(_summarize_unsure(measured.unsure, has_interval=has_interval))
    lines.extend(_summarize_slices(measured.slices))
    lines.extend(_summarize_label_errors(measured))
    lines.extend(_summarize_checks(checks))
    return lines


def _summarize_folds(folds: CrossValidated) -> Iterator[Highlight]:
    metrics = folds.metrics
    yield Highlight(
        number=f"{metrics.accuracy:.1%}",
        meaning=f"of the labelled texts get the right label, {folds.origin} "
        f"({metrics.interval} for the model itself)",
        section="figures",
    )
    if not metrics.is_binary:
        low = min(folds.f1_of_folds)
        high = max(folds.f1_of_folds)
        yield Highlight(
            number=f"{metrics.f1_macro:.3f}",
            meaning=f"is their macro F1 ({low:.3f} to {high:.3f} in single folds)",
            section="figures",
        )


def _summarize_metrics(measured: Measurements) -> Iterator[Highlight]:
    metrics = measured.metrics
    texts = f"{metrics.num_rows:,} {name_texts(measured.split)}"
    if measured.split == "validation":
        texts += ", by which the model was chosen,"
    yield Highlight(
        number=f"{metrics.accuracy:.1%}",
        meaning=f"of {texts} are labelled correctly ({metrics.interval})",
        section="figures",
    )
    if not metrics.is_binary:
        interval = measured.describe_interval("f1_macro", "{:.3f}")
        meaning = f"is the macro F1 of {len(measured.classes)} classes ({interval})"
        if metrics.f1_macro_remark:
            meaning += f"; {metrics.f1_macro_remark}"
        yield Highlight(
            number=f"{metrics.f1_macro:.3f}",
            meaning=meaning,
            section="figures",
        )
    yield from _summarize_ratings(measured)


def _summarize_ratings(measured: Measurements) -> Iterator[Highlight]:
    """Say how far the median labels of ordered classes are from the labels."""
    error = measured.metrics.values.get("mae")
    kappa = measured.metrics.values.get("quadratic_kappa")
    if error is None:
        return
    interval = measured.describe_interval("mae", "{:.2f}")
    meaning = f"is the mean absolute error of the median label ({interval})"
    if kappa is not None:
        meaning += f"; quadratic kappa {kappa:.3f}"
    yield Highlight(number=f"{error:.2f}", meaning=meaning, section="figures")


def _compare_with_guessing(metrics: Metrics) -> Iterator[Highlight]:
    """Warn if the model is not shown to be better than the most frequent label for every text."""
    name, share = metrics.most_frequent
    if metrics.accuracy_low > share:
        return
    than = "worse" if metrics.accuracy_high < share else "not shown to be better"
    yield Highlight(
        number=f"{share:.1%}",
        meaning=f"is the accuracy of “{name}” for every text: the model is {than} than guessing",
        section="figures",
    )


def _summarize_others(
    baselines: Sequence[Baseline], teacher: TeacherComparison | None
) -> Iterator[Highlight]:
    for baseline in baselines:
        yield Highlight(
            number=f"{baseline.accuracy:.1%}",
            meaning=f"is the accuracy of {baseline.name}: {baseline.verdict}",
            section="figures",
        )
        if baseline.ratings:
            yield Highlight(
                number=f"{baseline.ratings.mae:.2f}",
                meaning=f"is the mean absolute error of the median label of {baseline.name}: "
                f"{baseline.ratings.verdict}",
                section="figures",
            )
    if teacher:
        yield Highlight(
            number=f"{teacher.agreement:.1%}",
            meaning=f"of the texts get the label of the {teacher.name}: {teacher.verdict}",
            section="figures",
        )


def _summarize_classes(metrics: Metrics) -> Iterator[Highlight]:
    """Of many classes, name the classes with the lowest F1 and the pairs that are confused most.

    A class of few texts is named for its mistakes only, as its F1 is too uncertain.
    """
    if not metrics.has_many:
        return
    large = [name for name in metrics.worst_first if not metrics.by_class[name].is_small]
    if large:
        yield _describe_lowest(metrics, large)

    confused = [pair for pair in metrics.confused_pairs if pair.num_texts > 1][:_MAX_NAMED]
    if confused:
        pairs = [
            f"{set_apart(pair.first)} and {set_apart(pair.second)} ({pair.num_texts:,})"
            for pair in confused
        ]
        yield Highlight(
            number=f"{confused[0].num_texts:,}",
            meaning="mistakes are between the classes that are confused most: "
            f"{', then '.join(pairs)}",
            section="confusion",
        )


def _describe_lowest(metrics: Metrics, large: Sequence[str]) -> Highlight:
    """Name the classes with the lowest F1.

    Args:
        metrics: The metrics of all classes.
        large: The classes that are not small, the lowest F1 first.
    """
    classes = []
    for name in large[:_MAX_NAMED]:
        of_class = metrics.by_class[name]
        classes.append(f"{set_apart(name)} {of_class.f1 or 0:.3f} ({of_class.num_rows:,} labelled)")
    kind = "" if len(large) == len(metrics.by_class) else f" of {MIN_ROWS} texts or more"
    return Highlight(
        number=f"{metrics.by_class[large[0]].f1 or 0:.3f}",
        meaning=f"is the lowest F1 of {len(large)} classes{kind}: {', '.join(classes)}",
        section="classes",
    )


def _summarize_gaps(measured: Measurements) -> Iterator[Highlight]:
    """Name the class whose predicted share is furthest from its true share.

    No class is named if ``compare_shares`` finds no difference.
    """
    gaps = compare_shares(measured.metrics.confusion, name_texts(measured.split))
    if gaps:
        share, meaning = gaps[0]
        yield Highlight(share, meaning, "confusion")


def _summarize_unsure(unsure: UnsureMetrics, *, has_interval: bool) -> Highlight:
    meaning = "of the texts are unsure, and left to people"
    if unsure.error is not None:
        meaning += f"; {unsure.error:.1%} of the answers to the others are wrong"
        if has_interval:
            meaning += f" (95% interval {unsure.error_low:.1%} to {unsure.error_high:.1%})"
        meaning += f", {unsure.verdict}"
    return Highlight(f"{unsure.fraction:.1%}", meaning, "certainty")


def _summarize_calibration(error: CalibrationError) -> Highlight:
    """Report the gap between probabilities and outcomes; claim it only if it is beyond chance."""
    gap = f"{100 * error.value:.1f} points"
    chance = f"{100 * error.chance:.1f}"
    if error.p_value < paired.SIGNIFICANCE:
        return Highlight(
            number=gap,
            meaning="is the average gap between probability and outcome (chance alone reaches "
            f"{chance}; {paired.write_p(error.p_value)})",
            section="probabilities",
        )
    return Highlight(
        number="No gap",
        meaning=f"between probability and outcome is shown: the average gap of {gap} is within "
        f"the {chance} that chance alone reaches",
        section="probabilities",
    )


def _summarize_slices(slices: Sequence[SliceMetrics]) -> Iterator[Highlight]:
    """Describe the worst of the named slices, and the worst of the slices found by a search.

    Only slices that are worse than other rows beyond chance count.
    """
    for is_found in (False, True):
        worse = [item for item in slices if item.is_worse and item.is_found == is_found]
        if worse:
            worst = min(worse, key=lambda item: item.accuracy)
            yield Highlight(f"{worst.accuracy:.1%}", _describe_worst(worst, len(worse)), "slices")


def _summarize_label_errors(measured: Measurements) -> Iterator[Highlight]:
    fraction = measured.label_errors.fraction
    if fraction and measured.slices and measured.can_judge_labels:
        yield Highlight(
            number=f"{fraction:.1%}",
            meaning="of the labels may be wrong, by an estimate that trusts the model",
            section="mistakes",
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


def _summarize_checks(checks: ModelChecks) -> Iterator[Highlight]:
    """Name the behavior test with the lowest pass rate, and the largest sure gap between groups."""
    if checks.behavior:
        worst = min(checks.behavior, key=lambda test: test.pass_rate)
        yield Highlight(
            number=f"{worst.pass_rate:.0%}",
            meaning=f"is the lowest pass rate of {len(checks.behavior)} behavior tests, in "
            f"English: {worst.name}",
            section="behavior",
        )
    beyond_chance = [bias for bias in checks.group_bias if bias.p_adjusted < paired.SIGNIFICANCE]
    if beyond_chance:
        widest = max(beyond_chance, key=lambda bias: bias.spread)
        lowest = widest.terms[0].term
        highest = widest.terms[-1].term
        yield Highlight(
            number=f"{100 * widest.spread:.1f} points",
            meaning=f"is the largest gap in probability between groups by {widest.category}: "
            f"{lowest} and {highest}, in the same sentences ({paired.write_p(widest.p_adjusted)})",
            section="groups",
        )
