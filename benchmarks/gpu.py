"""Training and scoring on a GPU: speed, memory, and agreement with the CPU.

    python benchmarks/gpu.py [--prepared runs/x/prepared] [--rows 1000000] [--device cuda]

The network is a bidirectional GRU(128) with attention and dropout, in batches of 8,192. Without
``--prepared``, tweets of ``sentiflow sample`` are prepared first. Without a GPU it runs in a minute
with few rows and small batches, to see that it works.

- host: the inputs of all steps are made and not used; training cannot be faster than this.
- train: tweets per second of the second epoch, without validation.
- token ids, text: tweets per second of scoring the train split; ``token ids`` leaves the tokenizer
  out.
- agreement: the CPU trains an epoch with the same seed; the accuracies may differ by
  MAX_ACCURACY_GAP. Then both devices score with the weights of the CPU; a probability may differ by
  MAX_PROBABILITY_GAP. TF32 and bf16 round. Beyond that the exit code is 1.

Not measured yet: no GPU was at hand.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import pyarrow.parquet as pq
import torch
from train import BIGRU, make_trainer, plan, settings_of

from sentiflow.config.train_sections import NUM_VIRTUAL_SHARDS
from sentiflow.models import vocabulary
from sentiflow.models.batching import EncodedRows
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_files import PackageSettings
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.training.trainer import Trainer
from sentiflow.training.virtual_shards import OwnRows, VirtualShards

MODEL = BIGRU | {"dropout": 0.2}
MAX_ACCURACY_GAP, MAX_PROBABILITY_GAP = 0.01, 0.02


def set_up(prepared: Path, device: str, batch_size: int, precision: str = "auto") -> Trainer:
    """Set up a training of two epochs."""
    settings = settings_of(MODEL, batch_size, precision=precision)
    return make_trainer(prepared, settings, plan(prepared, "validation"), device=device)


def measure_host(trainer: Trainer) -> measuring.Figures:
    """Make the inputs of an epoch in this thread."""
    seconds = measuring.seconds_of(lambda: [None for _ in trainer._inputs()])
    return {"tweets/s": trainer.train.num_rows / seconds}


def measure_training(*set_up_as: Any) -> measuring.Figures:
    """Train two epochs; the second counts."""
    trainer = set_up(*set_up_as)
    trainer.train_epoch()
    return {"tweets/s": trainer.train_epoch().tweets_per_second}


def measure_scoring(count: int, run: Callable[[], object]) -> measuring.Figures:
    """Score twice; the second time counts."""
    run()
    return {"tweets/s": count / measuring.seconds_of(run)}


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


def agree(prepared: Path, device: str, batch_size: int) -> bool:
    """Train with the same seed on the CPU and on a device; say whether they agree."""
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
    parser = measuring.make_parser(__doc__)
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, help="rows of the synthetic corpus")
    options = parser.parse_args()
    device, on_gpu = options.device, options.device != "cpu"
    batch_size = 8192 if on_gpu else 256
    what = torch.cuda.get_device_name() if on_gpu else "no GPU: the figures mean little"
    with tempfile.TemporaryDirectory() as name:
        num_rows = options.rows or (1_000_000 if on_gpu else 5_000)
        prepared = (options.prepared or measuring.prepare_sample(Path(name), num_rows)).resolve()
        trainer = set_up(prepared, device, batch_size)
        package = package_of(trainer, prepared, device)
        rows = read_rows(plan(prepared, "train"))
        texts = pq.read_table(prepared / "tweets/split=train", columns=["text"])["text"]
        texts = texts.combine_chunks()
        by_ids, by_text = (partial(way, bf16=on_gpu) for way in (package.predict, package.score))
        runs = {
            "host": partial(measure_host, set_up(prepared, "cpu", batch_size)),
            "train, fp32": partial(measure_training, prepared, device, batch_size, "fp32"),
            "train, auto": partial(measure_training, prepared, device, batch_size),
            "score token ids": partial(measure_scoring, len(rows), partial(by_ids, rows)),
            "score text": partial(measure_scoring, len(texts), partial(by_text, texts)),
        }
        measuring.compare(
            f"torch {torch.__version__}, {what}, batches of {batch_size:,}", runs, options
        )
        if on_gpu:
            print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
        agrees = agree(prepared, device, batch_size)
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
