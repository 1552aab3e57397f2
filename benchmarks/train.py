"""Training against a bare PyTorch loop and against more workers.

    python benchmarks/train.py [--prepared runs/x/prepared] [--only workers] [--plot PNG]

Without ``--prepared``, ``--rows`` tweets of ``sentiflow sample`` are prepared first. Rates are
tweets per second after the first epoch; each contestant has processes of its own, with one thread.

- bare loop: forward, loss, backward, Adam over the same padded batches, made beforehand and held in
  memory; the same network, no dropout, no checkpoints, no validation.
- PyTorch's layers: the bare loop with ``nn.GRU`` or ``nn.RNN`` in place of our CPU kernels.
- workers: the network of ``configs/quickstart.yaml`` by batch size, beside what
  ``train.num_workers: auto`` would take on two nodes of a core for a long training.
- start: seconds of the whole command for one epoch of few steps.
- ``--plot``: validation loss after each epoch with 1, 2 and 4 workers.
"""

import os
import socket
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import pyarrow.parquet as pq
import torch
import torch.distributed
from matplotlib.figure import Figure
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

Run = Callable[..., float | list[float]]
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
    shards = plan(prepared, "train")
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


def plan(prepared: Path, split: str) -> VirtualShards:
    """Find the files of a split."""
    files = sorted((prepared / f"encoded/split={split}").glob("*.parquet"))
    return VirtualShards.plan({str(file): pq.read_metadata(file).num_rows for file in files})


def make_trainer(
    prepared: Path,
    settings: TrainSettings,
    validation: VirtualShards,
    rank: int = 0,
    world_size: int = 1,
    device: str = "cpu",
) -> Trainer:
    """Set up a worker's training as the train stage does."""
    memory.keep_freed()
    words = vocabulary.load(str(prepared / "vocabulary.parquet"))
    own = own_shards(rank, world_size)
    return Trainer(
        settings=settings,
        objective=ClassificationObjective(build(settings, words)).to(device),
        train=open_train(prepared, settings, own),
        validation=OwnRows(validation, own=own),
        device=torch.device(device),
    )


def run_ours(prepared: Path, settings: TrainSettings, rank: int, world_size: int) -> float:
    """Train two epochs with the trainer; tweets/s of the second, without validation."""
    trainer = make_trainer(prepared, settings, VirtualShards.plan({}), rank, world_size)
    trainer.train_epoch()
    return trainer.train_epoch().tweets_per_second


def run_curve(
    prepared: Path, settings: TrainSettings, rank: int, world_size: int
) -> list[float | None]:
    """Train with one or several workers; the validation loss after each epoch."""
    trainer = make_trainer(prepared, settings, plan(prepared, "validation"), rank, world_size)
    return [trainer.train_epoch().validation_loss for _ in range(settings.num_epochs)]


def run_bare(prepared: Path, settings: TrainSettings, *_: int) -> float:
    """Train two epochs with a plain loop over batches in memory; tweets/s of the second."""
    network = build(settings, vocabulary.load(str(prepared / "vocabulary.parquet"))).train()
    train = open_train(prepared, settings, range(NUM_VIRTUAL_SHARDS))
    batches = [batching.collate(part.rows, part.chosen) for part in train.slices(1)]
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True)
    for _ in range(2):
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


def run_pytorch(prepared: Path, settings: TrainSettings, *_: int) -> float:
    """Train as the bare loop does, the network's layers PyTorch's own."""
    cpu.is_plain = lambda tensor: False
    return run_bare(prepared, settings)


def run_worker(run: Run, prepared: Path, settings: TrainSettings, *place: int) -> Any:
    """Run one of the workers of a contestant."""
    rank, world_size, port = place
    torch.set_num_threads(1)
    if world_size > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    return run(prepared, settings, rank, world_size)


def spawn(run: Run, prepared: Path, settings: TrainSettings, world_size: int = 1) -> Any:
    """Run a contestant in its own processes; the slowest worker's rate, or a curve."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = partial(run_worker, run, prepared, settings)
    return min(
        measuring.in_processes([partial(worker, n, world_size, port) for n in range(world_size)])
    )


def measure(
    run: Run, prepared: Path, settings: TrainSettings, world_size: int = 1
) -> measuring.Figures:
    """Measure the rate of a contestant."""
    return {"tweets/s": spawn(run, prepared, settings, world_size)}


def draw_workers(prepared: Path, path: Path) -> None:
    """Draw the curves of 1, 2 and 4 workers over each other, dropout included."""
    model = BIGRU | {"hidden_size": 32, "dropout": 0.2}
    settings = settings_of(model, 256, schedule="one_cycle", num_epochs=4)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for world_size, style in ((1, "-"), (2, "--"), (4, ":")):
        curve = spawn(run_curve, prepared, settings, world_size)
        print(f"{world_size} worker(s): " + " ".join(f"{loss:.6f}" for loss in curve), flush=True)
        axes.plot(range(1, 5), curve, style, linewidth=1 + world_size, alpha=0.7, label=world_size)
    axes.set(xlabel="epoch", ylabel="validation loss", xticks=range(1, 5))
    axes.legend(title="workers")
    figure.savefig(path, dpi=100)


def time_start(prepared: Path, num_workers: int) -> measuring.Figures:
    """Measure a whole command whose training is short; MLflow's store is new."""
    with tempfile.TemporaryDirectory() as name:
        train = settings_of(RNN, 8192).model_dump()
        train |= {"prepared_uri": str(prepared), "num_epochs": 1, "num_workers": num_workers}
        sections = {"prepare": {"csv": "none.csv"}, "train": train}
        config = measuring.write_config(
            Path(name, "config.json"), output=Path(name, "run"), **sections
        )
        return {"seconds": measuring.seconds_of(lambda: measuring.sentiflow("train", config))}


def list_comparisons(prepared: Path) -> dict[str, dict[str, Callable[[], measuring.Figures]]]:
    """List what is run in turn."""
    tables: dict[str, dict[str, Callable[[], measuring.Figures]]] = {}
    for title, settings in (
        ("one worker, BiGRU(128), tuned vectors, batch 256", settings_of(BIGRU, 256)),
        ("one worker, RNN(50), frozen vectors, batch 512", settings_of(RNN, 512)),
    ):
        ways = {"bare loop, PyTorch's layers": run_pytorch, "bare loop": run_bare}
        ways["sentiflow"] = run_ours
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
    parser.add_argument("--plot", type=Path, help="draw the curves of 1, 2 and 4 workers there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        prepared = (
            options.prepared or measuring.prepare_sample(Path(name), options.rows)
        ).resolve()
        for title, runs in list_comparisons(prepared).items():
            if options.only in title:
                measuring.compare(title, runs, options)
        if options.plot:
            draw_workers(prepared, options.plot)


if __name__ == "__main__":
    main()
