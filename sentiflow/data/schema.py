"""Column names, labels and Arrow schemas of every table at rest."""

from collections.abc import Sequence

import pyarrow as pa

from sentiflow.config.class_names import BINARY as BINARY

NEGATIVE, POSITIVE, NEUTRAL = 0, 1, 2
LABEL_NAMES = ("negative", "positive", "neutral")

SPLITS = ("train", "validation", "test")
SPLIT_VALUES: dict[str, str | None] = {
    **dict.fromkeys(("train", "training")),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "holdout", "heldout"), "test"),
}
"""The split that a value of ``prepare.split.column`` names, in lower case; None for train, of which
others may be drawn."""

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
"""Rows that a distilled network learns. ``label`` is a position in its classes, or -1 of an excerpt
and of text n of ``prepare.unlabelled``, whose ``row_id`` is -1 - n; ``teacher`` has the mean
probability of each class over the teachers that have answered the row, and where none has, 1 for
its label."""

HELD_OUT = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("teacher", pa.list_(pa.float32()), nullable=False),
    ]
)
"""The teachers' answers to validation and test rows, for the evaluation alone."""

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

PREDICTIONS_VERSION = 3
"""Changes whenever the same corpus and model would give other predictions or other columns."""


def predictions(classes: Sequence[str], *, has_unsure: bool = False) -> pa.Schema:
    """Describe scored rows.

    Args:
        classes: Those of the model. ``label`` and ``prediction`` are positions in the list of these
            and of those that only the corpus has. ``confidence`` is the probability of the
            prediction, ``probability`` that of positive, if the model has this class;
            ``num_tokens`` counts the known tokens; ``model_version`` is the number of the model in
            the registry, or the fingerprint of a package that is not from there.
        has_unsure: Whether the model leaves some texts to people.
    """
    names = ["confidence", *(["probability"] if BINARY[POSITIVE] in classes else [])]
    names += [f"probability_{name}" for name in classes]
    return pa.schema(
        [
            pa.field("row_id", pa.int64(), nullable=False),
            pa.field("tweet_id", pa.string()),
            pa.field("split", pa.string()),
            pa.field("label", pa.int8()),
            pa.field("prediction", pa.int8(), nullable=False),
            pa.field("predicted_label", pa.string(), nullable=False),
            *(pa.field(name, pa.float32(), nullable=False) for name in names),
            pa.field("num_tokens", pa.int32(), nullable=False),
            *([pa.field("unsure", pa.bool_(), nullable=False)] if has_unsure else []),
            pa.field("model_version", pa.string(), nullable=False),
        ]
    )


VOCABULARY = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("word", pa.string(), nullable=False),
        pa.field("count", pa.int64()),
    ]
)
"""Words in the order of their ids; ``count`` is null if unknown. Prepared data have ``vector``:
lists of float32, null if the word has no pretrained vector."""
