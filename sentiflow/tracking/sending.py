"""Calls to an MLflow store -> sent by a thread, so that no stage waits for the store."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store, runs

# isort: split
from mlflow import MlflowClient

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 40.0
"""The longest time that a job waits for what is queued, once."""

Result = TypeVar("Result")


class Sender:
    """Sends what the stages of a job log, in its order.

    MLflow's own asynchronous logging takes neither files nor the end of a run, and goes on asking a
    store that is dead. The first failure of the store ends the sending of this job.
    """

    def __init__(self, tracking_uri: str, *, repair: str = "") -> None:
        """Send nothing yet.

        Args:
            tracking_uri: The store.
            repair: The command that adds later what the store has missed.
        """
        self.tracking_uri, self.is_available = tracking_uri, True
        self._repair = repair
        self._refusals: set[str] = set()
        self._thread = ThreadPoolExecutor(1, "mlflow sender")
        self._queued: list[Future[object]] = []

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickle as None: Ray Tune stores its callbacks with their recorders, but uses no copy."""
        return type(None), ()

    def put(self, call: Callable[[MlflowClient], object]) -> None:
        """Queue a call, unless the store has failed."""
        if self.is_available:
            self._queued.append(self._thread.submit(self.ask, call))

    def ask(self, call: Callable[[MlflowClient], Result]) -> Result | None:
        """Call the store now; return None if it refuses, fails or has failed before.

        A refusal does not end the sending: it concerns one value, or a run of another store.
        """
        try:
            if self.is_available:
                client = mlflow_store.make_client(self.tracking_uri)
                return mlflow_store.ask(lambda: call(client))
        except mlflow_store.failures() as error:
            if not mlflow_store.is_refusal(error):
                self.fail(mlflow_store.unreachable(self.tracking_uri, error))
            elif (reason := mlflow_store.first_line(error)) not in self._refusals:
                self._refusals.add(reason)
                log.warning("MLflow refuses a part of the run: %s", reason)
        return None

    def make_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Make a run that begins now, and return its id; empty if the store fails."""
        options = {"start_time": runs.now_ms(), "tags": runs.to_tags(tags), "run_name": name}
        run = self.ask(lambda client: client.create_run(experiment_id, **options))
        return run.info.run_id if run else ""

    def flush(self) -> bool:
        """Wait until everything queued is sent; return whether the store is still available."""
        sent, unsent = wait(self._queued, MAX_WAIT_SECONDS if self.is_available else 0)
        if unsent:
            self.fail(f"the MLflow store {without_credentials(self.tracking_uri)} is too slow")
        for call in sent:
            call.result()
        self._queued.clear()
        return self.is_available

    def fail(self, problem: str) -> None:
        """Send nothing more, and say once how to add later what is missing."""
        if self.is_available:
            self.is_available = False
            repair = f"; to add its runs later: {self._repair}" if self._repair else ""
            log.warning("%s; the job continues without it%s", problem, repair)
