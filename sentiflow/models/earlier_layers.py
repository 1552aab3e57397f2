"""Logits of word n-grams, which networks of earlier versions had, so their packages answer as then.

No training makes them any more.
"""

from collections.abc import Mapping

import numpy as np

from sentiflow.models.earlier_formats import EarlierLayers
from sentiflow.models.encoded_rows import EncodedRows
from sentiflow.models.vocabulary import PAD_ID
from sentiflow.models.weight_shapes import Shapes

KEYS = "ngrams.keys"
"""Name of the only array that is int64: a number for each word, which is hashed in place of its id.
A model has it whose training began from a model with another vocabulary: its n-grams stayed the
same, although the ids of their words changed."""
_WEIGHTS = "ngrams.weights.weight"
_BIAS = "ngrams.bias"


def list_ngram_shapes(
    arrays: Mapping[str, np.ndarray],
    layers: EarlierLayers,
    *,
    vocabulary_size: int,
    num_classes: int,
) -> Shapes:
    """List the shapes of the weights of n-grams by their names.

    Args:
        arrays: The weights of the network; only some have ``KEYS``.
        layers: Its settings.
        vocabulary_size: Number of words.
        num_classes: Number of classes.
    """
    shapes: Shapes = {
        _WEIGHTS: (vocabulary_size + layers.ngram_buckets, num_classes),
        _BIAS: (num_classes,),
    }
    if KEYS in arrays:
        shapes[KEYS] = (vocabulary_size,)
    return shapes


def ngram_logits(
    rows: EncodedRows, arrays: Mapping[str, np.ndarray], layers: EarlierLayers
) -> np.ndarray:
    """Compute the logits ``(N, C)`` that the words and word n-grams of N rows add.

    The weights of an n-gram are in the bucket of its hash (Joulin et al. 2017). Their sum is
    divided by the square root of the number of n-grams.
    """
    weights = arrays[_WEIGHTS]
    places, row_of_place = _find_places(rows, arrays, layers, num_words=_count_words(arrays))
    is_used = places != PAD_ID
    places = places[is_used]
    row_of_place = row_of_place[is_used]
    columns = []
    for of_class in weights.T:
        columns.append(np.bincount(row_of_place, of_class[places], minlength=len(rows)))
    count = np.bincount(row_of_place, minlength=len(rows)).clip(min=1)
    sums = np.stack(columns, axis=1) / np.sqrt(count)[:, None]
    return sums.astype(np.float32) + arrays[_BIAS]


def _count_words(arrays: Mapping[str, np.ndarray]) -> int:
    """Count the words, whose own weights are the first ones."""
    return len(arrays["embedding.weight"])


def _find_places(
    rows: EncodedRows,
    arrays: Mapping[str, np.ndarray],
    layers: EarlierLayers,
    *,
    num_words: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the weights of each row's words and n-grams.

    Returns:
        Their positions, ``PAD_ID`` for an n-gram without weights; and the row of each.
    """
    token_ids = rows.token_ids.astype(np.int64)
    row_of_token = np.repeat(np.arange(len(rows)), rows.lengths)
    keys = arrays[KEYS][token_ids] if KEYS in arrays else token_ids
    places = [token_ids]
    row_of_place = [row_of_token]
    hashed = keys
    for n in range(2, layers.ngrams + 1):
        last = keys[n - 1 :]
        row_of_last = row_of_token[n - 1 :]
        hashed = (hashed[:-1] * 1_000_003 + last) % 2_147_483_647
        bucket = (hashed * 2_654_435_761 % 4_294_967_296 >> 8) % layers.ngram_buckets
        place = np.where(last == PAD_ID, PAD_ID, bucket + num_words)
        is_in_one_row = row_of_token[: len(row_of_last)] == row_of_last
        places.append(place[is_in_one_row])
        row_of_place.append(row_of_last[is_in_one_row])
    return np.concatenate(places), np.concatenate(row_of_place)
