"""Training against a bare PyTorch loop, against more workers, and against the tutorial's loop.

    python benchmarks/train.py --prepared runs/x/prepared [--repeats 3]

Without ``--prepared``, 100,000 tweets of ``sentiflow sample`` are prepared first. Rates are tweets
per second after the first epoch, the median of the repeats, with the ratio to the first line.

- bare: forward, loss, backward, Adam over the same padded batches, made beforehand and held in
  memory; the same network, no dropout, no checkpoints, no validation, one thread.
- PyTorch's layers: the bare loop with ``nn.GRU`` or ``nn.RNN`` in place of our CPU kernels.
- bare gloo: the bare loop by two processes that add up their gradients in one message a step.
- tutorial: batches of 64 tweets of equal length, a DataLoader for each length with its default
  collation of one tensor a tweet, as the tutorial has it.
- tutorial's loop over sums: a DataLoader of batches of 128 of the tweets' summed vectors, which
  are made beforehand and not counted, as the tutorial has it for its first network.
- workers, with ``--plot``: validation loss after each epoch with 1, 2 and 4 workers.
- curves: validation accuracy after each epoch, the mean over as many seeds as repeats, with the
  tutorial's batches and with larger ones and a larger learning rate.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.distributed
from matplotlib.figure import Figure
from measuring import make_csv, sentiflow, show_rates, take_turns, write_config
from torch import nn

from sentiflow.cluster import memory
from sentiflow.config.train_sections import NUM_VIRTUAL_SHARDS, TrainSettings
from sentiflow.data import manifest
from sentiflow.models import batching, cpu, vocabulary
from sentiflow.training.initial_network import build
from sentiflow.training.objectives import ClassificationObjective
from sentiflow.training.trainer import Trainer
from sentiflow.training.virtual_shards import OwnRows, TrainInput, VirtualShards, own_shards

BIGRU = {"model": {"cell": "gru", "hidden_size": 128, "dropout": 0.0}}
RNN = {
    "model": {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
    | {"vectors": "frozen", "dropout": 0.0}
}
BAG = {
    "model": {"kind": "bag_of_embeddings", "hidden_sizes": [30, 10], "vectors": "frozen"}
    | {"dropout": 0.0}
}


def settings_of(model: dict, batch_size: int, **changes: object) -> TrainSettings:
    """Write the settings of a comparison."""
    batch = {"batching": {"global_batch_size": batch_size}, "schedule": "constant"}
    return TrainSettings.model_validate(model | batch | {"num_epochs": 2} | changes)


BIG, SMALL, GRU = settings_of(RNN, 8192), settings_of(RNN, 512), settings_of(BIGRU, 256)
SUMS = settings_of(BAG, 128, learning_rate=1e-4, clip_norm=None)
BIG_SUMS = settings_of(BAG, 2048, learning_rate=1e-3, clip_norm=None)
TUNED = settings_of({"model": RNN["model"] | {"vectors": "tuned"}}, 512)
TUTORIAL, POOLED = (
    settings_of(RNN, 64, learning_rate=2e-4, clip_norm=None, **more)
    for more in (
        {"batching": {"global_batch_size": 64, "bucketing": "exact", "drop_last": True}},
        {},
    )
)
MEDIUM, LARGE, HUGE = (
    settings_of(RNN, size, learning_rate=rate, clip_norm=1.0)
    for size, rate in ((512, 1.5e-3), (1024, 3e-3), (2048, 4e-3))
)


def open_train(prepared: Path, settings: TrainSettings, own: range) -> TrainInput:
    """Open the global batches of the train split."""
    shards = plan(prepared, "train")
    counts = shards.count_lengths(range(NUM_VIRTUAL_SHARDS), max_length=64)
    batch = settings.batching
    return TrainInput(
        shards,
        own=own,
        counts=counts,
        batch_size=batch.global_batch_size,
        bucketing=batch.bucketing,
        drop_last=batch.drop_last,
        keep_empty=settings.model.kind == "bag_of_embeddings",
        seed=settings.seed,
    )


def plan(prepared: Path, split: str) -> VirtualShards:
    """Find the files of a split."""
    files = sorted((prepared / f"encoded/split={split}").glob("*.parquet"))
    return VirtualShards.plan({str(file): pq.read_metadata(file).num_rows for file in files})


def run_ours(prepared: Path, settings: TrainSettings, rank: int = 0, world_size: int = 1) -> float:
    """Train two epochs with the trainer; tweets/s of the second, without validation."""
    trainer = make_trainer(prepared, settings, VirtualShards.plan({}), rank, world_size)
    trainer.train_epoch()
    return trainer.train_epoch().tweets_per_second


def run_curve(
    metric: str, prepared: Path, settings: TrainSettings, rank: int = 0, world_size: int = 1
) -> list[float]:
    """Train with one or several workers; a metric of validation after each epoch."""
    trainer = make_trainer(prepared, settings, plan(prepared, "validation"), rank, world_size)
    return [getattr(trainer.train_epoch(), metric) for _ in range(settings.num_epochs)]


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


def run_bare(prepared: Path, settings: TrainSettings, rank: int = 0, world_size: int = 1) -> float:
    """Train two epochs with a plain loop over batches in memory; tweets/s of the second."""
    words = vocabulary.load(str(prepared / "vocabulary.parquet"))
    network = build(settings, words).train()
    train = open_train(prepared, settings, own_shards(rank, world_size))
    parts = list(train.slices(1))
    batches = [batching.collate(part.rows, part.chosen) for part in parts]
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True)
    for _ in range(2):
        began = time.perf_counter()
        for batch, part in zip(batches, parts, strict=True):
            logits = network(batch.token_ids, batch.lengths)
            loss = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
            optimizer.zero_grad()
            (loss / part.global_size).backward()
            if world_size > 1:
                flat = torch.cat([p.grad.flatten() for p in parameters])
                torch.distributed.all_reduce(flat)
                sizes = [p.numel() for p in parameters]
                for p, gradient in zip(parameters, flat.split(sizes), strict=True):
                    p.grad = gradient.view_as(p)
            optimizer.step()
        seconds = time.perf_counter() - began
    return train.num_rows / seconds


def run_pytorch(prepared: Path, settings: TrainSettings) -> float:
    """Train as the bare loop does, the network's layers PyTorch's own."""
    cpu.is_plain = lambda tensor: False
    return run_bare(prepared, settings)


def run_tutorial(prepared: Path, settings: TrainSettings) -> float:
    """Train two epochs as the tutorial does: a DataLoader for each length; tweets/s of the second.

    The tutorial makes a tensor of each tweet beforehand, and shuffles the batches of all loaders.
    """
    cpu.is_plain = lambda tensor: False
    words = vocabulary.load(str(prepared / "vocabulary.parquet"))
    network = build(settings, words).train()
    by_length: dict[int, list] = {}
    for rows in OwnRows(plan(prepared, "train"), own=range(NUM_VIRTUAL_SHARDS)):
        for i in np.flatnonzero(rows.lengths):
            ids = rows.token_ids[rows.offsets[i] : rows.offsets[i + 1]].astype(np.int64)
            item = (torch.from_numpy(ids), int(rows.labels[i]))
            by_length.setdefault(len(ids), []).append(item)
    loaders = [
        torch.utils.data.DataLoader(items, batch_size=64, shuffle=True, drop_last=True)
        for items in by_length.values()
    ]
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=2e-4)
    generator = np.random.default_rng(0)
    for _ in range(2):
        began, done = time.perf_counter(), 0
        sources = [iter(loader) for loader in loaders]
        numbers = np.repeat(np.arange(len(loaders)), list(map(len, loaders)))
        for number in generator.permutation(numbers):
            token_ids, labels = next(sources[number])
            lengths = torch.full((len(labels),), token_ids.shape[1])
            loss = nn.functional.cross_entropy(network(token_ids, lengths), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += len(labels)
        seconds = time.perf_counter() - began
    return done / seconds


def run_tutorial_sums(prepared: Path, settings: TrainSettings) -> float:
    """Train two epochs on the tweets' summed vectors as the tutorial does; tweets/s of the second.

    The sums are made beforehand.
    """
    words = vocabulary.load(str(prepared / "vocabulary.parquet"))
    network = build(settings, words).train()
    items = []
    for rows in OwnRows(plan(prepared, "train"), own=range(NUM_VIRTUAL_SHARDS)):
        for i in range(len(rows)):
            ids = rows.token_ids[rows.offsets[i] : rows.offsets[i + 1]].astype(np.int64)
            vector = network.embedding.weight[torch.from_numpy(ids)].sum(dim=0).detach()
            items.append((vector, int(rows.labels[i])))
    loader = torch.utils.data.DataLoader(items, batch_size=128, shuffle=True)
    layers = [part for layer in network.hidden for part in (layer, nn.ReLU())]
    network = nn.Sequential(*layers, network.output)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    for _ in range(2):
        began = time.perf_counter()
        for vectors, labels in loader:
            loss = nn.functional.cross_entropy(network(vectors), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds = time.perf_counter() - began
    return len(items) / seconds


def run_process(run, prepared, settings, rank, world_size, port, queue) -> None:
    """Run one of the workers of a comparison."""
    torch.set_num_threads(1)
    if world_size > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    arguments = (rank, world_size) if world_size > 1 else ()
    queue.put(run(prepared, settings, *arguments))


def measure(run, prepared: Path, settings: TrainSettings, world_size: int = 1):
    """Run a contestant in its own processes; tweets/s over all of them, or its curve."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    port = 29700 + int(time.time()) % 200
    workers = [
        context.Process(
            target=run_process, args=(run, prepared, settings, rank, world_size, port, queue)
        )
        for rank in range(world_size)
    ]
    for worker in workers:
        worker.start()
    rates = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
    return min(rates)


