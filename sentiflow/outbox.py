"""What MLflow could not take -> a file, and from there into MLflow later."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sentiflow import mlflow_store, storage
from sentiflow.errors import JobError, UserError
from sentiflow.mlflow_sender import Sender
from sentiflow.mlflow_store import StoreAwayError, default_uri, first_line, without_user
from sentiflow.run_records import AnyRecord, parse
from sentiflow.uris import as_typed

Line = TypeVar("Line")

log = logging.getLogger(__name__)

RETRY_EVERY_SECONDS = 20.0
RENEW_EVERY_SECONDS = 1.0
"""Of the file, while there is more to keep."""
FORMAT_VERSION = 1


class Outbox:
    """Sends what runs are told; while the store is away, keeps it, in order.

    What is kept is in a file within a second or so, which outlives the process. A thread sends it
    when the store is back, so that nobody waits.
    """

    def __init__(self, tracking_uri: str, unsent_uri: str) -> None:
        """Keep in ``unsent_uri`` what the store cannot take; in memory only if that is empty."""
        self.sender = Sender(tracking_uri)
        self.unsent_uri = unsent_uri
        self._kept: deque[AnyRecord] = deque()
        self._refused: list[AnyRecord] = []
        self._lock = threading.Lock()
        """Of what is kept and refused; never held while something is sent."""
        self._sending = threading.Lock()
        self._writing = threading.Lock()
        self._num_changes = self._num_written = 0
        self._thread: threading.Thread | None = None

    @property
    def away(self) -> bool:
        """Say whether the store is known not to answer."""
        return bool(self._kept)

    @property
    def num_unsent(self) -> int:
        """Count the records that the store does not have."""
        return len(self._kept) + len(self._refused)

    def take(self, *records: AnyRecord) -> None:
        """Send records now, or keep them; it takes some seconds when the store goes away."""
        for record in records:
            if self._keep_if_away(record):
                continue
            try:
                self.sender.send(record)
            except mlflow_store.failures() as error:
                if mlflow_store.is_refusal(error):
                    self._refuse(record, error)
                else:
                    self.keep(record, error)

    def flush(self) -> None:
        """Try once more to send what is kept; what stays is in the file afterwards."""
        self._send_kept()
        self._write()

    def warn(self) -> None:
        """Say where that is which could not be sent."""
        if not self.num_unsent:
            return
        store, count = without_user(self.sender.tracking_uri), self.num_unsent
        if self.unsent_uri:
            log.warning(
                "%d records are missing in the MLflow store %s; to send them: "
                "sentiflow tracking import %s", count, store, as_typed(self.unsent_uri),
            )  # fmt: skip
        else:
            log.warning("%d records are missing in the MLflow store %s, and lost", count, store)

    def _keep_if_away(self, record: AnyRecord) -> bool:
        with self._lock:
            if self._kept:
                self._kept.append(record)
                self._num_changes += 1
            return bool(self._kept)

    def keep(self, record: AnyRecord, error: BaseException) -> None:
        """Keep a record that the store could not take, for the reason ``error``."""
        with self._lock:
            is_news = not self._kept
            self._kept.append(record)
            self._num_changes += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="outbox", daemon=True)
                self._thread.start()
        if is_news:
            problem = mlflow_store.unreachable(self.sender.tracking_uri, error)
            where = f" in {as_typed(self.unsent_uri)}" if self.unsent_uri else ""
            log.warning("%s; going on, and keeping%s what it misses", problem, where)

    def _refuse(self, record: AnyRecord, error: BaseException) -> None:
        log.warning("MLflow refuses %s of the run %s: %s", record.kind, record.run,
                    first_line(error))  # fmt: skip
        with self._lock:
            self._refused.append(record)
            self._num_changes += 1

    def _watch(self) -> None:
        """Renew the file, and try to send from time to time, until everything is sent."""
        tried = time.monotonic()
        while True:
            self._write()
            time.sleep(RENEW_EVERY_SECONDS)
            if time.monotonic() - tried >= RETRY_EVERY_SECONDS:
                self._send_kept()
                tried = time.monotonic()
            with self._lock:
                if not self._kept:
                    self._thread = None
                    break
        self._write()

    def _send_kept(self) -> None:
        """Send in order, up to the first record that the store still cannot take."""
        with self._sending:
            count = 0
            while self._kept:
                record = self._kept[0]
                try:
                    self.sender.send(record)
                except mlflow_store.failures() as error:
                    if not mlflow_store.is_refusal(error):
                        return
                    self._refuse(record, error)
                with self._lock:
                    self._kept.popleft()
                    self._num_changes += 1
                count += 1
            if count:
                store = without_user(self.sender.tracking_uri)
                log.info("the MLflow store %s answers again, and has what it missed", store)

    def _write(self) -> None:
        """Renew the file, or remove it if there is nothing to keep any more."""
        with self._writing:
            with self._lock:
                records = [*self._refused, *self._kept]
                num_changes = self._num_changes
            if not self.unsent_uri or num_changes == self._num_written:
                return
            try:
                if records:
                    storage.write_bytes(self.unsent_uri, self._to_jsonl(records))
                else:
                    storage.delete(self.unsent_uri)
            except OSError as error:
                log.warning("cannot write %s: %s", self.unsent_uri, first_line(error))
            self._num_written = num_changes

    def _to_jsonl(self, records: list[AnyRecord]) -> bytes:
        header = Header(
            format_version=FORMAT_VERSION,
            tracking_uri=without_user(self.sender.tracking_uri),
            experiment_id=self.sender.experiment_id,
        )
        lines = [header.model_dump_json(), *(record.model_dump_json() for record in records)]
        return "\n".join([*lines, ""]).encode()


_outboxes: dict[tuple[str, str], Outbox] = {}


def find(tracking_uri: str, unsent_uri: str) -> Outbox:
    """Find this process's outbox for a store, or make it."""
    return _outboxes.setdefault((tracking_uri, unsent_uri), Outbox(tracking_uri, unsent_uri))


