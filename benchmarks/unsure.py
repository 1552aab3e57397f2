"""How often the answered texts have more errors than `train.unsure.max_error` promises.

    OPENBLAS_NUM_THREADS=1 python benchmarks/unsure.py FILE... [--cross-fit]

Each CSV has a column `text` and a column `label` or `sentiment`. At most 6,000 different texts are
drawn, 20 times. Half of them fit the linear model (C = 1). A quarter calibrates it and decides the
threshold, as validation rows do. A quarter tests both. With `--cross-fit` the threshold is decided
by rows to which the calibration was not fitted, in five parts.

A cell has the share answered, the draws with an answer, the draws with more errors than promised,
and the draws with more errors beyond chance (p below 0.05).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from scipy import stats

from sentiflow.data.arrays import hash_texts
from sentiflow.metrics import confidence
from sentiflow.metrics.confidence import Calibration
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import tokenize
from sentiflow.models.tokens import Tokens
from sentiflow.training import linear_solver, trained_package

PROMISES = (0.05, 0.1, 0.2)
"""Values of ``train.unsure.max_error``."""
NUM_DRAWS = 20
MAX_TEXTS = 6000
"""Texts of a draw, at most."""
NUM_PARTS = 5
"""Parts of ``--cross-fit``."""


class Corpus(NamedTuple):
    """Different texts and their labels."""

    text: np.ndarray
    label: np.ndarray
    """Positions in ``classes``."""
    classes: tuple[str, ...]


class Answered(NamedTuple):
    """The test rows of a draw at one promise."""

    fraction: float
    """Share of the rows with an answer."""
    num_wrong: int
    num_answered: int


def read(path: Path) -> Corpus:
    """Read the different texts of a CSV."""
    rows = pd.read_csv(path, keep_default_na=False).drop_duplicates("text")
    column = "label" if "label" in rows else "sentiment"
    classes, label = np.unique(rows[column], return_inverse=True)
    return Corpus(text=rows["text"].to_numpy(), label=label, classes=tuple(classes))


def score(model: LinearModel, tokens: Tokens, classes: tuple[str, ...]) -> Scores:
    """Predict texts with a model that is not calibrated."""
    logits, is_known = model.logits_and_known(tokens)
    probabilities = confidence.softmax(logits).astype(np.float32)
    num_tokens = is_known.astype(np.int32)  # only 0 and not 0 matter here
    return Scores(
        probabilities=probabilities,
        classes=classes,
        num_tokens=num_tokens,
        lengths=num_tokens,
        num_unknown=num_tokens,
    )


def calibrate(scores: Scores, label: np.ndarray, others: Scores) -> Scores:
    """Calibrate other scores by labelled ones."""
    calibration = Calibration.read(trained_package.calibrate(scores, label), scores.classes)
    if calibration is None:
        calibration = Calibration()
    probabilities = confidence.calibrate(others.probabilities, calibration)
    return replace(others, probabilities=probabilities.astype(np.float32))


def cross_fit(scores: Scores, label: np.ndarray) -> Scores:
    """Calibrate labelled scores, each part of them by the other parts."""
    part = np.arange(len(label)) % NUM_PARTS
    probabilities = np.empty_like(scores.probabilities)
    for number in range(NUM_PARTS):
        is_inside = part == number
        fitted = scores.take(~is_inside)
        calibrated = calibrate(fitted, label[~is_inside], scores.take(is_inside))
        probabilities[is_inside] = calibrated.probabilities
    return replace(scores, probabilities=probabilities)


def draw(corpus: Corpus, *, seed: int, is_cross_fit: bool) -> list[Answered]:
    """Draw texts, and measure a model on a quarter of them at each promise."""
    order = np.random.default_rng(seed).permutation(len(corpus.text))[:MAX_TEXTS]
    ends = [len(order) // 2, len(order) * 3 // 4]
    train, validation, test = np.split(order, ends)
    targets = np.eye(len(corpus.classes), dtype=np.float32)[corpus.label[train]]
    _, model = next(linear_solver.fit(Ngrams.of(tokenize_rows(corpus, train)), targets))
    raw = score(model, tokenize_rows(corpus, validation), corpus.classes)
    label = corpus.label[validation]
    raw_test = score(model, tokenize_rows(corpus, test), corpus.classes)
    tested = calibrate(raw, label, raw_test)
    seen = cross_fit(raw, label) if is_cross_fit else calibrate(raw, label, raw)
    found = []
    for promise in PROMISES:
        text_hash = hash_texts(pa.array(corpus.text[validation].tolist()))
        rule = trained_package.choose_unsure(seen, label, promise, text_hash=text_hash)
        scores = replace(tested, threshold=rule["threshold"])
        found.append(measure(scores, corpus.label[test]))
    return found


def tokenize_rows(corpus: Corpus, rows: np.ndarray) -> Tokens:
    """Tokenize some texts of a corpus."""
    return tokenize(pa.array(corpus.text[rows].tolist()), name="tweet")


def measure(scores: Scores, label: np.ndarray) -> Answered:
    """Count the answered texts and the errors among them."""
    is_unsure = scores.unsure
    assert is_unsure is not None, "the scores have a threshold"
    is_wrong = (scores.prediction != label)[~is_unsure]
    return Answered(
        fraction=len(is_wrong) / len(label),
        num_wrong=int(is_wrong.sum()),
        num_answered=len(is_wrong),
    )


def describe(draws: list[Answered], promise: float) -> str:
    """Write the cell of a corpus and a promise."""
    fraction = np.mean([each.fraction for each in draws])
    num_wrong = np.array([each.num_wrong for each in draws])
    num_answered = np.array([each.num_answered for each in draws])
    is_broken = num_wrong > promise * num_answered
    p_value = stats.binom.sf(num_wrong - 1, num_answered, promise)
    is_beyond_chance = is_broken & (p_value < 0.05)
    num_draws = (num_answered > 0).sum()
    return f"{fraction:.1%}, {num_draws}, {is_broken.sum()}, {is_beyond_chance.sum()}"


def main() -> None:
    """Print a line for each corpus."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--cross-fit", action="store_true")
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    titles = [f"{promise:.0%}" for promise in PROMISES]
    print(f"| corpus | classes | rows | {' | '.join(titles)} |")
    for path in given.files:
        corpus = read(path)
        draws = []
        for seed in range(NUM_DRAWS):
            draws.append(draw(corpus, seed=seed, is_cross_fit=given.cross_fit))
        num_texts = min(len(corpus.text), MAX_TEXTS)
        cells = [path.stem, str(len(corpus.classes)), f"{num_texts:,}"]
        for number, promise in enumerate(PROMISES):
            cells.append(describe([each[number] for each in draws], promise))
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
