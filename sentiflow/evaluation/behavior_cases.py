"""Real texts and a seed -> the behavior tests: their cases, and what a model has to make of each.

Each sentence has to read naturally with each of its words, and to have a sentiment that no reader
would dispute. So "I don't hate it" is not in a minimum function: it is hardly praise. But it is
more positive than "I hate it", which a direction asks for.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

import numpy as np

from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, POSITIVE

Kind = Literal["minimum function", "invariance", "direction"]
"""``minimum function``: a text has a label; ``invariance``: a change of a text does not change the
label; ``direction``: a change of a text moves the probability one way, or not the other."""

TOLERANCE = 0.1
"""Change of a probability that counts as none, as in CheckList."""

Case = tuple[str, str | None]
"""A text, and what it is changed to; None in a minimum function."""

Judge = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Probabilities before and after -> which cases pass, and how bad each is that does not."""


@dataclass(frozen=True)
class BehaviorTest:
    """Cases of one ability."""

    kind: Kind
    name: str
    expectation: str
    """In a sentence."""
    cases: Sequence[Case]
    judge: Judge


def make_tests(texts: Sequence[str], *, seed: int) -> Iterator[BehaviorTest]:
    """Make all tests: minimum functions, then invariances, then directions.

    Args:
        texts: Real ones, to change. Repeated and blank ones are left out, and without any, so are
            the tests that need them. A change that leaves a text as it was makes no case.
        seed: Decides where typos are made.
    """
    real = [text for text in dict.fromkeys(texts) if text.strip()]
    yield from _minimum_functions()
    yield from _invariances_of_sentences()
    if real:
        yield from _invariances_of_real_texts(real, seed)
        yield from _directions_of_real_texts(real)
    yield from _directions_of_sentences()


_THINGS = (
    *("this song", "the food here", "my phone", "this game", "this show", "my job"),
    *("this place",),
)
_GOOD = ("good", "great", "amazing", "awesome", "fantastic")
_BAD = ("bad", "awful", "terrible", "horrible", "disappointing")
_HAPPY = ("happy", "excited", "cheerful", "relaxed", "proud", "thankful")
_SAD = ("sad", "lonely", "miserable", "depressed", "upset", "heartbroken")

_PRAISE = (
    *("{thing} is {word}", "I love {thing}", "I really like {thing}", "loving {thing} right now"),
    *("{thing} is the best",),
)
_COMPLAINT = (
    *("{thing} is {word}", "I hate {thing}", "I really dislike {thing}", "{thing} sucks"),
    *("{thing} is the worst",),
)
_MOOD = (
    *("I am {word} today", "I feel so {word} right now", "feeling {word} this morning"),
    *("woke up feeling {word}", "we are all {word} tonight", "I have been {word} all day"),
)
_STRONG = ("{thing} is so {word}", "{thing} is really {word}", "{thing} is absolutely {word}")
_NEGATED_PRAISE = (
    *("I do not like {thing}", "I don't like {thing} at all", "I never liked {thing}"),
    *("I am not a fan of {thing}", "{thing} is not good", "{thing} isn't any good"),
    *("{thing} is not great",),
)
_NEGATED_COMPLAINT = (
    *("{thing} is not bad at all", "{thing} isn't bad at all", "{thing} did not disappoint me"),
    *("{thing} never gets boring", "I have no complaints about {thing}"),
    *("I can't complain about {thing}", "there is nothing bad about {thing}"),
)
_TURNED_GOOD = (
    *("I used to hate {thing}, but now I love it", "I hated {thing} at first, now I love it"),
    *("{thing} used to be awful, but now it is great",),
    *("I thought {thing} would be terrible, but it is amazing",),
    *("{thing} seemed bad at first, but it is awesome",),
)
_TURNED_BAD = (
    *("I used to love {thing}, but now I hate it", "I loved {thing} at first, now I hate it"),
    *("{thing} used to be great, but now it is awful",),
    *("I thought {thing} would be amazing, but it is terrible",),
    *("{thing} seemed awesome at first, but it is bad",),
)
_BETTER = (
    *("{thing} is better than ever", "{thing} is better than I expected"),
    *("{thing} keeps getting better", "nothing is better than {thing}"),
    *("I like {thing} more than any other",),
)
_WORSE = (
    *("{thing} is worse than ever", "{thing} is worse than I expected"),
    *("{thing} keeps getting worse", "nothing is worse than {thing}"),
    *("I like {thing} less than any other",),
)
_UNMET_WISH = (
    *("I wish {thing} was better", "if only {thing} was any good"),
    *("{thing} could have been so much better", "I was hoping to love {thing}, but I don't"),
    *("I expected {thing} to be great, but it is not",),
)
_PLAIN = (
    *("going home now", "just got to work", "on the bus", "watching tv", "back at my desk"),
    *("at the store with my mom", "it is monday", "it is raining here", "talking to my sister"),
    *("waiting for the train",),
)

