"""``sentiflow trends``: do its intervals hold the truth, and what do its time and memory depend on?

    python benchmarks/trends.py [RUN] [--rows 4000000 16000000]

RUN is ``sentiflow run configs/airline.yaml output_uri=runs/half prepare.split.test_fraction=0.5``:
of its test rows, which the model has not seen, the labels of a random part are shown and the others
hidden, 200 times. Beside the coverage of the intervals: that of the share of predicted labels, and
the width to the intervals of the labels that are shown alone.

Then the stage on synthetic predictions of three classes with a column of six values and a time, 1 %
labelled, in a process of its own, beside a bare read of the same columns by pyarrow.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("negative", "positive", "neutral")
BATCH = 1_000_000
NUM_DRAWS = 200


def measure_coverage(uri: str) -> None:
    """Print a line for each number of labels that are shown."""
    import sentiflow
    from sentiflow.metrics import shares

    run = sentiflow.load_run(uri)
    rows = run.predictions.to_pandas(filters=[("split", "==", "test")])
    classes = run.scored.classes
    probabilities = rows[[f"probability_{name}" for name in classes]].to_numpy(float)
    label, (group, airlines) = rows["label"].to_numpy(int), pd.factorize(rows["airline"])
    of_class = label[:, None] == np.arange(len(classes))
    truth = np.array([of_class[group == one].mean(axis=0) for one in range(len(airlines))])

    def estimate(found: np.ndarray, shown: np.ndarray) -> shares.Shares:
        sums = shares.add_up(
            pd.DataFrame({"group": group}),
            prediction=rows["prediction"].to_numpy(int),
            probabilities=found,
            label=np.where(shown, label, -1),
            weight=np.ones(len(rows)),
        )
        return shares.estimate(sums)

    print("| labels shown | coverage | width | to labels alone | predicted labels |")
    print("|---|---|---|---|---|")
    for size in (len(rows) // 2, 1000, 500, 300, 100):
        rng, hits, widths, alone = np.random.default_rng(0), [], [], []
        for _ in range(NUM_DRAWS):
            shown = rng.permutation(len(rows)) < size
            one = estimate(probabilities, shown)
            labels = estimate(np.full_like(probabilities, 1 / len(classes)), shown)
            hits.append((one.low <= truth) & (truth <= one.high))
            widths.append((one.high - one.low).mean())
            alone.append((labels.high - labels.low).mean())
        error = np.sqrt(one.predicted * (1 - one.predicted) / one.rows[:, None])
        uncorrected = (np.abs(one.predicted - truth) < 1.96 * error).mean()
        print(
            f"| {size:,} of {len(rows):,} | {np.mean(hits):.1%} | {np.mean(widths):.3f} "
            f"| {np.mean(widths) / np.mean(alone):.2f} | {uncorrected:.1%} |"
        )


def draw(rng: np.random.Generator, first: int, num_rows: int) -> pa.Table:
    """Draw predictions."""
    truth = rng.integers(0, 3, num_rows)
    logits = rng.normal(size=(num_rows, 3)) + 2 * np.eye(3)[truth]
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = pa.array([f"airline {number}" for number in range(6)])
    seconds = rng.integers(0, 365 * 86_400, num_rows) * np.timedelta64(1, "s")
    columns = {
        "row_id": np.arange(first, first + num_rows),
        "label": pa.array(truth, pa.int8(), mask=rng.random(num_rows) > 0.01),
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        "airline": names.take(pa.array(rng.integers(0, 6, num_rows))),
        "created": np.datetime64("2024-01-01", "us") + seconds,
    }
    for name, column in zip(CLASSES, probabilities.T, strict=True):
        columns[f"probability_{name}"] = column.astype(np.float32)
    return pa.table(columns)


def publish(folder: Path, num_rows: int) -> None:
    """Write what scoring leaves behind."""
    from sentiflow.data.output_status import OutputSpec, State, Status
    from sentiflow.data.outputs import Output

    rng, path = np.random.default_rng(0), "predictions/part-00000.parquet"
    target = folder / "scored" / path
    target.parent.mkdir(parents=True)
    with pq.ParquetWriter(target, draw(rng, 0, 1).schema, compression="zstd") as writer:
        for first in range(0, num_rows, BATCH):
            writer.write_table(draw(rng, first, min(BATCH, num_rows - first)))
    package = {"model": {"cell": "gru", "hidden_size": 6}, "tokenizer": "tweet"}
    package |= {"vocabulary_size": 9, "classes": list(CLASSES)}
    model = {"uri": "/gone", "fingerprint": "c0ffee", "training": None, "settings": package}
    item = {"uri": "/data/corpus.csv", "bytes": 1, "modified_ns": 1, "tree_sha256": "c5f0"}
    corpus = {"fingerprint": "c5f0", "files": [item]}
    settings = {"text_column": "text", "keep_columns": ["airline", "created"], "format": {}}
    inputs = {"model": model, "corpus": corpus}
    spec = OutputSpec("score", str(folder / "scored"), settings, inputs)
    Output(spec, Status(State.ABSENT), overwrite=True).publish(
        counts={"accepted": num_rows},
        files=[{"path": path, "rows": num_rows, "bytes": target.stat().st_size}],
        seconds=0,
        classes=list(CLASSES),
    )


def run_trends(folder: Path) -> float:
    """Run the stage in this process; returns its seconds."""
    from sentiflow.config import settings
    from sentiflow.data.outputs import open_output
    from sentiflow.shares import trends
    from sentiflow.tracking.recording import Recorder

    given = {"by": ["airline", "created:week"]}
    config = settings.load(measuring.write_config(folder / "c.json", output=folder, trends=given))
    with open_output(trends.describe_output(config), overwrite=True) as output:
        return trends.run(config, output, Recorder())["seconds"]


def read_columns(folder: Path) -> float:
    """Read the same columns, and do nothing with them; returns the seconds."""
    (path,) = (folder / "scored/predictions").iterdir()
    return measuring.seconds_of(
        lambda: [len(batch) for batch in pq.ParquetFile(path).iter_batches()]
    )


WAYS: dict[str, Callable[[Path], float]] = {
    "pyarrow, a bare read": read_columns,
    "sentiflow trends, the stage": run_trends,
}


def run(way: str, folder: Path) -> measuring.Figures:
    """Measure in this process."""
    return {"seconds": WAYS[way](folder), "MB": measuring.peak_mb()}


def measure(way: str, folder: Path) -> measuring.Figures:
    """Measure in a process of its own."""
    return measuring.in_processes([partial(run, way, folder)])[0]


def main() -> None:
    """Measure coverage, then time and memory."""
    parser = measuring.make_parser(__doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--rows", type=int, nargs="+", default=[4_000_000, 16_000_000])
    options = parser.parse_args()
    if options.run:
        measure_coverage(options.run)
    for num_rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            publish(Path(name), num_rows)
            runs = {way: partial(measure, way, Path(name)) for way in WAYS}
            measuring.compare(f"{num_rows:,} predictions", runs, options)


if __name__ == "__main__":
    main()
