"""Published sets of words for measuring bias in word vectors, read from ``word_sets.yaml``."""

from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple, TypedDict

import yaml


class WordSet(NamedTuple):
    """Words that stand for one thing."""

    name: str
    words: tuple[str, ...]


class AssociationTest(NamedTuple):
    """A test whether the first targets are nearer to the first attributes than the second are."""

    name: str
    targets: tuple[WordSet, WordSet]
    attributes: tuple[WordSet, WordSet]

    @property
    def sets(self) -> tuple[WordSet, ...]:
        """Targets and attributes, in order."""
        return (*self.targets, *self.attributes)


class _Test(TypedDict):
    """A test in the file: name of a set -> its words, separated by spaces."""

    name: str
    targets: dict[str, str]
    attributes: dict[str, str]


class _File(TypedDict):
    """The contents of ``word_sets.yaml``."""

    gender_pairs: list[str]
    professions: str
    tests: list[_Test]


def _two_sets(sets: Mapping[str, str]) -> tuple[WordSet, WordSet]:
    first, second = (WordSet(name, tuple(words.split())) for name, words in sets.items())
    return first, second


_DATA: _File = yaml.safe_load(
    (resources.files("sentiflow.words") / "word_sets.yaml").read_text("utf-8")
)

GENDER_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (male, female) for male, female in map(str.split, _DATA["gender_pairs"])
)
"""Ten pairs of words that define gender (Bolukbasi et al. 2016), the male word first."""

PROFESSIONS: tuple[str, ...] = tuple(_DATA["professions"].split())
"""Professions in one word, none of which names a gender."""

TESTS: tuple[AssociationTest, ...] = tuple(
    AssociationTest(test["name"], _two_sets(test["targets"]), _two_sets(test["attributes"]))
    for test in _DATA["tests"]
)
"""WEAT 1 to 10 (Caliskan et al. 2017). The sizes of the sets are those of the paper."""