_NAMES = (
    *("Emily", "Mohammed", "Wei", "Lakisha", "Carlos", "Brad", "Priya", "Fatima", "Ivan", "Keisha"),
    *("Hiroshi", "Sarah"),
)
_WITH_NAME = (
    *("{word} is such a good friend", "had a great time with {word} last night"),
    *("I love talking to {word}", "{word} made me smile today", "so proud of {word} today"),
    *("thanks to {word} this is the best day ever", "{word} ruined my whole day"),
    *("I am so angry at {word}", "{word} was really rude to me", "I hate arguing with {word}"),
    *("feeling awful because {word} lied to me", "so sick of {word} being mean"),
)
_PLACES = (
    *("Boston", "Toronto", "London", "Paris", "Berlin", "Moscow", "Lagos", "Cairo", "Mumbai"),
    *("Beijing", "Tokyo", "Sydney"),
)
_WITH_PLACE = (
    *("I love living in {word}", "having a great time in {word}", "best holiday ever in {word}"),
    *("the people in {word} are so friendly", "so excited to visit {word} again"),
    *("the food in {word} was amazing", "the weather in {word} is awful today"),
    *("I hate the traffic in {word}", "stuck at the airport in {word} and so bored"),
    *("my trip to {word} was a disaster", "I lost my wallet in {word} and feel sick about it"),
    *("the hotel in {word} was terrible",),
)


def _minimum_functions() -> Iterator[BehaviorTest]:
    def test(name: str, label: int, what: str, texts: Iterable[str]) -> BehaviorTest:
        cases = [(text, None) for text in texts]
        expectation = f"{what} is {LABEL_NAMES[label]}."
        return BehaviorTest("minimum function", name, expectation, cases, _has_label(label))

    good, bad = POSITIVE, NEGATIVE
    yield test("praise", good, "Plain praise", _fill(_PRAISE, _GOOD))
    yield test("complaint", bad, "A plain complaint", _fill(_COMPLAINT, _BAD))
    yield test("good mood", good, "A good mood", _fill(_MOOD, _HAPPY))
    yield test("bad mood", bad, "A bad mood", _fill(_MOOD, _SAD))
    what = "made stronger (so, really, absolutely)"
    yield test("strong praise", good, f"Praise {what}", _fill(_STRONG, _GOOD[1:]))
    yield test("strong complaint", bad, f"A complaint {what}", _fill(_STRONG, _BAD[1:]))
    what = "Praise that is denied (not good)"
    yield test("negated praise", bad, what, _fill(_NEGATED_PRAISE))
    what = "A complaint that is denied (not bad at all)"
    yield test("negated complaint", good, what, _fill(_NEGATED_COMPLAINT))
    yield test("turned good", good, "What was bad and is good now", _fill(_TURNED_GOOD))
    yield test("turned bad", bad, "What was good and is bad now", _fill(_TURNED_BAD))
    yield test("better", good, "What compares well", _fill(_BETTER))
    yield test("worse", bad, "What compares badly", _fill(_WORSE))
    yield test("unmet wish", bad, "A hope that has not come true", _fill(_UNMET_WISH))
    what = "A plain sentence before a"
    yield test("smile", good, f"{what} smile", _append(_PLAIN, (":)", ":-)", ":D")))
    yield test("frown", bad, f"{what} frown", _append(_PLAIN, (":(", ":-(", ":'(")))


def _invariances_of_sentences() -> Iterator[BehaviorTest]:
    for name, what, templates, words in (
        ("names of persons", "Another person's name", _WITH_NAME, _NAMES),
        ("names of cities", "Another city's name", _WITH_PLACE, _PLACES),
    ):
        yield _invariance(name, what, [p for t in templates for p in pairwise(_fill([t], words))])


def _invariances_of_real_texts(texts: list[str], seed: int) -> Iterator[BehaviorTest]:
    generator = np.random.default_rng(seed)

    def test(name: str, what: str, change: Callable[[str], str]) -> BehaviorTest:
        return _invariance(name, what, _change_texts(texts, change))

    yield test("mention", "A mention of somebody at the front", "@somebody {}".format)
    link = "http://example.com/a1b2c3"
    yield test("link", "A link at the end", lambda text: f"{text.rstrip()} {link}")
    yield test("typo", "A typo within one word", lambda text: _make_typo(text, generator))
    yield test("apostrophe", "Leaving out an apostrophe (dont)", _drop_apostrophes)
    yield test("upper case", "Upper case", _raise_case)
    yield test("full stop", "A full stop at the end, or its lack,", _change_full_stop)
    yield test("white space", "Wider white space", lambda text: f"  {'  '.join(text.split())}")


def _directions_of_real_texts(texts: list[str]) -> Iterator[BehaviorTest]:
    for name, added, never, judge in (
        ("added praise", "I love it", "lowers", _changes(at_least=-TOLERANCE)),
        ("added complaint", "I hate it", "raises", _changes(at_most=TOLERANCE)),
    ):
        cases = [(text, f"{_end_sentence(text)} {added}") for text in texts]
        expectation = f'"{added}" at the end never {never} the probability by over {TOLERANCE}.'
        yield BehaviorTest("direction", name, expectation, cases, judge)


