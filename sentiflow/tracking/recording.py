"""Settings, metrics and files of a stage -> an MLflow run, and the key ``run`` of its manifest."""

import contextlib
import getpass
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sentiflow.data.manifest_types import RunPart, RunRecord
from sentiflow.errors import UnavailableError, UserError
from sentiflow.tracking import mlflow_store, orphaned_runs, provenance, system_metrics
from sentiflow.tracking.mlflow_store import connect, first_line, without_user
from sentiflow.tracking.mlflow_store import default_uri as default_uri
from sentiflow.tracking.mlflow_values import (
    MAX_METRICS,
    MAX_PARAMS,
    MAX_TAGS,
    batches,
    now_iso,
    now_ms,
    to_metrics,
    to_params,
    to_tags,
)
from sentiflow.tracking.sender import Sender

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]

_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show an experiment as one of training runs, not of prompts and traces."""

STAGE_TAG, GROUP_TAG, TRIAL_TAG = "sentiflow.stage", "sentiflow.run", "sentiflow.trial"
PARENT_TAG = "mlflow.parentRunId"
SCORED_TAG, SCORED_FINGERPRINT_TAG = "sentiflow.scored_uri", "sentiflow.scored_fingerprint"
"""Of an evaluation, and of the training that made its model: which predictions were evaluated."""
REASON_TAG = orphaned_runs.REASON_TAG
CODE_TAGS = (
    "sentiflow.version", provenance.COMMIT_TAG, provenance.SUBMISSION_TAG, "mlflow.source.name",
    "mlflow.source.type", "mlflow.user",
)  # fmt: skip

_MAX_REASON = 500
"""Characters."""
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
        self._put(partial(add_params, run_id=self.run_id, params=params))

    def log_inputs(self, inputs: Mapping[str, Any], *, stage: str) -> None:
        """Log what a stage reads, as its spec or manifest has it: datasets, and lineage tags."""
        if inputs:
            datasets = to_datasets(inputs, stage=stage)
            self._put(lambda client: client.log_inputs(self.run_id, datasets=datasets))
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
        self._put(partial(add_files, run_id=self.run_id, files=dict(files)))

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
        begin = partial(_begin, experiment_id=self.experiment_id, name=name, tags=tags)
        return Recorder(self.sender.ask(begin, ""), self.sender)

    def end(self, status: Status, *, reason: str = "") -> None:
        """End the run; everything that was logged before is sent first."""
        ended = partial(end_run, run_id=self.run_id, status=status, time=now_ms(), reason=reason)
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

    def describe(self) -> RunRecord:
        """Describe the run for the stage's manifest."""
        assert self.about is not None, "only a stage's own run is described"
        kept: RunPart = self.kept
        tags = {**self.about["tags"], **kept["tags"]}
        return {
            **self.about, **kept, "tags": tags, "end": now_iso(), "mlflow_run_id": self.run_id
        }  # fmt: skip

    def _log(self, series: list[tuple[int, dict[str, float]]], *, is_optional: bool) -> None:
        now = now_ms()
        metrics = [Metric(k, v, now, step) for step, values in series for k, v in values.items()]
        self._put(
            partial(add_metrics, run_id=self.run_id, metrics=metrics), is_optional=is_optional
        )

    def _tag(self, tags: Mapping[str, str]) -> None:
        self._put(partial(add_tags, run_id=self.run_id, tags=to_tags(tags)))

    def _put(self, call: Any, *, is_optional: bool = False) -> None:
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
            yield Recorder(about=about)
            return
        all_tags = {STAGE_TAG: stage, GROUP_TAG: group, **code, **orphaned_runs.describe_process()}
        all_tags |= tags
        sender = Sender(self.tracking_uri)
        begin = partial(_begin, experiment_id=self.experiment_id, name=name, tags=all_tags)
        shared = {
            key: value
            for key, value in all_tags.items()
            if key in _SHARED or provenance.is_lineage(key)
        }
        recorder = Recorder(sender.ask(begin, ""), sender, self.experiment_id, about, shared)
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
                end_run(client, recorder.run_id, status, now_ms(), reason)


def add_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Add metrics to a run."""
    for batch in batches(metrics, MAX_METRICS):
        client.log_batch(run_id, metrics=batch)


def add_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    """Add parameters to a run; one that it has must be equal."""
    for batch in batches(params.items(), MAX_PARAMS):
        client.log_batch(run_id, params=[Param(key, value) for key, value in batch])


def add_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run, or change them."""
    for batch in batches(tags.items(), MAX_TAGS):
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in batch])


def add_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    """Add files to a run's artifacts, by their paths there."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            assert path.resolve().is_relative_to(Path(folder).resolve()), "names are checked"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        client.log_artifacts(run_id, folder)


def end_run(client: MlflowClient, run_id: str, status: Status, time: int, reason: str = "") -> None:
    """End a run; a finished one loses the reason that it got when its process seemed gone."""
    if reason:
        add_tags(client, run_id, to_tags({REASON_TAG: reason.splitlines()[0][:_MAX_REASON]}))
    client.set_terminated(run_id, status, time)
    if status == "FINISHED" and REASON_TAG in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, REASON_TAG)


def to_datasets(inputs: Mapping[str, Any], *, stage: str) -> list[DatasetInput]:
    """Describe the inputs of a spec or manifest as MLflow's datasets."""
    return [
        DatasetInput(
            Dataset(item.name, item.digest, item.source_type, item.source, profile=item.profile),
            tags=[InputTag("mlflow.data.context", item.context)],
        )
        for item in provenance.to_datasets(inputs, stage=stage)
    ]


def find_runs(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Find the runs of an experiment that have all of these tags, the newest first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment_id], filter_string=wanted))


def _begin(client: MlflowClient, *, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Make a run, unless an earlier try has made it and only the answer was lost; return its id."""
    known = {key: tags[key] for key in (STAGE_TAG, GROUP_TAG, PARENT_TAG) if key in tags}
    for run in find_runs(client, experiment_id, known):
        is_same = run.info.run_name == name and run.data.tags.get(PARENT_TAG) == tags.get(
            PARENT_TAG
        )
        if is_same and run.info.status == "RUNNING":
            return str(run.info.run_id)
    run = client.create_run(experiment_id, start_time=now_ms(), tags=to_tags(tags), run_name=name)
    return str(run.info.run_id)


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
            raise UnavailableError(
                f"{problem}; tracking.required=false runs the job without it"
            ) from error
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
            store = without_user(tracking_uri)
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
