"""Scored corpora whose truth is known, without a model."""

import numpy as np
import pyarrow as pa
from stages import publish

from sentiflow.config import settings
from sentiflow.data.output_spec import OutputSpec
from sentiflow.storage import parquet

CLASSES = ("negative", "positive", "neutral")
AIRLINES = np.array(["Delta", "Southwest", "United", "Virgin"])
NEGATIVE = np.array([0.5, 0.5, 0.8, 0.3])
MODEL = {
    "model": {"cell": "gru", "hidden_size": 6, "bidirectional": True, "pooling": "last"},
    "tokenizer": "tweet",
    "max_length": 20,
    "vocabulary_size": 1234,
    "classes": list(CLASSES),
}


def draw(num_rows, *, seed=3, num_days=10):
    """Draw rows of four airlines; returns their table, and the true classes.

    The model finds too few texts negative, and its probabilities are too low for them.
    """
    rng = np.random.default_rng(seed)
    airline = rng.choice(4, num_rows, p=[0.4, 0.3, 0.2, 0.1])
    rest = (1 - NEGATIVE[airline]) / 2
    shares = np.stack([NEGATIVE[airline], rest, rest], axis=1)
    truth = (shares.cumsum(axis=1)[:, :2] < rng.random((num_rows, 1))).sum(axis=1)
    logits = rng.normal(size=(num_rows, 3)) + 2 * np.eye(3)[truth] - np.array([1.5, 0, 0])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    day = rng.integers(0, num_days, num_rows)
    created = np.datetime64("2015-02-16T12:00:00", "us") + day * np.timedelta64(1, "D")
    columns = {
        "row_id": np.arange(num_rows),
        "split": pa.nulls(num_rows, pa.string()),
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        **{
            f"probability_{name}": probabilities[:, number].astype(np.float32)
            for number, name in enumerate(CLASSES)
        },
        "airline": AIRLINES[airline],
        "created": created,
        "text": [f"text number {number}" for number in range(num_rows)],
    }
    return pa.table(columns), truth


STARS = ("1", "2", "3", "4", "5")
OF_BRAND = np.array([3.4, 3.4, 2.6])
"""The mean of latent ratings by brand."""


def draw_stars(num_rows, *, seed=5, num_weeks=12, change=0.0):
    """Draw ratings of three brands; returns their table, and the true classes.

    The model finds the ratings too high. From the middle of the weeks on, they change.
    """
    rng = np.random.default_rng(seed)
    brand = rng.choice(3, num_rows, p=[0.5, 0.3, 0.2])
    week = rng.integers(0, num_weeks, num_rows)
    latent = OF_BRAND[brand] + change * (week >= num_weeks // 2) + 1.2 * rng.normal(size=num_rows)
    truth = np.clip(np.round(latent), 1, 5).astype(int) - 1
    seen = latent + 0.8 + 0.9 * rng.normal(size=num_rows)
    logits = -((seen[:, None] - np.arange(1, 6)) ** 2)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    created = np.datetime64("2026-01-05T12:00:00", "us") + week * np.timedelta64(7, "D")
    columns = {
        "row_id": np.arange(num_rows),
        "split": pa.nulls(num_rows, pa.string()),
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        **{
            f"probability_{name}": probabilities[:, number].astype(np.float32)
            for number, name in enumerate(STARS)
        },
        "airline": np.array(["one", "two", "three"])[brand],
        "created": created,
    }
    return pa.table(columns), truth


def score(
    folder,
    table,
    label=None,
    *,
    rows_per_file=4000,
    keep=(),
    rows_of=None,
    form=None,
    has_row_ids=False,
    classes=CLASSES,
    values=None,
    **inputs,
):
    """Publish predictions as scoring does; ``label`` has -1 for none. Returns their directory.

    ``rows_of`` has the number of rows of each version, one after the other; ``form`` is the format
    of the input files; with ``has_row_ids`` they have their own ids; ``values`` are the numbers of
    ordered classes.
    """
    uri, files = str(folder / "scored"), []
    label = np.full(len(table), -1) if label is None else label
    table = table.append_column("label", pa.array(label, pa.int8(), mask=label < 0))
    if rows_of:
        version = np.repeat([*rows_of], [*rows_of.values()])
        table = table.append_column("model_version", pa.array(version))
    for number, start in enumerate(range(0, len(table), rows_per_file)):
        path = f"predictions/part-{number:05d}.parquet"
        files += parquet.write_part(uri, path, table.slice(start, rows_per_file))
    kept = [name for name in ("airline", "created", "text", *keep) if name in table.column_names]
    described_model = MODEL | {"classes": list(classes)}
    if values:
        described_model["class_values"] = list(values)
    model = {
        "uri": "/gone",
        "fingerprint": f"c0ffee{values or ''}",
        "training": None,
        "settings": described_model,
    }
    name = "corpus.parquet" if has_row_ids else "corpus.csv"
    item = {"uri": f"/data/{name}", "bytes": 1, "modified_ns": 1, "tree_sha256": "c5f0"}
    corpus = {"fingerprint": "c5f0", "files": [item]}
    described = {"text_column": "text", "keep_columns": kept, "format": form or {}}
    inputs = {"model": model, "corpus": corpus} | inputs
    spec = OutputSpec("score", uri, described, inputs)
    types = {name: str(table.schema.field(name).type) for name in kept}
    counts, more = {"accepted": len(table)}, {"has_row_ids": has_row_ids}
    if rows_of:
        more["models"] = {
            name: model | {"uri": f"models:/test/{name}", "fingerprint": f"c0ffee{name}"}
            for name in rows_of
        }
        more["scorings"], first = [], 0
        for name, rows in rows_of.items():
            scoring = {"first_part": first // rows_per_file, "first_file": 0, "num_files": 0}
            more["scorings"].append(scoring | {"model_version": name, "rows": rows})
            first += rows
    if values:
        more["class_values"] = list(values)
    publish(spec, files=files, counts=counts, classes=list(classes), kept_types=types, **more)
    return uri


def load(folder, **trends):
    """Load the settings for the shares of a corpus in a folder."""
    raw = {"name": "test", "output_uri": str(folder), "trends": trends}
    return settings.load(raw, command="trends")
