"""The settings of `init` against words and characters in scikit-learn, on published corpora.

    python benchmarks/published.py FOLDER [--corpora umsab_french,banking77] [--runs 5]
        [--taught] [--unlabelled tweets.csv] [--joint] [--answers DIRECTORY]

FOLDER has one CSV for each corpus, with the columns `text`, `label` and `part` (which is not read).
The rows of a corpus are divided into folds at random. For each of the first `--runs` folds, all
models are trained on the other folds and answer this one. `sentiflow init` writes the settings of
our model. The rival is the baseline of the report: words 1-2 and characters 2-5, TF-IDF, logistic
regression, C by cross-validation.

`--taught` adds a model of the same settings with a teacher that knows the language
(`train.distill: {teachers: ["encoder:use-multilingual"], hard_weight: 0.5}`, four epochs of five
times the texts). The teacher also answers the texts of `--unlabelled`. `--joint` adds one model of
all these corpora, which must have the same labels.

The table has the macro F1 of all answered rows, and the 95% interval of the paired difference in
points. Answers are kept in `--answers`, so that a killed command continues.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

import sentiflow
from sentiflow.config import yaml_text
from sentiflow.evaluation import tfidf
from sentiflow.metrics import paired
from sentiflow.metrics.macro_f1 import macro_f1
from sentiflow.metrics.predicted import count_confusion

TAUGHT = {
    "train.distill.teachers": ["encoder:use-multilingual"],
    "train.distill.hard_weight": 0.5,
    "train.num_epochs": 4,
}
"""Settings of ``--taught``."""
Answer = Callable[[pd.DataFrame, pd.DataFrame, list[str]], np.ndarray]
"""Train rows, rows to answer, names of the classes -> the position of the class of each row."""


def train(
    rows: pd.DataFrame, test: pd.DataFrame, folder: Path, changes: dict[str, Any]
) -> sentiflow.Model:
    """Train as a first-time user who has a file of test rows does."""
    rows[["text", "label"]].to_csv(folder / "rows.csv", index=False)
    test[["text", "label"]].to_csv(folder / "test.csv", index=False)
    config = folder / "rows.yaml"
    command = [
        sys.executable, "-m", "sentiflow", "init", "rows.csv", "--test", "test.csv",
        "--label", "label", "--text", "text",
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    settings = {
        "prepare.csv": f"{folder}/rows.csv",
        "prepare.test": f"{folder}/test.csv",
        "output_uri": f"{folder}/run",
        "tracking.uri": None,
        **changes,
    }
    sentiflow.prepare(str(config), settings)
    sentiflow.train(str(config), settings)
    return sentiflow.load_model(f"{folder}/run/trained/model")


def ours(changes: dict[str, Any]) -> Answer:
    """Answer with a model of ours: the settings of `init`, with changes."""

    def answer(learned: pd.DataFrame, answered: pd.DataFrame, names: list[str]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            model = train(learned, answered, Path(folder), changes)
            predicted = model.predict(answered["text"].tolist())["predicted_label"]
        return np.array([names.index(name) for name in predicted])

    return answer


def scikit_learn(learned: pd.DataFrame, answered: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Answer with the baseline of the report."""
    train_text = pa.array(learned["text"].tolist())
    test_text = pa.array(answered["text"].tolist())
    label = np.array([names.index(name) for name in learned["label"]])
    prediction, _ = tfidf.predict(train_text, label, test_text)
    return prediction


