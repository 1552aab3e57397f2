"""Ratings of ten stars: what does a model gain that knows the order of its classes?

    python benchmarks/ratings.py REVIEWS.csv.gz [--rows 20000] [--seeds 2] [--output FOLDER]
    python benchmarks/ratings.py REVIEWS.csv.gz --rows 10000 --only ordered "without class weights"

REVIEWS is ``korean_reviews.csv.gz`` with the columns ``review`` and ``rating``. For each seed the
same network and linear model are trained twice on the same rows, with ``format.ordered`` and
without, by the settings that ``sentiflow init`` writes. Both answer the same other rows. Ridge
regression of the rating on words and characters is the baseline. A further variant, which is
trained only if it is named, has an order, but no ``train.class_weights``.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.metrics import cohen_kappa_score
from sklearn.pipeline import make_pipeline, make_union

import sentiflow

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "ordered": {"format": {"ordered": True}},
    "unordered": {},
    "without class weights": {"format": {"ordered": True}, "train": {"class_weights": None}},
}
"""What each variant changes, by section."""
NUM_TEST = 20_000
"""Rows to answer."""
RATINGS = list(range(1, 11))
PLAIN: dict[str, Any] = {
    "format": {
        "kind": "csv",
        "columns": {"text": "review", "label": "rating"},
        "labels": {str(rating): str(rating) for rating in RATINGS},
    },
    "prepare": {
        "unit": "characters",
        "vocabulary": {"min_count": 2, "vectors": "random:128d"},
        "max_length": 112,
        "split": {"kind": "hash", "validation_fraction": 0.1, "test_fraction": 0.01},
    },
    "train": {
        "model": {"cell": "gru", "hidden_size": 64, "dropout": 0.3, "output_dropout": 0.5},
        "batching": {"global_batch_size": 64},
        "linear": True,
        "num_epochs": 8,
        "learning_rate": 5.0e-3,
        "selection": {"keep": "last"},
        "class_weights": "sqrt",
    },
}
"""Settings of both models."""


def draw(path: Path, num_rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw rows to train on, and other rows to answer, with other texts."""
    rows = pd.read_csv(path, usecols=["review", "rating"]).dropna()
    rows = rows.drop_duplicates("review").sample(frac=1, random_state=seed)
    return rows[:num_rows], rows[num_rows : num_rows + NUM_TEST]


def train(folder: Path, rows: Path, seed: int, changes: dict[str, Any]) -> sentiflow.Model:
    """Train a model; ``changes`` are settings by section."""
    raw: dict[str, Any] = {"name": "ratings", "output_uri": str(folder)}
    for section, settings in PLAIN.items():
        raw[section] = settings | changes.get(section, {})
    raw["prepare"]["csv"] = str(rows)
    raw["train"]["seed"] = seed
    sentiflow.prepare(raw)
    sentiflow.train(raw)
    return sentiflow.load_model(str(folder))


def measure(rating: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """Measure guesses, which may lie between two ratings."""
    measured = {"MAE": float(np.abs(guess - rating).mean())}
    if np.array_equal(guess, guess.round()):
        measured["kappa"] = cohen_kappa_score(rating, guess.astype(int), weights="quadratic")
        measured["accuracy"] = float((guess == rating).mean())
    return measured


def measure_model(model: sentiflow.Model, test: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Measure the three guesses of a model, and its probabilities."""
    rating = test["rating"].to_numpy()
    probabilities = model.predict_proba(test["review"]).astype(np.float64)
    of_class = np.array([int(name) for name in model.classes])
    place = np.searchsorted(of_class, rating)
    own = probabilities[np.arange(len(place)), place]
    median = of_class[(probabilities.cumsum(axis=1) >= 0.5).argmax(axis=1)]
    most_probable = of_class[probabilities.argmax(axis=1)]
    log_loss = float(-np.log(own.clip(1e-9)).mean())
    return {
        "most probable": measure(rating, most_probable) | {"log loss": log_loss},
        "median": measure(rating, median),
        "mean": measure(rating, probabilities @ of_class),
    }


def measure_ridge(rows: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Measure ridge regression on words and on characters."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), min_df=3, sublinear_tf=True, max_features=200_000
    )
    ridge = RidgeCV(alphas=[1.0, 3.0, 10.0], cv=3, scoring="neg_mean_absolute_error")
    model = make_pipeline(make_union(words, characters), ridge)
    model.fit(rows["review"], rows["rating"])
    guess = model.predict(test["review"]).clip(min(RATINGS), max(RATINGS))
    rating = test["rating"].to_numpy()
    return measure(rating, guess) | {
        "kappa of the rounded": cohen_kappa_score(
            rating, guess.round().astype(int), weights="quadratic"
        )
    }


def show(name: str, measured: dict[str, float]) -> None:
    """Print a line of metrics."""
    numbers = ", ".join(f"{metric} {value:.4f}" for metric, value in measured.items())
    print(f"{name}: {numbers}", flush=True)


def main() -> None:
    """Train and measure for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, help="where runs are kept; default: nowhere")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=["ridge", *VARIANTS],
        default=["ridge", "ordered", "unordered"],
        help="what is trained; default: %(default)s",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.output or Path(temporary)
        for seed in range(given.seeds):
            rows, test = draw(given.reviews, given.rows, seed)
            path = folder / f"rows-{seed}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows.to_csv(path, index=False)
            if "ridge" in given.only:
                show(f"seed {seed}, ridge", measure_ridge(rows, test))
            for name, changes in VARIANTS.items():
                if name not in given.only:
                    continue
                model = train(folder / f"{name}-{seed}", path, seed, changes)
                for guess, measured in measure_model(model, test).items():
                    show(f"seed {seed}, {name}, {guess}", measured)


if __name__ == "__main__":
    main()
