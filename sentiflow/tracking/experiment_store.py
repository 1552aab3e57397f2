"""An MLflow store as a job uses it: values are queued, and a failure does not end the job."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from mlflow import MlflowClient

from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import PermissionDeniedError, UnavailableError
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store, permissions, runs

log = logging.getLogger(__name__)
Result = TypeVar("Result")
MAX_WAIT_SECONDS = 40.0
"""Maximum time that a job waits until everything queued is sent."""
WITHOUT = "tracking.required=false runs the job without it"
"""Way out if a job cannot use its store."""
_MAX_KNOWN = 100
"""Maximum number of recent trainings that a new training is compared with, to name its run."""


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
        self._repair = repair
        self._refusals: set[str] = set()
        self._thread = ThreadPoolExecutor(1, "mlflow sender")
        self._queued: list[Future[object]] = []

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickle as None: Ray Tune stores callbacks with their recorders, but never loads them."""
        return type(None), ()

    def put(self, call: Callable[[MlflowClient], object]) -> None:
        """Queue a call, unless the store has failed."""
        if self.is_available:
            self._queued.append(self._thread.submit(self.ask, call))

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
        if wait(self._queued, seconds).not_done:
            self.fail(f"the MLflow store {without_credentials(self.uri)} is too slow")
        self._queued.clear()
        return self.is_available

    def fail(self, problem: str) -> None:
        """Send nothing from now on; log the problem once, and how to add missing values later."""
        if self.is_available:
            self.is_available = False
            repair = self.describe_repair("its runs")
            log.warning("%s; the job continues without it%s", problem, repair)

    def describe_repair(self, what: str) -> str:
        """Write the end of a message: how to add what is missing later."""
        return f"; to add {what} later: {self._repair}" if self._repair else ""


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
