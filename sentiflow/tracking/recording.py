"""Settings, metrics and files of a stage -> an MLflow run, and the key ``run`` of its manifest."""

import contextlib
import copy
import getpass
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sentiflow.data.manifest_types import RunPart, RunRecord
from sentiflow.errors import UnavailableError, UserError
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store, orphaned_runs, provenance, runs, system_metrics
from sentiflow.tracking.mlflow_store import connect, first_line
from sentiflow.tracking.mlflow_store import default_uri as default_uri
from sentiflow.tracking.mlflow_values import now_iso, now_ms, to_metrics, to_params, to_tags
from sentiflow.tracking.runs import CODE_TAGS, GROUP_TAG, PARENT_TAG, Status
from sentiflow.tracking.runs import SCORED_FINGERPRINT_TAG as SCORED_FINGERPRINT_TAG
from sentiflow.tracking.runs import SCORED_TAG as SCORED_TAG
from sentiflow.tracking.runs import STAGE_TAG as STAGE_TAG
from sentiflow.tracking.sender import Call, Sender

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

log = logging.getLogger(__name__)

_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show an experiment as one of training runs, not of prompts and traces."""

_SHARED = (*CODE_TAGS, GROUP_TAG, *orphaned_runs.TAGS)
"""Tags that a run shares with those nested in it, beside its lineage."""


def _nothing() -> RunPart:
    return {"metrics": {}, "tags": {}}


@dataclass
class Recorder:
    """Takes what a stage logs, sends it to its MLflow run, and keeps it for its manifest.

    Nothing waits for the store: a thread sends. Without a run, only :meth:`describe` knows what
    was logged.
    """

    run_id: str = ""
    """Empty where MLflow has no run, or has not answered."""
    sender: Sender | None = field(default=None, repr=False)
    experiment_id: str = ""
    about: RunRecord | None = None
    """Of a stage's own run: what is known from the beginning."""
    shared_tags: Mapping[str, str] = field(default_factory=dict)
    """Those that nested runs have, too."""
    kept: RunPart = field(default_factory=_nothing, repr=False)
    """What was logged, for the manifest."""

    @property
    def tracking_uri(self) -> str:
        """The store's address, without user and password."""
        return self.sender.tracking_uri if self.sender else ""

    @property
    def is_complete(self) -> bool:
        """Whether the run has everything that was logged so far, but for step metrics."""
        return bool(self.run_id) and self.sender is not None and self.sender.is_complete

    def log_metrics(self, metrics: Mapping[str, float | None], *, step: int = 0) -> None:
        """Log metrics of the whole stage, or of an epoch; None (undefined) is left out."""
        values = to_metrics(metrics)
        if step == 0:
            self.kept["metrics"] |= {k: v for k, v in values.items() if math.isfinite(v)}
        self._log([(step, values)], is_optional=False)

    def log_series(self, series: Sequence[tuple[int, Mapping[str, float | None]]]) -> None:
        """Log metrics of many steps at once; they are lost if the store is unavailable."""
        self._log([(step, to_metrics(metrics)) for step, metrics in series], is_optional=True)

    @contextmanager
    def watching_system(self) -> Iterator[None]:
        """Log the use of cores, memory, disk, network and GPUs of this machine for the block."""
        if not self.run_id:
            yield
            return
        with system_metrics.watching(
            lambda metrics, step: self.log_series([(step, metrics)]),
            tracking_uri=self.tracking_uri,
        ):
            yield

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log settings as parameters with dotted names; long values are cut."""
        params = to_params(settings)
        if self.about is not None:
            self.about["params"] |= params
        self._put(partial(runs.add_params, run_id=self.run_id, params=params))

    def log_inputs(self, inputs: Mapping[str, Any], *, stage: str) -> None:
        """Log what a stage reads, as its spec or manifest has it: datasets, and lineage tags."""
        if inputs:
            datasets = runs.to_datasets(inputs, stage=stage)
            self._put(partial(runs.add_datasets, run_id=self.run_id, datasets=datasets))
            self._tag(provenance.describe_lineage(inputs))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the run."""
        self.kept["tags"] |= to_tags(tags)
        self._tag(tags)

    def log_files(self, files: Mapping[str, bytes], *, are_outputs: bool = True) -> None:
        """Store files, by their path below the run's artifacts.

        Args:
            files: Their contents.
            are_outputs: They are also in the stage's output, by the same paths.
        """
        if self.about is not None and are_outputs:
            self.about["artifacts"] += files
        self._put(partial(runs.add_files, run_id=self.run_id, files=dict(files)))

    def of_run(self, run_id: str) -> "Recorder":
        """Make a recorder for the run of the training that this stage evaluates.

        Args:
            run_id: Empty if it is not known; the training's manifest then leads to the run later.
        """
        part = _nothing()
        if self.about is not None:
            self.about["training"] = part
        if self.sender and not run_id:
            self.sender.is_complete = False
        return Recorder(run_id, self.sender, kept=part)

    def begin_nested(self, name: str, *, stage: str, tags: Mapping[str, str]) -> "Recorder":
        """Begin a run below this one; it stays open until :meth:`end`."""
        if not self.sender or not self.run_id:
            return Recorder()
        tags = {**self.shared_tags, STAGE_TAG: stage, PARENT_TAG: self.run_id, **tags}
        begin = partial(runs.begin, experiment_id=self.experiment_id, name=name, tags=tags)
        return Recorder(self.sender.ask(begin, ""), self.sender)

    def end(self, status: Status, *, reason: str = "") -> None:
        """End the run; everything that was logged before is sent first."""
        ended = partial(runs.end, run_id=self.run_id, status=status, time=now_ms(), reason=reason)
        self._put(ended)

    def flush(self) -> bool:
        """Wait until everything logged is in the store.

        Returns:
            False if the store is unavailable.
        """
        return self.sender is not None and self.sender.flush()

    def note_unavailable(self, error: UnavailableError) -> None:
        """Stop sending, as the store has failed where it was asked without this recorder."""
        if self.sender:
            self.sender.fail(str(error))

    def describe(self) -> RunRecord | None:
        """Describe the run for the stage's manifest; None if it is not the run of a stage."""
        if self.about is None:
            return None
        run = copy.deepcopy(self.about)  # more is logged later
        run["end"] = now_iso()
        run["mlflow_run_id"] = self.run_id
        return run

    def _log(self, series: list[tuple[int, dict[str, float]]], *, is_optional: bool) -> None:
        now = now_ms()
        metrics = [Metric(k, v, now, step) for step, values in series for k, v in values.items()]
        self._put(
            partial(runs.add_metrics, run_id=self.run_id, metrics=metrics), is_optional=is_optional
        )

    def _tag(self, tags: Mapping[str, str]) -> None:
        self._put(partial(runs.add_tags, run_id=self.run_id, tags=to_tags(tags)))

    def _put(self, call: Call, *, is_optional: bool = False) -> None:
        if self.sender and self.run_id:
            self.sender.put(call, is_optional=is_optional)


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store with the experiment that runs go to; or none."""

    tracking_uri: str = field(default="", repr=False)
    experiment: str = ""
    experiment_id: str = ""
    """Empty if the store could not be reached and the job may run without it."""

    @contextmanager
    def run(
        self,
        stage: str,
        *,
        group: str,
        tags: Mapping[str, str],
        name: str = "",
        registers_model: bool = False,
    ) -> Iterator[Recorder]:
        """Open a run for a stage; it ends finished, failed, or killed on Ctrl-C and SIGTERM."""
        name = name or f"{stage} {group[-provenance.GROUP_DIGITS :]}"
        code = {
            "mlflow.source.name": f"sentiflow {stage}",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
        }
        code |= {tag: value for tag, value in tags.items() if tag in CODE_TAGS}
        about: RunRecord = {
            "experiment": self.experiment, "group": group, "name": name, "start": now_iso(),
            "end": "", "params": {}, "tags": to_tags(code), "metrics": {}, "artifacts": [],
            "registers_model": registers_model, "mlflow_run_id": "",
        }  # fmt: skip
        if not self.experiment_id:
            yield Recorder(about=about, kept=about)
            return
        all_tags = {STAGE_TAG: stage, GROUP_TAG: group, **code, **orphaned_runs.describe_process()}
        all_tags |= tags
        sender = Sender(self.tracking_uri)
        begin = partial(runs.begin, experiment_id=self.experiment_id, name=name, tags=all_tags)
        shared = {
            key: value
            for key, value in all_tags.items()
            if key in _SHARED or provenance.is_lineage(key)
        }
        run_id = sender.ask(begin, "")
        recorder = Recorder(run_id, sender, self.experiment_id, about, shared, kept=about)
        try:
            yield recorder
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt | SystemExit)
            self._end_early(recorder, "KILLED" if killed else "FAILED", first_line(error))
            raise
        recorder.end("FINISHED")
        sender.close()

    def _end_early(self, recorder: Recorder, status: Status, reason: str) -> None:
        """End the run of a stage that is not complete; try once more if the store had failed."""
        assert recorder.sender is not None, "there is a store"
        recorder.end(status, reason=reason)
        if not recorder.sender.close() and recorder.run_id:
            client = mlflow_store.make_client(self.tracking_uri)
            with contextlib.suppress(*mlflow_store.failures()):  # else the next command ends it
                runs.end(client, recorder.run_id, status, now_ms(), reason)


def open_store(uri: str, *, experiment: str, required: bool) -> Store:
    """Connect to a store, made where it is a new SQLite file, and find or make the experiment.

    Runs that a killed process of this host has left open are ended.

    Args:
        uri: The store, with user and password if it needs them and no variable has them.
        experiment: Its name.
        required: Whether the job cannot do without.

    Raises:
        UserError: The store's kind is not one that MLflow can track to, or lacks its driver.
        JobError: It cannot be reached, and tracking is required.
    """
    mlflow_store.check_kind(uri)
    mlflow_store.quiet()
    try:
        with mlflow_store.making(uri):
            client = mlflow_store.make_client(uri)
            experiment_id = mlflow_store.ask(lambda: _experiment_id(client, experiment, uri))
    except ImportError as error:
        store = without_credentials(uri)
        raise UserError(
            f"no driver for the MLflow store {store}: {error}", hint="install it"
        ) from error
    except mlflow_store.failures() as error:
        problem = mlflow_store.unreachable(uri, error)
        if required:
            raise UnavailableError(problem) from error
        log.warning("%s; the job runs without it", problem)
        return Store(uri, experiment)
    _end_orphaned_runs(client, experiment_id)
    return Store(uri, experiment, experiment_id)


def read_tags(tracking_uri: str, run_id: str) -> dict[str, str]:
    """Read the tags of a run.

    Raises:
        UserError: There is no such run, or no such store.
        JobError: The store is unavailable.
    """
    client = connect(tracking_uri)
    try:
        return dict(mlflow_store.ask(lambda: client.get_run(run_id)).data.tags)
    except mlflow_store.failures() as error:
        if mlflow_store.is_refusal(error):
            store = without_credentials(tracking_uri)
            raise UserError(
                f"there is no run {run_id} in {store}",
                hint="check its id, or name its store by MLFLOW_TRACKING_URI",
            ) from error
        raise UnavailableError(mlflow_store.unreachable(tracking_uri, error)) from error


def _end_orphaned_runs(client: MlflowClient, experiment_id: str) -> None:
    try:
        for run_id in orphaned_runs.end_orphaned(client, experiment_id):
            log.info("the MLflow run %s is ended as killed: %s", run_id, orphaned_runs.REASON)
    except mlflow_store.failures() as error:
        log.warning("cannot look for open MLflow runs: %s", first_line(error))


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = mlflow_store.artifact_location(uri, name)
        try:
            made = client.create_experiment(name, location, tags=_MODEL_TRAINING)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return _experiment_id(client, name, uri)  # another job has just made it
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
