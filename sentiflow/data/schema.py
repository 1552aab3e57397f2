"""Column names, labels and Arrow schemas of every table at rest."""

import pyarrow as pa

NEGATIVE, POSITIVE, NEUTRAL = 0, 1, 2
LABEL_NAMES = ("negative", "positive", "neutral")

SPLITS = ("train", "validation", "test")

NUM_VIRTUAL_SHARDS = 8
"""The most training workers. It decides the order of training rows: to change it moves them all."""

TWEETS = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("tweet_id", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("label", pa.int8()),
    ]
)
"""Accepted rows; ``row_id`` is the record's 0-based number over all input files."""

ENCODED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
    ]
)
"""Labelled rows as ids; ``length`` is 0 where no token is known."""

REJECTED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Refused records; ``offset`` is the byte at which the record begins in ``source``."""

PREDICTIONS = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("tweet_id", pa.string()),
        pa.field("split", pa.string()),
        pa.field("label", pa.int8()),
        pa.field("prediction", pa.int8(), nullable=False),
        pa.field("probability", pa.float32(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
    ]
)
"""Scored rows; ``probability`` is that of positive, ``num_tokens`` counts the known tokens."""

FAILED = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("tweet_id", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
    ]
)
"""Accepted rows for which the model gave no answer, and why."""

VOCABULARY = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("word", pa.string(), nullable=False),
        pa.field("count", pa.int64()),
    ]
)
"""Words in id order; ``count`` is null where it is not known. Prepared data have ``vector`` too,
float32 lists, null where the pretrained vectors lack the word."""
