"""Cores and threads of this process, for scoring on a CPU.

This module does not import torch.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

_LOCK = threading.Lock()
"""Guards ``_process_limits``."""
_process_limits: list[Any] = []
"""For each block that runs now, the limit of the process that the first block has set."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let each product of matrices use one thread, as each core multiplies for other texts.

    Some libraries have a limit for each thread, and a block sets the limit of its own thread. A
    library with threads of its own, such as numpy's OpenBLAS, has one limit for the whole process:
    it lasts from the first block of all threads to the end of the last one.
    """
    libraries = _find_libraries()
    with _LOCK:
        if _process_limits:
            _process_limits.append(_process_limits[0])
        else:
            of_process = libraries.select(threading_layer="pthreads")
            _process_limits.append(of_process.limit(limits=1, user_api="blas"))
    try:
        # Of several threads, threadpoolctl lets one set a limit of the process, until the end of
        # this statement in that thread. So any thread can end the limit below.
        with libraries.limit(limits=1, user_api="blas"):
            yield
    finally:
        with _LOCK:
            process_limit = _process_limits.pop()
            if not _process_limits:
                with process_limit:
                    pass  # its end restores the number of threads


@functools.cache
def _find_libraries() -> Any:
    """Find the libraries that multiply matrices, which takes about 5 ms."""
    import numpy  # noqa: F401 -- its library must be loaded
    from threadpoolctl import ThreadpoolController  # slow to import

    return ThreadpoolController()


def count_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
