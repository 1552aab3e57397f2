"""Counts of words + word vectors -> the vocabulary, and a report on words that are unknown."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import PrepareSettings
from sentiflow.data.manifest_types import Counts, VocabularyReport
from sentiflow.models import vocabulary
from sentiflow.storage.uris import display_uri
from sentiflow.words import word_vectors

log = logging.getLogger(__name__)

_FEW_VECTORS = 0.5
"""A warning says so if a smaller share of the words has a vector."""

_NUM_WORDS = 20
"""Words listed in the out-of-vocabulary report."""


def fit(
    counts: pa.Table, vectors: word_vectors.WordVectors, settings: PrepareSettings
) -> tuple[vocabulary.Vocabulary, VocabularyReport]:
    """Choose the words and the vector of each; also report which frequent words are unknown."""
    section = settings.vocabulary
    if section.kind == "pretrained":
        words = vocabulary.from_words(vectors.words)
    else:
        words = vocabulary.fit(counts, min_count=section.min_count, max_size=section.max_size)
    every = pa.concat_arrays([words.words, counts["word"].combine_chunks()])
    rows, counted = np.split(vectors.find(every), [len(words)])
    matrix = np.where((rows >= 0)[:, None], vectors.vectors[rows], np.nan).astype(np.float32)
    report: VocabularyReport = {
        "words": len(words),
        "words_with_vector": int((rows >= 0).sum()),
        "frequent_unknown": _list_frequent(counts, words.knows(counts["word"].combine_chunks())),
        "frequent_without_vector": _list_frequent(counts, counted >= 0),
        "tokens": {},
    }
    num_words = len(words) - words.num_special
    if report["words_with_vector"] < _FEW_VECTORS * num_words:
        share = f"only {report['words_with_vector']:,} of {num_words:,} words"
        log.warning("%s have a vector in %s", share, display_uri(section.vectors))
    return replace(words, vectors=matrix), report


def _list_frequent(counts: pa.Table, is_known: np.ndarray) -> list[Counts]:
    """List the most frequent words of all splits for which ``is_known`` is false."""
    total = pc.add(counts["count"], counts["held_out"])
    table = pa.table({"word": counts["word"], "count": total})
    table = table.filter(pc.and_(pc.greater(total, 0), pa.array(~is_known)))
    order = [("count", "descending"), ("word", "ascending")]
    return list(table.sort_by(order)[:_NUM_WORDS].to_pylist())
