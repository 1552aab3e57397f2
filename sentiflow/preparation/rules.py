"""Rules of preparation -> a short hash of what each does with fixed texts, see models.rules."""

import functools

import numpy as np
import pyarrow as pa

from sentiflow.data.text_hash import CHECK_KEY, SPLIT_KEY, hash_strings, normalize_text
from sentiflow.models import rules
from sentiflow.models.rules import hash_outcome
from sentiflow.preparation import duplicates, splits


@functools.cache
def hash_rules(tokenizer: str) -> dict[str, str]:
    """Hash the outcome of the rules that decide what preparation writes.

    Returns:
        As :func:`models.rules.hash_rules`, and ``normalizing`` (texts in their normal form),
        ``hashing`` (of texts), ``splits`` and ``duplicates``.
    """
    texts = rules.texts()
    hashes = [hash_strings(texts, key=key).tolist() for key in (SPLIT_KEY, CHECK_KEY)]
    return rules.hash_rules(tokenizer) | {
        "normalizing": hash_outcome(normalize_text(texts).to_pylist()),
        "hashing": hash_outcome(hashes),
        "splits": hash_outcome(_assign()),
        "duplicates": hash_outcome(_find_duplicates()),
    }


def _assign() -> list[object]:
    hashes = np.linspace(0, 2**64 - 2**12, 1000).astype(np.uint64)
    seconds = np.array([5, 1, 1, 2, 9, 9, 4, 7, 8, 3])
    shares = {"validation_fraction": 0.2, "test_fraction": 0.15}
    bounds = splits.time_bounds(seconds, np.ones(len(seconds)), **shares)
    return [
        splits.assign_by_hash(hashes, **shares).tolist(),
        splits.assign_by_row_number(np.arange(10)).tolist(),
        splits.assign_by_time(seconds, bounds=bounds).tolist(),
    ]


def _find_duplicates() -> list[object]:
    texts = ["a", "A ", "a", "b", "b", "c", "c", "C", "d"]
    labels = [0, 0, None, 0, 1, None, 1, 1, 2]
    keys = pa.table(
        {
            "row_id": range(len(texts)),
            "label": pa.array(labels, pa.int8()),
            **duplicates.hash_texts(pa.array(texts)),
            "split": pa.array(np.arange(len(texts)) % 3, pa.int8()),
        }
    )
    found = [duplicates.find(keys, mode=mode) for mode in ("drop_contradicting", "drop")]
    return [[item.counts, item.dropped.to_pylist()] for item in found]
