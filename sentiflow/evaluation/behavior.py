"""A function that scores texts -> how often its predictions are as a reader would expect.

Behavior tests after Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList", ACL 2020. A test has many cases of one ability. Its pass rate shows what a model can do;
accuracy on real tweets depends on how often that ability is needed. The sentences are in
``behavior.yaml``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain, pairwise, product
from typing import Any, Literal

import numpy as np
import yaml

from sentiflow.data.schema import LABEL_NAMES, POSITIVE
from sentiflow.metrics.intervals import share_interval

Score = Callable[[Sequence[str]], np.ndarray]
"""N texts -> the probability of positive of each, N float64."""

MAX_FAILURES = 5
"""Failed cases kept in a result."""

Kind = Literal["minimum function", "invariance", "direction"]
"""``minimum function``: a minimum functionality test, where a text has a label. ``invariance``: a
change of a text does not change the label. ``direction``: a directional expectation test, where a
change of a text moves the probability one way, or not the other. Programs read these names in
``metrics.json``."""

TOLERANCE = 0.1
"""A change of a probability up to this counts as none, as in CheckList."""

Case = tuple[str, str | None]
"""A text, and what it is changed to; None in a minimum functionality test."""

_DATA: dict[str, Any] = yaml.safe_load(
    (resources.files("sentiflow.evaluation") / "behavior.yaml").read_text("utf-8")
)


@dataclass(frozen=True)
class BehaviorTest:
    """Cases of one ability."""

    kind: Kind
    name: str
    expectation: str
    """What a reader would expect, in a sentence."""
    cases: Sequence[Case]
    expected: str
    """The label of the texts, ``same label``, or what a change does to the probability: ``lower``,
    ``raise``, ``not lower``, ``not raise``."""

    def judge(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say which cases pass, and how bad a failure of each would be.

        Args:
            before: The probability of each text.
            after: The probability of each changed text.
        """
        change = after - before
        if self.kind == "minimum function":
            is_positive = self.expected == LABEL_NAMES[POSITIVE]
            return (before >= 0.5) == is_positive, np.abs(before - 0.5)
        if self.kind == "invariance":
            return (before >= 0.5) == (after >= 0.5), np.abs(change)
        excess = {
            "lower": change + TOLERANCE,
            "raise": TOLERANCE - change,
            "not lower": -TOLERANCE - change,
            "not raise": change - TOLERANCE,
        }[self.expected]
        return excess <= 0, excess


@dataclass(frozen=True)
class Failure:
    """A case that a model failed."""

    text: str
    probability: float
    """Probability of positive."""
    changed_text: str | None
    """None where a case is one text."""
    changed_probability: float | None


@dataclass(frozen=True)
class BehaviorResult:
    """How a model did on one test; ``dataclasses.asdict`` of it is JSON."""

    kind: Kind
    name: str
    expectation: str
    """What a reader would expect, in a sentence."""
    num_cases: int
    num_passed: int
    pass_rate: float
    low: float
    """Lower end of the exact 95 % interval. The cases of a test resemble each other, so it is too
    narrow for other kinds of sentences."""
    high: float
    failures: tuple[Failure, ...]
    """The worst first: farthest from one half, from the unchanged text, or beyond the limit."""


def check_behavior(score: Score, *, texts: Sequence[str], seed: int = 0) -> list[BehaviorResult]:
    """Test a model on made-up sentences, and on real texts with a small change.

    Args:
        score: Called once, with distinct texts. A probability of at least one half is positive.
        texts: Real texts, such as some hundred of the test split. Their labels are not needed: the
            prediction for a text is compared with that for the changed text. Without any, the
            tests that change them are left out.
        seed: Decides where typos are made.

    Returns:
        A result for each test of :func:`make_tests` that has cases, in its order.
    """
    results = []
    tests = [test for test in make_tests(texts, seed=seed) if test.cases]
    distinct = list(dict.fromkeys(t for test in tests for case in test.cases for t in case if t))
    of_text = dict(zip(distinct, score(distinct).tolist(), strict=True))
    for test in tests:
        pairs = [(of_text[text], of_text[changed or text]) for text, changed in test.cases]
        before, after = np.array(pairs).T
        passed, badness = test.judge(before, after)
        num_cases, num_passed = len(test.cases), int(passed.sum())
        failed = sorted(np.flatnonzero(~passed).tolist(), key=lambda case: -badness[case])
        failures = []
        for case in failed[:MAX_FAILURES]:
            text, changed = test.cases[case]
            probability = float(after[case]) if changed else None
            failures.append(Failure(text, float(before[case]), changed, probability))
        results.append(
            BehaviorResult(
                *(test.kind, test.name, test.expectation),
                *(num_cases, num_passed, num_passed / num_cases),
                *share_interval(num_passed, num_cases),
                tuple(failures),
            )
        )
    return results