def draw_workers(prepared: Path, path: Path) -> None:
    """Draw the curves of 1, 2 and 4 workers over each other, dropout included."""
    model = {"model": BIGRU["model"] | {"hidden_size": 32, "dropout": 0.2}}
    settings = settings_of(model, 256, schedule="one_cycle", num_epochs=4)
    print("\nworkers: validation loss after each epoch")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for world_size, style in ((1, "-"), (2, "--"), (4, ":")):
        curve = measure(partial(run_curve, "validation_loss"), prepared, settings, world_size)
        print(f"  {world_size:<34} " + " ".join(f"{loss:.6f}" for loss in curve), flush=True)
        axes.plot(range(1, 5), curve, style, linewidth=1 + world_size, alpha=0.7, label=world_size)
    axes.set(xlabel="epoch", ylabel="validation loss", xticks=range(1, 5))
    axes.legend(title="workers")
    figure.savefig(path, dpi=100)


def compare_curves(prepared: Path, contestants: dict, repeats: int) -> None:
    """Print the mean validation accuracy of several seeds after each epoch."""
    print("\ncurves: validation accuracy after each epoch")
    run = partial(run_curve, "validation_accuracy")
    for name, settings in contestants.items():
        changes = [{"seed": seed, "num_epochs": 6} for seed in range(repeats)]
        curves = [measure(run, prepared, settings.model_copy(update=each)) for each in changes]
        means = " ".join(f"{accuracy:.4f}" for accuracy in np.mean(curves, axis=0))
        print(f"  {name:<34} {means}", flush=True)


