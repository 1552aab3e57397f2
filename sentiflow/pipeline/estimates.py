"""Config, number of cores -> about how long a stage takes, its memory and disk, before it begins.

By the rates of idle cores without a GPU, for short texts (docs/scaling.md). A stage that runs tells
the time that is left, as measured.
"""

import os

from sentiflow.config.sections import Config
from sentiflow.data import input_files, manifest
from sentiflow.progress import to_words
from sentiflow.training import worker_count

_ROW_BYTES, _PACKED_ROW_BYTES = 130, 50
"""Of a row in CSV; compressed, or in Parquet."""


def estimate(verb: str, config: Config, num_cpus: int = 0) -> str:
    """Say what preparation, training or scoring will take; nothing if it is below a minute.

    Args:
        verb: The stage; of others nothing is known.
        config: The experiment.
        num_cpus: Cores; 0: those of this machine.
    """
    if verb not in ("prepare", "train", "score"):
        return ""
    train, is_file = config.train, verb == "score" and config.score.corpus != ("prepared",)
    patterns = config.score.corpus if is_file else config.prepare.csv
    if not is_file and verb != "prepare" and (prepared := manifest.read(train.prepared_uri)):
        rows = int(prepared["counts"]["accepted"])
    else:
        files = input_files.as_found(input_files.expand(patterns))["files"]
        rows = sum(
            file["bytes"] // (_ROW_BYTES if file["uri"].endswith("sv") else _PACKED_ROW_BYTES)
            for file in files
        )
    num_cpus = num_cpus or os.cpu_count() or 1
    is_linear = train.linear is True or (train.linear == "auto" and rows <= 250_000)
    num_tasks = 1 if verb == "train" else max(1, min(num_cpus, rows // 100_000))
    row, step = worker_count.estimate_row(train.model), 5e-3 / train.batching.global_batch_size
    seconds = {
        "prepare": 4.3e-6,
        "score": 2e-6 + 1.1e-5 * is_linear + 0.1 * row,
        "train": (1 + train.folds)
        * (
            (row / max(1, num_cpus - 1) ** 0.5 + step)
            * (train.num_epochs + train.pretrain.num_epochs)
            + is_linear / 4000
        ),
    }[verb] * (rows / num_tasks)
    if seconds < 60:
        return ""
    disk_gb = rows * {"prepare": 95e-9, "score": 16e-9}.get(verb, 0)
    memory_gb = 0.7 * num_tasks + 4e-6 * rows * (is_linear and verb == "train")
    return (
        f"some {int(float(f'{rows:.2g}')):,} rows: about {to_words(seconds)} on {num_cpus} cores, "
        f"{memory_gb:.1f} GB of memory{f', {disk_gb:.1f} GB on disk' * bool(disk_gb)}"
    )