def _directions_of_sentences() -> Iterator[BehaviorTest]:
    def test(name: str, expectation: str, cases: Iterable[Case], judge: Judge) -> BehaviorTest:
        return BehaviorTest("direction", name, f"{expectation} {TOLERANCE}.", list(cases), judge)

    what = "Denying praise (is not good, don't love) lowers the probability by at least"
    cases = _deny(adjectives=("good", "great", "nice", "amazing"), verbs=("love", "like", "enjoy"))
    yield test("not good", what, cases, _changes(at_most=-TOLERANCE))
    what = "Denying a complaint (is not bad, don't hate) raises the probability by at least"
    cases = _deny(adjectives=("bad", "awful", "terrible", "boring"), verbs=("hate", "dislike"))
    yield test("not bad", what, cases, _changes(at_least=TOLERANCE))
    what = "Very, really or so before a good word never lowers the probability by over"
    cases = _strengthen(("good", "nice", "cool"))
    yield test("very good", what, cases, _changes(at_least=-TOLERANCE))
    what = "Very, really or so before a bad word never raises the probability by over"
    cases = _strengthen(("bad", "boring", "disappointing"))
    yield test("very bad", what, cases, _changes(at_most=TOLERANCE))


def _deny(*, adjectives: Sequence[str], verbs: Sequence[str]) -> Iterator[Case]:
    yield from _pairs("{thing} is {word}", "{thing} is not {word}", adjectives)
    yield from _pairs("I {word} {thing}", "I don't {word} {thing}", verbs)


def _strengthen(words: Sequence[str]) -> Iterator[Case]:
    for very in ("very", "really", "so"):
        yield from _pairs("{thing} is {word}", f"{{thing}} is {very} {{word}}", words)


def _invariance(name: str, what: str, cases: Sequence[Case]) -> BehaviorTest:
    expectation = f"{what} does not change the label."
    return BehaviorTest("invariance", name, expectation, cases, _keeps_label)


def _has_label(label: int) -> Judge:
    def judge(before: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (before >= 0.5) == (label == POSITIVE), np.abs(before - 0.5)

    return judge


def _keeps_label(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (before >= 0.5) == (after >= 0.5), np.abs(after - before)


def _changes(*, at_least: float = -np.inf, at_most: float = np.inf) -> Judge:
    def judge(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        change = after - before
        excess = np.maximum(at_least - change, change - at_most)
        return excess <= 0, excess

    return judge


def _fill(templates: Iterable[str], words: Iterable[str] = ("",)) -> list[str]:
    """Put each thing and each word where a template asks for one."""
    filled = (
        template.format(thing=thing, word=word)
        for template, thing, word in product(templates, _THINGS, words)
    )
    return list(dict.fromkeys(text[0].upper() + text[1:] for text in filled))


def _pairs(before: str, after: str, words: Sequence[str]) -> Iterator[Case]:
    return zip(_fill([before], words), _fill([after], words), strict=True)


def _append(sentences: Iterable[str], endings: Iterable[str]) -> list[str]:
    return [f"{sentence} {ending}" for sentence, ending in product(sentences, endings)]


def _change_texts(texts: list[str], change: Callable[[str], str]) -> list[Case]:
    changed = [(text, change(text)) for text in texts]
    return [(text, new) for text, new in changed if new not in ("", text)]


_OPAQUE = re.compile(r"(&#?\w+;|(?:https?://|www\.)\S+|@\w+)")
"""Entities, links and mentions: what is no word of a text's own."""

_PLAIN_WORD = re.compile(r"(?<!\S)[A-Za-z]{4,}(?=[.,!?]*(?:\s|$))")
_APOSTROPHE = re.compile(r"(?<=n)['\u2019](?=t\b)", re.IGNORECASE)


def _make_typo(text: str, generator: np.random.Generator) -> str:
    """Swap two different neighbors, neither the first letter of its word nor the last."""
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


def _drop_apostrophes(text: str) -> str:
    """Write ``don't`` as ``dont``; elsewhere it can make another word (``we're``)."""
    return _APOSTROPHE.sub("", text)


def _raise_case(text: str) -> str:
    parts = _OPAQUE.split(text)
    return "".join(part if i % 2 else part.upper() for i, part in enumerate(parts))


def _change_full_stop(text: str) -> str:
    """Take a single one away, or set one after a word."""
    body = text.rstrip()
    if body.endswith(".") and not body.endswith(".."):
        return body[:-1].rstrip()
    ended = _end_sentence(text)
    return text if ended == body else ended


def _end_sentence(text: str) -> str:
    """Set a full stop after a word at the end."""
    body = text.rstrip()
    is_word = body[-1].isalnum() and not _OPAQUE.fullmatch(body.split()[-1])
    return f"{body}." if is_word else body
