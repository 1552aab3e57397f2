"""Settings, metrics and artifacts -> an MLflow run, through a picklable handle."""

import contextlib
import getpass
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sentiflow.errors import UserError
from sentiflow.storage.uris import as_typed
from sentiflow.tracking import (
    mlflow_store,
    orphaned_runs,
    outbox,
    provenance,
    run_records,
    system_metrics,
)
from sentiflow.tracking.mlflow_sender import (
    PARENT_TAG,
    PROVISIONAL_TAG,
    REASON_TAG,
    is_provisional,
    make_provisional,
)
from sentiflow.tracking.mlflow_store import StoreAwayError, connect, first_line, without_user
from sentiflow.tracking.mlflow_store import default_uri as default_uri
from sentiflow.tracking.outbox import Outbox
from sentiflow.tracking.run_records import Begin, End, Files, Inputs, Model, Status

# isort: split
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

log = logging.getLogger(__name__)

_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show an experiment as one of training runs, not of prompts and traces."""

STAGE_TAG, GROUP_TAG = "sentiflow.stage", "sentiflow.run"
SCORED_TAG, SCORED_FINGERPRINT_TAG = "sentiflow.scored_uri", "sentiflow.scored_fingerprint"
"""Of an evaluation, and of the training that made its model: which predictions were evaluated."""

_MAX_REASON = 500
"""Characters."""
_OF_ALL = (
    GROUP_TAG, "sentiflow.version", provenance.COMMIT_TAG, "mlflow.source.name",
    "mlflow.source.type", "mlflow.user", *orphaned_runs.TAGS,
)  # fmt: skip
"""Tags that a run shares with those below it, beside its lineage."""


@dataclass(frozen=True)
class Recorder:
    """Writes to one MLflow run; without a run it writes nothing.

    It can be pickled. What the store cannot take is kept in the process that logs it, and in
    ``unsent_uri``: see :mod:`outbox`.
    """

    tracking_uri: str = field(default="", repr=False)
    run_id: str = ""
    experiment_id: str = ""
    unsent_uri: str = ""
    shared_tags: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What runs below this one have too."""

    def log_metrics(self, metrics: Mapping[str, float | None], *, step: int = 0) -> None:
        """Log figures; those that are None (undefined) are left out."""
        self.log_series([(step, metrics)])

    def log_series(self, series: Sequence[tuple[int, Mapping[str, float | None]]]) -> None:
        """Log figures of many steps at once."""
        if self.run_id:
            self._outbox.take(*run_records.make_metrics(self.run_id, series))

    @contextmanager
    def watching_system(self) -> Iterator[None]:
        """Log the use of cores, memory, disk, network and GPUs of this machine for the block."""
        if not self.run_id:
            yield
            return
        with system_metrics.watching(
            lambda figures, step: self.log_metrics(figures, step=step),
            tracking_uri=self.tracking_uri,
        ):
            yield

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log settings as parameters with dotted names, long values cut."""
        if self.run_id:
            self._outbox.take(*run_records.make_params(self.run_id, settings))

    def log_inputs(self, inputs: Mapping[str, Any], *, stage: str) -> None:
        """Log what a stage reads, as its spec or manifest has it: datasets, and lineage tags."""
        if self.run_id and inputs:
            datasets = tuple(provenance.to_datasets(inputs, stage=stage))
            self._outbox.take(Inputs(run=self.run_id, values=datasets))
            self.set_tags(provenance.describe_lineage(inputs))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the run."""
        if self.run_id:
            self._outbox.take(*run_records.make_tags(self.run_id, tags))

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Store files, by their path below the run's artifacts."""
        if self.run_id:
            self._outbox.take(Files(run=self.run_id, values=dict(files)))

    def of_run(self, run_id: str) -> "Recorder":
        """Make a recorder for another run of the same store; for none if it has no such run."""
        if not self.run_id or not run_id:
            return Recorder()
        if not self._outbox.away:
            try:
                mlflow_store.ask(partial(self._outbox.sender.require, run_id))
            except mlflow_store.failures() as error:
                if mlflow_store.is_refusal(error):
                    log.warning(
                        "MLflow at %s has no run %s", without_user(self.tracking_uri), run_id
                    )
                    return Recorder()
        return replace(self, run_id=run_id)

    def begin_nested(self, name: str, *, stage: str, tags: Mapping[str, str]) -> "Recorder":
        """Begin a run below this one; it stays open until :meth:`end`."""
        if not self.run_id:
            return Recorder()
        own_tags = {**self.shared_tags, STAGE_TAG: stage, PARENT_TAG: self.run_id, **tags}
        run_id = _begin(self._outbox, self.experiment_id, name, own_tags)
        return replace(self, run_id=run_id)

    def end(self, status: Status, *, reason: str = "") -> None:
        """End a run that :meth:`begin_nested` began."""
        if self.run_id:
            if reason:
                self.set_tags({REASON_TAG: reason.splitlines()[0][:_MAX_REASON]})
            self._outbox.take(End(run=self.run_id, status=status, time=run_records.now_ms()))

    def leave_model(
        self,
        package_uri: str,
        *,
        name: str,
        alias: str,
        because: StoreAwayError,
        register: Callable[..., object],
    ) -> None:
        """Let a model package be registered when the store is back.

        Args:
            package_uri: The model package.
            name: Of the registered model.
            alias: For the new version.
            because: Why it could not be registered.
            register: :func:`registry.register`.
        """
        self._outbox.sender.register = register
        record = Model(run=self.run_id, package_uri=package_uri, name=name, alias=alias)
        self._outbox.keep(record, because)
        log.warning(
            "the model is not registered: when the MLflow store is back, this job does it, "
            "or later: sentiflow tracking import %s", as_typed(self.unsent_uri),
        )  # fmt: skip

    def require_known(self) -> str:
        """Give the run's id in the store.

        Raises:
            StoreAwayError: The store is away, or has no such run yet.
        """
        run_id = self._outbox.sender.known.get(self.run_id, self.run_id)
        if self._outbox.away or is_provisional(run_id):
            raise StoreAwayError(f"the MLflow store {without_user(self.tracking_uri)} is away")
        return run_id

    @property
    def _outbox(self) -> Outbox:
        return outbox.find(self.tracking_uri, self.unsent_uri)


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store with the experiment that runs go to; or none."""

    tracking_uri: str = field(default="", repr=False)
    experiment_id: str = ""
    unsent_uri: str = ""
    """Where that goes which the store cannot take while it is away."""

    @contextmanager
    def run(
        self, stage: str, *, group: str, tags: Mapping[str, str], name: str = ""
    ) -> Iterator[Recorder]:
        """Open a run for a job; it ends finished, failed, or killed on Ctrl-C and SIGTERM."""
        if not self.experiment_id:
            yield Recorder()
            return
        own_tags = {
            STAGE_TAG: stage,
            GROUP_TAG: group,
            "mlflow.source.name": f"sentiflow {stage}",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
        }
        own_tags |= orphaned_runs.describe_process() | dict(tags)
        kept = outbox.find(self.tracking_uri, self.unsent_uri)
        name = name or f"{stage} {group[-provenance.GROUP_DIGITS :]}"
        run_id = _begin(kept, self.experiment_id, name, own_tags)
        shared = {
            key: value
            for key, value in own_tags.items()
            if key in _OF_ALL or provenance.is_lineage(key)
        }
        recorder = Recorder(self.tracking_uri, run_id, self.experiment_id, self.unsent_uri, shared)
        try:
            yield recorder
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt | SystemExit)
            recorder.end("KILLED" if killed else "FAILED", reason=first_line(error))
            raise
        else:
            recorder.end("FINISHED")
        finally:
            kept.flush()

    def close(self) -> None:
        """Say where that is which the store could not take."""
        if self.experiment_id:
            outbox.find(self.tracking_uri, self.unsent_uri).warn()


def _begin(kept: Outbox, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Make a run; while the store is away, it goes by a provisional id.

    That id is a tag at first, so that a run is found, and not made twice, whose making the store
    did but could not answer.
    """
    provisional = make_provisional(uuid.uuid4().hex)
    kept.take(
        Begin(
            run=provisional,
            experiment_id=experiment_id,
            name=name,
            time=run_records.now_ms(),
            tags=run_records.to_tags(tags),
        )
    )
    run_id = kept.sender.known.get(provisional, provisional)
    if not is_provisional(run_id):
        with contextlib.suppress(*mlflow_store.failures()):  # it would only be a tag too many
            kept.sender.client.delete_tag(run_id, PROVISIONAL_TAG)
    return run_id


