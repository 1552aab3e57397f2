"""An MLflow store as a job uses it: values are queued, and a failure does not end the job."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from mlflow import MlflowClient

from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UnavailableError
from sentiflow.progress import Progress
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store, runs

log = logging.getLogger(__name__)
Result = TypeVar("Result")
MAX_WAIT_SECONDS = 40.0
"""Maximum time that a job waits until everything queued is sent."""
_MAX_KNOWN = 100
"""Maximum number of recent trainings that a new training is compared with, to name its run."""


class Store:
    """An MLflow store with the experiment of a job; one thread sends all logged values, in order.

    MLflow's own asynchronous logging takes neither files nor the end of a run, and keeps calling a
    store that does not answer. Here, nothing more is sent after the first failure of the store.
    """

    def __init__(self, uri: str, experiment: str, *, repair: str = "") -> None:
        """Describe the store, without a connection.

        Args:
            uri: The store's address, without user and password.
            experiment: The name of the experiment.
            repair: The command that adds missing values later.
        """
        self.uri = uri
        self.experiment = experiment
        self.experiment_id = ""
        self.is_available = True
        self._repair = repair
        self._refusals: set[str] = set()
        self._thread = ThreadPoolExecutor(1, "mlflow sender")
        self._queued: list[Future[object]] = []
        self._offering: threading.Thread | None = None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickle as None: Ray Tune stores callbacks with their recorders, but never loads them."""
        return type(None), ()

    def put(self, call: Callable[[MlflowClient], object]) -> None:
        """Queue a call, unless the store has failed."""
        if self.is_available:
            self._queued.append(self._thread.submit(self.ask, call))

    def offer(self, call: Callable[[MlflowClient], object]) -> None:
        """Call the store in the background; leave the call out while an earlier one waits.

        Nothing waits for it, and a failure changes nothing: the store may answer the next call.
        """
        if not self.is_available or (self._offering and self._offering.is_alive()):
            return

        def try_once() -> None:
            try:
                call(mlflow_store.make_client(self.uri))
            except Exception as error:  # an error of MLflow must not end a job
                log.debug("MLflow failed", exc_info=error)

        self._offering = threading.Thread(target=try_once, name="mlflow offer", daemon=True)
        self._offering.start()

    def ask(self, call: Callable[[MlflowClient], Result]) -> Result | None:
        """Call the store now; return None if it refuses, fails or has failed before.

        After a failure nothing more is sent. After a refusal later calls are still sent: a refusal
        concerns one value, or a run of another store.
        """
        if not self.is_available:
            return None
        try:
            client = mlflow_store.make_client(self.uri)
            return mlflow_store.ask(lambda: call(client))
        except Exception as error:  # an error of MLflow must not end a job
            log.debug("MLflow failed", exc_info=error)
            if mlflow_store.is_refusal(error):
                self._warn_of_refusal(mlflow_store.first_line(error))
            else:
                self.fail(mlflow_store.unreachable(self.uri, error))
        return None

    def _warn_of_refusal(self, reason: str) -> None:
        """Log a warning, once for each reason."""
        if reason not in self._refusals:
            self._refusals.add(reason)
            log.warning("MLflow refuses a part of the run: %s", reason)

    def make_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Make a run that begins now, and return its id; empty if the store fails."""
        run = self.ask(
            lambda client: client.create_run(
                self.experiment_id,
                start_time=runs.now_ms(),
                tags=runs.to_tags(tags),
                run_name=name,
            )
        )
        return run.info.run_id if run else ""

    def find_changes(self, settings: TrainSettings) -> str:
        """Name the settings in which a training differs from the most similar recent training."""
        decisive = settings.model_dump(mode="json", exclude={*settings.NOT_DECISIVE})
        known = self.ask(
            lambda client: client.search_runs(
                [self.experiment_id], f"tags.`{runs.STAGE_TAG}` = 'train'", max_results=_MAX_KNOWN
            )
        )
        # Nested runs are trials of a sweep.
        top_level = [run for run in known or () if runs.PARENT_TAG not in run.data.tags]
        earlier = [run.data.params for run in top_level]
        return runs.find_changes(runs.to_params({"train": decisive}), earlier)

    def flush(self) -> bool:
        """Wait until everything queued is sent; return whether the store is still available."""
        seconds = MAX_WAIT_SECONDS if self.is_available else 0
        with Progress("tracking", what="sending the run to MLflow"):
            not_done = wait(self._queued, seconds).not_done
        if not_done:
            self.fail(f"the MLflow store {without_credentials(self.uri)} is too slow")
        self._queued.clear()
        return self.is_available

    def fail(self, problem: str) -> None:
        """Send nothing from now on; log the problem once, and how to add missing values later."""
        if self.is_available:
            self.is_available = False
            repair = f"; to add its runs later: {self._repair}" if self._repair else ""
            log.warning("%s; the job continues without it%s", problem, repair)


def open_store(uri: str, *, experiment: str, required: bool, repair: str = "") -> Store:
    """Connect to a store, and find or make the experiment; a missing SQLite file is made.

    Args:
        uri: The store, with user and password unless they are in MLflow's variables.
        experiment: Name of the experiment.
        required: Whether the job fails if the store cannot be reached.
        repair: The command that adds missing values later.

    Raises:
        UnavailableError: The store cannot be reached, and tracking is required.
    """
    store = Store(uri, experiment, repair=repair)
    try:
        with Progress("tracking", what="opening the MLflow store"):
            mlflow_store.make(uri)
            client = mlflow_store.make_client(uri)
            store.experiment_id = mlflow_store.ask(
                lambda: mlflow_store.find_experiment(client, experiment, uri)
            )
    except Exception as error:  # an error of MLflow must not end a job, unless required
        problem = mlflow_store.unreachable(uri, error)
        if required:
            raise UnavailableError(problem) from error
        store.fail(problem)
    return store
