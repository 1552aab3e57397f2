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
"""Guards ``_limits``."""
_limits: list[Any] = []
"""Limits of the blocks that run now; only the first one changes something."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let products of matrices use one thread each: each core multiplies for other texts.

    The limit is for the whole process, or, with OpenBLAS, for this thread and those that start
    within the block. It ends with the last block of all threads.
    """
    with _LOCK:
        limit = None if _limits else _find_libraries().limit(limits=1, user_api="blas")
        _limits.append(limit)
    try:
        yield
    finally:
        with _LOCK:
            if len(_limits) == 1:
                _limits[0].restore_original_limits()
            _limits.pop()


@functools.cache
def _find_libraries() -> Any:
    """Find the libraries that multiply matrices."""
    import numpy  # noqa: F401 -- its library must be loaded
    from threadpoolctl import ThreadpoolController  # takes 50 ms, and one text needs no limit

    return ThreadpoolController()


def count_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
