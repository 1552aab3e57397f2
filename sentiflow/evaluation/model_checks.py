"""Model + texts -> its checks on texts that are not in the corpus: behavior tests, group bias."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import Config
from sentiflow.data import lineage
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError
from sentiflow.evaluation import behavior, english
from sentiflow.evaluation.behavior import BehaviorResult, Score
from sentiflow.evaluation.evaluated_rows import choose_evenly
from sentiflow.evaluation.group_bias import GroupBias, measure_group_bias
from sentiflow.progress import say
from sentiflow.tracking import model_sources

_NUM_TEXTS = 400
"""Maximum number of texts of the corpus that tell its language, and that are changed for the
behavior tests."""
_LONGEST_CHANGED = 1000
"""Maximum length of a text that is changed, in characters."""

_TINY = 1e-12
"""Added to the probabilities of positive and of negative, so that their ratio is defined, and gives
one half, if both are 0."""


@dataclass(frozen=True)
class ModelChecks:
    """Results of the model on texts that are not in the corpus."""

    behavior: Sequence[BehaviorResult] = ()
    group_bias: Sequence[GroupBias] = ()
    not_asked: str = ""
    """Why the model was not checked; empty if it was."""
    unmeasured_groups: Sequence[str] = ()
    """Categories without a group bias, as the model knows fewer than two of their terms."""


def check_model(config: Config, scored: Manifest, rows: pa.Table) -> ModelChecks:
    """Apply the model to made-up texts and to changed texts of the corpus.

    Args:
        config: Settings of the evaluation.
        scored: The manifest of the predictions.
        rows: Evaluated rows of the corpus. Without a column ``text``, the model is not checked.

    Returns:
        The results; or only the reason why there are none, if the model is gone, has other classes,
        the texts are not English, or ``evaluate.behavior`` is false.

    Raises:
        JobError: The model is in MLflow, which cannot be reached.
    """
    if not config.evaluate.behavior:
        return ModelChecks(not_asked="evaluate.behavior is false")
    if not set(BINARY) <= set(lineage.classes_of_model(scored)):
        return ModelChecks(not_asked=f"its classes do not include {' and '.join(BINARY)}")
    doubt = _find_doubt(rows)
    if doubt:
        return ModelChecks(not_asked=doubt)
    try:
        score, knows = _load_model(scored, config.tracking.uri)
        tests = behavior.check_behavior(score, texts=_choose_texts(rows))
        biases, unmeasured = measure_group_bias(score, knows=knows)
    except UserError as error:
        say("evaluate", f"behavior tests are skipped: {error}")
        return ModelChecks(not_asked=str(error))
    if not config.evaluate.num_examples:
        tests = [replace(test, failures=()) for test in tests]
    return ModelChecks(behavior=tests, group_bias=biases, unmeasured_groups=unmeasured)


def _load_model(scored: Manifest, tracking: str | None) -> tuple[Score, Callable[[str], bool]]:
    """Load the model that made the predictions.

    Returns:
        Two functions. The first gives the probability of positive; for a model of more classes, the
        probability if the choice is between positive and negative. The second says whether the
        model knows all words of a text.

    Raises:
        UserError: The model is gone or was replaced.
        JobError: MLflow cannot be reached.
    """
    from sentiflow.models.model import Model

    described = scored["inputs"]["model"]
    uri = described["uri"]
    if model_sources.describe(uri, tracking=tracking)["fingerprint"] != described["fingerprint"]:
        raise UserError(f"{uri} holds another model now")
    package = model_sources.load(uri, tracking=tracking)
    model = Model(package, uri)

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


def _find_doubt(rows: pa.Table) -> str:
    """Say why the rows do not count as English texts; empty if they do."""
    if "text" not in rows.column_names:
        return (
            "the sentences to test with are English, and the language of the texts is not known "
            "(score.keep_columns: [text] keeps them)"
        )
    return english.find_doubt(_spread(rows))


def _choose_texts(rows: pa.Table) -> list[str]:
    """Choose texts to change."""
    is_short = pc.less_equal(pc.utf8_length(rows["text"]), _LONGEST_CHANGED)
    return _spread(rows.filter(is_short))


def _spread(rows: pa.Table) -> list[str]:
    """Choose texts at equal distances in the corpus."""
    order = np.argsort(rows["row_id"].to_numpy(), kind="stable")
    chosen = order[choose_evenly(len(order), _NUM_TEXTS)]
    return rows["text"].take(pa.array(chosen)).to_pylist()
