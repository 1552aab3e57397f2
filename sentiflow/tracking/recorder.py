"""Settings, metrics and files of a stage -> an MLflow run, and the key ``run`` of its manifest."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from sentiflow.config import written
from sentiflow.config.written import WrittenCommand
from sentiflow.data.manifest_types import Manifest, RunPart, RunRecord
from sentiflow.data.output_spec import OutputSpec
from sentiflow.tracking import datasets, runs
from sentiflow.tracking.experiment_store import Store
from sentiflow.tracking.live_metrics import LiveMetrics

_SAMPLE_SECONDS = 5.0
"""Seconds between two samples of system metrics."""


@dataclass
class Recorder:
    """Sends a stage's settings, metrics, tags and files to MLflow, and keeps them for its manifest.

    Logging does not wait for the store. Without a run, values are only kept for :meth:`describe`.
    """

    run_id: str = ""
    """Id of the run in MLflow; empty if MLflow has none, or has not answered."""
    store: Store | None = field(default=None, repr=False)
    run_record: RunRecord | None = None
    """Description of the run for the manifest of its stage; None for any other run."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the run at its start."""
    kept: RunPart = field(default_factory=lambda: RunPart(metrics={}, tags={}), repr=False)
    """Logged metrics and tags, for the manifest: a part of ``run_record``, or all of it."""
    measured: dict[str, str] = field(default_factory=dict, repr=False)
    """Model and data set with which MLflow stores further metrics; set by :meth:`link_metrics`."""
    command: WrittenCommand | None = field(default=None, repr=False)
    """The command and its settings; :meth:`log_command` sets it."""
    unregistered: str = ""
    """Why the stage has not registered the model, although it should, and what to do;
    :meth:`note_unregistered` sets it."""
    times_repeated: int = 0
    """How often the run was continued. Metrics of the stage have this step."""

    @property
    def experiment_id(self) -> str:
        """The experiment of the run."""
        return self.store.experiment_id if self.store else ""

    @property
    def registers_model(self) -> bool:
        """Whether the stage registers the model."""
        return self.run_record is not None and self.run_record["registers_model"]

    def log_metrics(self, metrics: Mapping[str, float | None], *, step: int = 0) -> None:
        """Log metrics of the stage (step 0) or of an epoch; undefined metrics (None) are left out.

        The manifest keeps metrics of the stage that are finite.
        """
        if step == 0:
            values = runs.to_metrics(metrics)
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            self.kept["metrics"] |= finite
        self.log_series([(step or self.times_repeated, metrics)])

    def reserve_metrics(self, names: Sequence[str]) -> None:
        """Log metrics of the stage as NaN, that is, not measured yet, before all other metrics.

        MLflow's page that compares runs opens on the metric that was logged first.
        """
        self.log_series([(0, dict.fromkeys(names, math.nan))])

    def log_series(self, series: Sequence[tuple[int, Mapping[str, float | None]]]) -> None:
        """Log metrics of many steps at once; the manifest does not keep them."""
        now = runs.now_ms()
        measured = self.measured

        def send(client: MlflowClient) -> None:
            points = []
            for step, metrics in series:
                for name, value in runs.to_metrics(metrics).items():
                    points.append(Metric(name, value, now, step, **measured))
            client.log_batch(self.run_id, metrics=points)

        self._queue(send)

    def watch_rows(self, stage: str) -> LiveMetrics:
        """Return what logs the rows that are done while a stage runs, see :class:`LiveMetrics`."""
        return LiveMetrics(stage, self._offer_metrics)

    def _offer_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics that may be lost: nothing waits for them, and a failure changes nothing."""
        if self.store and self.run_id:
            now = runs.now_ms()
            points = [Metric(name, value, now, step) for name, value in metrics.items()]
            self.store.offer(lambda client: client.log_batch(self.run_id, metrics=points))

    def log_model(self, package_uri: str, record: Manifest) -> None:
        """Log the model package of a training, and wait until it is sent: its files move then."""
        from sentiflow.tracking import model_registry  # a second to import

        self._queue(
            lambda client: model_registry.log_model(client, self.run_id, package_uri, record)
        )
        if self.store:
            self.store.flush()

    def link_metrics(self, run_id: str, data: Mapping[str, Any]) -> None:
        """Log all later metrics as metrics of a model on a data set; MLflow ranks models by them.

        Args:
            run_id: The run that has logged the model; empty if it is unknown.
            data: The prepared data or the corpus, as an input.
        """
        if not run_id:
            return
        (item,) = datasets.to_datasets({"prepared": data}, stage="evaluate")
        measured = {"dataset_name": item.dataset.name, "dataset_digest": item.dataset.digest}
        self.measured = measured
        self._queue(lambda client: measured.update(_find_model(client, run_id)))

    @contextmanager
    def watching_system(self) -> Iterator[None]:
        """Log how this machine's cores, memory, disk, network and GPUs are used during the block.

        This is off by default, as in MLflow: among these charts, the charts of the model are hard
        to find. MLflow measures and sends in a thread, which ends if the store fails.
        """
        if not self.store or not self.run_id or not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            yield
            return
        logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
        monitor = SystemMetricsMonitor(self.run_id, _SAMPLE_SECONDS, tracking_uri=self.store.uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log settings as parameters with dotted names; long values are cut."""
        params = runs.to_params(settings)
        if self.run_record is not None:
            self.run_record["params"] |= params
        self._queue(lambda client: runs.log(client, self.run_id, params=params))

    def log_command(self, command: WrittenCommand) -> None:
        """Log the command and its settings as they were written, so that it can be repeated."""
        self.command = command
        if self.run_record is not None:
            self.run_record["config"] = command.settings
        self.set_tags(runs.describe_command(command.line, command.directory))
        self.log_files({runs.CONFIG_FILE: command.to_file()}, are_outputs=False)

    def log_inputs(
        self,
        inputs: Mapping[str, Any],
        *,
        stage: str,
        profiles: Mapping[str, datasets.Profile] | None = None,
    ) -> None:
        """Log inputs, from the spec or the manifest of a stage, as datasets and lineage tags.

        Args:
            inputs: The inputs by name.
            stage: The stage that reads them.
            profiles: Rows and classes of inputs, by the name of the input.
        """
        if not inputs:
            return
        described = datasets.to_datasets(inputs, stage=stage, profiles=profiles)
        tags = runs.describe_lineage(inputs)
        self._queue(lambda client: client.log_inputs(self.run_id, described))
        self._queue(lambda client: runs.log(client, self.run_id, tags=tags))

    def keep_profiles(self, profiles: Mapping[str, datasets.Profile]) -> None:
        """Keep rows and classes of inputs for the manifest, by the name of the input."""
        if self.run_record is not None and profiles:
            self.run_record["profiles"] = dict(profiles)

    def log_result(self, record: Manifest) -> None:
        """Log the fingerprint and the inputs of the stage's manifest."""
        self.set_tags({runs.FINGERPRINT_TAG: record["fingerprint"]})
        profiles = datasets.list_profiles(record, self.run_record)
        self.log_inputs(record["inputs"], stage=record["stage"], profiles=profiles)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the run."""
        self.kept["tags"] |= runs.to_tags(tags)
        self._queue(lambda client: runs.log(client, self.run_id, tags=tags))

    def set_note(self, text: str, *, shown: str = "") -> None:
        """Describe the run in Markdown.

        Args:
            text: The description.
            shown: The same with links into this store. The manifest keeps ``text``, as the run may
                be rebuilt in another store.
        """
        self.set_tags({runs.NOTE_TAG: text})
        if shown:
            self._queue(lambda client: runs.log(client, self.run_id, tags={runs.NOTE_TAG: shown}))

    def log_files(self, files: Mapping[str, bytes], *, are_outputs: bool = True) -> None:
        """Add files to the run's artifacts.

        Args:
            files: Contents by path below the artifacts.
            are_outputs: Whether the stage's output has the files, too, at the same paths.
        """
        if self.run_record is not None and are_outputs:
            self.run_record["artifacts"] += files
        contents = dict(files)
        self._queue(lambda client: runs.add_files(client, self.run_id, contents))

    def make_training_recorder(self, run_id: str) -> "Recorder":
        """Make a recorder for the run of the training that this stage evaluates.

        Args:
            run_id: That run. If it is unknown (empty), values are only kept for the manifest.
        """
        part = RunPart(metrics={}, tags={})
        if self.run_record is not None:
            self.run_record["training"] = part
        return Recorder(run_id, self.store, kept=part)

    def begin_nested(
        self,
        name: str,
        *,
        stage: str,
        tags: Mapping[str, str],
        changes: Mapping[str, Any] | None = None,
    ) -> "Recorder":
        """Begin a run below this one. The caller ends it by :meth:`end`.

        Args:
            name: Its name.
            stage: Its stage.
            tags: Its tags, in addition to those of this run.
            changes: The settings in which it differs from the command of this run, by dotted key.
        """
        if not self.store or not self.run_id:
            return Recorder()
        shared = {key: value for key, value in self.tags.items() if key != runs.OUTPUT_TAG}
        tags = {**shared, runs.STAGE_TAG: stage, runs.PARENT_TAG: self.run_id, **tags}
        nested = Recorder(self.store.make_run(name, tags), self.store)
        if self.command:
            nested.log_command(written.change(self.command, changes or {}))
        return nested

    def end_killed(self, run_id: str, spec: OutputSpec) -> None:
        """End the run of an earlier job that was killed, and its nested runs.

        Args:
            run_id: The run, as the output describes it; empty if it is unknown.
            spec: The output, in which this stage takes over the work of that job.
        """
        if run_id:
            self._queue(
                lambda client: runs.end_killed(
                    client, run_id, stage=spec.stage, output_uri=spec.uri
                )
            )

    def end(self, status: runs.Status, *, reason: str = "") -> None:
        """End the run; everything that was logged before is sent first."""
        if reason:
            self._queue(
                lambda client: runs.log(client, self.run_id, tags={runs.REASON_TAG: reason})
            )
        now = runs.now_ms()
        self._queue(lambda client: client.set_terminated(self.run_id, status, now))

    def note_unregistered(self, reason: str) -> None:
        """Note why the model is not registered, although this stage should register it.

        Args:
            reason: The reason; if the store has failed, its failure is the reason.
        """
        if not self.registers_model or self.store is None:
            return
        self.unregistered = self.store.problem or reason
        if self.store.repair:
            self.unregistered += f"; to register it later: {self.store.repair}"

    def describe(self) -> RunRecord | None:
        """Describe the run for the stage's manifest; None if it is not the run of a stage."""
        if self.run_record is None:
            return None
        run = copy.deepcopy(self.run_record)  # later logging changes run_record
        run["end"] = runs.now_iso()
        run["mlflow_run_id"] = self.run_id
        return run

    def _queue(self, call: Callable[[MlflowClient], object]) -> None:
        """Queue a call to the store, if MLflow has the run."""
        if self.store and self.run_id:
            self.store.put(call)


def _find_model(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Return the id of the model that a run logged last, for ``Metric``; empty if it is gone."""
    with suppress(MlflowException):
        outputs = client.get_run(run_id).outputs
        if outputs:
            return {"model_id": outputs.model_outputs[-1].model_id}
    return {}
