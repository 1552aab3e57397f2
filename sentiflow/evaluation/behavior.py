"""A function that scores texts -> how often its predictions are as a reader would expect.

Behavior tests after Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList", ACL 2020. A test has many cases of one ability. Its pass rate shows what a model can do;
accuracy on real tweets depends on how often that ability is needed. The sentences are in
``behavior.yaml``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from itertools import pairwise, product
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
"""Kinds of tests, by what a reader would expect. ``minimum function``, a minimum functionality
test: a text has a certain label. ``invariance``: a change of a text does not change the label.
``direction``, a directional expectation test: a change of a text raises the probability, lowers it,
or does not do one of the two. Programs read these names in ``metrics.json``."""

TOLERANCE = 0.1
"""A change of a probability up to this counts as none, as in CheckList."""

Case = tuple[str, str | None]
"""A text and the changed text, which is None in a minimum functionality test."""

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
    """By kind: the label of the texts; ``same label``; or the effect of the change on the
    probability, ``lower``, ``raise``, ``not lower`` or ``not raise``."""

    def judge(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Judge N cases.

        Args:
            before: The probability of positive of each text.
            after: The probability of positive of each changed text; of the text itself if a case
                has no changed text.

        Returns:
            Whether each case passes, N booleans; and N numbers by which failures are ordered, as
            the worst failure has the largest number.
        """
        change = after - before
        if self.kind == "minimum function":
            is_positive = self.expected == LABEL_NAMES[POSITIVE]
            return (before >= 0.5) == is_positive, np.abs(before - 0.5)
        if self.kind == "invariance":
            return (before >= 0.5) == (after >= 0.5), np.abs(change)
        if self.expected == "lower":
            excess = change + TOLERANCE
        elif self.expected == "raise":
            excess = TOLERANCE - change
        elif self.expected == "not lower":
            excess = -TOLERANCE - change
        else:
            excess = change - TOLERANCE
        return excess <= 0, excess


@dataclass(frozen=True)
class Failure:
    """A case on which a model failed."""

    text: str
    probability: float
    """Probability of positive."""
    changed_text: str | None
    """None in a minimum functionality test."""
    changed_probability: float | None
    """Probability of positive of the changed text."""


@dataclass(frozen=True)
class BehaviorResult:
    """How a model did on one test; ``dataclasses.asdict`` of it is JSON."""

    kind: Kind
    name: str
    """Name of the test, such as ``praise``."""
    expectation: str
    """What a reader would expect, in a sentence."""
    num_cases: int
    num_passed: int
    pass_rate: float
    low: float
    """Lower end of the exact 95% interval. The cases of a test resemble each other, so it is too
    narrow for other kinds of sentences."""
    high: float
    failures: tuple[Failure, ...]
    """At most ``MAX_FAILURES`` failed cases, the worst first. The worst is, by kind, the
    probability that is farthest from one half, the largest change, or the change farthest beyond
    the limit."""


def check_behavior(score: Score, *, texts: Sequence[str], seed: int = 0) -> list[BehaviorResult]:
    """Test a model on made-up sentences, and on real texts with a small change.

    Args:
        score: Called once, with distinct texts. A probability of at least one half is positive.
        texts: Real texts, such as some hundred of the test split. They need no labels: predictions
            for a text and for the changed text are compared. Without texts, the tests that change
            them are left out.
        seed: Decides where typos are made.

    Returns:
        A result for each test of :func:`make_tests` that has cases, in its order.
    """
    tests = [test for test in make_tests(texts, seed=seed) if test.cases]
    asked = []
    for test in tests:
        for text, changed in test.cases:
            asked.append(text)
            if changed:
                asked.append(changed)
    distinct = list(dict.fromkeys(asked))
    probabilities = dict(zip(distinct, score(distinct).tolist(), strict=True))
    return [_check(test, probabilities) for test in tests]


def _check(test: BehaviorTest, probabilities: Mapping[str, float]) -> BehaviorResult:
    """Compare the probabilities of a test's texts with its expectation.

    Args:
        test: The test.
        probabilities: The probability of positive of each text and changed text, by text.
    """
    before = np.array([probabilities[text] for text, _ in test.cases])
    after = np.array([probabilities[changed or text] for text, changed in test.cases])
    passed, badness = test.judge(before, after)
    failed = sorted(np.flatnonzero(~passed).tolist(), key=lambda case: -badness[case])
    failures = []
    for case in failed[:MAX_FAILURES]:
        text, changed = test.cases[case]
        failures.append(
            Failure(
                text=text,
                probability=float(before[case]),
                changed_text=changed,
                changed_probability=float(after[case]) if changed else None,
            )
        )
    num_cases = len(test.cases)
    num_passed = int(passed.sum())
    low, high = share_interval(num_passed, num_cases)
    return BehaviorResult(
        kind=test.kind,
        name=test.name,
        expectation=test.expectation,
        num_cases=num_cases,
        num_passed=num_passed,
        pass_rate=num_passed / num_cases,
        low=low,
        high=high,
        failures=tuple(failures),
    )


