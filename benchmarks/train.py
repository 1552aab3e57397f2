"""Training against a plain PyTorch loop and against more workers.

    python benchmarks/train.py [--prepared runs/x/prepared] [--only workers]

Without ``--prepared``, ``--rows`` tweets of ``sentiflow sample`` are prepared first. Rates are
tweets per second after the first epoch, on one core for a worker.

- one worker: a loop of forward, loss, backward, Adam over the same padded batches, made beforehand
  and held in memory; no dropout, no checkpoints, no validation.
- workers: the network of ``configs/quickstart.yaml`` by batch size, beside what
  ``train.num_workers: auto`` would take on two nodes of a core for a long training.
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
from measuring import Way
from torch import nn

from sentiflow.cluster.resources import Resources
from sentiflow.config.train_sections import DEFAULT_NUM_SHARDS, TrainSettings
from sentiflow.data import manifest
from sentiflow.models import batching, vocabulary
from sentiflow.training import learned_classes, worker_count
from sentiflow.training.initial_network import build
from sentiflow.training.virtual_shards import TrainInput, VirtualShards

BIGRU = {"cell": "gru", "hidden_size": 128, "dropout": 0.0}
RNN = {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
RNN |= {"vectors": "frozen", "dropout": 0.0}
QUICKSTART = {"cell": "gru", "hidden_size": 64, "pooling": "mean_max", "dropout": 0.3}
NODES = Resources(num_cpus=2, num_gpus=0, num_nodes=2, min_node_cpus=1, is_one_machine=False)


def settings_of(model: dict, batch_size: int, num_epochs: int = 2) -> dict:
    """Write the settings of a training."""
    batching = {"global_batch_size": batch_size}
    return {"model": model, "batching": batching, "num_epochs": num_epochs, "schedule": "constant"}


def train(prepared: Path, given: dict, num_workers: int = 1) -> dict:
    """Train by the command; returns the manifest of the model. MLflow's store is new."""
    given = given | {"prepared_uri": prepared, "num_workers": num_workers, "cpus_per_worker": 1}
    with measuring.open_folder() as folder:
        changes = {f"train.{name}": value for name, value in given.items()}
        return measuring.run_job("train", folder / "run", changes)


def measure_ours(prepared: Path, given: dict, num_workers: int = 1) -> measuring.Figures:
    """Measure the last epoch of the command."""
    return {"tweets/s": train(prepared, given, num_workers)["history"][-1]["tweets_per_second"]}


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
    network = build(settings, vocabulary.load(str(prepared / "vocabulary.parquet"))).train()
    batches = read_batches(prepared, settings)
    parameters = [p for p in network.parameters() if p.requires_grad]
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
    """Measure the last epoch of the loop in a process of its own."""
    settings = TrainSettings.model_validate(given)
    return {"tweets/s": measuring.in_processes([partial(run_loop, prepared, settings)])[0]}


def time_start(prepared: Path, num_workers: int) -> measuring.Figures:
    """Measure a whole command whose training is short."""
    short = partial(train, prepared, settings_of(RNN, 8192, num_epochs=1), num_workers)
    return {"seconds": measuring.seconds_of(short)}


def list_tables(folder: Path, options: Namespace) -> Iterator[tuple[str, dict[str, Way]]]:
    """Give the comparisons whose title holds ``--only``."""
    prepared = (options.prepared or measuring.prepare_sample(folder, options.rows)).resolve()
    tables: dict[str, dict[str, Way]] = {}
    for title, given in (
        ("one worker, BiGRU(128), tuned vectors, batch 256", settings_of(BIGRU, 256)),
        ("one worker, RNN(50), frozen vectors, batch 512", settings_of(RNN, 512)),
    ):
        tables[title] = {
            "a loop": partial(measure_loop, prepared, given),
            "sentiflow": partial(measure_ours, prepared, given),
        }
    record = manifest.read(str(prepared))
    for size in (128, 512, 2048, 8192):
        given = settings_of(QUICKSTART, size)
        long = TrainSettings.model_validate(
            given | {"num_epochs": 10_000, "prepared_uri": str(prepared)}
        )
        chosen, _ = worker_count.choose(long, record, learned_classes.choose(record, long), NODES)
        tables[f"workers, batch {size:,}; auto takes {chosen}"] = {
            f"{n} worker(s)": partial(measure_ours, prepared, given, n) for n in (1, 2)
        }
    tables["start"] = {f"{n} worker(s)": partial(time_start, prepared, n) for n in (1, 2)}
    yield from ((title, runs) for title, runs in tables.items() if options.only in title)


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, prepared=Path, rows=100_000, only="")
