"""Settings, metrics and files of a stage -> an MLflow run, and the key ``run`` of its manifest."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sentiflow.data.manifest_types import Manifest, RunPart, RunRecord
from sentiflow.errors import UnavailableError, UserError
from sentiflow.tracking import mlflow_store, pages, provenance, runs, store_address
from sentiflow.tracking.mlflow_store import first_line
from sentiflow.tracking.runs import CODE_TAGS, GROUP_TAG, PARENT_TAG, STAGE_TAG, Status
from sentiflow.tracking.sending import Sender

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

log = logging.getLogger(__name__)

_SAMPLE_SECONDS = 5.0
"""Seconds between two samples of system metrics."""

_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show an experiment as one of training runs, not of prompts and traces."""


def _empty_part() -> RunPart:
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
    """For the run of a stage: what its manifest will say of it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags that the run began with."""
    kept: RunPart = field(default_factory=_empty_part, repr=False)
    """What was logged, for the manifest."""

    @property
    def tracking_uri(self) -> str:
        """The store's address, without user and password."""
        return self.sender.tracking_uri if self.sender else ""

    @property
    def registers_model(self) -> bool:
        """Whether the model is to be registered by the stage."""
        return self.about is not None and self.about["registers_model"]

    @property
    def is_complete(self) -> bool:
        """Whether the run has everything that was logged so far, but for step metrics."""
        return bool(self.run_id) and self.sender is not None and self.sender.is_available

    def log_metrics(self, metrics: Mapping[str, float | None], *, step: int = 0) -> None:
        """Log metrics of the whole stage, or of an epoch; None (undefined) is left out."""
        values = runs.to_metrics(metrics)
        if step == 0:
            self.kept["metrics"] |= {k: v for k, v in values.items() if math.isfinite(v)}
        self._log([(step, values)], is_optional=False)

    def log_series(self, series: Sequence[tuple[int, Mapping[str, float | None]]]) -> None:
        """Log metrics of many steps at once; they are lost if the store is unavailable."""
        self._log([(step, runs.to_metrics(metrics)) for step, metrics in series], is_optional=True)

    @contextmanager
    def watching_system(self) -> Iterator[None]:
        """Log the use of cores, memory, disk, network and GPUs of this machine for the block.

        MLflow samples and sends it in a thread of its own, which ends when the store fails.
        """
        if not self.run_id:
            yield
            return
        logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
        uri = store_address.with_password(self.tracking_uri)
        monitor = SystemMetricsMonitor(self.run_id, _SAMPLE_SECONDS, tracking_uri=uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log settings as parameters with dotted names; long values are cut."""
        params = runs.to_params(settings)
        if self.about is not None:
            self.about["params"] |= params
        self._put(runs.log, params=params)

    def log_inputs(self, inputs: Mapping[str, Any], *, stage: str) -> None:
        """Log what a stage reads, as its spec or manifest has it: datasets, and lineage tags."""
        if inputs:
            self._put(runs.add_datasets, datasets=runs.to_datasets(inputs, stage=stage))
            self._put(runs.log, tags=provenance.describe_lineage(inputs))

    def log_result(self, record: Manifest) -> None:
        """Log the manifest of the stage: its fingerprint, and its inputs, files too."""
        self.set_tags({provenance.FINGERPRINT_TAG: record["fingerprint"]})
        self.log_inputs(record["inputs"], stage=record["stage"])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the run."""
        known = runs.to_tags(tags)
        self.kept["tags"] |= known
        self._put(runs.log, tags=known)

    def set_note(self, text: str, *, report_of: "Recorder | None" = None) -> None:
        """Describe the run in Markdown.

        Args:
            text: The description.
            report_of: An evaluation, whose report is linked; the manifest has no link, as the run
                may be rebuilt in another store.
        """
        self.kept["tags"] |= runs.to_tags({runs.NOTE_TAG: text})
        if report_of and report_of.run_id:
            text = pages.add_report(text, report_of.experiment_id, report_of.run_id)
        self._put(runs.log, tags=runs.to_tags({runs.NOTE_TAG: text}))

    def log_files(self, files: Mapping[str, bytes], *, are_outputs: bool = True) -> None:
        """Store files, by their path below the run's artifacts.

        Args:
            files: Their contents.
            are_outputs: They are also in the stage's output, by the same paths.
        """
        if self.about is not None and are_outputs:
            self.about["artifacts"] += files
        self._put(runs.add_files, files=dict(files))

    def of_run(self, run_id: str) -> "Recorder":
        """Make a recorder for the run of the training that this stage evaluates.

        Args:
            run_id: Empty if it is not known; the training's manifest then leads to the run later.
        """
        part = _empty_part()
        if self.about is not None:
            self.about["training"] = part
        return Recorder(run_id, self.sender, kept=part)

    def begin_nested(self, name: str, *, stage: str, tags: Mapping[str, str]) -> "Recorder":
        """Begin a run below this one; it stays open until :meth:`end`."""
        if not self.sender or not self.run_id:
            return Recorder()
        shared = {key: value for key, value in self.tags.items() if key != provenance.OUTPUT_TAG}
        tags = {**shared, STAGE_TAG: stage, PARENT_TAG: self.run_id, **tags}
        make = partial(runs.make, experiment_id=self.experiment_id, name=name, tags=tags)
        run = self.sender.ask(make)
        return Recorder(run.info.run_id if run else "", self.sender)

    def end(self, status: Status, *, reason: str = "") -> None:
        """End the run; everything that was logged before is sent first."""
        self._put(runs.end, status=status, time=runs.now_ms(), reason=reason)

    def flush(self) -> bool:
        """Wait until everything logged is in the store.

        Returns:
            False if the store is unavailable.
        """
        return self.sender is not None and self.sender.flush()

    def note_unavailable(self, error: UnavailableError) -> None:
        """Stop sending: the store has failed in a call that did not go through this recorder."""
        if self.sender:
            self.sender.fail(str(error))

    def describe(self) -> RunRecord | None:
        """Describe the run for the stage's manifest; None if it is not the run of a stage."""
        if self.about is None:
            return None
        run = copy.deepcopy(self.about)  # more is logged later
        run["end"], run["mlflow_run_id"] = _now(), self.run_id
        return run

    def _log(self, series: list[tuple[int, dict[str, float]]], *, is_optional: bool) -> None:
        now = runs.now_ms()
        metrics = [Metric(k, v, now, step) for step, values in series for k, v in values.items()]
        self._put(runs.log, metrics=metrics, is_optional=is_optional)

    def _put(self, call: Callable[..., object], *, is_optional: bool = False, **parts: Any) -> None:
        if self.sender and self.run_id:
            call = partial(call, run_id=self.run_id, **parts)
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
        name = name or f"{stage} {group[-4:]}"
        code = {
            "mlflow.source.name": f"sentiflow {stage}",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": provenance.name_user(),
            **{tag: value for tag, value in tags.items() if tag in CODE_TAGS},
        }
        about: RunRecord = {
            "experiment": self.experiment, "group": group, "name": name, "start": _now(),
            "end": "", "params": {}, "tags": runs.to_tags(code), "metrics": {}, "artifacts": [],
            "registers_model": registers_model, "mlflow_run_id": "",
        }  # fmt: skip
        if not self.experiment_id:
            yield Recorder(about=about, kept=about)
            return
        all_tags = {STAGE_TAG: stage, GROUP_TAG: group, **code, **runs.describe_process(), **tags}
        sender = Sender(self.tracking_uri)
        make = partial(runs.make, experiment_id=self.experiment_id, name=name, tags=all_tags)
        made = sender.ask(make)
        run_id = made.info.run_id if made else ""
        recorder = Recorder(run_id, sender, self.experiment_id, about, all_tags, kept=about)
        try:
            yield recorder
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt | SystemExit)
            recorder.end("KILLED" if killed else "FAILED", reason=first_line(error))
            raise
        else:
            recorder.end("FINISHED")
        finally:
            sender.close()


