"""Shares of many groups whose truth is known: coverage of the intervals, and mean errors.

    python benchmarks/groups.py SCORED TRUTH COLUMN [--labels 100 300 1000] [--draws 100] [--spread]

SCORED is a directory of predictions with the column COLUMN, or COLUMN:month for months of a date.
TRUTH is a Parquet file with the column ``label``, row by row as in the corpus. For each number of
labels, so many rows are labelled at random; with --spread more of them in small groups, as
``sentiflow trends --sample`` draws them. The table has the coverage of each class with the Monte
Carlo error over the draws, and for the largest groups the mean width, the mean error of the share
that is shown, and the mean error of the share of predicted labels.
"""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sentiflow.metrics import drawing, sampling, shares

LARGE = 100
"""Texts of a large group; or of the largest quarter of the groups, if no group has so many."""


@dataclass(frozen=True)
class Corpus:
    """N scored rows in G groups, with their true labels among C classes."""

    classes: list[str]
    group: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def read(cls, scored: Path, truth: Path, column: str) -> "Corpus":
        """Read predictions and the truth."""
        rows = pd.read_parquet(scored / "predictions").sort_values("row_id")
        names = [name for name in rows if name.startswith("probability_")]
        classes = [name.removeprefix("probability_") for name in names]
        labels = pd.read_parquet(truth)["label"].to_numpy()[rows["row_id"].to_numpy()]
        name, _, unit = column.partition(":")
        keys = rows[name].astype(str)
        if unit:
            keys = keys.str[: {"year": 4, "month": 7, "day": 10}[unit]]
        return cls(
            classes=classes,
            group=pd.factorize(keys)[0],
            truth=pd.Index(classes).get_indexer(labels),
            prediction=rows["prediction"].to_numpy(),
            probabilities=rows[names].to_numpy(np.float64),
        )

    def choose(
        self, rng: np.random.Generator, num_labels: int, *, is_spread: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose rows to label; returns the rows and their weights."""
        if not is_spread:
            return rng.permutation(len(self.truth))[:num_labels], np.ones(num_labels)
        rows = np.bincount(self.group).astype(float)
        rate = drawing.find_rate(rows, rows, np.zeros(len(rows)), num_labels)
        chance = drawing.find_least_chances(rows, rate)[self.group]
        odds = rng.random(len(self.truth))
        rank = odds / (1 - odds) * (1 - chance) / chance
        chosen = np.argpartition(rank, num_labels)[:num_labels]
        return chosen, 1 / chance[chosen]

    def add_up(
        self, label: np.ndarray, rows: np.ndarray | slice, weight: np.ndarray
    ) -> pd.DataFrame:
        """Add up some rows by group."""
        return sampling.add_up(
            pd.DataFrame({"group": self.group[rows]}),
            prediction=self.prediction[rows],
            probabilities=self.probabilities[rows],
            label=label,
            weight=weight,
        )

    def count_shares(self) -> np.ndarray:
        """Count the true shares, ``(G, C)``."""
        is_class = self.truth[:, None] == np.arange(len(self.classes))
        return pd.DataFrame(is_class).groupby(self.group).mean().to_numpy()


def measure(corpus: Corpus, num_labels: int, num_draws: int, *, is_spread: bool) -> str:
    """Label rows at random many times; return a line of the table."""
    rng = np.random.default_rng(0)
    truth = corpus.count_shares()
    no_label = np.full(len(corpus.truth), -1)
    unlabelled = corpus.add_up(no_label, slice(None), np.ones(len(no_label)))
    rows = unlabelled["rows", 0].to_numpy()
    is_large = rows >= min(LARGE, np.percentile(rows, 75))
    hits, widths, errors, predicted, known = [], [], [], [], []
    for _ in range(num_draws):
        chosen, weight = corpus.choose(rng, num_labels, is_spread=is_spread)
        sums = corpus.add_up(corpus.truth[chosen], chosen, weight)
        sums = sums.reindex(unlabelled.index, fill_value=0.0)
        for name in ("rows", "population", "predicted", "p", "pp"):
            sums[name] = unlabelled[name]
        found = shares.estimate(sums)
        has = ~np.isnan(found.low[:, 0])
        is_inside = (found.low <= truth + 1e-9) & (truth <= found.high + 1e-9)
        hits.append(is_inside[has].mean(axis=0))
        width = (found.high - found.low)[is_large]
        known.append((width < 1).mean())
        widths.append(np.nanmean(width, axis=0))
        errors.append(np.abs(found.share - truth)[is_large].mean(axis=0))
        predicted.append(np.abs(found.predicted - truth)[is_large].mean(axis=0))
    coverage = np.nanmean(hits, axis=0)
    noise = np.nanstd(hits, axis=0) / num_draws**0.5
    cells = [f"{num_labels:,}", f"{np.mean(known):.0%}"]
    cells.append(
        ", ".join(f"{100 * each:.1f}" for each in coverage) + f" (± {100 * noise.max():.1f})"
    )
    for values in (np.nanmean(widths, axis=0), np.mean(errors, axis=0), np.mean(predicted, axis=0)):
        cells.append(", ".join(f"{100 * each:.1f}" for each in values))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scored", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("column")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--spread", action="store_true")
    options = parser.parse_args()
    corpus = Corpus.read(options.scored, options.truth, options.column)
    print(f"{len(np.unique(corpus.group)):,} groups; {', '.join(corpus.classes)}")
    print("| labels | have an interval | coverage | width | error of the share | of predicted |")
    print("|---|---|---|---|---|---|")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of no interval are NaN
        for num_labels in options.labels:
            print(measure(corpus, num_labels, options.draws, is_spread=options.spread))


if __name__ == "__main__":
    main()
