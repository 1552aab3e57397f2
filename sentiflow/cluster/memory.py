"""Freed memory -> kept by the process for its next arrays."""

import ctypes
import resource
import sys
import threading

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


def keep_freed() -> None:
    """Let this process keep up to 2 GiB of freed memory for its next arrays, from now on.

    The C library gives a large array's pages back as soon as it dies, and the kernel clears each
    page for the next one: up to a quarter of the time of a training step, or of reading a part of a
    corpus. Arrow, which has an allocator of its own, takes its memory from the C library then.

    That is for the main thread; others keep some 64 MiB each, whatever they are told. Other
    libraries than glibc are left as they are.
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
