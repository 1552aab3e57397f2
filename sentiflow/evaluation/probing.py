"""Model + texts -> behavior tests and group bias."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import Config
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError
from sentiflow.evaluation import behavior, group_bias, lineage
from sentiflow.evaluation.evaluated_rows import spread
from sentiflow.evaluation.results import ProbeResult
from sentiflow.progress import say
from sentiflow.tracking import model_sources

if TYPE_CHECKING:
    from sentiflow.models.package import ModelPackage
    from sentiflow.models.scores import Scores

_NUM_CHANGED, _LONGEST_CHANGED = 400, 1000
"""How many texts of the corpus are changed for the behavior tests, and their maximum length in
characters."""

_TINY = 1e-12
"""Keeps the probability of positive at one half where both classes have none."""


def probe(config: Config, scored: Manifest, rows: pa.Table) -> ProbeResult:
    """Apply the model to made-up texts and to changed texts of the corpus.

    Args:
        config: Settings of the evaluation.
        scored: The manifest of the predictions.
        rows: Texts of the corpus.

    Returns:
        Empty but for the reason, where the model is gone or ``evaluate.behavior`` is off.

    Raises:
        JobError: The model is in MLflow, which cannot be reached.
    """
    if not config.evaluate.behavior:
        return ProbeResult(not_asked="evaluate.behavior is false")
    if not set(BINARY) <= set(lineage.classes_of_model(scored)):
        return ProbeResult(not_asked=f"its classes do not include {' and '.join(BINARY)}")
    try:
        score, package = _load_model(scored, config.tracking.uri)
        tests = behavior.check_behavior(score, texts=_choose_texts(rows))
        biases, unmeasured = group_bias.measure_group_bias(
            score,
            knows=lambda words: not package.score(pa.array([words])).num_unknown.any(),
        )
    except UserError as error:
        say("evaluate", f"behavior tests are skipped: {error}")
        return ProbeResult(not_asked=str(error))
    if not config.evaluate.num_examples:
        tests = [dataclasses.replace(test, failures=()) for test in tests]
    return ProbeResult(tests, biases, unmeasured_groups=unmeasured)


def judge_behavior(
    records: Sequence[Manifest], rows: pa.Table, *, tracking: str | None
) -> tuple[list[dict[behavior.TestKey, np.ndarray]], str]:
    """Let several models take the same behavior tests.

    Args:
        records: Manifests of their predictions.
        rows: Texts of the corpus, to change.
        tracking: The setting ``tracking.uri``.

    Returns:
        For each model, which cases of each test pass, see ``behavior.judge_cases``; or nothing, and
        the reason.

    Raises:
        JobError: A model is in MLflow, which cannot be reached.
    """
    if not all(set(BINARY) <= set(lineage.classes_of_model(record)) for record in records):
        return [], f"the classes do not include {' and '.join(BINARY)}"
    texts = _choose_texts(rows)
    try:
        scores = [_load_model(record, tracking)[0] for record in records]
        return [behavior.judge_cases(score, texts=texts) for score in scores], ""
    except UserError as error:
        return [], str(error)


def _load_model(scored: Manifest, tracking: str | None) -> tuple[behavior.Score, "ModelPackage"]:
    """Load the model that made the predictions.

    Returns:
        A function that scores texts; the model.

    Raises:
        UserError: The model is gone or was replaced.
        JobError: MLflow cannot be reached.
    """
    from sentiflow.models.cpu import one_thread

    package: ModelPackage = model_sources.load_described(
        scored["inputs"]["model"], tracking=tracking
    )

    def score(texts: Sequence[str]) -> np.ndarray:
        with one_thread():
            scores = package.score(pa.array(texts, pa.string()))
        return _choose_positive(scores)

    return score, package


def _choose_positive(scores: "Scores") -> np.ndarray:
    """Return the probability of positive; of more classes, given that it is that or negative."""
    negative, positive = (
        scores.probabilities[:, scores.classes.index(name)].astype(np.float64) for name in BINARY
    )
    if scores.classes == BINARY:
        return positive
    return np.asarray((positive + _TINY) / (positive + negative + 2 * _TINY))


def _choose_texts(rows: pa.Table) -> list[str]:
    """Choose texts at equal distances in the corpus."""
    if "text" not in rows.column_names:
        return []
    rows = rows.filter(pc.less_equal(pc.utf8_length(rows["text"]), _LONGEST_CHANGED))
    order = np.argsort(rows["row_id"].to_numpy(), kind="stable")
    chosen = order[spread(len(order), _NUM_CHANGED)]
    return rows["text"].take(pa.array(chosen)).to_pylist()
