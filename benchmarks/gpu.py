"""Training and scoring on a GPU against the CPU: speed, and agreement.

    python benchmarks/gpu.py [--prepared runs/x/prepared] [--rows 1000000]

The network is a bidirectional GRU(128) with attention and dropout, in batches of 8,192. Without
``--prepared``, tweets of ``sentiflow sample`` are prepared first. Without a GPU the CPU is compared
with itself on few rows in small batches, which only shows that the benchmark works.

- train: tweets per second of the second epoch.
- accuracy: on the validation rows after two epochs with the same seed.
- score: rows per second of the stage, with the model that the CPU trained.
- gap: the largest difference between a probability and the CPU's. TF32 and bf16 round: a gap up to
  0.02 is expected, and a difference in accuracy up to 0.01.

Not measured yet: no GPU was at hand.
"""

from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measuring
import numpy as np
import torch
from measuring import Table

import sentiflow

MODEL = {"cell": "gru", "hidden_size": 128, "dropout": 0.2}
ON_GPU = torch.cuda.is_available()
PLACES = {
    "CPU": {"gpus_per_worker": 0, "precision": "fp32"},
    "GPU, fp32": {"gpus_per_worker": int(ON_GPU), "precision": "fp32"},
    "GPU, auto": {"gpus_per_worker": int(ON_GPU), "precision": "auto"},
}


def measure(folder: Path, prepared: Path, batch_size: int, place: str) -> measuring.Figures:
    """Train two epochs, and score the prepared tweets with the model of the CPU."""
    settings: dict[str, object] = {
        "train.prepared_uri": prepared,
        "train.model": MODEL,
        "train.num_epochs": 2,
        "train.schedule": "constant",
        "train.batching.global_batch_size": batch_size,
        "train.num_workers": 1,
        "score.prepared_uri": prepared,
        "score.model_uri": folder / "CPU/trained/model",
    }
    for name, value in PLACES[place].items():
        settings[f"train.{name}"] = value
        settings[f"score.{name}"] = value
    with measuring.open_folder() as again:
        output = folder / place
        if output.exists():  # a later round
            output = again
        trained = measuring.run_job("train", output, settings)
        scored = measuring.run_job("score", output, settings)
        difference = read_probabilities(output) - read_probabilities(folder / "CPU")
    epoch = trained["history"][1]
    return {
        "train, tweets/s": epoch["tweets_per_second"],
        "accuracy": epoch["validation_accuracy"],
        "score, rows/s": scored["counts"]["accepted"] / scored["seconds"],
        "gap": np.abs(difference).max(),
    }


def read_probabilities(output: Path) -> np.ndarray:
    """Read the predictions of a run, in the order of the rows."""
    rows = sentiflow.read_predictions(output / "scored", columns=["row_id", "probability"])
    return rows.sort_values("row_id")["probability"].to_numpy()


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """List the places to train and to score at, the CPU first."""
    if ON_GPU:
        batch_size = 8192
        device = torch.cuda.get_device_name()
    else:
        batch_size = 256
        device = "no GPU: the figures mean little"
    prepared = options.prepared or measuring.prepare_sample(folder, options.rows)
    measure_at = partial(measure, folder, prepared.resolve(), batch_size)
    title = f"torch {torch.__version__}, {device}, batches of {batch_size:,}"
    yield title, {place: partial(measure_at, place) for place in PLACES}


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, prepared=Path, rows=1_000_000 if ON_GPU else 5_000)
