"""Make a corpus, and the answers of a language model that finds too many texts negative.

The language model is a fake: it knows the truth, and errs as models do. ``docs/language_model.md``
shows what follows::

    python examples/language_model.py make
    python examples/language_model.py label to_label.csv
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

NUM_ROWS = 20_000
CONFIG = """\
name: reviews
output_uri: runs/reviews
format:
  kind: csv
  columns: {text: text, time: created}
train:
  classes: [negative, positive]
score:
  corpus: reviews.csv
  predictions: answers.csv
  keep_columns: [shop, time, text]
trends:
  by: [shop, "time:month"]
"""


def make() -> None:
    """Write ``reviews.csv``, ``answers.csv`` and ``reviews.yaml``; keep the truth aside."""
    rng = np.random.default_rng(0)
    month = rng.integers(0, 12, NUM_ROWS)
    is_negative = rng.random(NUM_ROWS) < 0.30 + 0.015 * month
    # Of the negative texts it misses some, and it calls more of the positive ones negative.
    is_called_so = np.where(is_negative, rng.random(NUM_ROWS) < 0.92, rng.random(NUM_ROWS) < 0.21)
    days = rng.integers(0, 28, NUM_ROWS)
    created = pd.to_datetime("2025-01-01") + pd.to_timedelta(30 * month + days, unit="D")
    word = np.where(is_negative, "late", "quick")
    text = [f"order {number}: {word[number]} delivery" for number in range(NUM_ROWS)]
    shop = rng.choice(["Berlin", "Lyon", "Porto"], NUM_ROWS)
    reviews = pd.DataFrame({"text": text, "shop": shop, "created": created})
    reviews.to_csv("reviews.csv", index=False)
    answers = pd.DataFrame({"row_id": np.arange(NUM_ROWS)})
    answers["predicted_label"] = np.where(is_called_so, "negative", "positive")
    answers.to_csv("answers.csv", index=False)
    Path("reviews.yaml").write_text(CONFIG)
    print(f"{NUM_ROWS:,} reviews, of which {is_negative.mean():.1%} are negative")
    print(f"{is_called_so.mean():.1%} are called negative by the language model")


def label(path: str) -> None:
    """Label the rows of a file as a careful person does."""
    rows = pd.read_csv(path)
    rows["label"] = np.where(rows["text"].str.contains("late"), "negative", "positive")
    rows.to_csv(path, index=False)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make()
    else:
        label(sys.argv[2])
