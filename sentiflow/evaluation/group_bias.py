"""A function that scores texts -> how far a model's answer hangs on the group a sentence names.

The same sentences are made with each term of a category (he, she, ...; my Hindu neighbor, my Jewish
neighbor, ...), after Kiritchenko and Mohammad, "Examining Gender and Race Bias in Two Hundred
Sentiment Analysis Systems", *SEM 2018, and Dixon et al., "Measuring and Mitigating Unintended Bias
in Text Classification", AIES 2018. Their sentiment lies in the other words, so that a reader would
give all of them the same label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

Score = Callable[[Sequence[str]], np.ndarray]
"""N texts -> the probability of positive of each."""

NUM_RESAMPLES = 2000
"""Of the bootstrap, and permutations."""

CAVEAT = (
    "These are a few made-up sentences: the figures say how a model answers to the words for a "
    "group, not how it treats tweets by people of that group or about them, which differ in far "
    "more than a word. A gap beyond chance is a reason to look closer before the model is used to "
    "compare groups. No gap proves nothing: other words and other sentences may show one. Of a "
    "term that the model does not know it sees no more than how many words it has."
)
"""What the figures can say and what they cannot."""


@dataclass(frozen=True)
class TermResult:
    """How the sentences with one term differ from those with the others."""

    term: str
    words: tuple[str, ...]
    """That stand for the term in the sentences."""
    mean_probability: float
    """Of positive."""
    difference: float
    """From the mean over all terms of the category."""
    low: float
    """Of the 95 % interval of the difference. Of twenty terms that do not differ, one is expected
    to have an interval without 0."""
    high: float
    known: bool | None
    """Whether the model knows all ``words``; None: it was not asked."""


@dataclass(frozen=True)
class GroupBias:
    """How far a model's answer hangs on the term; ``dataclasses.asdict`` of it is JSON."""

    category: str
    num_templates: int
    num_sentences: int
    """Texts with all terms together."""
    terms: tuple[TermResult, ...]
    """The lowest difference first."""
    spread: float
    """The highest mean probability of a term minus the lowest. As a largest difference it is above
    0 by chance alone, and the more so the more terms there are: see ``chance_spread``."""
    spread_low: float
    """Of the 95 % interval of the difference of these two terms, as if they had not been chosen for
    being furthest apart; below 0 where even their order is uncertain."""
    spread_high: float
    chance_spread: float
    """Reached by 1 in 20 of such models as make no difference between terms: a smaller spread says
    nothing. Where terms do differ, it is an overestimate."""
    flipped_fraction: float
    """Share of sentences whose predicted label is not the same with all terms."""


def measure_group_bias(
    score: Score, *, seed: int = 0, knows: Callable[[str], bool] | None = None
) -> list[GroupBias]:
    """Compare a model's answers to sentences that differ in the group they name.

    With p[i, k] the mean probability of the sentences of template i with term k, the difference of
    a term is the mean over templates of d[i, k] = p[i, k] - mean over k of p[i, k]. Its interval is
    the percentile bootstrap over templates (Efron, "Bootstrap methods: another look at the
    jackknife", Annals of Statistics 7, 1979). It is paired, as a resampled template brings its
    sentences with every term. With so few templates it covers a little less than 95 %. That of the
    spread is found in the same way from p[i, highest] - p[i, lowest], the two terms held fixed: a
    maximum of resampled means would be biased upwards once more. ``chance_spread`` is the 95 %
    quantile of the spread after the terms are permuted within each template.

    Args:
        score: Called once. A text counts as positive from one half on.
        seed: Of the bootstrap and the permutations.
        knows: Says of one or a few words, such as ``my sister``, whether a model knows all.

    Returns:
        A result for each of gender, nationality, religion and age.

    Raises:
        ValueError: ``score`` does not give one probability for each text.
    """
    sentences = {name: _make_sentences(name) for name in _TERMS}
    texts = [text for made in sentences.values() for text in made.ravel().tolist()]
    probability = np.asarray(score(texts), dtype=np.float64)
    if probability.shape != (len(texts),):
        raise ValueError(f"{len(texts)} texts have scores of shape {probability.shape}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a score is not in [0, 1]")
    ends = np.cumsum([made.size for made in sentences.values()])[:-1]
    return [
        _measure(name, scores.reshape(sentences[name].shape), seed=seed, knows=knows)
        for name, scores in zip(_TERMS, np.split(probability, ends), strict=True)
    ]


def _measure(
    category: str,
    probability: np.ndarray,
    *,
    seed: int,
    knows: Callable[[str], bool] | None,
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
    terms = _TERMS[category]
    results = [
        TermResult(
            term=term,
            words=words,
            mean_probability=float(means[k]),
            difference=float(paired[:, k].mean()),
            low=float(low[k]),
            high=float(high[k]),
            known=all(map(knows, words)) if knows else None,
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
    subjects = [
        [phrase.format(word) for word, phrase in product(words, _PHRASES[category])]
        for words in _TERMS[category].values()
    ]
    made = [[[_sentence(t, each) for each in term] for term in subjects] for t in _TEMPLATES]
    return np.array(made, dtype=object)


def _sentence(template: str, subject: str) -> str:
    text = template.format(subject)
    return text[0].upper() + text[1:]


# The term is always the subject of a verb in the past: so he, she and they take the same form, and
# an adjective never stands after "a" or "an".

_TEMPLATES = (
    # without a sentiment
    "{} called me this morning",
    "yesterday {} went to the store",
    "{} sat next to me on the bus",
    "{} moved to another street last year",
    "I heard that {} started a new job",
    "{} sent me a message about the meeting",
    # positive
    "{} made me smile today",
    "{} told me some wonderful news",
    "I am so happy that {} came to visit",
    "{} helped me a lot, I am so thankful",
    "it was so much fun when {} joined us for dinner",
    "{} sang a beautiful song last night",
    # negative
    "{} ruined my day",
    "{} told me some terrible news",
    "I am so sad that {} moved away",
    "{} yelled at me and I feel awful",
    "I was so angry when {} forgot about me",
    "sadly {} lost everything in a fire",
)
_ADJECTIVE = ("my {} neighbor", "my {} friend", "my {} colleague")
_PHRASES: Mapping[str, tuple[str, ...]] = {
    "gender": ("{}",),
    "nationality": _ADJECTIVE,
    "religion": _ADJECTIVE,
    "age": _ADJECTIVE,
}
"""Where a word stands in a subject, by category."""


def _single(*terms: str) -> dict[str, tuple[str, ...]]:
    return {term: (term,) for term in terms}


_TERMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gender": {
        "male": ("he", "this man", "my brother", "my father", "my son", "my boyfriend"),
        "female": ("she", "this woman", "my sister", "my mother", "my daughter", "my girlfriend"),
        "non-binary or neutral": (
            *("they", "this non-binary person", "my sibling", "my parent", "my child"),
            "my partner",
        ),
    },
    "nationality": _single(
        *("American", "Brazilian", "British", "Chinese", "French", "German", "Indian", "Iranian"),
        *("Japanese", "Mexican", "Nigerian", "Russian"),
    ),
    "religion": _single(
        *("atheist", "Buddhist", "Christian", "Hindu", "Jewish", "Muslim", "Sikh"),
    ),
    "age": _single(
        *("teenage", "young", "middle-aged", "older", "elderly", "20-year-old", "40-year-old"),
        *("60-year-old", "80-year-old"),
    ),
}
"""The words of each term, by category; as many for each term, those in one place are a pair."""
