"""A function that scores texts -> how much predictions depend on the group a sentence names.

The same sentences are made with each term of a category (he, she, ...; my Hindu neighbor, my
Jewish neighbor, ...). Their sentiment is in the other words, so a reader would give all of them the
same label. The method follows Kiritchenko and Mohammad, "Examining Gender and Race Bias in Two
Hundred Sentiment Analysis Systems", *SEM 2018, and Dixon et al., "Measuring and Mitigating
Unintended Bias in Text Classification", AIES 2018. Sentences and terms are in ``groups.yaml``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from itertools import product
from typing import Any

import numpy as np
import yaml

from sentiflow.evaluation.behavior import Score, begin_with_capital
from sentiflow.metrics import paired

_DATA: dict[str, Any] = yaml.safe_load(
    (resources.files("sentiflow.evaluation") / "groups.yaml").read_text("utf-8")
)
_CATEGORIES: dict[str, Any] = _DATA["categories"]
_TEMPLATES: list[str] = [text for texts in _DATA["sentences"].values() for text in texts]
"""Sentences with ``{}`` in the place of the term."""
Terms = dict[str, tuple[str, ...]]
"""The words of each term of a category."""
NUM_PERMUTATIONS = 2000
"""Permutations of the terms in the test of the spread."""
_ROUNDING = 1e-12
"""Spreads count as equal up to this rounding error."""
CAVEAT = (
    "These are a few made-up sentences. The numbers show how the model reacts to the words for a "
    "group, not how it treats tweets by or about people of that group, which differ in far more "
    "than a word. A gap beyond chance is a reason to look closer before the model is used to "
    "compare groups. The absence of a gap proves nothing: other words and sentences may show one. "
    "Terms with words that the model does not know are left out."
)
"""What the numbers can show and what they cannot."""


@dataclass(frozen=True)
class TermResult:
    """How predictions for sentences with one term differ from those with the other terms."""

    term: str
    words: tuple[str, ...]
    """Words for the term in the sentences."""
    mean_probability: float
    """Mean probability of positive."""
    difference: float
    """Mean probability of the term minus the mean over all terms of the category."""
    low: float
    """Lower end of the 95% interval of the difference. Of twenty terms without a difference, one
    is expected to have an interval that excludes 0."""
    high: float


@dataclass(frozen=True)
class GroupBias:
    """How much predictions depend on the term; ``dataclasses.asdict`` of it is JSON."""

    category: str
    """Name of the category, such as ``gender``."""
    num_templates: int
    """Number of sentences with a place for the term."""
    num_sentences: int
    """Number of texts that the templates give with all terms and wordings."""
    terms: tuple[TermResult, ...]
    """The lowest difference first."""
    unknown: tuple[str, ...]
    """Terms that are not measured: the model does not know all their words."""
    spread: float
    """The highest mean probability of a term minus the lowest. It is above 0 by chance alone, and
    grows with the number of terms: see ``chance_spread``."""
    chance_spread: float
    """1 in 20 models that treat all terms alike reaches this spread, so a smaller spread means
    nothing. If terms do differ, it is an overestimate."""
    p_value: float
    """Probability of at least this spread in a model that treats all terms alike."""
    p_adjusted: float
    """The p-value, adjusted for the number of categories by ``paired.adjust``."""
    flipped_fraction: float
    """Share of templates with a wording whose predicted label is not the same for all terms. The
    words at one position correspond in all terms, such as ``my brother`` and ``my sister``."""


def measure_group_bias(
    score: Score, *, knows: Callable[[str], bool], seed: int = 0
) -> tuple[list[GroupBias], list[str]]:
    """Compare a model's predictions for sentences that differ in the group they name.

    A term with a word that the model does not know is left out: the model cannot tell it from
    other unknown words. A network that reads characters can tell words of known characters apart.

    With p[i, k] the mean probability of the sentences of template i with term k, the difference of
    a term is the mean over templates of d[i, k] = p[i, k] - mean over k of p[i, k]. Its interval is
    Student's t interval over templates. The spread has no interval: its two terms are chosen
    because they are the furthest apart. It is tested by permuting the terms within each template
    (Pitman, "Significance tests which may be applied to samples from any populations", Supplement
    to the Journal of the Royal Statistical Society 4, 1937), which is exact.

    Args:
        score: Called once for each category. A text with a probability of at least one half counts
            as positive.
        knows: Whether the model knows all of one or a few words, such as ``my sister``.
        seed: Seed of the permutations.

    Returns:
        A result for each category (gender, nationality, religion, age) of which the model knows two
        terms or more; and the names of the other categories.
    """
    measured = []
    unmeasured = []
    for name in _CATEGORIES:
        terms = {
            term: words
            for term, words in _list_terms(name).items()
            if all(knows(word) for word in words)
        }
        if len(terms) < 2:
            unmeasured.append(name)
            continue
        sentences = _make_sentences(name, terms)
        probability = score(sentences.ravel().tolist()).reshape(sentences.shape)
        measured.append(_measure(name, probability, terms=terms, seed=seed))
    adjusted = paired.adjust([bias.p_value for bias in measured])
    results = []
    for bias, p_adjusted in zip(measured, adjusted, strict=True):
        results.append(replace(bias, p_adjusted=p_adjusted))
    return results, unmeasured


def _measure(
    category: str,
    probability: np.ndarray,
    *,
    terms: Terms,
    seed: int,
) -> GroupBias:
    """Measure one category; its p-value is not adjusted yet.

    Args:
        category: Its name.
        probability: Probability of positive of each sentence, by template, term and wording.
        terms: The measured terms.
        seed: Seed of the permutations.
    """
    by_term = probability.mean(axis=2)
    num_templates = len(by_term)
    means = by_term.mean(axis=0)
    spread = float(np.ptp(means))
    generator = np.random.default_rng(seed)
    copies = np.broadcast_to(by_term, (NUM_PERMUTATIONS, *by_term.shape))
    spreads = np.ptp(generator.permuted(copies, axis=2).mean(axis=1), axis=1)
    num_reached = int((spreads >= spread - _ROUNDING).sum())
    p_value = (num_reached + 1) / (NUM_PERMUTATIONS + 1)
    is_positive = probability >= 0.5
    is_flipped = is_positive.any(axis=1) & ~is_positive.all(axis=1)  # by template and wording
    results = _measure_terms(by_term, terms)
    return GroupBias(
        category=category,
        num_templates=num_templates,
        num_sentences=probability.size,
        terms=tuple(sorted(results, key=lambda result: result.difference)),
        unknown=tuple(term for term in _list_terms(category) if term not in terms),
        spread=spread,
        chance_spread=float(np.quantile(spreads, 0.95)),
        p_value=p_value,
        p_adjusted=p_value,
        flipped_fraction=float(is_flipped.mean()),
    )


def _measure_terms(by_term: np.ndarray, terms: Terms) -> list[TermResult]:
    """Compare each term with the mean of all terms.

    Args:
        by_term: Mean probability, by template and term.
        terms: The measured terms.
    """
    from scipy.special import stdtrit

    num_templates = len(by_term)
    means = by_term.mean(axis=0)
    differences = by_term - by_term.mean(axis=1, keepdims=True)
    error = differences.std(axis=0, ddof=1) / np.sqrt(num_templates)
    reach = error * stdtrit(num_templates - 1, 0.975)  # 2.5% on each side
    results = []
    for k, (term, words) in enumerate(terms.items()):
        difference = differences[:, k].mean()
        results.append(
            TermResult(
                term=term,
                words=words,
                mean_probability=float(means[k]),
                difference=float(difference),
                low=float(difference - reach[k]),
                high=float(difference + reach[k]),
            )
        )
    return results


def _make_sentences(category: str, terms: Terms) -> np.ndarray:
    """Fill every template.

    Returns:
        An array of texts by template, term and wording. A wording is a word of the term in a
        phrase: ``my {} neighbor``.
    """
    phrases = _CATEGORIES[category]["phrases"]
    wordings = []
    for words in terms.values():
        wordings.append([phrase.format(word) for word, phrase in product(words, phrases)])
    sentences = []
    for template in _TEMPLATES:
        by_term = []
        for of_term in wordings:
            by_term.append([begin_with_capital(template.format(wording)) for wording in of_term])
        sentences.append(by_term)
    return np.array(sentences, dtype=object)


def _list_terms(category: str) -> Terms:
    """List the words for each term of a category; a term without words stands for itself."""
    terms = _CATEGORIES[category]["terms"]
    if isinstance(terms, list):
        return {term: (term,) for term in terms}
    return {term: tuple(words) for term, words in terms.items()}
