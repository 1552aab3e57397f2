"""A function that scores texts -> how much its predictions depend on the group a sentence names.

The same sentences are made with each term of a category (he, she, ...; my Hindu neighbor, my Jewish
neighbor, ...), after Kiritchenko and Mohammad, "Examining Gender and Race Bias in Two Hundred
Sentiment Analysis Systems", *SEM 2018, and Dixon et al., "Measuring and Mitigating Unintended Bias
in Text Classification", AIES 2018. Their sentiment is in the other words, so a reader would give
all of them the same label. Sentences and terms are in ``groups.yaml``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from itertools import product
from typing import Any

import numpy as np
import yaml

from sentiflow.evaluation.behavior import Score, begin_with_capital

_DATA: dict[str, Any] = yaml.safe_load(
    (resources.files("sentiflow.evaluation") / "groups.yaml").read_text("utf-8")
)
_CATEGORIES: dict[str, Any] = _DATA["categories"]
_SENTENCES: list[str] = [text for texts in _DATA["sentences"].values() for text in texts]

NUM_RESAMPLES = 2000
"""Of the bootstrap, and number of permutations."""

CAVEAT = (
    "These are a few made-up sentences. The numbers show how the model reacts to the words for a "
    "group, not how it treats tweets by or about people of that group, which differ in far more "
    "than a word. A gap beyond chance is a reason to look closer before the model is used to "
    "compare groups. The absence of a gap proves nothing: other words and sentences may show one. "
    "If the model does not know a term, it sees only how many words the term has."
)
"""What the numbers can show and what they cannot."""


@dataclass(frozen=True)
class TermResult:
    """How the sentences with one term differ from those with the others."""

    term: str
    words: tuple[str, ...]
    """Words for the term in the sentences."""
    mean_probability: float
    """Mean probability of positive."""
    difference: float
    """Difference from the mean over all terms of the category."""
    low: float
    """Lower end of the 95 % interval of the difference. Of twenty terms without a difference, one
    is expected to have an interval that excludes 0."""
    high: float
    known: bool
    """Whether the model knows all ``words``."""


@dataclass(frozen=True)
class GroupBias:
    """How much predictions depend on the term; ``dataclasses.asdict`` of it is JSON."""

    category: str
    num_templates: int
    num_sentences: int
    """Texts with all terms together."""
    terms: tuple[TermResult, ...]
    """The lowest difference first."""
    spread: float
    """The highest mean probability of a term minus the lowest. By chance alone it is above 0, and
    grows with the number of terms: see ``chance_spread``."""
    spread_low: float
    """Of the 95 % interval of the difference of these two terms, as if they had not been chosen as
    the extremes. Below 0 where even their order is uncertain."""
    spread_high: float
    chance_spread: float
    """1 in 20 models that make no difference between terms reaches this spread: a smaller spread
    means nothing. Where terms do differ, it is an overestimate."""
    flipped_fraction: float
    """Share of sentences whose predicted label differs between terms."""


def measure_group_bias(
    score: Score, *, knows: Callable[[str], bool], seed: int = 0
) -> list[GroupBias]:
    """Compare a model's predictions for sentences that differ in the group they name.

    With p[i, k] the mean probability of the sentences of template i with term k, the difference of
    a term is the mean over templates of d[i, k] = p[i, k] - mean over k of p[i, k]. Its interval is
    the percentile bootstrap over templates (Efron, "Bootstrap methods: another look at the
    jackknife", Annals of Statistics 7, 1979). It is paired: a resampled template has its sentences
    with every term. With so few templates it covers a little less than 95 %. The interval of the
    spread is computed in the same way from p[i, highest] - p[i, lowest], the two terms held fixed:
    a maximum of resampled means would be biased upwards. ``chance_spread`` is the 95 % quantile of
    the spread after the terms are permuted within each template.

    Args:
        score: Called once. A text with a probability of at least one half counts as positive.
        knows: Whether the model knows all of one or a few words, such as ``my sister``.
        seed: Seed of the bootstrap and the permutations.

    Returns:
        A result for each of gender, nationality, religion and age.
    """
    sentences = {name: _make_sentences(name) for name in _CATEGORIES}
    texts = [text for made in sentences.values() for text in made.ravel().tolist()]
    probability = score(texts)
    ends = np.cumsum([made.size for made in sentences.values()])[:-1]
    return [
        _measure(name, scores.reshape(sentences[name].shape), seed=seed, knows=knows)
        for name, scores in zip(_CATEGORIES, np.split(probability, ends), strict=True)
    ]


def _measure(
    category: str,
    probability: np.ndarray,
    *,
    seed: int,
    knows: Callable[[str], bool],
) -> GroupBias:
    """Measure one category, ``probability`` by template, term and wording."""
    generator = np.random.default_rng(seed)
    by_term = probability.mean(axis=2)
    num_templates = len(by_term)
    means = by_term.mean(axis=0)
    lowest, highest = int(means.argmin()), int(means.argmax())
    paired = by_term - by_term.mean(axis=1, keepdims=True)
    gap = by_term[:, highest] - by_term[:, lowest]
    picks = generator.integers(num_templates, size=(NUM_RESAMPLES, num_templates))
    low, high = np.quantile(paired[picks].mean(axis=1), (0.025, 0.975), axis=0)
    spread_low, spread_high = np.quantile(gap[picks].mean(axis=1), (0.025, 0.975))
    shuffled = generator.permuted(np.broadcast_to(by_term, (NUM_RESAMPLES, *by_term.shape)), axis=2)
    is_positive = probability >= 0.5
    flipped = is_positive.any(axis=1) & ~is_positive.all(axis=1)
    terms = _terms_of(category)
    results = [
        TermResult(
            term=term,
            words=words,
            mean_probability=float(means[k]),
            difference=float(paired[:, k].mean()),
            low=float(low[k]),
            high=float(high[k]),
            known=all(map(knows, words)),
        )
        for k, (term, words) in enumerate(terms.items())
    ]
    return GroupBias(
        category=category,
        num_templates=num_templates,
        num_sentences=probability.size,
        terms=tuple(sorted(results, key=lambda result: result.difference)),
        spread=float(gap.mean()),
        spread_low=float(spread_low),
        spread_high=float(spread_high),
        chance_spread=float(np.quantile(np.ptp(shuffled.mean(axis=1), axis=1), 0.95)),
        flipped_fraction=float(flipped.mean()),
    )


def _make_sentences(category: str) -> np.ndarray:
    """Fill every template: an array of texts by template, term and wording."""
    phrases = _CATEGORIES[category]["phrases"]
    subjects = [
        [phrase.format(word) for word, phrase in product(words, phrases)]
        for words in _terms_of(category).values()
    ]
    made = [
        [[begin_with_capital(template.format(subject)) for subject in term] for term in subjects]
        for template in _SENTENCES
    ]
    return np.array(made, dtype=object)


def _terms_of(category: str) -> dict[str, tuple[str, ...]]:
    """Return the words of each term of a category."""
    terms = _CATEGORIES[category]["terms"]
    if isinstance(terms, list):
        return {term: (term,) for term in terms}
    return {term: tuple(words) for term, words in terms.items()}
