"""Accuracy and macro F1 of three classes over folds: from scratch, transferred, the baseline.

    python benchmarks/accuracy.py --data DIR [--folds 5] [--seeds 3] [--output DIR]

``DIR`` has ``airline_tweets.csv``, ``semeval_tweets.csv``, ``sentiment140_a.csv`` and
``sentiment140_b.csv``. Texts are divided into folds by their hash. A fold is the test split once;
of the other texts one in twenty is for validation, and the models are trained on the rest.
``configs/airline.yaml`` trains for each fold and seed, once from scratch and once from a model of
``configs/sentiment140.yaml``. With ``--output`` the same command continues after an interruption.
The table has means over folds and seeds. ``--seeds 0`` measures the baseline of the reports
alone. ``frontier.py`` compares the accuracy of two classes.
"""

import statistics
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import accuracy_score, f1_score

import sentiflow
from sentiflow.data.arrays import hash_strings, normalize_text
from sentiflow.evaluation import tfidf

TRAIN, VALIDATION, TEST = "1", "2", "3"
"""Times of the rows: with three times, ``split.kind: time`` gives each split one of them."""
AIRLINE, TWO_CLASSES = (measuring.CONFIGS / f"{name}.yaml" for name in ("airline", "sentiment140"))


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


def prepare(rows: pd.DataFrame, output: Path) -> None:
    """Prepare a fold with the settings of ``configs/airline.yaml``."""
    csv = output.with_suffix(".csv")
    if not csv.exists():
        rows.to_csv(csv, index=False)
    columns = {"text": "text", "label": "sentiment", "time": "part"}
    changes = {"prepare.csv": csv, "prepare.keep_columns": [], "format.columns": columns}
    changes |= {"prepare.split": {"kind": "time"}}
    measuring.run_job("prepare", output, changes, config=AIRLINE)


def train(fold: Path, *, seed: int, source: Path | None) -> sentiflow.Model:
    """Train with the settings of ``configs/airline.yaml`` on a prepared fold."""
    output = fold / f"{'transferred' if source else 'from_scratch'}-{seed}"
    changes = {"train.prepared_uri": fold / "prepared", "train.seed": seed}
    changes |= {"train.init_from": source}
    measuring.run_job("train", output, changes, config=AIRLINE)
    return sentiflow.load_model(output)


def predict_by_baseline(train: pd.DataFrame, text: pd.Series) -> np.ndarray:
    """Predict by the baseline of the reports, trained on the same rows."""
    names, label = np.unique(train["sentiment"], return_inverse=True)
    known, further = (pa.array(texts, pa.string()) for texts in (train["text"], text))
    prediction, _ = tfidf.predict(known, label, further)
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


def measure_folds(folder: Path, options: Namespace) -> Iterable[Any]:
    """Train and measure all models on all folds; print the table after each."""
    if not options.data:
        print("the accuracy is not measured, which needs real tweets: --data DIR")
        return ()
    data, folder = options.data.resolve(), (options.output or folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    csv = [data / f"sentiment140_{part}.csv" for part in "ab"]
    for verb in ("prepare", "train") if options.seeds else ():
        measuring.run_job(verb, folder / "source", {"prepare.csv": csv}, config=TWO_CLASSES)
    rounds: dict[str, list[measuring.Figures]] = defaultdict(list)
    semeval, airline = (read(data / f"{name}_tweets.csv") for name in ("semeval", "airline"))
    for number, rows in enumerate(divide(airline, num_folds=options.folds)):
        splits = dict(list(rows.groupby("part")))
        tests = {"airline": splits[TEST], "semeval": semeval}
        rounds["baseline"].append(measure(partial(predict_by_baseline, splits[TRAIN]), tests))
        fold = folder / f"fold-{number}"
        prepare(rows, fold)
        for seed in range(options.seeds):
            for name, source in (("from scratch", None), ("transferred", folder / "source")):
                ours = train(fold, seed=seed, source=source)
                found = measure(lambda t, m=ours: m.predict(t)["predicted_label"], tests)
                rounds[name].append(found)
        measuring.show(f"{number + 1} folds", rounds, statistics.mean)
    return ()


if __name__ == "__main__":
    measuring.main(__doc__, measure_folds, data=Path, folds=5, seeds=3, output=Path)
