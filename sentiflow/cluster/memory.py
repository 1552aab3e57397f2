"""The memory of a process: freed arrays kept, its peak, a lack explained, models loaded once."""

import ctypes
import functools
import importlib
import re
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa

from sentiflow.data import manifest
from sentiflow.errors import JobError

if TYPE_CHECKING:
    from sentiflow.models.package import ModelPackage

_OUT_OF_MEMORY = re.compile(
    r"Memory on the node \(IP: (?P<node>[^,)]+).*?\) was (?P<used>\S+) used / (?P<limit>\S+) limit"
)
"""Ray's message that it has ended a worker because the memory of a node was used up."""
# Parameters of glibc's mallopt, from malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4


def keep_freed() -> None:
    """Let this process keep up to 2 GiB of freed memory for its next arrays.

    By default the C library returns the pages of a large array to the kernel, which clears pages
    for the next one. That takes up to a quarter of a training step, or of reading a part. Arrow
    also gets the C library's allocator.

    The 2 GiB are for the main thread; each other thread keeps about 64 MiB. Without glibc this
    function does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # 32 MiB
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)  # almost 2 GiB
    if threading.current_thread() is threading.main_thread():
        mallopt(_M_MMAP_MAX, 0)  # no array gets pages of its own, which would be returned at once
        pa.set_memory_pool(pa.system_memory_pool())


def explain_out_of_memory(text: str) -> str:
    """Say in one line that a node ran out of memory, given Ray's message; empty if it did not."""
    found = _OUT_OF_MEMORY.search(text)
    if not found:
        return ""
    return (
        f"the node {found['node']} ran out of memory ({found['used']} of {found['limit']} used), "
        "so Ray ended a worker of this job: set a smaller num_workers, rows_per_file or "
        "train.batching.global_batch_size; the same command resumes"
    )


def peak_bytes() -> int:
    """Measure the peak memory of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB


@functools.lru_cache(maxsize=1)
def load_models(
    *models: tuple[str, str], on_gpu: bool, setting: str = "score.model_uri"
) -> "tuple[ModelPackage, ...]":
    """Load the models of a job once for each worker process.

    Tasks without a share of a GPU see the GPUs, too, so ``on_gpu`` decides whether one is used.

    Args:
        models: Directory and fingerprint of each package.
        on_gpu: Whether tasks have a share of a GPU.
        setting: The setting that names the models, for messages.

    Raises:
        JobError: A package was replaced since the job began.
    """
    # If a part fails, Ray interrupts the main threads of the workers on other parts. An interrupted
    # import of PyTorch cannot be repeated, and the worker may get parts of the next job. So another
    # thread imports it.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(importlib.import_module, "sentiflow.models.package").result()
    import torch

    from sentiflow.models.package import ModelPackage

    torch.set_num_threads(1)
    keep_freed()
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    packages = []
    for uri, fingerprint in models:
        packages.append(ModelPackage.load(uri, setting=setting).to(device))
        # This check comes after the loading, as the package may have been replaced meanwhile.
        record = manifest.require(uri, stage="model", setting=setting)
        if record["fingerprint"] != fingerprint:
            raise JobError(
                f"the model in {uri} has been replaced since the job began: run the command again"
            )
    return tuple(packages)
