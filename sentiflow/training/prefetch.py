"""Iterator -> the same items, made ahead of their use in a thread."""

import collections
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

_ITEMS_AHEAD = 2


def prefetch(items: Iterator[T], device: torch.device) -> Iterator[T]:
    """Yield the items of an iterator, each made while those before it are used.

    An error of the iterator is raised in place of its item. The thread ends with the last item, or
    when the caller stops.

    Args:
        items: Used by no one else.
        device: Where the items are; a thread would use the first GPU, not that of its process.
    """
    is_numbered = device.type == "cuda" and device.index is not None
    choose = functools.partial(torch.cuda.set_device, device) if is_numbered else None
    with ThreadPoolExecutor(max_workers=1, initializer=choose) as pool:
        ahead = collections.deque(pool.submit(next, items, None) for _ in range(_ITEMS_AHEAD))
        while (item := ahead.popleft().result()) is not None:
            ahead.append(pool.submit(next, items, None))
            yield item
