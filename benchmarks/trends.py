"""Time and memory of ``sentiflow trends`` by the number of predictions: is it linear, and bounded?

``python benchmarks/trends.py --rows 4000000 16000000``: two files of synthetic predictions of three
classes with a column of six values and a time, 1 % labelled; the stage in a process of its own,
beside a bare read of the same columns by pyarrow.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("negative", "positive", "neutral")
BATCH = 1_000_000


def draw(rng: np.random.Generator, first: int) -> pa.Table:
    """Draw a million predictions."""
    truth = rng.integers(0, 3, BATCH)
    logits = rng.normal(size=(BATCH, 3)) + 2 * np.eye(3)[truth]
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = pa.array([f"airline {number}" for number in range(6)])
    start = np.datetime64("2024-01-01", "us")
    columns = {
        "row_id": np.arange(first, first + BATCH),
        "label": pa.array(truth, pa.int8(), mask=rng.random(BATCH) > 0.01),
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        **{
            f"probability_{name}": probabilities[:, number].astype(np.float32)
            for number, name in enumerate(CLASSES)
        },
        "airline": names.take(pa.array(rng.integers(0, 6, BATCH))),
        "created": start + rng.integers(0, 365 * 86_400, BATCH) * np.timedelta64(1, "s"),
    }
    return pa.table(columns)


def publish(folder: Path, num_rows: int) -> None:
    """Write what scoring leaves behind."""
    from sentiflow.data.output_status import OutputSpec, State, Status
    from sentiflow.data.outputs import Output

    rng, files = np.random.default_rng(0), []
    (folder / "scored/predictions").mkdir(parents=True)
    for part in range(2):
        path = f"predictions/part-{part:05d}.parquet"
        half = num_rows // 2
        writer = None
        for first in range(part * half, (part + 1) * half, BATCH):
            table = draw(rng, first)
            writer = writer or pq.ParquetWriter(
                folder / "scored" / path, table.schema, compression="zstd"
            )
            writer.write_table(table)
        assert writer is not None, "there are rows"
        writer.close()
        size = (folder / "scored" / path).stat().st_size
        files.append({"path": path, "rows": half, "bytes": size})
    package = {
        "model": {"cell": "gru", "hidden_size": 6},
        "tokenizer": "tweet",
        "vocabulary_size": 9,
        "classes": list(CLASSES),
    }
    model = {"uri": "/gone", "fingerprint": "c0ffee", "training": None, "settings": package}
    item = {"uri": "/data/corpus.csv", "bytes": 1, "modified_ns": 1, "tree_sha256": "c5f0"}
    corpus = {"fingerprint": "c5f0", "files": [item]}
    settings = {"text_column": "text", "keep_columns": ["airline", "created"], "format": {}}
    uri = str(folder / "scored")
    spec = OutputSpec("score", uri, settings, {"model": model, "corpus": corpus})
    Output(spec, Status(State.ABSENT), overwrite=True).publish(
        counts={"accepted": num_rows}, files=files, seconds=0, classes=list(CLASSES)
    )


def measure(folder: Path) -> None:
    """Run the stage, and print its time and the most memory that this process had."""
    from sentiflow.config import settings
    from sentiflow.data.outputs import open_output
    from sentiflow.shares import trends
    from sentiflow.tracking.recording import Recorder

    raw = {"name": "bench", "output_uri": str(folder)}
    config = settings.load(raw | {"trends": {"by": ["airline", "created:week"]}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    with open_output(trends.describe_output(config)) as output:
        record = trends.run(config, output, Recorder())
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    names = ["row_id", "label", "prediction", *(f"probability_{name}" for name in CLASSES)]
    began = time.perf_counter()
    for path in sorted((folder / "scored/predictions").iterdir()):
        for batch in pq.ParquetFile(path).iter_batches(columns=[*names, "airline", "created"]):
            del batch
    read = time.perf_counter() - began
    found = {"rows": record["counts"]["rows"], "groups": record["counts"]["groups"]}
    found |= {"seconds": round(seconds, 1), "read_seconds": round(read, 1)}
    print(json.dumps(found | {"peak_mb": peak // 1024, "before_mb": before // 1024}))


def main() -> None:
    """Measure each number of rows in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[4_000_000, 16_000_000])
    parser.add_argument("--folder", type=Path, help="Measure what is there.")
    given = parser.parse_args()
    if given.folder:
        measure(given.folder)
        return
    for num_rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            publish(Path(folder), num_rows)
            subprocess.run([sys.executable, __file__, "--folder", folder], check=True)


if __name__ == "__main__":
    main()
