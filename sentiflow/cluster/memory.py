"""The memory of a process: freed arrays that it keeps, its peak, a lack explained."""

import ctypes
import re
import resource
import sys
import threading

import pyarrow as pa

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
