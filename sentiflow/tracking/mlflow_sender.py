"""Records -> an MLflow store, in which what is sent twice stands once."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sentiflow.errors import UserError
from sentiflow.tracking import mlflow_store  # before MLflow, which reads what it sets
from sentiflow.tracking.mlflow_store import StoreAwayError
from sentiflow.tracking.run_records import (
    AnyRecord,
    Begin,
    End,
    Files,
    Inputs,
    Metrics,
    Model,
    Params,
    Tags,
)

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

REASON_TAG = "sentiflow.reason"
PARENT_TAG = "mlflow.parentRunId"
PROVISIONAL_TAG = "sentiflow.provisional_id"
"""By it a run is found that began while the store was away."""

_PROVISIONAL = "unsent-"


def is_provisional(run_id: str) -> bool:
    """Say whether a run has no id of the store's yet, or had none when it was written down."""
    return run_id.startswith(_PROVISIONAL)


def make_provisional(key: str) -> str:
    """Make the id that a run goes by until the store knows it."""
    return _PROVISIONAL + key


@dataclass
class Sender:
    """Sends to one store."""

    tracking_uri: str = field(repr=False)
    experiment_id: str = ""
    """Where runs are looked up by their provisional ids."""
    known: dict[str, str] = field(default_factory=dict)
    """Ids of runs by the provisional ones."""
    register: Callable[..., object] | None = None
    """:func:`registry.register`; it takes torch along, so who needs it brings it."""

    def offer(self, record: AnyRecord, following: AnyRecord | None = None) -> Exception | None:
        """Send a record.

        Args:
            record: What to send.
            following: What is to be sent next. A store that fails at the one, but takes the other,
                is not away: it will never take the one.

        Returns:
            Why the store will not take the record; None if it has it.

        Raises:
            StoreAwayError: The store takes nothing now.
        """
        try:
            self.send(record)
        except mlflow_store.failures() as error:
            if mlflow_store.is_refusal(error) or self._takes(following, error):
                return error
            raise StoreAwayError(mlflow_store.unreachable(self.tracking_uri, error)) from error
        return None

    def _takes(self, record: AnyRecord | None, error: Exception) -> bool:
        if record is None or not isinstance(error, MlflowException):
            return False  # no answer to the record: an artifact store, say, is away
        if mlflow_store.is_timeout(error):
            return False
        try:
            self.send(record)
        except mlflow_store.failures():
            return False
        return True

    def send(self, record: AnyRecord) -> None:
        """Send a record; where it was sent before, nothing changes.

        Raises:
            Exception: One of :func:`mlflow_store.failures`; whether a later try may do,
                :func:`mlflow_store.is_refusal` says.
        """
        mlflow_store.ask(lambda: self._send(record))

    def find(self, run_id: str) -> str:
        """Find the store's id of a run; one that it does not have yet keeps its provisional id."""
        if not is_provisional(run_id):
            return run_id
        if run_id not in self.known:
            found = self.client.search_runs(
                [self.experiment_id], filter_string=f"tags.`{PROVISIONAL_TAG}` = '{run_id}'"
            )
            if found:
                self.known[run_id] = found[0].info.run_id
        return self.known.get(run_id, run_id)

    def require(self, run_id: str) -> None:
        """Make sure that there is a run.

        Raises:
            Exception: One of :func:`mlflow_store.failures`.
        """
        self.client.get_run(self.find(run_id))

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's own client."""
        return mlflow_store.make_client(self.tracking_uri)

    def _send(self, record: AnyRecord) -> None:
        run = self.find(record.run)
        match record:
            case Begin():
                self._begin(record)
            case Metrics():
                metrics = [Metric(*value) for value in record.values]
                self.client.log_batch(run, metrics=metrics)
            case Params():
                params = [Param(key, value) for key, value in record.values.items()]
                self.client.log_batch(run, params=params)
            case Tags():
                tags = [RunTag(key, value) for key, value in record.values.items()]
                self.client.log_batch(run, tags=tags)
            case Files():
                self._send_files(run, record.values)
            case Inputs():
                self.client.log_inputs(run, datasets=_to_datasets(record))
            case Model():
                self._register(run, record)
            case End():
                self._end(run, record)

    def _begin(self, record: Begin) -> None:
        if self.find(record.run) != record.run:
            return
        tags = dict(record.tags)
        if PARENT_TAG in tags:
            tags[PARENT_TAG] = self.find(tags[PARENT_TAG])
        made = self.client.create_run(
            record.experiment_id,
            start_time=record.time,
            tags=tags | {PROVISIONAL_TAG: record.run},
            run_name=record.name,
        )
        self.known[record.run] = made.info.run_id

    def _send_files(self, run: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                if not path.resolve().is_relative_to(Path(folder).resolve()):
                    raise UserError(f"{name!r} is no name of a run's file")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.client.log_artifacts(run, folder)

    def _register(self, run: str, record: Model) -> None:
        assert self.register is not None, "who leaves a model, or imports, says how to register"
        self.register(
            record.package_uri,
            name=record.name,
            tracking_uri=self.tracking_uri,
            run_id=run,
            alias=record.alias,
        )

    def _end(self, run: str, record: End) -> None:
        """End a run; a reason that was given for a process that seemed lost goes again."""
        self.client.set_terminated(run, record.status, record.time)
        if record.status == "FINISHED":
            tags = self.client.get_run(run).data.tags
            if REASON_TAG in tags:
                self.client.delete_tag(run, REASON_TAG)


def _to_datasets(record: Inputs) -> list[DatasetInput]:
    return [
        DatasetInput(
            Dataset(
                name=item.name,
                digest=item.digest,
                source_type=item.source_type,
                source=item.source,
                profile=item.profile,
            ),
            tags=[InputTag("mlflow.data.context", item.context)],
        )
        for item in record.values
    ]
