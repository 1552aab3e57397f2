"""Published corpora by the settings of `init`, against words and characters in scikit-learn.

    python benchmarks/published.py FOLDER [--corpora umsab_french,banking77] [--runs 5]

FOLDER has one CSV a corpus, with the columns `text`, `label` and `part` (which is not read). All
rows of a corpus are drawn into folds. For each of the first `--runs` folds, both models are trained
on the other folds and answer this one: `sentiflow init` writes the settings, and the rival is the
baseline of the report (words 1-2 and characters 2-5, TF-IDF, logistic regression, C by
cross-validation). The table has the mean over the answered rows, and the 95 % interval of the
paired difference of macro F1 in points.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import sentiflow
from sentiflow.evaluation import other_models
from sentiflow.metrics import paired
from sentiflow.metrics.predicted import count_confusion, macro_f1


def train(rows: pd.DataFrame, folder: Path, overrides: list[str]) -> sentiflow.Model:
    """Train as a first-time user does."""
    rows[["text", "label"]].to_csv(folder / "rows.csv", index=False)
    config = folder / "rows.yaml"
    command = [sys.executable, "-m", "sentiflow", "init", "rows.csv", "--label", "label"]
    subprocess.run([*command, "--text", "text"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    settings = [
        f"prepare.csv={folder}/rows.csv", f"output_uri={folder}/run", "tracking.uri=null",
        *overrides,
    ]  # fmt: skip
    for stage in (sentiflow.prepare, sentiflow.train):
        stage(str(config), settings)
    return sentiflow.load_model(f"{folder}/run/trained/model")


def measure(path: Path, num_folds: int, num_runs: int, overrides: list[str]) -> str:
    """Compare both models on a corpus; return a line of the table."""
    rows = pd.read_csv(path, keep_default_na=False)
    names = sorted(rows["label"].unique())
    label = np.array([names.index(name) for name in rows["label"]])
    fold = np.random.default_rng(0).permutation(np.arange(len(rows)) % num_folds)
    truths, ours, theirs, seconds = [], [], [], [0.0, 0.0]
    for number in range(num_runs):
        learned, answered = rows[fold != number], rows[fold == number]
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            model = train(learned, Path(folder), overrides)
            predicted = model.predict(answered["text"].tolist())["predicted_label"]
            ours.append(np.array([names.index(name) for name in predicted]))
        seconds[0] += time.monotonic() - began
        began = time.monotonic()
        texts = [pa.array(part["text"].tolist()) for part in (learned, answered)]
        theirs.append(other_models.predict(texts[0], label[fold != number], texts[1])[0])
        seconds[1] += time.monotonic() - began
        truths.append(label[fold == number])
    truth, first, second = (np.concatenate(each) for each in (truths, theirs, ours))
    size = len(names)
    scores = [
        macro_f1(count_confusion(truth, each, num_labels=size)) or 0.0 for each in (second, first)
    ]
    difference = paired.f1_macro_difference(
        label=truth, first=first, second=second, num_classes=size, num_resamples=1000
    )
    accuracies = [(each == truth).mean() for each in (second, first)]
    return (
        f"| {path.stem} | {len(truth):,} | {scores[0]:.4f} | {scores[1]:.4f} | "
        f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f} | {accuracies[0]:.4f} | "
        f"{accuracies[1]:.4f} | {seconds[0] / num_runs:.0f} s | {seconds[1] / num_runs:.0f} s |"
    )


def main() -> None:
    """Print a line for each corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpora", default="")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--set", nargs="*", default=[], help="settings to replace")
    given = parser.parse_args()
    chosen = [name for name in given.corpora.split(",") if name]
    paths = [p for p in sorted(given.folder.glob("*.csv")) if not chosen or p.stem in chosen]
    print("| corpus | rows | macro F1 | linear | difference | accuracy | linear | time | linear |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in paths:
        print(measure(path, given.folds, given.runs or given.folds, given.set), flush=True)


if __name__ == "__main__":
    main()