class Header(BaseModel):
    """The first line of a file of records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    tracking_uri: str
    """Without user and password."""
    experiment_id: str


class Unsent(NamedTuple):
    """What a file holds."""

    uri: str
    content: bytes
    header: Header
    records: list[AnyRecord]


def read(uri: str) -> Unsent:
    """Read a file of records.

    Raises:
        UserError: There is none, or it is something else.
    """
    try:
        content = storage.read_bytes(uri)
    except FileNotFoundError:
        raise UserError(f"no such file: {uri}", hint="was it imported before?") from None
    except OSError as error:
        raise UserError(f"cannot read {uri}", hint=first_line(error)) from error
    lines = content.decode(errors="replace").split("\n")
    header = _read_line(uri, 1, lines[0], Header.model_validate_json)
    if header.format_version > FORMAT_VERSION:
        raise UserError(f"{uri} needs a newer sentiflow", hint="pip install -U sentiflow")
    records = [
        _read_line(uri, number, line, parse)
        for number, line in enumerate(lines[1:], start=2)
        if line or number < len(lines)
    ]
    return Unsent(uri, content, header, records)


def _read_line(uri: str, number: int, line: str, read_as: Callable[[str], Line]) -> Line:
    try:
        return read_as(line)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"]
        raise UserError(f"{uri}, line {number} is no record for MLflow", hint=fault) from error


def find_store(header: Header, option: str | None) -> str:
    """Decide where to send what a file holds: where it was to go, unless the user says otherwise.

    User and password are in ``option``, in ``MLFLOW_TRACKING_URI`` if that is the same store, or
    in MLflow's own variables.
    """
    if option:
        os.environ["MLFLOW_TRACKING_URI"] = option
    mine = os.environ.get("MLFLOW_TRACKING_URI", "")
    is_same = without_user(mine) == header.tracking_uri
    return default_uri(mine if option or is_same else header.tracking_uri)


def import_file(unsent: Unsent, *, tracking_uri: str, register: Callable[..., object]) -> None:
    """Send all records of a file, and delete it when all are in the store.

    Args:
        unsent: By :func:`read`.
        tracking_uri: Where to.
        register: As :func:`registry.register`, for models.

    Raises:
        UserError: There is no such store.
        JobError: The store is away, or refuses some; the file stays, and can be imported again.
    """
    try:
        mlflow_store.connect(tracking_uri)
    except StoreAwayError as error:
        raise StoreAwayError(f"{error}; {as_typed(unsent.uri)} is kept") from error
    sender = Sender(tracking_uri, unsent.header.experiment_id, register=register)
    refusals = []
    for record in unsent.records:
        try:
            with mlflow_store.patient():
                sender.send(record)
        except mlflow_store.failures() as error:
            if not mlflow_store.is_refusal(error):
                problem = mlflow_store.unreachable(tracking_uri, error)
                raise StoreAwayError(f"{problem}; {as_typed(unsent.uri)} is kept") from error
            refusals.append(f"{record.kind} of the run {record.run}: {first_line(error)}")
    if refusals:
        raise JobError(
            f"MLflow refuses {len(refusals)} of {len(unsent.records)} records of {unsent.uri}, "
            f"which is kept: {refusals[0]}"
        )
    if not storage.exists(unsent.uri):
        return  # its job was as quick
    if storage.read_bytes(unsent.uri) != unsent.content:
        raise JobError(f"{unsent.uri} has changed meanwhile: import it again when its job is over")
    storage.delete(unsent.uri)
