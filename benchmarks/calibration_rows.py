"""How many rows a calibration needs: log loss and accuracy with fewer answers of the folds.

    python benchmarks/calibration_rows.py FILE [FILE …] [--draws 100] [--rows 4000]

FILE has the columns `text` and `label`. Its model is trained with the settings of `sentiflow init`
and five folds, whose models answer all rows. The answers choose the linear model, its share in the
logits, the temperature and the bias of each class.

A draw sets 400 rows aside, and calibrates by 200, 400, 800 or all of the others: then the rows that
were set aside are scored. The table has the mean of the draws. Each difference to all rows has two
standard errors of this mean, which hold for this training.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa

import sentiflow
from sentiflow.training import fold_answers
from sentiflow.training.learned_classes import LearnedClasses

SET_ASIDE = 400
SIZES = (200, 400, 800)
_LEAST = 1e-9
"""Smallest probability of a label in the log loss."""


class FoldAnswers(NamedTuple):
    """The answers of the models of all folds, before they are calibrated."""

    table: pa.Table
    learned: LearnedClasses


class Quality(NamedTuple):
    """How well rows are answered."""

    log_loss: float
    accuracy: float


def train(path: Path, num_rows: int) -> FoldAnswers:
    """Train with the settings of `init`, and keep the answers of the folds."""
    kept = list[FoldAnswers]()
    calibrate = fold_answers.calibrate

    def keep(table: pa.Table, learned: LearnedClasses) -> dict:
        kept.append(FoldAnswers(table, learned))
        return calibrate(table, learned)

    rows = pd.read_csv(path, usecols=["text", "label"], keep_default_na=False)
    rows = rows.sample(min(num_rows, len(rows)), random_state=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows.to_csv(folder / "rows.csv", index=False)
        init = [sys.executable, "-m", "sentiflow", "init", "rows.csv", "--text", "text"]
        subprocess.run([*init, "--label", "label"], check=True, cwd=folder)
        changes = {"output_uri": "run", "tracking.uri": None, "train.folds": 5}
        with contextlib.chdir(folder), mock.patch.object(fold_answers, "calibrate", keep):
            sentiflow.prepare("rows.yaml", changes)
            sentiflow.train("rows.yaml", changes)
    return kept[-1]


def measure(answers: FoldAnswers, calibrated_by: np.ndarray, scored: np.ndarray) -> Quality:
    """Calibrate by some rows, and measure how well others are answered."""
    calibration = fold_answers.calibrate(answers.table.take(calibrated_by), answers.learned)
    table = answers.table.take(scored)
    scores = fold_answers.score(table, answers.learned, calibration)
    label = table["label"].to_numpy()
    probability = scores.probabilities[np.arange(len(label)), label]
    return Quality(
        log_loss=float(-np.log(np.maximum(probability, _LEAST)).mean()),
        accuracy=float((scores.prediction == label).mean()),
    )


def draw(answers: FoldAnswers, rng: np.random.Generator) -> list[Quality]:
    """Measure the calibration by each number of rows, and then by all, on the same rows."""
    order = rng.permutation(len(answers.table))
    scored = order[:SET_ASIDE]
    others = order[SET_ASIDE:]
    found = [measure(answers, others[:size], scored) for size in SIZES]
    return [*found, measure(answers, others, scored)]


def write_line(name: str, qualities: Sequence[Sequence[Quality]]) -> str:
    """Write the line of a corpus: all rows, then the differences of fewer rows."""
    figures = np.array(qualities)
    of_all = figures[:, -1].mean(axis=0)
    cells = [name, f"{of_all[0]:.4f}, {100 * of_all[1]:.2f}%"]
    for number in range(len(SIZES)):
        difference = figures[:, number] - figures[:, -1]
        mean = difference.mean(axis=0)
        error = 2 * difference.std(axis=0, ddof=1) / np.sqrt(len(figures))
        loss = f"{mean[0]:+.4f} ± {error[0]:.4f}"
        cells.append(f"{loss}, {100 * mean[1]:+.2f} ± {100 * error[1]:.2f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print a line for each file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", type=int, default=4000, help="rows of a file, at random (4000)")
    given = parser.parse_args()
    lines = []
    for path in given.files:
        answers = train(path, given.rows)
        rng = np.random.default_rng(1)
        qualities = [draw(answers, rng) for _ in range(given.draws)]
        name = f"{path.stem} ({len(answers.table):,} rows)"
        lines.append(write_line(name, qualities))
    titles = ["corpus", "all rows: log loss, accuracy", *(f"{size:,} rows" for size in SIZES)]
    print("| " + " | ".join(titles) + " |")
    print("|---" * len(titles) + "|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