def make_tests(texts: Sequence[str], *, seed: int) -> Iterator[BehaviorTest]:
    """Make all tests: minimum functionality, then invariance, then directional expectation.

    Args:
        texts: Real texts, to change. Repeated and blank ones are left out. Without any, the tests
            that need them are left out. A change that leaves a text as it was makes no case.
        seed: Decides where typos are made.
    """
    real = [text for text in dict.fromkeys(texts) if text.strip()]
    for test in _DATA["minimum_functionality"]:
        if "endings" in test:
            sentences = [" ".join(parts) for parts in product(test["sentences"], test["endings"])]
        else:
            sentences = _fill(test["templates"], test.get("words", ("",)))
        cases: list[Case] = [(sentence, None) for sentence in sentences]
        yield BehaviorTest(
            "minimum function", test["name"], test["expectation"], cases, test["label"]
        )
    for test in _DATA["invariance"]:
        filled = (_fill([template], test["words"]) for template in test["templates"])
        cases = [pair for sentences in filled for pair in pairwise(sentences)]
        yield BehaviorTest("invariance", test["name"], test["expectation"], cases, "same label")
    if real:
        yield from _change_real_texts(real, seed)
    for test in _DATA["directional_expectation"]:
        pairs = (
            zip(_fill([p["before"]], p["words"]), _fill([p["after"]], p["words"]), strict=True)
            for p in test["pairs"]
        )
        yield BehaviorTest(
            "direction", test["name"], test["expectation"], list(chain(*pairs)), test["expected"]
        )


def _change_real_texts(texts: list[str], seed: int) -> Iterator[BehaviorTest]:
    generator = np.random.default_rng(seed)
    changes: list[tuple[str, str, Callable[[str], str]]] = [
        ("mention", "A mention of somebody at the front", "@somebody {}".format),
        ("link", "A link at the end", lambda text: f"{text.rstrip()} http://example.com/a1b2c3"),
        ("typo", "A typo within one word", lambda text: _make_typo(text, generator)),
        ("upper case", "Upper case", _raise_case),
    ]
    for name, what, change in changes:
        changed = [(text, change(text)) for text in texts]
        cases: list[Case] = [(text, new) for text, new in changed if new not in ("", text)]
        expectation = f"{what} does not change the label."
        yield BehaviorTest("invariance", name, expectation, cases, "same label")
    for name, added, never in (
        ("added praise", "I love it", "lower"),
        ("added complaint", "I hate it", "raise"),
    ):
        cases = [(text, f"{_end_sentence(text)} {added}") for text in texts]
        expectation = f'"{added}" at the end never {never}s the probability by over {TOLERANCE}.'
        yield BehaviorTest("direction", name, expectation, cases, f"not {never}")


def _fill(templates: Iterable[str], words: Iterable[str]) -> list[str]:
    """Fill each template with each thing and each word that it has a place for."""
    filled = (
        template.format(thing=thing, word=word)
        for template, thing, word in product(templates, _DATA["things"], words)
    )
    return list(dict.fromkeys(map(begin_with_capital, filled)))


def begin_with_capital(text: str) -> str:
    """Write the first letter of a sentence as a capital."""
    return text[0].upper() + text[1:]


_OPAQUE = re.compile(r"(&#?\w+;|(?:https?://|www\.)\S+|@\w+)")
"""Entities, links and mentions, which are not changed."""

_PLAIN_WORD = re.compile(r"(?<!\S)[A-Za-z]{4,}(?=[.,!?]*(?:\s|$))")


def _make_typo(text: str, generator: np.random.Generator) -> str:
    """Swap two different neighboring letters, not the first or last of a word."""
    places = [
        place
        for word in _PLAIN_WORD.finditer(text)
        for place in range(word.start() + 1, word.end() - 2)
        if text[place].lower() != text[place + 1].lower()
    ]
    if not places:
        return text
    place = places[generator.integers(len(places))]
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _raise_case(text: str) -> str:
    return "".join(p if i % 2 else p.upper() for i, p in enumerate(_OPAQUE.split(text)))


def _end_sentence(text: str) -> str:
    """Add a full stop if the text ends with a word."""
    body = text.rstrip()
    is_word = body[-1].isalnum() and not _OPAQUE.fullmatch(body.split()[-1])
    return f"{body}." if is_word else body
