"""Texts -> whether they are English, so that English sentences say something about a model of them.

The rule needs no model of languages: it counts the most frequent English function words.
"""

import re
from collections.abc import Sequence

FUNCTION_WORDS = frozenset(
    "the and of is you that for this with my are have not but".split()  # noqa: SIM905
)
"""Frequent words of English texts. Words that are also frequent in texts of other languages in
Latin letters, such as *in*, *a*, *was* and *me*, are left out."""
MIN_FRACTION = 0.09
"""Share of these words among all words from which texts are English. It is 0.14 to 0.20 in ten
corpora of English texts, 0.06 in a corpus of Hindi and English in the same texts, and at most 0.006
in eight corpora of other languages: docs/evaluation.md."""

_NO_WORD = re.compile(r"(?:https?://|www\.)\S+|[@#]\w+|&#?\w+;")
"""Links, mentions, hashtags and HTML entities, which are the same in every language."""
_WORD = re.compile(r"[^\W\d_]+")


def measure_function_words(texts: Sequence[str]) -> float:
    """Measure the share of English function words among the words of texts; 0 without a word.

    Example:
        >>> measure_function_words(["The food is good", "@the_cook: good food"])
        0.3333333333333333
    """
    num_words = 0
    num_function_words = 0
    for text in texts:
        words = _WORD.findall(_NO_WORD.sub(" ", text).lower())
        num_words += len(words)
        num_function_words += sum(word in FUNCTION_WORDS for word in words)
    return num_function_words / num_words if num_words else 0.0


def find_doubt(texts: Sequence[str]) -> str:
    """Say why texts do not count as English; empty if they do."""
    fraction = measure_function_words(texts)
    if fraction >= MIN_FRACTION:
        return ""
    return (
        f"the sentences to test with are English, and the texts are not: {fraction:.1%} of their "
        f"words are frequent English words such as “the” and “is”, and {MIN_FRACTION:.0%} or more "
        "are in English texts"
    )