def answer_folds(
    system: str, answer: Answer, corpora: pd.DataFrame, given: argparse.Namespace
) -> np.ndarray:
    """Answer each row by the model that was trained without its fold.

    Args:
        system: Name of the kind of model.
        answer: Trains such a model, and answers.
        corpora: The rows.
        given: The options.

    Returns:
        The position of the class of each row; -1 for rows of folds that are not answered.
    """
    answers = np.full(len(corpora), -1)
    names = sorted(corpora["label"].unique())
    for number in range(given.runs):
        is_answered = (corpora["fold"] == number).to_numpy()
        which = "+".join(corpora["corpus"].unique())
        kept = given.answers / f"{system}-{which}-{number}-of-{given.folds}.npy"
        if not kept.exists():
            began = time.monotonic()
            predicted = answer(corpora[~is_answered], corpora[is_answered], names)
            np.save(kept, predicted)
            print(f"{system} {which} {number}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        answers[is_answered] = np.load(kept)
    return answers


class Difference(NamedTuple):
    """The difference of two macro F1, in points."""

    value: float
    width: float
    """Half the width of its 95% interval."""

    @classmethod
    def of(cls, truth: np.ndarray, rival: np.ndarray, answers: np.ndarray) -> "Difference":
        """Measure the difference of a model to its rival."""
        interval = paired.f1_macro_difference(
            label=truth,
            first=rival,
            second=answers,
            num_classes=int(truth.max()) + 1,
            num_resamples=1000,
        )
        assert interval is not None, "each class occurs"
        return cls(value=100 * interval.value, width=50 * (interval.high - interval.low))


@dataclass(frozen=True)
class Result:
    """The figures of all models on a corpus."""

    scores: list[float]
    """Macro F1 of each model."""
    differences: list[Difference]
    """Of our model to the linear one, then of each other model to ours."""
    accuracies: list[float]
    """Accuracy of each model."""

    @classmethod
    def of(cls, truth: np.ndarray, answers: dict[str, np.ndarray]) -> "Result":
        """Compare the answers of all models to the rows of a corpus."""
        scores = []
        accuracies = []
        differences = []
        for system, each in answers.items():
            matrix = count_confusion(truth, each, num_labels=int(truth.max()) + 1)
            scores.append(macro_f1(matrix) or 0.0)
            accuracies.append((each == truth).mean())
            if system == "sentiflow":
                differences.append(Difference.of(truth, answers["linear"], each))
            elif system != "linear":
                differences.append(Difference.of(truth, answers["sentiflow"], each))
        return cls(scores=scores, differences=differences, accuracies=accuracies)

    @classmethod
    def mean(cls, results: list["Result"]) -> "Result":
        """Average over corpora, whose rows are independent."""
        differences = []
        for number in range(len(results[0].differences)):
            column = [result.differences[number] for result in results]
            value = np.mean([each.value for each in column])
            sum_of_squares = np.square([each.width for each in column]).sum()
            width = np.sqrt(sum_of_squares) / len(results)
            differences.append(Difference(value=float(value), width=float(width)))
        return cls(
            scores=np.mean([result.scores for result in results], axis=0).tolist(),
            differences=differences,
            accuracies=np.mean([result.accuracies for result in results], axis=0).tolist(),
        )

    def __str__(self) -> str:
        """Write the cells of the table."""
        cells = [f"{score:.4f}" for score in self.scores]
        cells += [f"{each.value:+.1f} ± {each.width:.1f}" for each in self.differences]
        cells += [f"{accuracy:.4f}" for accuracy in self.accuracies]
        return " | ".join(cells)


def read_corpora(given: argparse.Namespace) -> list[pd.DataFrame]:
    """Read the chosen corpora, and draw their folds."""
    chosen = [name for name in given.corpora.split(",") if name]
    corpora = []
    for path in sorted(given.folder.glob("*.csv")):
        if not chosen or path.stem in chosen:
            rows = pd.read_csv(path, keep_default_na=False)
            folds = np.arange(len(rows)) % given.folds
            fold = np.random.default_rng(0).permutation(folds)
            corpora.append(rows.assign(corpus=path.stem, fold=fold))
    return corpora


def read_settings(lines: list[str]) -> dict[str, Any]:
    """Read settings as a command line has them: ``section.key=value``."""
    settings = {}
    for line in lines:
        key, _, value = line.partition("=")
        settings[key] = yaml_text.parse(value)
    return settings


def print_titles(names: list[str]) -> None:
    """Print the head of the table.

    Args:
        names: Our model, the linear one, then the others.
    """
    columns = ["corpus", "rows", *names, "sentiflow - linear"]
    columns += [f"{name} - sentiflow" for name in names[2:]]
    columns += [f"{name}, accuracy" for name in names]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns), "|", sep="")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpora", default="")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--set", nargs="*", default=[], help="settings to replace")
    parser.add_argument("--taught", action="store_true")
    parser.add_argument("--unlabelled", nargs="*", default=[], help="files with the column text")
    parser.add_argument("--joint", action="store_true")
    parser.add_argument("--answers", type=Path, default=Path(tempfile.mkdtemp()))
    given = parser.parse_args()
    given.runs = given.runs or given.folds
    given.answers.mkdir(parents=True, exist_ok=True)
    return given


def main() -> None:
    """Print a line for each corpus."""
    given = read_options()
    corpora = read_corpora(given)
    changes = read_settings(given.set)
    systems: dict[str, Answer] = {"sentiflow": ours(changes), "linear": scikit_learn}
    if given.taught:
        systems["taught"] = ours(
            {**changes, **TAUGHT, "prepare.unlabelled.files": given.unlabelled}
        )
    names = list(systems)
    if given.joint:
        names.append("joint")
        all_rows = pd.concat(corpora, ignore_index=True)
        of_all_rows = answer_folds("joint", ours(changes), all_rows, given)
    print_titles(names)
    results = []
    start = 0
    for rows in corpora:
        end = start + len(rows)
        is_answered = (rows["fold"] < given.runs).to_numpy()
        answers = {}
        for name, answer in systems.items():
            answers[name] = answer_folds(name, answer, rows, given)[is_answered]
        if given.joint:
            answers["joint"] = of_all_rows[start:end][is_answered]
        start = end
        classes = sorted(rows["label"].unique())
        label = np.array([classes.index(name) for name in rows["label"]])
        result = Result.of(label[is_answered], answers)
        results.append(result)
        print(f"| {rows['corpus'].iloc[0]} | {is_answered.sum():,} | {result} |", flush=True)
    print(f"| mean | | {Result.mean(results)} |")


if __name__ == "__main__":
    main()
