"""Accuracy and macro F1 of three classes over folds: from scratch, transferred, the baseline.

    python benchmarks/accuracy.py --data DIR [--folds 5] [--seeds 3] [--output DIR]

``DIR`` has ``airline_tweets.csv``, ``semeval_tweets.csv``, ``sentiment140_a.csv`` and
``sentiment140_b.csv``. Texts are divided into folds by their hash. Each fold is the test split
once. One in twenty of the other texts is for validation, and the models are trained on the rest.
For each fold and seed, two models are trained with ``configs/airline.yaml``: one from scratch, and
one from a model of ``configs/sentiment140.yaml``. The table has means over folds and seeds.

With ``--output`` the same command continues after an interruption. ``--seeds 0`` measures only the
baseline of the reports. ``frontier.py`` compares the accuracy of two classes.
"""

import statistics
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import accuracy_score, f1_score

import sentiflow
from sentiflow.data.arrays import hash_strings, normalize_text
from sentiflow.evaluation import tfidf

TRAIN = "2001-01-01"
"""Time of the train rows. With three times, ``split.kind: time`` gives each split one of them."""
VALIDATION = "2002-01-01"
"""Time of the validation rows."""
TEST = "2003-01-01"
"""Time of the test rows."""
AIRLINE = measuring.CONFIGS / "airline.yaml"
TWO_CLASSES = measuring.CONFIGS / "sentiment140.yaml"


def read(csv: Path) -> pd.DataFrame:
    """Read texts and labels."""
    return pd.read_csv(csv, dtype=str, keep_default_na=False)[["text", "sentiment"]]


def divide(rows: pd.DataFrame, *, num_folds: int) -> Iterator[pd.DataFrame]:
    """Assign the rows to splits, once for each fold; equal texts are in the same split."""
    hashes = hash_strings(normalize_text(pa.array(rows["text"], pa.string())))
    fold = hashes % num_folds
    twentieth = hashes // num_folds % 20
    part_of_others = np.where(twentieth == 0, VALIDATION, TRAIN)
    for number in range(num_folds):
        part = np.where(fold == number, TEST, part_of_others)
        yield rows.assign(part=part)


def prepare(rows: pd.DataFrame, output: Path) -> None:
    """Prepare a fold with the settings of ``configs/airline.yaml``."""
    csv = output.with_suffix(".csv")
    if not csv.exists():
        rows.to_csv(csv, index=False)
    changes = {
        "prepare.csv": csv,
        "prepare.keep_columns": [],
        "prepare.split": {"kind": "time"},
        "format.columns": {"text": "text", "label": "sentiment", "time": "part"},
    }
    measuring.run_job("prepare", output, changes, config=AIRLINE)


def train(fold: Path, *, seed: int, source: Path | None) -> sentiflow.Model:
    """Train with the settings of ``configs/airline.yaml`` on a prepared fold.

    Args:
        fold: The directory of the fold.
        seed: The seed of the training.
        source: The model to start from. None: from scratch.
    """
    name = "transferred" if source else "from_scratch"
    output = fold / f"{name}-{seed}"
    changes = {
        "train.prepared_uri": fold / "prepared",
        "train.seed": seed,
        "train.init_from": source,
    }
    measuring.run_job("train", output, changes, config=AIRLINE)
    return sentiflow.load_model(output)


def predict_by_model(model: sentiflow.Model, text: pd.Series) -> np.ndarray:
    """Predict by a model of ours."""
    return model.predict(text)["predicted_label"].to_numpy()


def predict_by_baseline(train: pd.DataFrame, text: pd.Series) -> np.ndarray:
    """Predict by the baseline of the reports, trained on the same rows."""
    names, label = np.unique(train["sentiment"], return_inverse=True)
    train_text = pa.array(train["text"], pa.string())
    test_text = pa.array(text, pa.string())
    prediction = tfidf.predict(train_text, label, test_text).prediction
    return names[prediction]


def measure(
    predict: Callable[[pd.Series], np.ndarray], tests: dict[str, pd.DataFrame]
) -> measuring.Figures:
    """Measure a model on the test rows of each corpus."""
    figures = {}
    for corpus, test in tests.items():
        found = predict(test["text"])
        figures[f"{corpus} accuracy"] = accuracy_score(test["sentiment"], found)
        figures[f"{corpus} macro F1"] = f1_score(test["sentiment"], found, average="macro")
    return figures


def measure_folds(folder: Path, options: Namespace) -> Iterable[measuring.Table]:
    """Train and measure all models on all folds; print the table after each."""
    if not options.data:
        print("the accuracy is not measured, which needs real tweets: --data DIR")
        return ()
    data = options.data.resolve()
    folder = (options.output or folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.seeds:
        csv = [data / "sentiment140_a.csv", data / "sentiment140_b.csv"]
        for verb in ("prepare", "train"):
            measuring.run_job(verb, folder / "source", {"prepare.csv": csv}, config=TWO_CLASSES)
    rounds: dict[str, list[measuring.Figures]] = defaultdict(list)
    semeval = read(data / "semeval_tweets.csv")
    airline = read(data / "airline_tweets.csv")
    for number, rows in enumerate(divide(airline, num_folds=options.folds)):
        splits = dict(list(rows.groupby("part")))
        tests = {"airline": splits[TEST], "semeval": semeval}
        baseline = partial(predict_by_baseline, splits[TRAIN])
        rounds["baseline"].append(measure(baseline, tests))
        fold = folder / f"fold-{number}"
        prepare(rows, fold)
        for seed in range(options.seeds):
            for name, source in (("from scratch", None), ("transferred", folder / "source")):
                model = train(fold, seed=seed, source=source)
                rounds[name].append(measure(partial(predict_by_model, model), tests))
        measuring.show(f"{number + 1} folds", rounds, statistics.mean)
    return ()


if __name__ == "__main__":
    measuring.main(__doc__, measure_folds, data=Path, folds=5, seeds=3, output=Path)