def open_store(uri: str, *, experiment: str, required: bool) -> Store:
    """Connect to a store, made where it is a new SQLite file, and find or make the experiment.

    Runs that a killed process of this host has left open are ended.

    Args:
        uri: The store, with user and password if it needs them and they are in no variable.
        experiment: Its name.
        required: Whether the job fails if the store cannot be reached.

    Raises:
        UnavailableError: It cannot be reached, and tracking is required.
    """
    mlflow_store.quiet()
    try:
        mlflow_store.make(uri)
        client = mlflow_store.make_client(uri)
        experiment_id = mlflow_store.ask(lambda: _experiment_id(client, experiment, uri))
    except mlflow_store.failures() as error:
        problem = mlflow_store.unreachable(uri, error)
        if required:
            raise UnavailableError(problem) from error
        log.warning("%s; the job runs without it", problem)
        return Store(uri, experiment)
    try:
        for run_id in runs.end_orphaned(client, experiment_id):
            log.info("the MLflow run %s is ended as killed: %s", run_id, runs.REASON)
    except mlflow_store.failures() as error:
        log.warning("cannot look for open MLflow runs: %s", first_line(error))
    return Store(uri, experiment, experiment_id)


def read_tags(tracking_uri: str, run_id: str) -> dict[str, str]:
    """Read the tags of a run.

    Raises:
        UserError: There is no such run, or no such store.
        UnavailableError: The store does not answer.
    """
    hint = "; check its id, or name its store by MLFLOW_TRACKING_URI"
    asking = mlflow_store.asking(
        tracking_uri, f"read the run {run_id}", hint=hint, refusal=UserError
    )
    with asking as client:
        return dict(client.get_run(run_id).data.tags)


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = mlflow_store.artifact_location(uri, name)
        return str(client.create_experiment(name, location, tags=_MODEL_TRAINING | pages.VIEW_TAGS))
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _now() -> str:
    """Return the time in ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
