"""A year of weekly labels: a corpus grows, and each week a file of rows is drawn and labelled."""

import numpy as np
import pyarrow as pa
from corpora import AIRLINES, CLASSES, load, score

from sentiflow.data import label_files, manifest
from sentiflow.shares import next_draw, sample_log, table

FIRST = np.datetime64("2024-01-01T12:00:00", "us")
MODELS = {"1": (2.0, (1.5, 0, 0)), "2": (1.5, (-0.5, 0.5, 0)), "3": (2.5, (0, 1.0, 0))}
"""For each version of the model its quality, and by how much its logits are too low."""


def draw_weeks(rng, num_weeks, rows_a_week):
    """Draw rows of several weeks; returns their table, the true classes, rows of each version.

    The share of negative rises and falls over the year, and the weeks have different sizes. Each
    version scores a third of the weeks, and errs in another direction.
    """
    sizes = np.maximum(rng.lognormal(np.log(rows_a_week), 0.4, num_weeks).astype(int), 40)
    week = np.repeat(np.arange(num_weeks), sizes)
    airline = rng.choice(4, len(week), p=[0.4, 0.3, 0.2, 0.1])
    negative = 0.45 + 0.2 * np.sin(week / 8) + np.array([-0.1, 0, 0.1, 0.2])[airline]
    shares = np.stack([negative, (1 - negative) / 2, (1 - negative) / 2], axis=1)
    truth = (shares.cumsum(axis=1)[:, :2] < rng.random((len(week), 1))).sum(axis=1)
    version = np.minimum(week * len(MODELS) // num_weeks, len(MODELS) - 1)
    quality = np.array([quality for quality, _ in MODELS.values()])[version]
    error = np.array([error for _, error in MODELS.values()])[version]
    logits = rng.normal(size=(len(week), 3)) + quality[:, None] * np.eye(3)[truth] - error
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    days = rng.integers(0, 7, len(week)) + 7 * week
    columns = {
        "row_id": np.arange(len(week)),
        "split": pa.nulls(len(week), pa.string()),
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        "airline": AIRLINES[airline],
        "created": FIRST + days * np.timedelta64(1, "D"),
        "text": [f"text number {number}" for number in range(len(week))],
    }
    for number, name in enumerate(CLASSES):
        columns[f"probability_{name}"] = probabilities[:, number].astype(np.float32)
    rows_of = {name: int((version == at).sum()) for at, name in enumerate(MODELS)}
    return pa.table(columns), truth, sizes, rows_of


def label_weeks(folder, rng, *, num_weeks, rows_a_week, size, by, measured=None, skip=None):
    """Let the corpus grow by a week, draw and label a file, and measure the shares; again.

    Args:
        folder: Where the corpus and the files are.
        rng: Draws the corpus.
        num_weeks: Number of weeks.
        rows_a_week: Typical number of rows.
        size: Rows in each file.
        by: ``trends.by``.
        measured: The weeks in which shares are measured; default: every week.
        skip: Whether an annotator leaves a row out, by row number, bool.

    Yields:
        The number of the week, the shares, the labelled rows so far, and the truth of all rows.
    """
    whole, truth, sizes, rows_of = draw_weeks(rng, num_weeks, rows_a_week)
    files = []
    for week, end in enumerate(np.cumsum(sizes)):
        left = int(end)
        there = {}
        for name, number in rows_of.items():
            if left > 0:
                there[name] = min(number, left)
                left -= there[name]
        uri = score(folder, whole.slice(0, int(end)), rows_of=there)
        config = load(folder, by=by)
        drawn, _ = next_draw.draw_rows(config, size)
        label = np.array(CLASSES, object)[truth[drawn["row_id"]]]
        if skip is not None:
            label[skip[drawn["row_id"]]] = ""
        path = folder / f"week-{week}.csv"
        path.write_bytes(label_files.to_csv(drawn.assign(label=label)))
        sample_log.record(config, drawn, path=str(path))
        files.append(str(path))
        if measured is not None and week not in measured:
            continue
        settings = load(folder, by=by, labels=files).trends
        found = table.measure(settings, manifest.read(uri), uri)
        yield week, found, drawn, whole.slice(0, int(end)).to_pandas().assign(truth=truth[:end])


def find_hits(found, rows, by="created:month"):
    """Say for each period and class whether the interval holds the true share."""
    (item,) = (each for each in found.breakdowns if each.by == by)
    period = rows["created"].dt.to_period(by.rpartition(":")[2][0].upper()).dt.start_time
    hits = []
    for code, name in enumerate(found.classes):
        lines = item.of(name).set_index("period")
        true = (rows["truth"] == code).groupby(period).mean()[lines.index]
        hits.append(((lines["low"] <= true) & (true <= lines["high"])).to_numpy())
    return np.stack(hits, axis=1)
