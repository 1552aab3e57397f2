"""Finds the known words that an unknown word may be a misspelling of."""

import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz import process
from rapidfuzz.distance import OSA

_MAX_EDITS = 2


def find_similar(word: str, known: pa.Array, *, n: int = 3) -> list[str]:
    """List up to ``n`` known words that ``word`` may be a misspelling of, the most similar first.

    Similar words are at most two edits away, fewer for short words; upper case does not count. An
    edit inserts, deletes or replaces a letter, or swaps two neighbors (Damerau 1964). Equally
    similar words keep their order in ``known``.

    Example:
        >>> find_similar("Catt", pa.array(["the", "cat", "matt", "catty", "dog"]))
        ['cat', 'matt', 'catty']
    """
    word = word.lower()
    max_edits = min(_MAX_EDITS, len(word) // 2)
    size_difference = pc.abs(pc.subtract(pc.utf8_length(known), len(word)))
    words = known.filter(pc.less_equal(size_difference, max_edits)).to_pylist()
    found = process.extract(
        word, list(filter(None, words)), scorer=OSA.distance, score_cutoff=max_edits, limit=n
    )
    return [similar for similar, _, _ in found]
