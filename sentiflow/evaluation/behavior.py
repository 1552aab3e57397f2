"""A function that scores texts -> how often its predictions are as a reader would expect.

Behavior tests after Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList", ACL 2020. A test has many cases of one ability. Its pass rate shows what a model can do;
accuracy on real tweets depends on how often that ability is needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sentiflow.evaluation.behavior_cases import BehaviorTest, Case, Kind, make_tests
from sentiflow.metrics.classification import wilson_interval

Score = Callable[[Sequence[str]], np.ndarray]
"""N texts -> the probability of positive of each."""

MAX_FAILURES = 5
"""Failed cases kept in a result."""


@dataclass(frozen=True)
class Failure:
    """A case that a model failed."""

    text: str
    probability: float
    """Of positive."""
    changed_text: str | None
    """None where a case is one text."""
    changed_probability: float | None


@dataclass(frozen=True)
class BehaviorResult:
    """How a model did on one test; ``dataclasses.asdict`` of it is JSON."""

    kind: Kind
    name: str
    expectation: str
    """In a sentence."""
    num_cases: int
    num_passed: int
    pass_rate: float | None
    """None without cases, as are its bounds."""
    low: float | None
    """Of the 95 % Wilson interval. The cases of a test resemble each other, so it is too narrow for
    other kinds of sentences."""
    high: float | None
    failures: tuple[Failure, ...]
    """The worst first: farthest from one half, from the unchanged text, or beyond the limit."""


def score_texts(score: Score, texts: Sequence[str]) -> np.ndarray:
    """Score N texts: N float64 probabilities of positive.

    Raises:
        ValueError: ``score`` does not give one probability for each text.
    """
    probability = np.asarray(score(texts), dtype=np.float64)
    if probability.shape != (len(texts),):
        raise ValueError(f"{len(texts)} texts have scores of shape {probability.shape}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a score is not in [0, 1]")
    return probability


def check_behavior(score: Score, *, texts: Sequence[str], seed: int = 0) -> list[BehaviorResult]:
    """Test a model on made-up sentences, and on real texts with a small change.

    Args:
        score: Called once, with distinct texts. A probability of at least one half is positive.
        texts: Real texts, such as some hundred of the test split. Their labels are not needed: the
            prediction for a text is compared with that for the changed text. Without any, the
            tests that change them are left out.
        seed: Decides where typos are made.

    Returns:
        A result for each test of :func:`behavior_cases.make_tests`, in its order.

    Raises:
        ValueError: ``score`` does not give one probability for each text.
    """
    tests = list(make_tests(texts, seed=seed))
    distinct = list(dict.fromkeys(t for test in tests for case in test.cases for t in case if t))
    of_text = dict(zip(distinct, score_texts(score, distinct).tolist(), strict=True))
    return [_judge(test, of_text) for test in tests]


def _judge(test: BehaviorTest, probability: dict[str, float]) -> BehaviorResult:
    before = np.array([probability[text] for text, _ in test.cases])
    after = np.array([probability[changed or text] for text, changed in test.cases])
    passed, badness = test.judge(before, after)
    num_cases, num_passed = len(test.cases), int(passed.sum())
    low, high = wilson_interval(num_passed, num_cases) if num_cases else (None, None)
    worst = sorted(np.flatnonzero(~passed).tolist(), key=lambda case: -badness[case])[:MAX_FAILURES]
    return BehaviorResult(
        kind=test.kind,
        name=test.name,
        expectation=test.expectation,
        num_cases=num_cases,
        num_passed=num_passed,
        pass_rate=num_passed / num_cases if num_cases else None,
        low=low,
        high=high,
        failures=tuple(_failure(test.cases[case], probability) for case in worst),
    )


def _failure(case: Case, probability: dict[str, float]) -> Failure:
    text, changed = case
    return Failure(text, probability[text], changed, probability[changed] if changed else None)
