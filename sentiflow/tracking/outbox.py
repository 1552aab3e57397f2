"""What a run is told -> MLflow; while the store is away, a file, and MLflow later."""

import logging
import threading
import time
from collections import deque

from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed
from sentiflow.tracking import unsent_files
from sentiflow.tracking.mlflow_sender import Sender
from sentiflow.tracking.mlflow_store import StoreAwayError, first_line, without_user
from sentiflow.tracking.run_records import MAX_METRICS, AnyRecord, Metrics

log = logging.getLogger(__name__)

RETRY_EVERY_SECONDS = 20.0
RENEW_EVERY_SECONDS = 1.0
"""Of the file, while there is more to keep."""


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
        self._is_unwritable = False
        self._told: set[tuple[str, str]] = set()
        """Runs and kinds of records of which a refusal was told."""
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
                refusal = self.sender.offer(record)
            except StoreAwayError as error:
                self.keep(record, error)
            else:
                self._refuse(record, refusal)

    def flush(self) -> None:
        """Try once more to send what is kept; what stays is in the file, before and afterwards."""
        self._write()
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
                self._append(record)
            return bool(self._kept)

    def _append(self, record: AnyRecord) -> None:
        """Add a record to those kept; figures join those before, but for what is being sent."""
        last = self._kept[-1] if len(self._kept) > 2 else None
        if isinstance(record, Metrics) and isinstance(last, Metrics) and record.run == last.run:
            values = (*last.values, *record.values)
            if len(values) <= MAX_METRICS:
                self._kept.pop()
                record = Metrics(run=record.run, values=values)
        self._kept.append(record)
        self._num_changes += 1

    def keep(self, record: AnyRecord, error: StoreAwayError) -> None:
        """Keep a record that the store could not take, for the reason ``error``."""
        with self._lock:
            is_news = not self._kept
            self._append(record)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="outbox", daemon=True)
                self._thread.start()
        if is_news:
            where = f" in {as_typed(self.unsent_uri)}" if self.unsent_uri else ""
            log.warning("%s; going on, and keeping%s what it misses", error, where)

    def _refuse(self, record: AnyRecord, refusal: Exception | None) -> None:
        """Set a record aside that the store will not take, if there is a reason."""
        if refusal is None:
            return
        with self._lock:
            self._refused.append(record)
            self._num_changes += 1
            is_news = (record.run, record.kind) not in self._told
            self._told.add((record.run, record.kind))
        if is_news:
            reason = first_line(refusal)
            log.warning("MLflow refuses %s of the run %s: %s", record.kind, record.run, reason)
            self._write()

    def _watch(self) -> None:
        """Renew the file, and try to send from time to time, until everything is sent.

        Sending has a thread of its own: a server that hangs does not keep the file from being
        renewed.
        """
        tried, sending = time.monotonic(), threading.Thread()
        while self._is_needed():
            self._write()
            time.sleep(RENEW_EVERY_SECONDS * max(1, len(self._kept) / 1000))
            if time.monotonic() - tried >= RETRY_EVERY_SECONDS and not sending.is_alive():
                sending = threading.Thread(target=self._send_kept, name="sender", daemon=True)
                sending.start()
                tried = time.monotonic()
        self._write()

    def _is_needed(self) -> bool:
        with self._lock:
            if not self._kept:
                self._thread = None
            return bool(self._kept)

    def _send_kept(self) -> None:
        """Send in order, as long as the store takes something."""
        with self._sending:
            was_away = self.away
            while self._kept:
                following = self._kept[1] if len(self._kept) > 1 else None
                try:
                    refusal = self.sender.offer(self._kept[0], following)
                except StoreAwayError:
                    return
                self._refuse(self._kept[0], refusal)
                with self._lock:
                    self._kept.popleft()
                    self._num_changes += 1
            if was_away:
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
                    filesystem.write_bytes(
                        self.unsent_uri, unsent_files.to_jsonl(self.sender, records)
                    )
                else:
                    filesystem.delete(self.unsent_uri)
            except OSError as error:  # the next time may do: in a second, or at the stage's end
                if not self._is_unwritable:
                    log.warning("cannot write %s yet: %s", self.unsent_uri, first_line(error))
                self._is_unwritable = True
            else:
                self._num_written, self._is_unwritable = num_changes, False


_outboxes: dict[tuple[str, str], Outbox] = {}


def find(tracking_uri: str, unsent_uri: str) -> Outbox:
    """Find this process's outbox for a store, or make it."""
    return _outboxes.setdefault((tracking_uri, unsent_uri), Outbox(tracking_uri, unsent_uri))
