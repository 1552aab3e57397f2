"""Training and scoring on a GPU: speed, memory, how busy the GPU is, and agreement with the CPU.

    python benchmarks/gpu.py [--prepared runs/x/prepared] [--rows 1000000] [--device cuda]

The network is a bidirectional GRU(128) with attention and dropout, in batches of 8,192. Without
``--prepared``, tweets of ``sentiflow sample`` are prepared first. Without a GPU it runs in a minute
with few rows and small batches, to see that it works.

- host: the inputs of all steps are made and not used; training cannot be faster than this.
- train: tweets per second of the second epoch, without validation.
- busy: share of the time of 20 steps in which the GPU computes or copies.
- token ids, text: tweets per second of scoring the train split; ``token ids`` leaves the tokenizer
  out.
- agreement: the CPU trains an epoch with the same seed; the accuracies may differ by
  MAX_ACCURACY_GAP. Then both devices score with the weights of the CPU; a probability may differ by
  MAX_PROBABILITY_GAP. TF32 and bf16 round. Beyond that the exit code is 1.

Goals on one H100: training above 100,000 tweets/s, scoring above 1,000,000 from token ids. They are
not measured yet: no GPU was at hand.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from measuring import seconds_of
from torch.profiler import ProfilerActivity, profile, schedule
from train import make_trainer, plan, prepare_sample, settings_of

from sentiflow.config.train_sections import NUM_VIRTUAL_SHARDS
from sentiflow.models import vocabulary
from sentiflow.models.batching import EncodedRows
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_files import PackageSettings
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.training.trainer import Trainer
from sentiflow.training.virtual_shards import OwnRows, VirtualShards

MODEL = {"model": {"cell": "gru", "hidden_size": 128, "dropout": 0.2}}
MAX_ACCURACY_GAP, MAX_PROBABILITY_GAP = 0.01, 0.02
WARM_UP, PROFILED = 5, 20


def set_up(prepared: Path, device: str, batch_size: int, precision: str = "auto") -> Trainer:
    """Set up a training of two epochs."""
    settings = settings_of(MODEL, batch_size, precision=precision)
    return make_trainer(prepared, settings, plan(prepared, "validation"), device=device)


def rate_of_host(trainer: Trainer) -> float:
    """Make the inputs of an epoch in this thread; tweets per second."""
    return trainer.train.num_rows / seconds_of(lambda: [None for _ in trainer._inputs()])


def busy_share(trainer: Trainer) -> float:
    """Profile some steps of an epoch; the share of their time in which the GPU works."""
    times: list[float] = []

    def after_step() -> None:
        if len(times) in (WARM_UP, WARM_UP + PROFILED):
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        profiler.step()

    steps = schedule(wait=WARM_UP - 1, warmup=2, active=PROFILED, repeat=1)
    with profile(activities=[ProfilerActivity.CUDA], schedule=steps) as profiler:
        trainer.train_epoch(after_step)
    if len(times) <= WARM_UP + PROFILED:
        raise SystemExit(f"{len(times)} steps are too few to profile: raise --rows")
    events = [e for e in profiler.key_averages() if not e.key.startswith("ProfilerStep")]
    worked = sum(event.self_device_time_total for event in events) / 1e6
    return worked / (times[WARM_UP + PROFILED] - times[WARM_UP])


def package_of(trainer: Trainer, prepared: Path, device: str) -> ModelPackage:
    """Make a package of the trained network, on a device."""
    words = vocabulary.load(str(prepared / "vocabulary.parquet"))
    settings = PackageSettings(
        model=trainer.settings.model,
        vocabulary_size=len(words),
        embedding_dim=words.vectors.shape[1],
        tokenizer="tweet",
        tokenizer_version=TOKENIZERS["tweet"][0],
        max_length=64,
        priors=(0.5, 0.5),
    )
    return ModelPackage(trainer.objective.network, words, settings).to(device)


def read_rows(shards: VirtualShards) -> EncodedRows:
    """Read the first window of a split; it holds four million tweets."""
    return next(iter(OwnRows(shards, own=range(NUM_VIRTUAL_SHARDS))))


def show_scoring(package: ModelPackage, prepared: Path, *, bf16: bool) -> None:
    """Score the train split, from token ids and from text; the second time counts."""
    rows = read_rows(plan(prepared, "train"))
    texts = pq.read_table(prepared / "tweets/split=train", columns=["text"])["text"]
    texts = texts.combine_chunks()
    for name, count, run in (
        ("token ids", len(rows), lambda: package.predict(rows, bf16=bf16)),
        ("text", len(texts), lambda: package.score(texts, bf16=bf16)),
    ):
        run()
        print(f"  {name:<10} {count / seconds_of(run):>12,.0f} tweets/s", flush=True)


def compare(prepared: Path, device: str, batch_size: int) -> bool:
    """Train with the same seed on the CPU and on a device; whether they agree."""
    on_cpu, on_device = (set_up(prepared, name, batch_size) for name in ("cpu", device))
    accuracies = [trainer.train_epoch().validation_accuracy for trainer in (on_cpu, on_device)]
    print(f"  accuracy after an epoch: CPU {accuracies[0]:.4f}, {device} {accuracies[1]:.4f}")
    rows = read_rows(plan(prepared, "validation"))
    expected = package_of(on_cpu, prepared, "cpu").predict(rows)
    package = package_of(on_cpu, prepared, device)
    gaps = []
    for bf16 in (False, True):
        found = package.predict(rows, bf16=bf16)
        gaps.append(np.abs(found - expected).max())
        same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        name = "bf16" if bf16 else "fp32"
        print(f"  {name}: largest gap of a probability {gaps[-1]:.1e}, {same:.2%} equal labels")
    is_close = abs(accuracies[0] - accuracies[1]) <= MAX_ACCURACY_GAP
    return is_close and max(gaps) <= MAX_PROBABILITY_GAP


def main() -> None:
    """Measure, and compare with the CPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, help="rows of the synthetic corpus")
    options = parser.parse_args()
    device, on_gpu = options.device, options.device != "cpu"
    batch_size = 8192 if on_gpu else 256
    with tempfile.TemporaryDirectory() as name:
        num_rows = options.rows or (1_000_000 if on_gpu else 5_000)
        prepared = (options.prepared or prepare_sample(Path(name), num_rows)).resolve()
        what = torch.cuda.get_device_name() if on_gpu else "no GPU: the figures mean little"
        print(f"torch {torch.__version__}, {what}, batches of {batch_size:,}")
        host = rate_of_host(set_up(prepared, "cpu", batch_size))
        print(f"  host       {host:>12,.0f} tweets/s")
        for precision in ("auto", "fp32"):
            trainer = set_up(prepared, device, batch_size, precision)
            trainer.train_epoch()
            rate = trainer.train_epoch().tweets_per_second
            print(f"  train {precision} {rate:>12,.0f} tweets/s", flush=True)
        if on_gpu:
            print(f"  peak memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
            print(f"  busy {busy_share(set_up(prepared, device, batch_size)):.0%}")
        show_scoring(package_of(trainer, prepared, device), prepared, bf16=on_gpu)
        agrees = compare(prepared, device, batch_size)
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
