"""Calls to an MLflow store -> sent by a thread, so that no stage waits for the store."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store
from sentiflow.tracking.mlflow_store import first_line

# isort: split
from mlflow import MlflowClient

log = logging.getLogger(__name__)

MAX_QUEUED = 1000
"""Calls in the queue; with more, metrics of steps are left out."""
MAX_WAIT_SECONDS = 60.0
"""The longest time that a stage waits at its end for what is queued."""

Call = Callable[[MlflowClient], object]
Result = TypeVar("Result")


class Sender:
    """Sends what one stage logs, and never makes the stage wait.

    The first failure of the store stops sending. What the run then lacks is added from the stage's
    manifest: see :mod:`sentiflow.tracking.rebuild`.
    """

    def __init__(self, tracking_uri: str) -> None:
        """Start the thread; nothing is sent yet."""
        self.tracking_uri = tracking_uri
        self.is_available = True
        """False after the store's first failure."""
        self._client = mlflow_store.make_client(tracking_uri)
        self._queue: queue.Queue[Call | threading.Event | None] = queue.Queue()
        self._refusals: set[str] = set()
        threading.Thread(target=self._work, name="mlflow sender", daemon=True).start()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickle as None: Ray Tune stores its callbacks with their recorders, but uses no copy."""
        return type(None), ()

    def put(self, call: Call, *, is_optional: bool = False) -> None:
        """Queue a call, unless the store is unavailable.

        Args:
            call: What to ask the store for.
            is_optional: Whether it is left out if the queue is full, as metrics of steps are.
        """
        if self.is_available and not (is_optional and self._queue.qsize() >= MAX_QUEUED):
            self._queue.put(call)

    def ask(self, call: Callable[[MlflowClient], Result]) -> Result | None:
        """Call the store now; return None if it refuses, fails or has failed before.

        A failure ends the sending. A refusal does not: it concerns one value.
        """
        try:
            if self.is_available:
                return mlflow_store.ask(lambda: call(self._client))
        except mlflow_store.failures() as error:
            if not mlflow_store.is_refusal(error):
                self.fail(mlflow_store.unreachable(self.tracking_uri, error))
            elif (reason := first_line(error)) not in self._refusals:
                self._refusals.add(reason)
                log.warning("MLflow refuses a part of the run: %s", reason)
        return None

    def flush(self) -> bool:
        """Wait until everything queued is sent; return whether the store is still available."""
        done = threading.Event()
        self._queue.put(done)
        if not done.wait(MAX_WAIT_SECONDS):
            store = without_credentials(self.tracking_uri)
            self.fail(f"the MLflow store {store} is too slow")
        return self.is_available

    def fail(self, problem: str) -> None:
        """Send nothing more, as the store does not answer."""
        if self.is_available:
            log.warning("%s; the job continues without it", problem)
        self.is_available = False

    def close(self) -> None:
        """Send what is queued, and end the thread."""
        self.flush()
        self._queue.put(None)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            else:
                self.ask(item)