def time_starts(prepared: Path, num_workers: int, repeats: int) -> list[float]:
    """Measure the seconds from typing the command to the end of an epoch of twelve steps.

    MLflow's store is there.
    """
    with tempfile.TemporaryDirectory() as name:
        train = settings_of(RNN, 8192).model_dump()
        train |= {"prepared_uri": str(prepared), "num_epochs": 1, "num_workers": num_workers}
        sections = {"prepare": {"csv": "none.csv"}, "train": train}
        config = write_config(Path(name, "config.json"), output=Path(name, "run"), **sections)
        command = [sys.executable, "-m", "sentiflow", "train", str(config)]
        seconds = []
        for seed in range(repeats + 1):
            began = time.perf_counter()
            arguments = [*command, f"train.seed={seed}", "--overwrite"]
            with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
                next(line for line in process.stderr if ", validation accuracy " in line)
                seconds.append(time.perf_counter() - began)
                process.stderr.read()
        return seconds[1:]


def prepare_sample(folder: Path, num_rows: int = 100_000) -> Path:
    """Prepare a synthetic corpus."""
    csv = make_csv(folder / "sample.csv", num_rows)
    sections = {"prepare": {"csv": str(csv)}}
    sentiflow("prepare", write_config(folder / "config.json", output=folder / "run", **sections))
    return folder / "run/prepared"


