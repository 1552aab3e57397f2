"""How often the answered texts have more errors than `train.unsure.max_error` promises.

    OPENBLAS_NUM_THREADS=1 python benchmarks/unsure.py FILE... [--cross-fit]

Each CSV has a column `text` and a column `label` or `sentiment`. 20 times at most 6,000 different
texts are drawn: half of them fit the linear model (C = 1), a quarter calibrates it and decides the
threshold, as validation rows do, and a quarter tests both. Cells: share answered, draws with an
answer, those with more errors than promised, and those with more beyond chance (p below 0.05). With
`--cross-fit`, rows decide the threshold to which the calibration was not fitted, in five parts.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from scipy import stats

from sentiflow.metrics import confidence
from sentiflow.metrics.confidence import Calibration
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import tokenize
from sentiflow.training import linear_solver, trained_package

PROMISES, NUM_DRAWS, MOST, NUM_PARTS = (0.05, 0.1, 0.2), 20, 6000, 5


def calibrate(scores: Scores, label: np.ndarray, others: Scores) -> Scores:
    """Calibrate scores by labelled ones."""
    fitted = Calibration.read(trained_package.calibrate(scores, label), scores.classes)
    probabilities = confidence.calibrate(others.probabilities, fitted or Calibration())
    return replace(others, probabilities=probabilities.astype(np.float32))


def draw(
    text: np.ndarray, label: np.ndarray, names: tuple[str, ...], seed: int
) -> Iterator[tuple[float, int, int]]:
    """Yield for each promise the share answered, the errors, and the answers."""
    order = np.random.default_rng(seed).permutation(len(text))[:MOST]
    parts = np.split(order, [len(order) // 2, len(order) * 3 // 4])
    tokens = [tokenize(pa.array(text[rows].tolist()), name="tweet") for rows in parts]
    targets = np.eye(len(names), dtype=np.float32)[label[parts[0]]]
    _, model = next(linear_solver.fit(Ngrams.of(tokens[0]), targets))
    (logits, known), (of_test, known_test) = (model.answer(each) for each in tokens[1:])
    raw, test = (
        Scores(confidence.softmax(each).astype(np.float32), names, *[has.astype(np.int32)] * 3)
        for each, has in ((logits, known), (of_test, known_test))
    )
    of_seen, test = label[parts[1]], calibrate(raw, label[parts[1]], test)
    seen = calibrate(raw, of_seen, raw)
    if "--cross-fit" in sys.argv:
        table, part = raw.to_table(), np.arange(len(of_seen)) % NUM_PARTS
        for k in range(NUM_PARTS):
            halves = [Scores.from_table(table.filter(pa.array(m))) for m in (part != k, part == k)]
            fitted = calibrate(halves[0], of_seen[part != k], halves[1])
            seen.probabilities[part == k] = fitted.probabilities
    for promise in PROMISES:
        found = trained_package.choose_unsure(seen, of_seen, promise)
        answered = np.flatnonzero(~(replace(test, threshold=found["threshold"]).unsure))
        wrong = (test.prediction != label[parts[2]])[answered]
        yield len(wrong) / len(parts[2]), int(wrong.sum()), len(wrong)


torch.set_num_threads(1)
print(f"| corpus | classes | rows | {' | '.join(f'{promise:.0%}' for promise in PROMISES)} |")
for path in map(Path, [name for name in sys.argv[1:] if not name.startswith("--")]):
    rows = pd.read_csv(path, keep_default_na=False).drop_duplicates("text")
    names, label = np.unique(rows["label" if "label" in rows else "sentiment"], return_inverse=True)
    results = [[*draw(rows["text"].to_numpy(), label, tuple(names), n)] for n in range(NUM_DRAWS)]
    line = f"| {path.stem} | {len(names)} | {min(len(rows), MOST):,} |"
    for (share, wrong, total), promise in zip(
        np.array(results).T.swapaxes(0, 1), PROMISES, strict=True
    ):
        broken, beyond = wrong > promise * total, stats.binom.sf(wrong - 1, total, promise) < 0.05
        line += (
            f" {share.mean():.1%}, {(total > 0).sum()}, {broken.sum()}, {(broken & beyond).sum()} |"
        )
    print(line, flush=True)
