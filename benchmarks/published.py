"""Published corpora by the settings of `init`, against words and characters in scikit-learn.

    python benchmarks/published.py FOLDER [--corpora umsab_french,banking77] [--runs 5]
        [--taught] [--unlabelled tweets.csv] [--joint] [--answers DIRECTORY]

FOLDER has one CSV a corpus, with the columns `text`, `label` and `part` (which is not read). All
rows of a corpus are drawn into folds. For each of the first `--runs` folds, all models are trained
on the other folds and answer this one: `sentiflow init` writes the settings, and the rival is the
baseline of the report (words 1-2 and characters 2-5, TF-IDF, logistic regression, C by
cross-validation). `--taught` adds the same settings with a teacher that knows the language
(`train.distill: {teachers: ["encoder:use-multilingual"], hard_weight: 0.5}`, four epochs of five
times the texts), which also answers the texts of `--unlabelled`; `--joint` adds one model of all
these corpora, which then have the same labels.
The table has macro F1 of all answered rows, and the 95% interval of the paired difference in
points. Answers are kept in `--answers`, so a killed command goes on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import sentiflow
from sentiflow.evaluation import tfidf
from sentiflow.metrics import paired
from sentiflow.metrics.predicted import count_confusion, macro_f1

TAUGHT = [
    "train.distill.teachers=[encoder:use-multilingual]",
    "train.distill.hard_weight=0.5",
    "train.num_epochs=4",
]
Answer = Callable[[pd.DataFrame, pd.DataFrame, list[str]], np.ndarray]


def train(
    rows: pd.DataFrame, test: pd.DataFrame, folder: Path, overrides: list[str]
) -> sentiflow.Model:
    """Train as a first-time user does who has a file of test rows."""
    rows[["text", "label"]].to_csv(folder / "rows.csv", index=False)
    test[["text", "label"]].to_csv(folder / "test.csv", index=False)
    config = folder / "rows.yaml"
    command = [sys.executable, "-m", "sentiflow", "init", "rows.csv", "--test", "test.csv"]
    command += ["--label", "label", "--text", "text"]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    settings = [
        f"prepare.csv={folder}/rows.csv", f"prepare.test={folder}/test.csv",
        f"output_uri={folder}/run", "tracking.uri=null",
        *overrides,
    ]  # fmt: skip
    for stage in (sentiflow.prepare, sentiflow.train):
        stage(str(config), settings)
    return sentiflow.load_model(f"{folder}/run/trained/model")


def ours(overrides: list[str]) -> Answer:
    """Answer with a model of ours: the settings of `init`, and these."""

    def answer(learned: pd.DataFrame, answered: pd.DataFrame, names: list[str]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            model = train(learned, answered, Path(folder), overrides)
            predicted = model.predict(answered["text"].tolist())["predicted_label"]
        return np.array([names.index(name) for name in predicted])

    return answer


def scikit_learn(learned: pd.DataFrame, answered: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Answer with the baseline of the report."""
    texts = [pa.array(part["text"].tolist()) for part in (learned, answered)]
    label = np.array([names.index(name) for name in learned["label"]])
    return tfidf.predict(texts[0], label, texts[1])[0]


def answer_folds(
    system: str, answer: Answer, corpora: pd.DataFrame, given: argparse.Namespace
) -> np.ndarray:
    """Answer each row by the model that was trained without its fold."""
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


@dataclass(frozen=True)
class Result:
    """Figures of all models on a corpus: macro F1, its differences in points, accuracy."""

    scores: list[float]
    differences: list[tuple[float, float]]
    """Of our model to the linear one, then of each other model to ours: difference, half-width."""
    accuracies: list[float]

    @classmethod
    def of(cls, truth: np.ndarray, answers: dict[str, np.ndarray]) -> "Result":
        """Compare the answers of all models to the rows of a corpus."""
        size = int(truth.max()) + 1
        matrices = [count_confusion(truth, each, num_labels=size) for each in answers.values()]
        differences = []
        for system, each in answers.items():
            if system != "linear":
                rival = answers["linear" if system == "sentiflow" else "sentiflow"]
                interval = paired.f1_macro_difference(
                    label=truth, first=rival, second=each, num_classes=size, num_resamples=1000
                )
                differences.append((100 * interval.value, 50 * (interval.high - interval.low)))
        return cls(
            [macro_f1(matrix) or 0.0 for matrix in matrices],
            differences,
            [(each == truth).mean() for each in answers.values()],
        )

    @classmethod
    def mean(cls, results: list["Result"]) -> "Result":
        """Average over corpora, whose rows are independent."""
        values = np.array([result.differences for result in results])
        widths = np.sqrt(np.square(values[:, :, 1]).sum(axis=0)) / len(results)
        return cls(
            np.mean([result.scores for result in results], axis=0).tolist(),
            list(zip(values[:, :, 0].mean(axis=0), widths, strict=True)),
            np.mean([result.accuracies for result in results], axis=0).tolist(),
        )

    def __str__(self) -> str:
        """Write the cells of the table."""
        cells = [f"{score:.4f}" for score in self.scores]
        cells += [f"{value:+.1f} ± {width:.1f}" for value, width in self.differences]
        return " | ".join(cells + [f"{accuracy:.4f}" for accuracy in self.accuracies])


def main() -> None:
    """Print a line for each corpus."""
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
    chosen = [name for name in given.corpora.split(",") if name]
    corpora = []
    for path in sorted(given.folder.glob("*.csv")):
        if not chosen or path.stem in chosen:
            rows = pd.read_csv(path, keep_default_na=False)
            fold = np.random.default_rng(0).permutation(np.arange(len(rows)) % given.folds)
            corpora.append(rows.assign(corpus=path.stem, fold=fold))
    systems: dict[str, Answer] = {"sentiflow": ours(given.set), "linear": scikit_learn}
    if given.taught:
        unlabelled = f"prepare.unlabelled.files={json.dumps(given.unlabelled)}"
        systems["taught"] = ours([*given.set, *TAUGHT, unlabelled])
    of_all = np.empty(0, int)
    if given.joint:
        together = pd.concat(corpora, ignore_index=True)
        of_all = answer_folds("joint", ours(given.set), together, given)
    names = [*systems, *(["joint"] if given.joint else [])]
    differences = ["sentiflow - linear", *(f"{name} - sentiflow" for name in names[2:])]
    columns = ["corpus", "rows", *names, *differences, *(f"{name}, accuracy" for name in names)]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns), "|", sep="")
    start, results = 0, []
    for rows in corpora:
        classes = sorted(rows["label"].unique())
        is_answered = (rows["fold"] < given.runs).to_numpy()
        answers = {
            name: answer_folds(name, answer, rows, given)[is_answered]
            for name, answer in systems.items()
        }
        if given.joint:
            answers["joint"] = of_all[start : start + len(rows)][is_answered]
        start += len(rows)
        truth = np.array([classes.index(name) for name in rows["label"]])[is_answered]
        results.append(Result.of(truth, answers))
        print(f"| {rows['corpus'].iloc[0]} | {len(truth):,} | {results[-1]} |", flush=True)
    print(f"| mean | | {Result.mean(results)} |")


if __name__ == "__main__":
    main()
