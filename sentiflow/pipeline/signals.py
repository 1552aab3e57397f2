"""Signal -> handled in a block as a command needs it, and as before afterwards."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def handled(number: int, handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let a signal call a function in the block.

    Only the main thread gets signals; in any other one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def end(number: int, frame: object) -> NoReturn:
    """Let a signal end the work as Ctrl-C does: the MLflow run ends as killed, and Ray stops.

    Raises:
        KeyboardInterrupt: Code of Ray that waits drops or changes all other errors of a handler.
    """
    raise KeyboardInterrupt(number)
