"""Candidate and champion -> their metrics on test rows that neither has learned."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.class_names import set_apart
from sentiflow.config.sections import ORDERED_HEADLINES
from sentiflow.data import lineage, manifest
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError, few
from sentiflow.evaluation import champion_rows, comparison, contenders, kept_comparisons
from sentiflow.evaluation.champion_figures import ChampionTest, HeadlineTest
from sentiflow.evaluation.contenders import Contender, JudgedModel
from sentiflow.evaluation.evaluated_classes import find_common_classes
from sentiflow.evaluation.evaluated_rows import AUTHOR, number_classes
from sentiflow.metrics import selection
from sentiflow.metrics.dependence import AuthorGroups
from sentiflow.metrics.macro_f1 import macro_f1
from sentiflow.metrics.ordered import find_median_classes
from sentiflow.metrics.predicted import Predicted
from sentiflow.metrics.registry import compare_macro_f1, find_metric
from sentiflow.progress import Progress, Steps
from sentiflow.tracking import model_registry, training_rows

if TYPE_CHECKING:
    from sentiflow.models.model import Model

_STEPS = Steps(
    "promote",
    load="loading the models",
    read="reading the test rows, and the texts that the models have seen",
    predict="predicting the test rows",
    compare="comparing the predictions",
)
_ROWS_AT_ONCE = 1 << 18
"""Texts that are predicted between two messages: whole pieces for each thread, so that the
predictions are those of a single call."""
_NUM_RESAMPLES = 1_000_000
"""Resamples in the test of macro F1, if it decides. Its p-value is at least 1 / (this + 1), and the
limits of later comparisons are low: see ``promotion.find_limit``."""


def compare_contenders(
    uri: str, compared: Sequence[Contender], tracking_uri: str, *, headline: str = "accuracy"
) -> ChampionTest:
    """Compare candidate and champion on the test rows, and keep the comparison with the candidate.

    A comparison that was made before is read from the files of the candidate.

    Args:
        uri: The prepared data.
        compared: The candidate, and the champion if there is one.
        tracking_uri: The store.
        headline: The metric that decides.

    Raises:
        UserError: The headline needs ordered classes, and the prepared data have none; or there is
            no test row to compare by.
    """
    candidate = compared[0].version
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    _check_order(uri, prepared, headline)
    key = kept_comparisons.write_key(prepared, [each.record for each in compared], headline)
    tags_of_judged = model_registry.find_tagged(
        candidate.name,
        kept_comparisons.TEST_DATA,
        prepared["fingerprint"],
        tracking_uri=tracking_uri,
    )
    tags = tags_of_judged.get(candidate.number, {})
    test = kept_comparisons.find(candidate, key, tags, tracking_uri)
    if test is None:
        test = _measure_contenders(uri, prepared, compared, tracking_uri, headline)
        kept_comparisons.keep(candidate, key, test, tracking_uri)
    judged = {*tags_of_judged, *(each.version.number for each in compared)}
    earlier = kept_comparisons.find_compared(tags_of_judged, prepared["fingerprint"])
    if len(compared) > 1:
        earlier.add(candidate.number)
    return replace(
        test,
        num_judged=len(judged),
        num_compared=len(earlier),
        selection_bias=_find_bias(test, len(judged)) if headline == "accuracy" else 0,
    )


def _check_order(uri: str, prepared: Manifest, headline: str) -> None:
    """Check that the prepared classes have the order that the headline may need.

    Raises:
        UserError: They have none.
    """
    if headline in ORDERED_HEADLINES and manifest.find_class_values(prepared) is None:
        raise UserError(
            f"evaluate.headline={headline!r}: the classes in {uri} have no order",
            hint="prepare again with format.ordered: true; or name accuracy or f1_macro",
        )


def _find_bias(test: ChampionTest, num_judged: int) -> float:
    """Return by how much the best of the judged versions looks too good, if all are equal."""
    accuracy = test.candidate_accuracy
    disagreement = 2 * accuracy * (1 - accuracy)  # of models whose mistakes are independent
    if test.champion_accuracy is not None:
        num_apart = test.only_candidate_right + test.only_champion_right
        disagreement = num_apart / test.num_rows
    return selection.selection_bias(num_judged, disagreement=disagreement, num_rows=test.num_rows)


def _measure_contenders(
    uri: str,
    prepared: Manifest,
    compared: Sequence[Contender],
    tracking_uri: str,
    headline: str,
) -> ChampionTest:
    """Measure one or two models on the test rows, and tag their figures on the versions."""
    with _STEPS.show("load"):
        models = [contenders.load(contender, tracking_uri) for contender in compared]
    classes = _compare_classes(models)
    values = _find_class_values(prepared, models) if headline in ORDERED_HEADLINES else None
    with _STEPS.show("read"):
        rows, left_out = champion_rows.read(uri, prepared, classes.excluded)
        seen, is_known = training_rows.find_text_hashes([each.input for each in models])
    is_seen = champion_rows.find_seen(rows, seen, uri)
    rows = rows.filter(pa.array(~is_seen))
    names = manifest.find_classes(prepared)
    all_classes = tuple(dict.fromkeys([*classes.common, *classes.others, *names]))
    label = champion_rows.number_labels(rows, names, all_classes)
    groups = AuthorGroups(rows[AUTHOR].to_numpy()) if AUTHOR in rows.column_names else None
    predicted = []
    with _STEPS.show("predict") as progress:
        progress.count(len(models) * len(rows), "texts")
        for each in models:
            answers = _predict(each.model, rows["text"], label, all_classes, progress, values)
            predicted.append(replace(answers, groups=groups))
    candidate = predicted[0]
    decisive = find_metric(headline)
    with Progress("promote", what="tagging the versions"):
        for contender, answers in zip(compared, predicted, strict=True):
            tags = _tag_figures(contender, answers, prepared, headline)
            model_registry.describe(contender.version, tags=tags, tracking_uri=tracking_uri)
    labels = [all_classes[code] for code in np.unique(label)]
    known_classes = {*classes.common, *classes.others}
    test = ChampionTest(
        num_rows=len(label),
        candidate_accuracy=_measure_accuracy(candidate),
        champion_accuracy=None,
        only_candidate_right=0,
        only_champion_right=0,
        candidate_f1_macro=macro_f1(candidate.confusion),
        classes=classes.common,
        other_classes=tuple(name for name in classes.others if name not in classes.excluded),
        unknown_classes=tuple(name for name in labels if name not in known_classes),
        left_out=left_out,
        num_seen=int(is_seen.sum()),
        unknown=_list_unknown(compared, is_known),
        num_authors=len(groups.sizes) if groups else 0,
        headline=HeadlineTest(headline, candidate=decisive.value(candidate)),
    )
    if len(predicted) == 1:
        return test
    with _STEPS.show("compare"):
        return _add_champion(test, candidate=candidate, champion=predicted[1])


class _ComparedClasses(NamedTuple):
    """Classes of one or two models."""

    common: tuple[str, ...]
    """Classes that every model has."""
    others: tuple[str, ...]
    """Classes that only one of two models has."""
    excluded: set[str]
    """Classes that the settings of a model's training leave out: test rows with these labels are
    not compared."""


def _compare_classes(models: Sequence[JudgedModel]) -> _ComparedClasses:
    """Compare the classes of candidate and champion.

    Raises:
        UserError: Fewer than two classes are common.
    """
    roles = ("the candidate", "the champion")
    of_roles = {role: each.model.classes for role, each in zip(roles, models, strict=False)}
    common, others = find_common_classes(of_roles)
    excluded: set[str] = set()
    for each in models:
        excluded |= lineage.left_out_of(each.input)
    return _ComparedClasses(common, others, excluded)


def _find_class_values(prepared: Manifest, models: Sequence[JudgedModel]) -> dict[str, float]:
    """Find the number of each ordered class: of the prepared data, else of the models.

    A model without an order is measured by the numbers of the others.

    Raises:
        UserError: A class of a model has no number.
    """
    values: dict[str, float] = {}
    for each in models:
        if each.model.class_values is not None:
            values |= dict(zip(each.model.classes, each.model.class_values, strict=True))
    of_prepared = manifest.find_class_values(prepared) or ()
    for name, value in zip(manifest.find_classes(prepared), of_prepared, strict=True):
        if value is not None:
            values[name] = value
    names = dict.fromkeys(name for each in models for name in each.model.classes)
    missing = [set_apart(name) for name in names if name not in values]
    if missing:
        raise UserError(
            f"evaluate.headline: no number is known of {' and '.join(few(missing))}, a class of "
            "candidate or champion",
            hint="name accuracy or f1_macro; or promote a model of ordered classes by --force",
        )
    return values


def _add_champion(test: ChampionTest, *, candidate: Predicted, champion: Predicted) -> ChampionTest:
    """Add the figures of the champion, and the differences of the candidate from it."""
    found = comparison.compare_predictions(champion, candidate, has_probabilities=False)
    metric = find_metric(test.headline.metric)
    compare = metric.difference
    assert compare is not None, "every headline has a difference"
    if metric.name == "f1_macro":
        compare = partial(compare_macro_f1, num_resamples=_NUM_RESAMPLES)
    headline = replace(
        test.headline, champion=metric.value(champion), difference=compare(champion, candidate)
    )
    return replace(
        test,
        champion_accuracy=_measure_accuracy(champion),
        only_candidate_right=found.mcnemar.only_second_right,
        only_champion_right=found.mcnemar.only_first_right,
        p_value=found.mcnemar.p_value,
        champion_f1_macro=macro_f1(champion.confusion),
        f1_macro_difference=found.differences["f1_macro"],
        difference=found.accuracy,
        headline=headline,
    )


def _list_unknown(compared: Sequence[Contender], is_known: Sequence[bool]) -> tuple[str, ...]:
    """List the versions whose training texts are not all known."""
    pairs = zip(compared, is_known, strict=True)
    return tuple(str(contender.version) for contender, all_read in pairs if not all_read)


def _measure_accuracy(predicted: Predicted) -> float:
    return float(predicted.right.mean())


def _tag_figures(
    contender: Contender, predicted: Predicted, prepared: Manifest, headline: str
) -> dict[str, str]:
    """Make the tags of a version: the data, its accuracy, and the headline.

    A refit that has learned the test rows gets no figures: it was judged by the run that it
    repeats.
    """
    tags = {kept_comparisons.TEST_DATA: prepared["fingerprint"]}
    if contender.has_seen_test:
        return tags
    tags["sentiflow.test_accuracy"] = f"{_measure_accuracy(predicted):.6f}"
    tags["sentiflow.test_rows"] = str(len(predicted.label))
    value = find_metric(headline).value(predicted)
    if value is not None:
        tags[f"sentiflow.test_{headline}"] = f"{value:.6f}"
    return tags


def _predict(
    model: "Model",
    text: pa.ChunkedArray,
    label: np.ndarray,
    classes: tuple[str, ...],
    progress: Progress,
    class_values: Mapping[str, float] | None,
) -> Predicted:
    """Predict the labels of texts.

    Accuracy and macro F1 depend on the predicted labels alone, mean absolute error and kappa on the
    median labels. So no probabilities are kept: the predicted label has the probability 1; of
    ordered classes, the median label.

    Args:
        model: The model.
        text: N texts.
        label: N positions in ``classes``.
        classes: Names of classes, among them all classes of the model.
        progress: Counts the texts.
        class_values: The numbers of ordered classes, if a headline needs them.
    """
    predictions = []
    medians = []
    for start in range(0, len(text), _ROWS_AT_ONCE):
        some = text.slice(start, _ROWS_AT_ONCE)
        answers = model.predict(some)
        predictions.append(pd.Index(classes).get_indexer(pd.Index(answers["predicted_label"])))
        if class_values is not None:
            medians.append(_find_medians(answers, model.classes, classes, class_values))
        progress.advance(len(some))
    prediction = np.concatenate(predictions)
    certain = np.concatenate(medians) if medians else prediction
    probabilities = np.eye(len(classes), dtype=np.float32)[certain]
    predicted = Predicted(classes, label, prediction, probabilities)
    return predicted if class_values is None else number_classes(predicted, class_values)


def _find_medians(
    answers: pd.DataFrame,
    of_model: Sequence[str],
    classes: tuple[str, ...],
    class_values: Mapping[str, float],
) -> np.ndarray:
    """Find the median label of each answer, as a position in ``classes``."""
    values = np.array([class_values[name] for name in of_model])
    probabilities = answers[[f"{PROBABILITY}{name}" for name in of_model]].to_numpy()
    positions = np.array([classes.index(name) for name in of_model])
    return np.asarray(positions[find_median_classes(probabilities, values)])