def open_store(uri: str, *, experiment: str, required: bool, unsent_uri: str = "") -> Store:
    """Connect to a store, made where it is a new SQLite file, and find or make the experiment.

    Runs that a killed process of this host has left open are ended.

    Args:
        uri: The store, with user and password if it needs them and no variable has them.
        experiment: Its name.
        required: Whether the job cannot do without.
        unsent_uri: Where to keep what the store misses while it is away.

    Raises:
        UserError: The store's kind is not one that MLflow can track to, or lacks its driver.
        JobError: It cannot be reached, and tracking is required.
    """
    mlflow_store.check_kind(uri)
    mlflow_store.quiet()
    try:
        mlflow_store.check_reachable(uri)
        with mlflow_store.making(uri):
            client = mlflow_store.make_client(uri)
            experiment_id = mlflow_store.ask(lambda: _experiment_id(client, experiment, uri))
    except ImportError as error:
        store = without_user(uri)
        raise UserError(
            f"no driver for the MLflow store {store}: {error}", hint="install it"
        ) from error
    except mlflow_store.failures() as error:
        problem = mlflow_store.unreachable(uri, error)
        if required:
            raise StoreAwayError(
                f"{problem}; tracking.required=false goes on without it"
            ) from error
        log.warning("%s; going on without a record", problem)
        return Store()
    _end_lost_runs(client, experiment_id)
    outbox.find(uri, unsent_uri).sender.experiment_id = experiment_id
    return Store(uri, experiment_id, unsent_uri)


def read_tags(tracking_uri: str, run_id: str) -> dict[str, str]:
    """Read the tags of a run.

    Raises:
        UserError: There is no such run, or no such store.
        JobError: The store is away.
    """
    client = connect(tracking_uri)
    try:
        return dict(mlflow_store.ask(lambda: client.get_run(run_id)).data.tags)
    except mlflow_store.failures() as error:
        if mlflow_store.is_refusal(error):
            store = without_user(tracking_uri)
            raise UserError(
                f"there is no run {run_id} in {store}",
                hint="check its id, or name its store by MLFLOW_TRACKING_URI",
            ) from error
        raise StoreAwayError(mlflow_store.unreachable(tracking_uri, error)) from error


def _end_lost_runs(client: MlflowClient, experiment_id: str) -> None:
    try:
        for run_id in orphaned_runs.end_lost(client, experiment_id):
            log.info("the MLflow run %s is ended as killed: %s", run_id, orphaned_runs.REASON)
    except mlflow_store.failures() as error:
        log.warning("open MLflow runs could not be looked for: %s", first_line(error))


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = mlflow_store.artifact_location(uri, name)
        try:
            made = client.create_experiment(name, location, tags=_MODEL_TRAINING)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return _experiment_id(client, name, uri)  # another job was as quick
        return str(made)
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _user() -> str:
    """Name the user; in a container there may be none of that number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
