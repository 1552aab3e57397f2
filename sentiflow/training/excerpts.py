"""Texts -> excerpts, from which words are left out: what a teacher is asked where texts are few.

Few train rows do not show what a teacher knows. Masked words are one of the augmentations of Tang
et al., "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", 2019.
"""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import schema
from sentiflow.data.arrays import UNSPACED, hash_texts
from sentiflow.data.manifest_types import Manifest
from sentiflow.models import tokenizer, vocabulary
from sentiflow.storage import parquet
from sentiflow.storage.uris import join
from sentiflow.training.fold_rows import Folds
from sentiflow.training.learned_classes import LearnedClasses, count_rows

EXCERPTS = "excerpts"
"""Name of their table."""
_MAX_EXCERPTS, _MAX_OF_TEXT = 12_000, 4
_LEFT_OUT = 0.6
"""Probability that a word is left out."""
_FIRST_ROW = 1 << 40
"""``row_id`` of the first one, beyond those of unlabelled texts."""
_END = "\uffff"
"""Ends a word: no character of any text."""


def count(prepared: Manifest, learned: LearnedClasses) -> int:
    """Compute how many excerpts are made of each text: none where texts are many."""
    splits = Folds.of(prepared, 0).splits
    num_rows = sum(count_rows(prepared, split, learned.names) for split in splits)
    return min(_MAX_OF_TEXT, _MAX_EXCERPTS // max(num_rows, 1))


def make(text: pa.Array, number: int) -> pa.Array:
    """Leave words out of texts, each time others; equal texts give equal excerpts.

    Args:
        text: The texts. A letter of a script without spaces counts as a word.
        number: Excerpts of each text. Those without a word, or equal to another, are left out.

    Example:
        >>> make(pa.array(["so good, thanks a lot"]), 3).to_pylist()
        ['so thanks a', 'good, a', 'thanks lot']
    """
    pattern = rf"(\s+|[{UNSPACED}]\p{{M}}*)"
    marked = pc.replace_substring_regex(text, pattern=pattern, replacement=rf"\1{_END}")
    excerpts = [
        "".join(itertools.compress(words.as_py(), is_kept)).strip()
        for key, words in zip(hash_texts(text), pc.split_pattern(marked, _END), strict=True)
        for is_kept in np.random.default_rng(key).random((number, len(words))) > _LEFT_OUT
    ]
    return pc.unique(pa.array(filter(None, excerpts), pa.string()))


def write(
    to: str, text: pa.Array, number: int, *, prepared: Manifest, prepared_uri: str
) -> dict[str, int]:
    """Write the excerpts of texts as a file of ``schema.UNLABELLED``.

    Args:
        to: The file.
        text: The texts.
        number: Excerpts of each text.
        prepared: Manifest of the prepared data.
        prepared_uri: Their directory.

    Returns:
        The file with its rows; nothing where there are none.
    """
    made = make(text, number)
    if not len(made):
        return {}
    tokens = tokenizer.tokenize(made, name=prepared["settings"]["tokenizer"])
    words = vocabulary.load(join(prepared_uri, "vocabulary.parquet"), with_vectors=False)
    encoded = words.encode(tokens, max_length=prepared["settings"]["max_length"])
    row_ids = np.arange(_FIRST_ROW, _FIRST_ROW + len(made))
    lengths = pc.list_value_length(encoded.token_ids)
    columns = [row_ids, made, encoded.token_ids, lengths]
    parquet.write(to, pa.table(columns, schema=schema.UNLABELLED))
    return {to: len(made)}