def make_tests(texts: Sequence[str], *, seed: int) -> Iterator[BehaviorTest]:
    """Make all tests: minimum functionality, then invariance, then directional expectation.

    Args:
        texts: Real texts, to change. Repeated and blank texts are left out. Without texts, the
            tests that need them are left out. A text that a test cannot change makes no case.
        seed: Decides where typos are made.
    """
    for test in _DATA["minimum_functionality"]:
        yield BehaviorTest(
            kind="minimum function",
            name=test["name"],
            expectation=test["expectation"],
            cases=[(sentence, None) for sentence in _make_sentences(test)],
            expected=test["label"],
        )
    for test in _DATA["invariance"]:
        cases: list[Case] = []
        for template in test["templates"]:
            # Each sentence is compared with the next, which has another word or thing.
            cases.extend(pairwise(_fill([template], test["words"])))
        yield BehaviorTest(
            kind="invariance",
            name=test["name"],
            expectation=test["expectation"],
            cases=cases,
            expected="same label",
        )
    real = [text for text in dict.fromkeys(texts) if text.strip()]
    if real:
        yield from _make_invariance_tests(real, seed)
        yield from _make_directional_tests(real)
    for test in _DATA["directional_expectation"]:
        cases = []
        for pair in test["pairs"]:
            before = _fill([pair["before"]], pair["words"])
            after = _fill([pair["after"]], pair["words"])
            cases.extend(zip(before, after, strict=True))
        yield BehaviorTest(
            kind="direction",
            name=test["name"],
            expectation=test["expectation"],
            cases=cases,
            expected=test["expected"],
        )


def _make_sentences(test: Mapping[str, Any]) -> list[str]:
    """Make the sentences of a minimum functionality test.

    A test of ``behavior.yaml`` has sentences and endings to join, or templates and words to fill
    in.
    """
    if "endings" in test:
        return [" ".join(parts) for parts in product(test["sentences"], test["endings"])]
    return _fill(test["templates"], test.get("words", ("",)))


def _make_invariance_tests(texts: Sequence[str], seed: int) -> Iterator[BehaviorTest]:
    """Make the tests that change real texts in ways that do not change the label."""
    generator = np.random.default_rng(seed)
    for name, subject, change in (
        ("mention", "A mention of somebody at the front", _add_mention),
        ("link", "A link at the end", _add_link),
        ("typo", "A typo within one word", partial(_make_typo, generator=generator)),
        ("upper case", "Upper case", _raise_case),
    ):
        cases: list[Case] = []
        for text in texts:
            changed = change(text)
            if changed not in ("", text):  # "" would count as no changed text
                cases.append((text, changed))
        yield BehaviorTest(
            kind="invariance",
            name=name,
            expectation=f"{subject} does not change the label.",
            cases=cases,
            expected="same label",
        )


def _make_directional_tests(texts: Sequence[str]) -> Iterator[BehaviorTest]:
    """Make the tests that add a sentence with a clear sentiment to real texts."""
    for name, added, wrong_effect in (
        ("added praise", "I love it", "lower"),
        ("added complaint", "I hate it", "raise"),
    ):
        yield BehaviorTest(
            kind="direction",
            name=name,
            expectation=f'"{added}" at the end never {wrong_effect}s the probability by over '
            f"{TOLERANCE}.",
            cases=[(text, f"{_end_sentence(text)} {added}") for text in texts],
            expected=f"not {wrong_effect}",
        )


def _fill(templates: Iterable[str], words: Iterable[str]) -> list[str]:
    """Fill each template with each thing of ``behavior.yaml`` and each word.

    A template may have no place for a thing or a word. Equal sentences are made once.
    """
    sentences = []
    for template, thing, word in product(templates, _DATA["things"], words):
        sentences.append(begin_with_capital(template.format(thing=thing, word=word)))
    return list(dict.fromkeys(sentences))


def begin_with_capital(text: str) -> str:
    """Write the first letter of a sentence as a capital."""
    return text[0].upper() + text[1:]


_OPAQUE = re.compile(r"(&#?\w+;|(?:https?://|www\.)\S+|@\w+)")
"""HTML entities (``&amp;``), links and mentions: another spelling would be another thing, so
changes of a text leave them as they are."""

_PLAIN_WORD = re.compile(r"(?<!\S)[A-Za-z]{4,}(?=[.,!?]*(?:\s|$))")
"""A word of four ASCII letters or more, between white space; punctuation may follow. A shorter word
has no two inner letters to swap."""


def _add_mention(text: str) -> str:
    return f"@somebody {text}"


def _add_link(text: str) -> str:
    return f"{text.rstrip()} http://example.com/a1b2c3"


def _make_typo(text: str, generator: np.random.Generator) -> str:
    """Swap two different neighboring letters of a word, but not its first or last letter.

    A text without such letters is returned as it is.
    """
    places = []
    for word in _PLAIN_WORD.finditer(text):
        for place in range(word.start() + 1, word.end() - 2):
            if text[place].lower() != text[place + 1].lower():
                places.append(place)
    if not places:
        return text
    place = places[generator.integers(len(places))]
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _raise_case(text: str) -> str:
    """Write a text in upper case, except entities, links and mentions."""
    parts = _OPAQUE.split(text)  # every second part is opaque
    parts[::2] = [part.upper() for part in parts[::2]]
    return "".join(parts)


def _end_sentence(text: str) -> str:
    """Add a full stop if the text ends with a word, but not to a link, mention or entity."""
    body = text.rstrip()
    is_word = body[-1].isalnum() and not _OPAQUE.fullmatch(body.split()[-1])
    return f"{body}." if is_word else body
