"""Settings, metrics and artifacts -> an MLflow run, through a picklable handle."""

import getpass
import logging
import os
import re
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# MLflow reads these when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from sentiflow.errors import JobError, UserError
from sentiflow.settings import flatten
from sentiflow.uris import absolute_uri

log = logging.getLogger(__name__)

MAX_PARAM_LENGTH = 500
_SQLITE = "sqlite:///"
_MAX_METRICS = 1000
"""MLflow takes so many figures at once."""
_SYSTEM_EVERY_SECONDS = 10.0

_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show an experiment as one of training runs, not of prompts and traces."""

STAGE_TAG, GROUP_TAG, REASON_TAG = "sentiflow.stage", "sentiflow.run", "sentiflow.reason"
OUTPUT_TAG, FINGERPRINT_TAG = "sentiflow.output_uri", "sentiflow.fingerprint"
"""Of a job's run: where its output lies, and which it is."""
SCORED_TAG, SCORED_FINGERPRINT_TAG = "sentiflow.scored_uri", "sentiflow.scored_fingerprint"
"""Of an evaluation's run, and of the run that trained the model: where the evaluated predictions
lie, and which they are."""


@dataclass(frozen=True)
class Recorder:
    """Writes to one MLflow run, from any process; without a run it writes nothing."""

    tracking_uri: str = ""
    run_id: str = ""

    def log_metrics(self, metrics: Mapping[str, float | None], *, step: int = 0) -> None:
        """Log figures; those that are None (undefined) are left out."""
        known = {name: float(value) for name, value in metrics.items() if value is not None}
        if self.run_id and known:
            now = _now_ms()
            entities = [Metric(name, value, now, step) for name, value in known.items()]
            self._client.log_batch(self.run_id, metrics=entities)

    def log_series(self, series: Sequence[tuple[int, Mapping[str, float | None]]]) -> None:
        """Log figures of many steps at once."""
        now = _now_ms()
        entities = [
            Metric(name, float(value), now, step)
            for step, metrics in series
            for name, value in metrics.items()
            if value is not None
        ]
        for start in range(0, len(entities), _MAX_METRICS):
            if self.run_id:
                batch = entities[start : start + _MAX_METRICS]
                self._client.log_batch(self.run_id, metrics=batch)

    @contextmanager
    def watching_system(self) -> Iterator[None]:
        """Log the use of cores, memory, disk, network and GPUs of this machine for the block."""
        if not self.run_id:
            yield
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        monitor = SystemMetricsMonitor(
            self.run_id,
            sampling_interval=_SYSTEM_EVERY_SECONDS,
            samples_before_logging=1,
            tracking_uri=self.tracking_uri,
        )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log settings as parameters with dotted names, long values cut."""
        if self.run_id:
            flat = flatten(dict(settings))
            params = [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in flat.items()]
            self._client.log_batch(self.run_id, params=params)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the run."""
        if self.run_id:
            entities = [RunTag(key, value) for key, value in tags.items()]
            self._client.log_batch(self.run_id, tags=entities)

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Store files, by their path below the run's artifacts."""
        if not self.run_id:
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(self.run_id, folder)

    def of_run(self, run_id: str) -> "Recorder":
        """Make a recorder for another run of the same store; for none if it has no such run."""
        if not self.run_id or not run_id:
            return Recorder()
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            log.warning("MLflow at %s has no run %s", without_user(self.tracking_uri), run_id)
            return Recorder()
        return Recorder(self.tracking_uri, run_id)

    def begin_nested(self, name: str, *, stage: str, tags: Mapping[str, str]) -> "Recorder":
        """Begin a run below this one; it stays open until :meth:`end`."""
        if not self.run_id:
            return Recorder()
        parent = self._client.get_run(self.run_id)
        kept = (GROUP_TAG, "mlflow.source.name", "mlflow.source.type", "mlflow.user")
        own_tags = {key: parent.data.tags[key] for key in kept if key in parent.data.tags}
        own_tags |= {STAGE_TAG: stage, "mlflow.parentRunId": self.run_id}
        run = self._client.create_run(
            parent.info.experiment_id, tags=own_tags | dict(tags), run_name=name
        )
        return Recorder(self.tracking_uri, run.info.run_id)

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"], *, reason: str = "") -> None:
        """End a run that :meth:`begin_nested` began."""
        if self.run_id:
            if reason:
                self.set_tags({REASON_TAG: reason.splitlines()[0][:MAX_PARAM_LENGTH]})
            self._client.set_terminated(self.run_id, status)

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.tracking_uri)


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store with the experiment that runs go to; or none."""

    tracking_uri: str = ""
    experiment_id: str = ""

    @contextmanager
    def run(self, stage: str, *, group: str, tags: Mapping[str, str]) -> Iterator[Recorder]:
        """Open a run for a job; it ends finished, failed, or killed on Ctrl-C and SIGTERM."""
        if not self.experiment_id:
            yield Recorder()
            return
        client = MlflowClient(tracking_uri=self.tracking_uri)
        own_tags = {
            STAGE_TAG: stage,
            GROUP_TAG: group,
            "mlflow.source.name": f"sentiflow {stage}",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
        }
        run = client.create_run(
            self.experiment_id, tags=own_tags | dict(tags), run_name=f"{stage}-{group[-4:]}"
        )
        run_id = run.info.run_id
        try:
            yield Recorder(self.tracking_uri, run_id)
        except BaseException as error:
            _end_badly(client, run_id, error)
            raise
        client.set_terminated(run_id, "FINISHED")


def _end_badly(client: MlflowClient, run_id: str, error: BaseException) -> None:
    """Mark a run as failed or killed; if the store is away too, ``error`` stays the one raised."""
    killed = isinstance(error, KeyboardInterrupt | SystemExit)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    try:
        client.set_tag(run_id, REASON_TAG, reason[:MAX_PARAM_LENGTH])
        client.set_terminated(run_id, "KILLED" if killed else "FAILED")
    except MlflowException as second:
        log.warning("the MLflow run %s could not be ended: %s", run_id, first_line(second))


def default_uri(setting: str | None) -> str:
    """Decide which store is meant: the setting, ``MLFLOW_TRACKING_URI``, or SQLite right here.

    A relative SQLite file is made absolute, as workers have other working directories.

    Raises:
        UserError: It would be an SQLite file in a submitted job, whose directory is a temporary
            copy.
    """
    uri = setting or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if not uri.startswith(_SQLITE):
        return uri
    path = uri.removeprefix(_SQLITE)
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and not path.startswith("/"):
        raise UserError(
            "tracking.uri: an SQLite store in a submitted job would be lost with its directory",
            hint="give a server's address, by tracking.uri or MLFLOW_TRACKING_URI",
        )
    return _SQLITE + absolute_uri(path)


def without_user(uri: str) -> str:
    """Leave user name and password out of an address, for messages."""
    return re.sub(r"://[^/@\s]*@", "://", uri)


def open_store(uri: str, *, experiment: str, required: bool) -> Store:
    """Connect to a store, made where it is a new SQLite file, and find or make the experiment.

    It is called once, before anything runs in parallel: two processes that make an SQLite store at
    once would break it.

    Raises:
        UserError: The store's kind is not one that MLflow can track to.
        JobError: It cannot be reached, and tracking is required.
    """
    _check_kind(uri)
    _quiet_migrations()
    try:
        _check_reachable(uri)
        return Store(uri, _experiment_id(MlflowClient(tracking_uri=uri), experiment, uri))
    except (MlflowException, OSError) as error:
        problem = _unreachable(uri, error)
        if required:
            raise JobError(f"{problem}; tracking.required=false goes on without it") from error
        log.warning("%s; going on without a record", problem)
        return Store()


def connect(uri: str) -> MlflowClient:
    """Connect to a store that must be there already, for what is read from it.

    Raises:
        UserError: There is none, or its kind is not one that MLflow can track to.
        JobError: It cannot be reached.
    """
    _check_kind(uri)
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        raise UserError(
            f"there is no MLflow store {uri}",
            hint="name the one that the model was recorded in, by tracking.uri or "
            "MLFLOW_TRACKING_URI",
        )
    _quiet_migrations()
    try:
        _check_reachable(uri)
    except OSError as error:
        raise JobError(_unreachable(uri, error)) from error
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def read_tags(tracking_uri: str, run_id: str) -> dict[str, str]:
    """Read the tags of a run.

    Raises:
        UserError: There is no such store, or no such run in it.
        JobError: The store cannot be reached.
    """
    client = connect(tracking_uri)
    try:
        return dict(client.get_run(run_id).data.tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise JobError(_unreachable(tracking_uri, error)) from error
        store = without_user(tracking_uri)
        raise UserError(
            f"MLflow at {store} has no run {run_id}",
            hint="name its store by tracking.uri or MLFLOW_TRACKING_URI",
        ) from error


def _check_kind(uri: str) -> None:
    if uri.startswith("file:") or "://" not in uri:
        raise UserError(
            f"tracking.uri={uri!r}: MLflow does not track to plain directories any more",
            hint="use sqlite:////absolute/path/mlflow.db or a server's http:// address",
        )


def _unreachable(uri: str, error: BaseException) -> str:
    return f"cannot reach the MLflow store {without_user(uri)}: {first_line(error)}"


def _check_reachable(uri: str) -> None:
    """Ask a server for its health, which fails within seconds where MLflow would try for minutes.

    Raises:
        OSError: It does not answer, or not well.
    """
    if uri.startswith(("http://", "https://")):
        with urllib.request.urlopen(f"{without_user(uri).rstrip('/')}/health", timeout=10):  # noqa: S310
            pass


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = _artifact_location(uri, name)
        return str(client.create_experiment(name, artifact_location=location, tags=_MODEL_TRAINING))
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _artifact_location(uri: str, name: str) -> str | None:
    """Keep the artifacts of an SQLite store beside its file, whatever the working directory."""
    if not uri.startswith(_SQLITE):
        return None
    return str(Path(uri.removeprefix(_SQLITE)).parent / "mlruns" / name)


def _quiet_migrations() -> None:
    """Silence the hundred lines with which MLflow makes an SQLite file."""
    names: Sequence[str] = ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry")
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)


def _user() -> str:
    """Name the user; in a container there may be none of that number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def first_line(error: BaseException) -> str:
    """Give the beginning of a message, which MLflow often goes on with a traceback."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _now_ms() -> int:
    return int(time.time() * 1000)
