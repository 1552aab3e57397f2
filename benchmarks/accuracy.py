"""Test accuracy of a configuration's model against fastText and logistic regression, on one split.

    python benchmarks/accuracy.py [CSV ...] [--config configs/sentiment140.yaml] [--seeds 3]
    python benchmarks/accuracy.py airline --data DIR [--folds 5] [--seeds 3]

The second form measures three classes, see ``airline_accuracy.py``.

Without a CSV, 40,000 tweets of ``sentiflow sample`` are used. The rivals read the prepared tweets
with our tokens, so all train and test on the same rows and words. Seconds are those of training;
for sentiflow, those of the stage with the start of Ray Train. ``--set train.num_workers=2`` changes
a setting. The last line says how long sentiflow trained until its validation accuracy passed the
test accuracy of the best fastText.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import airline_accuracy
import pandas as pd
import pyarrow.dataset as ds
from answering import load_tokenizer, make_vectorizer
from measuring import import_fasttext, make_csv, sentiflow
from sklearn.linear_model import LogisticRegression

Row = tuple[str, float, float]


def run_sentiflow(
    csvs: list[str], config: str, folder: Path, *, seeds: int, changes: list[str]
) -> tuple[list[Row], list[dict], Path]:
    """Run the pipeline for each seed; returns table rows, training records, prepared tweets."""
    rows, trained = [], []
    for seed in range(seeds):
        overrides = [f"output_uri={folder}/run-{seed}", f"prepare.csv={json.dumps(csvs)}"]
        overrides += [f"tracking.uri=sqlite:///{folder}/mlflow.db", f"train.seed={seed}", *changes]
        records = json.loads(sentiflow("run", config, *overrides, "--json"))
        accuracy = records["evaluate"]["figures"]["test"]["accuracy"]
        rows.append((f"sentiflow, seed {seed}", accuracy, records["train"]["seconds"]))
        trained.append(records["train"])
    return rows, trained, folder / "run-0/prepared/tweets"


def seconds_to_pass(record: dict, accuracy: float) -> float:
    """Sum the seconds of the epochs until the validation accuracy passed that of a rival."""
    seconds = sum(epoch["seconds"] for epoch in record["pretraining"])
    for epoch in record["history"]:
        seconds += epoch["seconds"]
        if epoch["validation_accuracy"] > accuracy:
            return seconds
    return float("nan")


def read_split(tweets: Path, split: str, *, tokenized: bool = True) -> pd.DataFrame:
    """Read the labelled rows of a split, with our tokens separated by spaces, or as they are.

    They are shuffled, because fastText trains in the order of the file.
    """
    frame = ds.dataset(tweets / f"split={split}").to_table(columns=["text", "label"]).to_pandas()
    if tokenized:
        frame = frame.assign(text=load_tokenizer()(frame["text"].tolist()))
    return frame[frame["label"].isin([0, 1])].sample(frac=1, random_state=0)


def write_fasttext(train: pd.DataFrame, path: Path) -> None:
    """Write texts with labels as fastText reads them."""
    with path.open("w") as file:
        for text, label in train[["text", "label"]].itertuples(index=False):
            file.write(f"__label__{label} {' '.join(text.split())}\n")


def train_fasttext(path: Path, *, ngrams: int, characters: int, dim: int = 50, **more: int) -> Any:
    """Train fastText with word n-grams, and character n-grams of 3 to ``characters`` letters.

    Now and then it ends with "Encountered NaN" where the same command succeeds the next time.
    """
    sizes = {"dim": dim, "wordNgrams": ngrams, "minn": 3 if characters else 0, "maxn": characters}
    sizes |= {"epoch": 5, "minCount": 2, "bucket": 500_000, "verbose": 0}
    for tries_left in (3, 2, 1, 0):
        try:
            return import_fasttext().train_supervised(str(path), **sizes, **more)
        except RuntimeError:
            if not tries_left:
                raise
    raise AssertionError


def run_fasttext(
    train: pd.DataFrame, test: pd.DataFrame, folder: Path, ngrams: int, characters: int
) -> Row:
    """Train fastText and compute its accuracy."""
    write_fasttext(train, folder / "fasttext.txt")
    began = time.perf_counter()
    model = train_fasttext(folder / "fasttext.txt", ngrams=ngrams, characters=characters)
    seconds = time.perf_counter() - began
    labels, _ = model.predict(test["text"].tolist())
    right = [a[0] == f"__label__{b}" for a, b in zip(labels, test["label"], strict=True)]
    letters = f", characters 3 to {characters}" if characters else ""
    return f"fastText, {ngrams}-grams{letters}", sum(right) / len(right), seconds


def make_regression() -> LogisticRegression:
    """Make the rival that is not trained yet."""
    return LogisticRegression(C=2.0, max_iter=300)


def run_logistic_regression(train: pd.DataFrame, test: pd.DataFrame) -> Row:
    """Train logistic regression on TF-IDF of words and bigrams."""
    began = time.perf_counter()
    vectorizer, model = make_vectorizer(min_df=2), make_regression()
    model.fit(vectorizer.fit_transform(train["text"]), train["label"])
    seconds = time.perf_counter() - began
    accuracy = model.score(vectorizer.transform(test["text"]), test["label"])
    return "TF-IDF, 2-grams, logistic regression", accuracy, seconds


def main() -> None:
    """Run all and print a table."""
    if sys.argv[1:2] == ["airline"]:
        airline_accuracy.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("csv", nargs="*")
    parser.add_argument("--config", default="configs/sentiment140.yaml")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    import_fasttext()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        csvs = [str(Path(csv).resolve()) for csv in arguments.csv]
        if not csvs:
            csvs = [str(make_csv(folder / "sample.csv", 40_000, seed=0))]
        ours, trained, tweets = run_sentiflow(
            csvs, arguments.config, folder, seeds=arguments.seeds, changes=arguments.set
        )
        train, test = read_split(tweets, "train"), read_split(tweets, "test")
        kinds = ((1, 0), (2, 0), (2, 5))
        rivals = [run_fasttext(train, test, folder, *kind) for kind in kinds]
        mean = statistics.mean(accuracy for _, accuracy, _ in ours)
        seconds = statistics.mean(seconds for *_, seconds in ours)
        rows = [*ours, (f"sentiflow, mean of {len(ours)}", mean, seconds), *rivals]
        rows.append(run_logistic_regression(train, test))
    print(f"{len(train):,} train, {len(test):,} test rows")
    print(f"{'model':<38} {'test accuracy':>13} {'train seconds':>14}")
    for model, accuracy, seconds in rows:
        print(f"{model:<38} {accuracy:>13.4f} {seconds:>14.1f}")
    best = max(accuracy for _, accuracy, _ in rivals)
    passing = [f"{seconds_to_pass(record, best):.1f}" for record in trained]
    print(f"seconds of training to pass fastText's {best:.4f}: {', '.join(passing)}")


if __name__ == "__main__":
    main()
