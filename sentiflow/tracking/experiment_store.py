"""An MLflow store as a job uses it: values are queued, and a failure does not end the job."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run

from sentiflow.errors import PermissionDeniedError, UnavailableError
from sentiflow.progress import Progress
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store, permissions, run_names, runs

log = logging.getLogger(__name__)
Result = TypeVar("Result")
MAX_WAIT_SECONDS = 40.0
"""Maximum time that a job waits until everything queued is sent."""
WITHOUT = "tracking.required=false runs the job without it"
"""Way out if a job cannot use its store."""
_MAX_KNOWN = 100
"""Maximum number of recent runs that a new run is compared with."""


class Store:
    """An MLflow store with the experiment of a job; one thread sends all logged values, in order.

    MLflow's own asynchronous logging takes neither files nor the end of a run, and keeps calling a
    store that does not answer. Here, nothing more is sent after the first failure of the store.
    """

    def __init__(
        self, uri: str, experiment: str, *, required: bool = False, repair: str = ""
    ) -> None:
        """Describe the store, without a connection.

        Args:
            uri: The store's address, without user and password.
            experiment: The name of the experiment.
            required: Whether a job ends if it may not log its runs.
            repair: The command that adds missing values later.
        """
        self.uri = uri
        self.experiment = experiment
        self.required = required
        self.experiment_id = ""
        self.is_available = True
        self.problem = ""
        """Why the store is unavailable; empty while it is available."""
        self.repair = repair
        """The command that adds missing values later; empty if there is none."""
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

    def ask(self, call: Callable[[MlflowClient], Result], *, needed: bool = False) -> Result | None:
        """Call the store now; return None if it refuses, fails or has failed before.

        After a failure nothing more is sent. After a refusal later calls are still sent: a refusal
        concerns one value, or a run of another store.

        Args:
            call: The call.
            needed: Whether the job cannot go on if MLflow's user may not do it.

        Raises:
            PermissionDeniedError: The call is needed, and MLflow's user lacks the permission.
        """
        if not self.is_available:
            return None
        try:
            client = mlflow_store.make_client(self.uri)
            return mlflow_store.ask(lambda: call(client))
        except Exception as error:  # an error of MLflow must not end a job
            log.debug("MLflow failed", exc_info=error)
            denial = permissions.explain(error, "EDIT")
            if denial and needed:
                raise self.deny(f"{denial}; {WITHOUT}") from error
            if mlflow_store.is_refusal(error):
                self._warn_of_refusal(denial or mlflow_store.first_line(error))
            else:
                self.fail(mlflow_store.unreachable(self.uri, error))
        return None

    def _warn_of_refusal(self, reason: str) -> None:
        """Log a warning, once for each reason."""
        if reason not in self._refusals:
            self._refusals.add(reason)
            log.warning("MLflow refuses a part of the run: %s", reason)

    def deny(self, denial: str) -> PermissionDeniedError:
        """Make the error of a job that may not log its runs."""
        return PermissionDeniedError(
            f"cannot log runs to the experiment {self.experiment} in "
            f"{without_credentials(self.uri)}: {denial}"
        )

    def make_run(self, name: str, tags: Mapping[str, str], *, needed: bool = False) -> str:
        """Make a run that begins now, and return its id; empty if the store fails or refuses.

        Raises:
            PermissionDeniedError: As :meth:`ask`.
        """
        run = self.ask(
            lambda client: client.create_run(
                self.experiment_id,
                start_time=runs.now_ms(),
                tags=runs.to_tags(tags),
                run_name=name,
            ),
            needed=needed,
        )
        return run.info.run_id if run else ""

    def find_changes(self, params: Mapping[str, str]) -> str:
        """Name the parameters of a training that differ from the most similar recent training."""
        recent = self._search({runs.STAGE_TAG: "train"})
        taken = {run_names.changes_of(run.info.run_name or "") for run in recent}
        return run_names.find_changes(params, [run.data.params for run in recent], taken=taken)

    def find_earlier(self, stage: str, output_uri: str, params: Mapping[str, str]) -> Run | None:
        """Find the last finished run of a stage with the same output and the same parameters."""
        for run in self._search({runs.STAGE_TAG: stage, runs.OUTPUT_TAG: output_uri}):
            if run.info.status == "FINISHED" and run.data.params == params:
                return run
        return None

    def continue_run(self, run: Run, tags: Mapping[str, str]) -> None:
        """Open a finished run again, and change its tags."""
        run_id = run.info.run_id
        self.ask(lambda client: client.update_run(run_id, status="RUNNING"))
        self.ask(lambda client: runs.log(client, run_id, tags=tags))

    def _search(self, tags: Mapping[str, str]) -> list[Run]:
        """Find the recent runs of the experiment with some tags, the newest first, without trials.

        Nested runs are trials of a sweep.
        """
        conditions = []
        for name, value in tags.items():
            conditions.append(mlflow_store.to_condition(f"tags.`{name}`", value))
        condition = " and ".join(conditions)
        found = self.ask(
            lambda client: client.search_runs(
                [self.experiment_id], condition, max_results=_MAX_KNOWN
            )
        )
        chosen = []
        for run in found or ():
            is_equal = all(run.data.tags.get(name) == value for name, value in tags.items())
            if is_equal and runs.PARENT_TAG not in run.data.tags:
                chosen.append(run)
        return chosen

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
            self.problem = problem
            repair = self.describe_repair("its runs")
            log.warning("%s; the job continues without it%s", problem, repair)

    def describe_repair(self, what: str) -> str:
        """Write the end of a message: how to add what is missing later."""
        return f"; to add {what} later: {self.repair}" if self.repair else ""


def open_store(uri: str, *, experiment: str, required: bool, repair: str = "") -> Store:
    """Connect to a store, and find or make the experiment; a missing SQLite file is made.

    Args:
        uri: The store, with user and password unless they are in MLflow's variables.
        experiment: Name of the experiment.
        required: Whether the job fails if the store cannot be reached.
        repair: The command that adds missing values later.

    Raises:
        UnavailableError: The store cannot be reached, and tracking is required.
        PermissionDeniedError: MLflow's user may not use the experiment, and tracking is required.
    """
    store = Store(uri, experiment, required=required, repair=repair)
    try:
        with Progress("tracking", what="opening the MLflow store"):
            mlflow_store.make(uri)
            client = mlflow_store.make_client(uri)
            store.experiment_id = mlflow_store.ask(
                lambda: mlflow_store.find_experiment(client, experiment, uri)
            )
    except Exception as error:  # an error of MLflow must not end a job, unless required
        denial = permissions.explain(error, "EDIT")
        problem = mlflow_store.unreachable(uri, error)
        if required and denial:
            raise store.deny(denial) from error
        if required:
            raise UnavailableError(problem) from error
        store.fail(denial or problem)
    return store
