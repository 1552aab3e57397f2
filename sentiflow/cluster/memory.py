"""Freed memory -> kept in the process for its next arrays."""

import ctypes
import resource
import sys
import threading

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


def keep_freed() -> None:
    """Let this process keep up to 2 GiB of freed memory for its next arrays.

    By default the C library returns the pages of a large array to the kernel, which clears pages
    for the next one. That takes up to a quarter of a training step, or of reading a part. Arrow is
    made to use the C library's allocator in place of its own.

    It works in the main thread; other threads keep about 64 MiB each in any case. Without glibc it
    does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    if threading.current_thread() is threading.main_thread():
        mallopt(_M_MMAP_MAX, 0)
        pa.set_memory_pool(pa.system_memory_pool())


def peak_bytes() -> int:
    """Measure how much memory this process has taken at most, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
