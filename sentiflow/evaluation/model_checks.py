"""Model + texts -> its checks on texts that are not in the corpus: behavior tests, group bias."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.config.sections import Config
from sentiflow.data import lineage
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError
from sentiflow.evaluation import behavior, english
from sentiflow.evaluation.behavior import BehaviorResult, Score
from sentiflow.evaluation.evaluated_model import LoadModel
from sentiflow.evaluation.evaluated_rows import choose_evenly
from sentiflow.evaluation.group_bias import GroupBias, measure_group_bias
from sentiflow.evaluation.slices import IS_SHORT
from sentiflow.progress import say
from sentiflow.storage import errors

if TYPE_CHECKING:
    from sentiflow.models.package import ModelPackage

_NUM_TEXTS = 400
"""Maximum number of texts of the corpus that tell its language, and that are changed for the
behavior tests."""

_TINY = 1e-12
"""Added to the probabilities of positive and of negative, so that their ratio is defined, and gives
one half, if both are 0."""


class CheckedTexts(NamedTuple):
    """Texts of a corpus, see :func:`choose_rows`."""

    of_all: list[str]
    """They tell the language of the corpus."""
    to_change: list[str]
    """They are changed for the behavior tests."""


@dataclass(frozen=True)
class ModelChecks:
    """Results of the model on texts that are not in the corpus."""

    behavior: Sequence[BehaviorResult] = ()
    group_bias: Sequence[GroupBias] = ()
    not_asked: str = ""
    """Why the model was not checked; empty if it was."""
    unmeasured_groups: Sequence[str] = ()
    """Categories without a group bias, as the model knows fewer than two of their terms."""


def check_model(
    config: Config, scored: Manifest, texts: CheckedTexts | None, load: LoadModel
) -> ModelChecks:
    """Apply the model to made-up texts and to changed texts of the corpus.

    Args:
        config: Settings of the evaluation.
        scored: The manifest of the predictions.
        texts: Texts of the corpus. None: they are unknown, and the model is not checked.
        load: Loads the model.

    Returns:
        The results; or only the reason why there are none, if the model is gone or cannot be read,
        has other classes, the texts are not English, or ``evaluate.behavior`` is false.

    Raises:
        JobError: The model is in MLflow, which cannot be reached.
    """
    if not config.evaluate.behavior:
        return ModelChecks(not_asked="evaluate.behavior is false")
    if not set(BINARY) <= set(lineage.classes_of_model(scored)):
        return ModelChecks(not_asked=f"its classes do not include {' and '.join(BINARY)}")
    doubt = _find_doubt(texts)
    if doubt or texts is None:
        return ModelChecks(not_asked=doubt)
    try:
        score, knows = _ask(load())
        tests = behavior.check_behavior(score, texts=texts.to_change)
        biases, unmeasured = measure_group_bias(score, knows=knows)
    except (OSError, UserError) as error:
        reason = errors.describe(error)
        say("evaluate", f"behavior tests are skipped: {reason}")
        return ModelChecks(not_asked=reason)
    if not config.evaluate.num_examples:
        tests = [replace(test, failures=()) for test in tests]
    return ModelChecks(behavior=tests, group_bias=biases, unmeasured_groups=unmeasured)


def _ask(package: "ModelPackage") -> tuple[Score, Callable[[str], bool]]:
    """Make the functions by which the checks ask a model.

    Returns:
        Two functions. The first gives the probability of positive; for a model of more classes, the
        probability if the choice is between positive and negative. The second says whether the
        model knows all words of a text; of a network that reads characters, all characters.
    """
    from sentiflow.models.model import Model

    model = Model(package, "the model")

    def score(texts: Sequence[str]) -> np.ndarray:
        probabilities = model.predict_proba(texts).astype(np.float64)
        negative = probabilities[:, model.classes.index(BINARY[0])]
        positive = probabilities[:, model.classes.index(BINARY[1])]
        if model.classes == BINARY:
            return positive
        return np.asarray((positive + _TINY) / (positive + negative + 2 * _TINY))

    def knows(words: str) -> bool:
        return not package.score(pa.array([words])).num_unknown.any()

    return score, knows


def _find_doubt(texts: CheckedTexts | None) -> str:
    """Say why the texts do not count as English; empty if they do."""
    if texts is None:
        return (
            "the sentences to test with are English, and the language of the texts is not known "
            "(score.keep_columns: [text] keeps them)"
        )
    return english.find_doubt(texts.of_all)


class CheckedRows(NamedTuple):
    """Row ids of the texts that a check of a model takes."""

    of_all: np.ndarray
    """At most ``_NUM_TEXTS``, at equal distances in the corpus."""
    to_change: np.ndarray
    """The same among the texts that are short enough."""


def choose_rows(rows: pa.Table) -> CheckedRows:
    """Choose the texts of evaluated rows by which a model is checked.

    Args:
        rows: With the columns of ``slices.find_traits``.
    """
    row_ids = rows["row_id"].to_numpy()
    is_short = rows[IS_SHORT].to_numpy(zero_copy_only=False)
    return CheckedRows(of_all=_spread(row_ids), to_change=_spread(row_ids[is_short]))


def _spread(row_ids: np.ndarray) -> np.ndarray:
    """Choose row ids at equal distances in the corpus."""
    chosen = choose_evenly(len(row_ids), _NUM_TEXTS)
    return np.sort(row_ids)[chosen]
