"""Unknown word + the known ones -> those that are spelled most alike."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_MAX_EDITS = 2


def find_alike(word: str, known: pa.Array, *, n: int = 3) -> list[str]:
    """Name up to ``n`` known words that ``word`` may be a misspelling of; none if nothing is near.

    Its lower case comes first, if that is known; then the words that the fewest edits lead to, two
    at most and fewer for short words; of equally near ones those that stand first in ``known``. An
    edit is a letter put in, left out or replaced, or two neighbors swapped (Damerau 1964).

    Example:
        >>> find_alike("Catt", pa.array(["the", "cat", "matt", "catty", "dog"]))
        ['cat', 'matt', 'catty']
    """
    word = word.lower()
    max_edits = min(_MAX_EDITS, len(word) // 2)
    sizes = pc.utf8_length(known).to_numpy(zero_copy_only=False)
    similar = np.abs(sizes - len(word)) <= max_edits
    words = known.filter(pa.array(similar)).to_pylist()
    if not any(words):
        return []
    edits = _count_edits(word, np.array(words, np.str_), sizes[similar])
    nearest = np.argsort(edits, kind="stable")[:n]
    return [words[i] for i in nearest if edits[i] <= max_edits]


def _count_edits(word: str, others: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Count the edits that lead from ``word`` to each of the others, which have these sizes.

    The table of dynamic programming, filled for all words at once: ``table[i][j]`` holds the edits
    from the first i letters of ``word`` to the first j of each other word.
    """
    letters = others.view(np.uint32).reshape(len(others), -1).T
    wanted = np.array(list(word), np.str_).view(np.uint32)
    shape = (len(wanted) + 1, len(letters) + 1, len(others))
    table = np.zeros(shape, np.int16)
    table[:, 0] = np.arange(shape[0])[:, None]
    table[0] = np.arange(shape[1])[:, None]
    for i, j in np.ndindex(len(wanted), len(letters)):
        replaced = table[i, j] + (letters[j] != wanted[i])
        edits = np.minimum(np.minimum(table[i, j + 1], table[i + 1, j]) + 1, replaced)
        if i and j:
            swapped = (letters[j] == wanted[i - 1]) & (letters[j - 1] == wanted[i])
            edits[swapped] = np.minimum(edits, table[i - 1, j - 1] + 1)[swapped]
        table[i + 1, j + 1] = edits
    return table[-1][sizes, np.arange(len(others))]
