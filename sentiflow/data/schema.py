"""Column names, labels and Arrow schemas of every table at rest."""

from collections.abc import Sequence

import pyarrow as pa

from sentiflow.config.class_names import BINARY as BINARY

LABEL_NAMES = ("negative", "positive", "neutral")
"""The classes of Sentiment140, in the order of their labels."""
NEGATIVE = 0
POSITIVE = 1
NEUTRAL = 2
"""Positions in ``LABEL_NAMES``."""

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = SPLITS
SPLIT_VALUES: dict[str, str | None] = {
    "train": None,
    "training": None,
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "holdout": "test",
    "heldout": "test",
}
"""Values of the column ``prepare.split.column`` in lower case, and the split that each one names.
None stands for train. A split that no row names is drawn from the rows of train."""

TWEETS = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("tweet_id", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("label", pa.int8()),
    ]
)
"""Accepted rows; ``row_id`` is the 0-based number of the record over all input files."""

ENCODED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
    ]
)
"""Labelled rows as token ids; ``length`` is 0 if no token is known."""

UNLABELLED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
    ]
)
"""Unlabelled texts, also as token ids; ``row_id`` is the 0-based number of the record over all
files of ``prepare.unlabelled``."""

TAUGHT = pa.schema(
    [
        *ENCODED,
        pa.field("text", pa.string(), nullable=False),
        pa.field("teacher", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Rows that a distilled network learns.

- ``row_id``: as in ``TWEETS``; -1 - n for text n of ``prepare.unlabelled``.
- ``label``: a position in the classes of the network; -1 for excerpts and unlabelled texts.
- ``teacher``: the probability of each class, averaged over the teachers that have answered the row.
  Without an answer the label has probability 1.
"""

HELD_OUT = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("teacher", pa.list_(pa.float32()), nullable=False),
    ]
)
"""The teachers' answers to validation and test rows; only the evaluation reads them."""

REJECTED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Rejected records; ``offset`` is the position of the record in ``source``, in bytes."""

PROBABILITY = "probability_"
"""Prefix of the columns of probabilities."""
PREDICTIONS_VERSION = 3
"""Changes whenever the same corpus and model would give other predictions or other columns."""


def predictions(
    classes: Sequence[str], *, has_unsure: bool = False, is_ordered: bool = False
) -> pa.Schema:
    """Describe scored rows.

    Args:
        classes: The classes of the model.
        has_unsure: Whether the model marks uncertain predictions in the column ``unsure``.
        is_ordered: Whether the classes have an order and numbers.

    Columns:
        ``label`` and ``prediction``: positions in one list: the model's classes, then classes that
            only the corpus has.
        ``confidence``: the probability of the prediction.
        ``probability``: the probability of positive, if the model has this class.
        ``expected_rating``: of ordered classes, the mean of their numbers by probability.
        ``median_label``: of ordered classes, the first at which the probabilities sum to one half.
        ``num_tokens``: the number of known tokens.
        ``model_version``: the version of the model in the registry, or the fingerprint of a package
            that is not from a registry.
    """
    fields = [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("tweet_id", pa.string()),
        pa.field("split", pa.string()),
        pa.field("label", pa.int8()),
        pa.field("prediction", pa.int8(), nullable=False),
        pa.field("predicted_label", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
    ]
    if BINARY[POSITIVE] in classes:
        fields.append(pa.field("probability", pa.float32(), nullable=False))
    for name in classes:
        fields.append(pa.field(f"{PROBABILITY}{name}", pa.float32(), nullable=False))
    if is_ordered:
        fields.append(pa.field("expected_rating", pa.float32(), nullable=False))
        fields.append(pa.field("median_label", pa.string(), nullable=False))
    fields.append(pa.field("num_tokens", pa.int32(), nullable=False))
    if has_unsure:
        fields.append(pa.field("unsure", pa.bool_(), nullable=False))
    fields.append(pa.field("model_version", pa.string(), nullable=False))
    return pa.schema(fields)


VOCABULARY = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("word", pa.string(), nullable=False),
        pa.field("count", pa.int64()),
    ]
)
"""Words in the order of their ids; ``count`` is null if unknown. Prepared data also have the column
``vector``: a list of float32, null if the word has no pretrained vector."""
