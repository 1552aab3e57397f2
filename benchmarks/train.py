"""Training against a plain PyTorch loop and against more workers.

    python benchmarks/train.py [--prepared runs/x/prepared] [--only workers]

Without ``--prepared``, ``--rows`` tweets of ``sentiflow sample`` are prepared first. Rates are
tweets per second after the first epoch, on one core for each worker.

- one worker: against a loop of forward, loss, backward and Adam over the same padded batches, which
  are made beforehand and held in memory; no dropout, no checkpoints, no validation.
- workers: the network of ``configs/quickstart.yaml`` by batch size. The title has the number that
  ``train.num_workers: auto`` would choose on two nodes of one core for a long training.
- start: seconds of the whole command for one epoch of few steps.
"""

import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measuring
import pyarrow.parquet as pq
import torch
from measuring import Table, Way
from torch import nn

from sentiflow.cluster.resources import Resources
from sentiflow.config.train_sections import DEFAULT_NUM_SHARDS, TrainSettings
from sentiflow.data import manifest
from sentiflow.models import batching, vocabulary
from sentiflow.training import learned_classes, worker_count
from sentiflow.training.initial_network import build
from sentiflow.training.virtual_shards import TrainInput, VirtualShards

BIGRU = {"cell": "gru", "hidden_size": 128, "dropout": 0.0}
RNN = {
    "cell": "rnn",
    "hidden_size": 50,
    "bidirectional": False,
    "pooling": "last",
    "vectors": "frozen",
    "dropout": 0.0,
}
QUICKSTART = {"cell": "gru", "hidden_size": 64, "pooling": "mean_max", "dropout": 0.3}
NODES = Resources(num_cpus=2, num_gpus=0, num_nodes=2, min_node_cpus=1, is_one_machine=False)


def settings_of(model: dict, batch_size: int, num_epochs: int = 2) -> dict:
    """Write the settings of a training."""
    return {
        "model": model,
        "batching": {"global_batch_size": batch_size},
        "num_epochs": num_epochs,
        "schedule": "constant",
    }


def train(prepared: Path, given: dict, num_workers: int = 1) -> dict:
    """Train by the command, with a new MLflow store; returns the manifest of the model."""
    changes = {f"train.{name}": value for name, value in given.items()}
    changes["train.prepared_uri"] = prepared
    changes["train.num_workers"] = num_workers
    changes["train.cpus_per_worker"] = 1
    with measuring.open_folder() as folder:
        return measuring.run_job("train", folder / "run", changes)


def measure_ours(prepared: Path, given: dict, num_workers: int = 1) -> measuring.Figures:
    """Measure the last epoch of the command."""
    record = train(prepared, given, num_workers)
    last_epoch = record["history"][-1]
    return {"tweets/s": last_epoch["tweets_per_second"]}


def read_batches(prepared: Path, settings: TrainSettings) -> list[batching.Batch]:
    """Make the batches of an epoch as the train stage does."""
    files = sorted((prepared / "encoded/split=train").glob("*.parquet"))
    shards = VirtualShards.plan({str(file): pq.read_metadata(file).num_rows for file in files})
    every_shard = range(DEFAULT_NUM_SHARDS)
    train = TrainInput(
        shards,
        own=every_shard,
        counts=shards.count_lengths(every_shard, max_length=64),
        batch_size=settings.batching.global_batch_size,
        bucketing=settings.batching.bucketing,
        drop_last=False,
        keep_empty=False,
        seed=settings.seed,
    )
    return [batching.collate(part.rows, part.chosen) for part in train.slices(1)]


def run_loop(prepared: Path, settings: TrainSettings) -> float:
    """Train with a plain loop over batches in memory."""
    torch.set_num_threads(1)
    words = vocabulary.load(str(prepared / "vocabulary.parquet"))
    network = build(settings, words).train()
    batches = read_batches(prepared, settings)
    parameters = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True)
    for _ in range(settings.num_epochs):
        began = time.perf_counter()
        for batch in batches:
            logits = network(batch.token_ids, batch.lengths)
            loss = nn.functional.cross_entropy(logits, batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds = time.perf_counter() - began
    return sum(len(batch.labels) for batch in batches) / seconds


def measure_loop(prepared: Path, given: dict) -> measuring.Figures:
    """Measure the last epoch of the loop in a new process."""
    settings = TrainSettings.model_validate(given)
    rates = measuring.in_processes([partial(run_loop, prepared, settings)])
    return {"tweets/s": rates[0]}


def time_start(prepared: Path, num_workers: int) -> measuring.Figures:
    """Measure a whole command whose training is short."""
    settings = settings_of(RNN, 8192, num_epochs=1)
    seconds = measuring.seconds_of(partial(train, prepared, settings, num_workers))
    return {"seconds": seconds}


def choose_workers(prepared: Path, given: dict) -> int:
    """Choose the number of workers of a long training as ``train.num_workers: auto`` does."""
    settings = TrainSettings.model_validate(
        given | {"num_epochs": 10_000, "prepared_uri": str(prepared)}
    )
    record = manifest.read(str(prepared))
    assert record is not None, "the directory is a complete result"
    learned = learned_classes.choose(record, settings)
    num_workers, _ = worker_count.choose(settings, record, learned, NODES)
    return num_workers


def compare_with_loop(prepared: Path, given: dict) -> dict[str, Way]:
    """List the ways to train with one worker."""
    return {
        "a loop": partial(measure_loop, prepared, given),
        "sentiflow": partial(measure_ours, prepared, given),
    }


def list_all_tables(prepared: Path) -> Iterator[Table]:
    """List the tables of the three comparisons."""
    bigru = settings_of(BIGRU, 256)
    yield "one worker, BiGRU(128), tuned vectors, batch 256", compare_with_loop(prepared, bigru)
    rnn = settings_of(RNN, 512)
    yield "one worker, RNN(50), frozen vectors, batch 512", compare_with_loop(prepared, rnn)
    for size in (128, 512, 2048, 8192):
        given = settings_of(QUICKSTART, size)
        title = f"workers, batch {size:,}; auto takes {choose_workers(prepared, given)}"
        measure = partial(measure_ours, prepared, given)
        yield title, {f"{number} worker(s)": partial(measure, number) for number in (1, 2)}
    start = partial(time_start, prepared)
    yield "start", {f"{number} worker(s)": partial(start, number) for number in (1, 2)}


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """List the tables whose title contains ``--only``."""
    prepared = options.prepared or measuring.prepare_sample(folder, options.rows)
    for table in list_all_tables(prepared.resolve()):
        title, _ = table
        if options.only in title:
            yield table


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, prepared=Path, rows=100_000, only="")
