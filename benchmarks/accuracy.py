"""Accuracy and macro F1 of three classes over folds, from scratch and transferred, beside TF-IDF.

    python benchmarks/accuracy.py --data DIR [--folds 5] [--seeds 3] [--output DIR]

``DIR`` has ``airline_tweets.csv``, ``semeval_tweets.csv``, ``sentiment140_a.csv`` and
``sentiment140_b.csv``. Texts are divided
into folds by their hash. A fold is the test split once; of the other texts one in twenty is for
validation, and the models are trained on the rest. ``configs/airline.yaml`` trains for each fold
and seed, once from scratch and once from a model of ``configs/sentiment140.yaml``. With
``--output`` the same command continues after an interruption. ``benchmarks/frontier.py`` compares
the accuracy of two classes.
"""

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from sentiflow.data.text_hash import hash_strings, normalize_text
from sentiflow.models.package import ModelPackage

TRAIN, VALIDATION, TEST = "1", "2", "3"
"""Times of the rows: with three times, ``split.kind: time`` gives each split one of them."""

Predict = Callable[[list[str]], np.ndarray]
Scores = dict[tuple[str, str], list[float]]
"""The value of each fold and seed, by model and metric."""


def read(csv: Path) -> pd.DataFrame:
    """Read texts and labels."""
    return pd.read_csv(csv, dtype=str, keep_default_na=False)[["text", "sentiment"]]


def divide(rows: pd.DataFrame, *, num_folds: int) -> Iterator[pd.DataFrame]:
    """Assign the rows to splits, once for each fold; equal texts are in the same split."""
    hashes = hash_strings(normalize_text(pa.array(rows["text"], pa.string())))
    fold, twentieth = hashes % num_folds, hashes // num_folds % 20
    for number in range(num_folds):
        part = np.where(fold == number, TEST, np.where(twentieth == 0, VALIDATION, TRAIN))
        yield rows.assign(part=part)


def run(verb: str, config: str, output: Path, changes: dict[str, object]) -> None:
    """Run a command; one that is complete is skipped."""
    store = {"uri": f"sqlite:///{output.parent}/mlflow.db", "register_model": False}
    changes |= {"output_uri": str(output), "tracking": store}
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    measuring.sentiflow(verb, f"configs/{config}.yaml", *overrides)


def prepare(rows: pd.DataFrame, output: Path) -> None:
    """Prepare a fold with the settings of ``configs/airline.yaml``."""
    output.mkdir(parents=True, exist_ok=True)
    csv = output.with_suffix(".csv")
    if not csv.exists():
        rows.to_csv(csv, index=False)
    changes = {"prepare.csv": str(csv), "prepare.keep_columns": []}
    columns = {"text": "text", "label": "sentiment", "time": "part"}
    changes |= {"prepare.split": {"kind": "time"}, "format.columns": columns}
    run("prepare", "airline", output, changes)


def train(fold: Path, *, seed: int, source: Path | None) -> Predict:
    """Train with the settings of ``configs/airline.yaml`` on a prepared fold."""
    output = fold / f"{'transferred' if source else 'from_scratch'}-{seed}"
    changes = {"train.prepared_uri": f"{fold}/prepared", "train.seed": seed}
    changes |= {"train.init_from": source and str(source)}
    run("train", "airline", output, changes)
    package = ModelPackage.load(str(output / "trained/model"))

    def predict(texts: list[str]) -> np.ndarray:
        scores = package.score(pa.array(texts, pa.string()))
        return np.array(scores.classes)[scores.probabilities.argmax(axis=1)]

    return predict


def tfidf(class_weight: str | None = None) -> Pipeline:
    """Logistic regression on TF-IDF of words and pairs of words, and of 2 to 5 characters."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    # C: the best of 1, 2, 4, 8 and 16 on the validation rows of two folds
    model = LogisticRegression(C=8, max_iter=1000, class_weight=class_weight)
    return make_pipeline(make_union(words, characters), model)


def measure(scores: Scores, model: str, predict: Predict, tests: dict[str, pd.DataFrame]) -> None:
    """Add a model's metrics on the test rows of each corpus."""
    for corpus, test in tests.items():
        found = predict(test["text"].tolist())
        scores[model, f"{corpus} accuracy"].append(accuracy_score(test["sentiment"], found))
        f1 = f1_score(test["sentiment"], found, average="macro")
        scores[model, f"{corpus} macro F1"].append(f1)


def run_folds(data: Path, folder: Path, *, num_folds: int, num_seeds: int) -> None:
    """Train and measure all models on all folds; print the table after each."""
    scores: Scores = defaultdict(list)
    semeval = read(data / "semeval_tweets.csv")
    for number, rows in enumerate(divide(read(data / "airline_tweets.csv"), num_folds=num_folds)):
        splits = dict(list(rows.groupby("part")))
        tests = {"airline": splits[TEST], "semeval": semeval}
        known = splits[TRAIN]
        for name, weights in (("TF-IDF", None), ("TF-IDF, balanced weights", "balanced")):
            model = tfidf(weights).fit(known["text"], known["sentiment"])
            measure(scores, name, model.predict, tests)
        fold = folder / f"fold-{number}"
        prepare(rows, fold)
        for seed in range(num_seeds):
            measure(scores, "from scratch", train(fold, seed=seed, source=None), tests)
            transferred = train(fold, seed=seed, source=folder / "source")
            measure(scores, "transferred", transferred, tests)
        show(scores)


def show(scores: Scores) -> None:
    """Print the mean of each metric, and the standard deviation over folds and seeds."""
    metrics = list(dict.fromkeys(metric for _, metric in scores))
    print(f"\n| mean ± standard deviation | {' | '.join(metrics)} |\n|---|{'---|' * len(metrics)}")
    for model in dict.fromkeys(model for model, _ in scores):
        found = [scores[model, metric] for metric in metrics]
        cells = [f"{statistics.mean(f):.4f} ± {np.std(f):.4f}" for f in found]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Train the model to start from, then the models of all folds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not options.data:
        print("the accuracy is not measured, which needs real tweets: --data DIR")
        return
    with tempfile.TemporaryDirectory() as name:
        data = options.data.resolve()
        folder = (options.output or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        csv = [str(data / f"sentiment140_{part}.csv") for part in "ab"]
        run("run", "sentiment140", folder / "source", {"prepare.csv": csv})
        figures = measuring.read_manifest(folder / "source/report")["figures"]
        accuracy = figures["test"]["accuracy"]
        print(f"two classes, configs/sentiment140.yaml: test accuracy {accuracy:.4f}", flush=True)
        run_folds(data, folder, num_folds=options.folds, num_seeds=options.seeds)


if __name__ == "__main__":
    main()
