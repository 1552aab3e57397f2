"""Calls to an MLflow store -> sent in order by one thread, until the store fails once."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store  # before MLflow, which reads what it sets

# isort: split
from mlflow import MlflowClient

log = logging.getLogger(__name__)

MAX_QUEUED = 1000
"""Calls that wait. If more come, step metrics are left out, and the others are sent at the end."""
MAX_WAIT_SECONDS = 60.0
"""The longest time that a stage waits at its end for what is queued."""

Call = Callable[[MlflowClient], object]
Answer = TypeVar("Answer")


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
        self.is_complete = True
        """Whether everything but step metrics was sent or is queued."""
        self._client = mlflow_store.make_client(tracking_uri)
        self._queue: queue.Queue[Call | threading.Event | None] = queue.Queue()
        self._refusals: set[str] = set()
        threading.Thread(target=self._work, name="mlflow sender", daemon=True).start()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickle as None: Ray Tune stores its callbacks with their recorders, but uses no copy."""
        return type(None), ()

    def put(self, call: Call, *, is_optional: bool = False) -> None:
        """Queue a call; it is left out if the store is unavailable or the queue is full.

        Args:
            call: What to ask the store for.
            is_optional: The run counts as complete without it, as without metrics of single steps.
        """
        if self.is_available and self._queue.qsize() < MAX_QUEUED:
            self._queue.put(call)
        elif not is_optional:
            self.is_complete = False

    def ask(self, call: Callable[[MlflowClient], Answer], default: Answer) -> Answer:
        """Call the store now; return ``default`` if it refuses, fails or has failed before."""
        try:
            if self.is_available:
                return mlflow_store.ask(lambda: call(self._client))
        except mlflow_store.failures() as error:
            self._take_failure(error)
        self.is_complete = False
        return default

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
        self.is_available = self.is_complete = False

    def close(self) -> bool:
        """Send what is queued and end the thread; return whether the run has everything."""
        is_complete = self.flush() and self.is_complete
        self.is_available = False
        self._queue.put(None)
        return is_complete

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            elif self.is_available:
                self._send(item)

    def _send(self, call: Call) -> None:
        try:
            mlflow_store.ask(lambda: call(self._client))
        except mlflow_store.failures() as error:
            self._take_failure(error)

    def _take_failure(self, error: Exception) -> None:
        """Stop sending, unless the store has only refused a value."""
        if not mlflow_store.is_refusal(error):
            self.fail(mlflow_store.unreachable(self.tracking_uri, error))
        elif (reason := mlflow_store.first_line(error)) not in self._refusals:
            self._refusals.add(reason)
            log.warning("MLflow refuses a part of the run: %s", reason)
