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
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store, provenance, runs, store_address
from sentiflow.tracking.mlflow_store import first_line
from sentiflow.tracking.runs import CODE_TAGS, GROUP_TAG, PARENT_TAG, STAGE_TAG, Status
from sentiflow.tracking.sending import Sender

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_SAMPLE_SECONDS = 5.0
"""Seconds between two samples of system metrics."""

_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show an experiment as one of training runs, not of prompts and traces."""


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
    kept: RunPart = field(default_factory=lambda: RunPart(metrics={}, tags={}), repr=False)
    """What was logged, for the manifest."""

    @property
    def tracking_uri(self) -> str:
        """The store's address, without user and password."""
        return self.sender.tracking_uri if self.sender else ""

    @property
    def registers_model(self) -> bool:
        """Whether the model is to be registered by the stage."""
        return self.about is not None and self.about["registers_model"]

    def log_metrics(self, metrics: Mapping[str, float | None], *, step: int = 0) -> None:
        """Log metrics of the whole stage, or of an epoch; None (undefined) is left out."""
        if step == 0:
            values = runs.to_metrics(metrics)
            self.kept["metrics"] |= {k: v for k, v in values.items() if math.isfinite(v)}
        self.log_series([(step, metrics)])

    def log_series(self, series: Sequence[tuple[int, Mapping[str, float | None]]]) -> None:
        """Log metrics of many steps at once; the manifest does not keep them."""
        now = runs.now_ms()
        points = [
            Metric(name, value, now, step)
            for step, metrics in series
            for name, value in runs.to_metrics(metrics).items()
        ]
        self._put(runs.log, metrics=points)

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
            text = runs.add_report(text, report_of.experiment_id, report_of.run_id)
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
        part = RunPart(metrics={}, tags={})
        if self.about is not None:
            self.about["training"] = part
        return Recorder(run_id, self.sender, kept=part)

    def begin_nested(self, name: str, *, stage: str, tags: Mapping[str, str]) -> "Recorder":
        """Begin a run below this one; it stays open until :meth:`end`."""
        if not self.sender or not self.run_id:
            return Recorder()
        shared = {key: value for key, value in self.tags.items() if key != provenance.OUTPUT_TAG}
        tags = {**shared, STAGE_TAG: stage, PARENT_TAG: self.run_id, **tags}
        run_id = self.sender.make_run(self.experiment_id, name, tags)
        return Recorder(run_id, self.sender)

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

    def _put(self, call: Callable[..., object], **parts: Any) -> None:
        if self.sender and self.run_id:
            self.sender.put(partial(call, run_id=self.run_id, **parts))


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store with the experiment that runs go to; or none."""

    sender: Sender = field(repr=False)
    experiment: str
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
        all_tags = {STAGE_TAG: stage, GROUP_TAG: group, **code, **tags}
        run_id = self.sender.make_run(self.experiment_id, name, all_tags)
        recorder = Recorder(run_id, self.sender, self.experiment_id, about, all_tags, kept=about)
        try:
            yield recorder
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt | SystemExit)
            recorder.end("KILLED" if killed else "FAILED", reason=first_line(error))
            raise
        else:
            recorder.end("FINISHED")
        finally:
            self.sender.flush()


def open_store(uri: str, *, experiment: str, required: bool, repair: str = "") -> Store:
    """Connect to a store, made where it is a new SQLite file, and find or make the experiment.

    Args:
        uri: The store, with user and password if it needs them and they are in no variable.
        experiment: Its name.
        required: Whether the job fails if the store cannot be reached.
        repair: The command that adds later what the store misses.

    Raises:
        UnavailableError: It cannot be reached, and tracking is required.
    """
    mlflow_store.quiet()
    sender = Sender(uri, repair=repair)
    try:
        mlflow_store.make(uri)
        client = mlflow_store.make_client(uri)
        return Store(
            sender, experiment, mlflow_store.ask(lambda: _experiment_id(client, experiment, uri))
        )
    except mlflow_store.failures() as error:
        problem = mlflow_store.unreachable(uri, error)
        if required:
            raise UnavailableError(problem) from error
        sender.fail(problem)
        return Store(sender, experiment)


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


def find_page(tracking_uri: str, experiment: str | None = None) -> str:
    """Find the page of an experiment's runs, below the address of MLflow's web interface.

    MLflow itself opens on a page for prompts and traces.

    Args:
        tracking_uri: The store.
        experiment: Its name; by default that of the latest run.

    Raises:
        UserError: There is no such store, or it has no such run.
        UnavailableError: It does not answer.
    """
    with mlflow_store.asking(tracking_uri, "look for runs") as client:
        named = None if experiment is None else f"name = '{experiment}'"
        ids = [each.experiment_id for each in client.search_experiments(filter_string=named)]
        latest = client.search_runs(ids, max_results=1, order_by=["attributes.start_time DESC"])
    if not latest:
        what = "no run" if experiment is None else f"no run of {experiment}"
        store = without_credentials(tracking_uri)
        raise UserError(f"there is {what} in {store}", hint="sentiflow run CONFIG makes one")
    return f"/#/experiments/{latest[0].info.experiment_id}/runs?workflowType=machine_learning"


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = store_address.find_file(uri)  # artifacts go beside it, wherever the job works
        location = str(path.parent / "mlruns" / name) if path else None
        return str(client.create_experiment(name, location, tags=_MODEL_TRAINING))
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _now() -> str:
    """Return the time in ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
