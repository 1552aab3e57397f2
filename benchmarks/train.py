"""Training against a plain PyTorch loop and against more workers.

    python benchmarks/train.py [--prepared runs/x/prepared] [--only workers]

Without ``--prepared``, ``--rows`` tweets of ``sentiflow sample`` are prepared first. Rates are
tweets per second after the first epoch; each contestant has processes of its own, with one thread.

- PyTorch: forward, loss, backward, Adam over the same padded batches, made beforehand and held in
  memory; the same network with ``nn.GRU`` or ``nn.RNN`` in place of our CPU kernels, no dropout, no
  checkpoints, no validation.
- workers: the network of ``configs/quickstart.yaml`` by batch size, beside what
  ``train.num_workers: auto`` would take on two nodes of a core for a long training.
- start: seconds of the whole command for one epoch of few steps.
"""

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import measuring
import pyarrow.parquet as pq
import torch
import torch.distributed
from torch import nn

from sentiflow.cluster import memory
from sentiflow.cluster.resources import Resources
from sentiflow.config.train_sections import NUM_VIRTUAL_SHARDS, TrainSettings
from sentiflow.data import manifest
from sentiflow.models import batching, cpu, vocabulary
from sentiflow.training import classes, worker_count
from sentiflow.training.initial_network import build
from sentiflow.training.objectives import ClassificationObjective
from sentiflow.training.trainer import Trainer
from sentiflow.training.virtual_shards import OwnRows, TrainInput, VirtualShards, own_shards

Run = Callable[[Path, TrainSettings, int, int], float]
"""Prepared tables, settings, rank and number of workers -> tweets/s of the last epoch."""
BIGRU = {"cell": "gru", "hidden_size": 128, "dropout": 0.0}
RNN = {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
RNN |= {"vectors": "frozen", "dropout": 0.0}
QUICKSTART = {"cell": "gru", "hidden_size": 64, "pooling": "mean_max", "dropout": 0.3}
NODES = Resources(num_cpus=2, num_gpus=0, num_nodes=2, min_node_cpus=1, is_one_machine=False)


def settings_of(model: dict, batch_size: int, **changes: object) -> TrainSettings:
    """Write the settings of a training of two epochs."""
    batch = {"batching": {"global_batch_size": batch_size}, "schedule": "constant"}
    return TrainSettings.model_validate({"model": model} | batch | {"num_epochs": 2} | changes)


def open_train(prepared: Path, settings: TrainSettings, own: range) -> TrainInput:
    """Open the global batches of the train split."""
    files = sorted((prepared / "encoded/split=train").glob("*.parquet"))
    shards = VirtualShards.plan({str(file): pq.read_metadata(file).num_rows for file in files})
    batch = settings.batching
    return TrainInput(
        shards,
        own=own,
        counts=shards.count_lengths(range(NUM_VIRTUAL_SHARDS), max_length=64),
        batch_size=batch.global_batch_size,
        bucketing=batch.bucketing,
        drop_last=batch.drop_last,
        keep_empty=False,
        seed=settings.seed,
    )


def run_ours(prepared: Path, settings: TrainSettings, rank: int, world_size: int) -> float:
    """Train as a worker of the train stage does."""
    memory.keep_freed()
    own = own_shards(rank, world_size)
    network = build(settings, vocabulary.load(str(prepared / "vocabulary.parquet")))
    trainer = Trainer(
        settings=settings,
        objective=ClassificationObjective(network),
        train=open_train(prepared, settings, own),
        validation=OwnRows(VirtualShards.plan({}), own=own),
        device=torch.device("cpu"),
    )
    rates = [trainer.train_epoch().tweets_per_second for _ in range(settings.num_epochs)]
    return rates[-1]


def run_pytorch(prepared: Path, settings: TrainSettings, *_: int) -> float:
    """Train with a plain loop over batches in memory, the network's layers PyTorch's own."""
    cpu.is_plain = lambda tensor: False
    network = build(settings, vocabulary.load(str(prepared / "vocabulary.parquet"))).train()
    train = open_train(prepared, settings, range(NUM_VIRTUAL_SHARDS))
    batches = [batching.collate(part.rows, part.chosen) for part in train.slices(1)]
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True)
    for _ in range(settings.num_epochs):
        began = time.perf_counter()
        for batch in batches:
            loss = nn.functional.cross_entropy(
                network(batch.token_ids, batch.lengths), batch.labels
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds = time.perf_counter() - began
    return train.num_rows / seconds


def run_worker(
    run: Run, prepared: Path, settings: TrainSettings, rank: int, world_size: int, port: int
) -> float:
    """Run one of the workers of a contestant."""
    torch.set_num_threads(1)
    if world_size > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    return run(prepared, settings, rank, world_size)


def measure(
    run: Run, prepared: Path, settings: TrainSettings, world_size: int = 1
) -> measuring.Figures:
    """Run a contestant in processes of its own; the slowest counts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = partial(run_worker, run, prepared, settings, world_size=world_size, port=port)
    rates = measuring.in_processes([partial(worker, rank) for rank in range(world_size)])
    return {"tweets/s": min(rates)}


def time_start(prepared: Path, num_workers: int) -> measuring.Figures:
    """Measure a whole command whose training is short; MLflow's store is new."""
    settings = {"train.prepared_uri": prepared, "train.model": RNN, "train.num_epochs": 1}
    settings |= {"train.batching.global_batch_size": 8192, "train.num_workers": num_workers}
    with measuring.open_folder() as folder:
        run = partial(measuring.run_job, "train", folder / "run", settings)
        return {"seconds": measuring.seconds_of(run)}


def list_comparisons(prepared: Path) -> dict[str, dict[str, measuring.Way]]:
    """List what is run in turn."""
    tables: dict[str, dict[str, measuring.Way]] = {}
    for title, settings in (
        ("one worker, BiGRU(128), tuned vectors, batch 256", settings_of(BIGRU, 256)),
        ("one worker, RNN(50), frozen vectors, batch 512", settings_of(RNN, 512)),
    ):
        ways = {"a loop with PyTorch's layers": run_pytorch, "sentiflow": run_ours}
        tables[title] = {n: partial(measure, run, prepared, settings) for n, run in ways.items()}
    record = manifest.read(str(prepared))
    for size in (128, 512, 2048, 8192):
        settings = settings_of(QUICKSTART, size, prepared_uri=str(prepared))
        long = settings.model_copy(update={"num_epochs": 10_000})
        chosen, _ = worker_count.choose(long, record, classes.choose(record, long), NODES)
        tables[f"workers, batch {size:,}; auto takes {chosen}"] = {
            f"{n} worker(s)": partial(measure, run_ours, prepared, settings, n) for n in (1, 2)
        }
    tables["start"] = {f"{n} worker(s)": partial(time_start, prepared, n) for n in (1, 2)}
    return tables


def main() -> None:
    """Run all comparisons."""
    parser = measuring.make_parser(__doc__)
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--only", default="", help="comparisons whose title holds this")
    options = parser.parse_args()
    with measuring.open_folder() as folder:
        prepared = (options.prepared or measuring.prepare_sample(folder, options.rows)).resolve()
        for title, runs in list_comparisons(prepared).items():
            if options.only in title:
                measuring.compare(title, runs, options)


if __name__ == "__main__":
    main()