def list_comparisons(prepared: Path) -> dict[str, dict]:
    """List what is run in turn."""
    return {
        "one worker, BiGRU(128), tuned vectors, batch 256": {
            "bare loop, PyTorch's layers": (run_pytorch, prepared, GRU),
            "bare loop": (run_bare, prepared, GRU),
            "sentiflow": (run_ours, prepared, GRU),
        },
        "one worker, RNN(50), frozen vectors, batch 512": {
            "bare loop, PyTorch's layers": (run_pytorch, prepared, SMALL),
            "bare loop": (run_bare, prepared, SMALL),
            "sentiflow": (run_ours, prepared, SMALL),
        },
        "two workers, RNN(50), frozen vectors, batch 8192": {
            "sentiflow, 1 worker": (run_ours, prepared, BIG),
            "sentiflow, 2 workers": (run_ours, prepared, BIG, 2),
            "bare loop": (run_bare, prepared, BIG),
            "bare gloo loop, 2 processes": (run_bare, prepared, BIG, 2),
        },
        "two workers, RNN(50), tuned vectors, batch 512": {
            "sentiflow, 1 worker": (run_ours, prepared, TUNED),
            "sentiflow, 2 workers": (run_ours, prepared, TUNED, 2),
            "bare loop": (run_bare, prepared, TUNED),
            "bare gloo loop, 2 processes": (run_bare, prepared, TUNED, 2),
        },
        "tutorial's network": {
            "tutorial's loop, batch 64": (run_tutorial, prepared, TUTORIAL),
            "sentiflow, batch 64, exact": (run_ours, prepared, TUTORIAL),
            "sentiflow, batch 64, pooled": (run_ours, prepared, POOLED),
            "sentiflow, batch 512": (run_ours, prepared, MEDIUM),
            "sentiflow, batch 1,024": (run_ours, prepared, LARGE),
            "sentiflow, batch 2,048": (run_ours, prepared, HUGE),
            "sentiflow, batch 2,048, 2 workers": (run_ours, prepared, HUGE, 2),
        },
        "tutorial's network over sums": {
            "tutorial's loop, batch 128": (run_tutorial_sums, prepared, SUMS),
            "bare loop, batch 128": (run_bare, prepared, SUMS),
            "sentiflow, batch 128": (run_ours, prepared, SUMS),
            "sentiflow, batch 2,048": (run_ours, prepared, BIG_SUMS),
        },
    }


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="comparisons whose name holds this")
    parser.add_argument("--plot", type=Path, help="draw the curves of 1, 2 and 4 workers there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        prepared = arguments.prepared or prepare_sample(Path(name))
        prepared = prepared.resolve()
        rows = manifest.read(str(prepared))["counts"]["labels"]["train"]
        print(f"{rows['negative'] + rows['positive']:,} train rows")
        for title, contestants in list_comparisons(prepared).items():
            if arguments.only in title:
                runs = {name: partial(measure, *each) for name, each in contestants.items()}
                show_rates(title, take_turns(runs, arguments.repeats), unit="tweets/s")
        if arguments.only in "curves":
            contestants = {"tutorial's batches of 64": TUTORIAL, "batches of 512": MEDIUM}
            contestants |= {"batches of 1,024": LARGE, "batches of 2,048": HUGE}
            compare_curves(prepared, contestants, arguments.repeats)
        if arguments.plot:
            draw_workers(prepared, arguments.plot)
        if arguments.only in "start":
            for num_workers in (1, 2):
                seconds = time_starts(prepared, num_workers, arguments.repeats)
                print(f"\nstart: command to the twelfth step, {num_workers} worker(s): "
                      f"{statistics.median(seconds):.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
