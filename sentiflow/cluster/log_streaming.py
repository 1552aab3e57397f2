"""Submitted job -> its log, complete and without repetition, and how it has ended."""

import logging
import time
from collections.abc import Callable

from sentiflow.cluster.job_client import ClusterUnavailableError, JobClient, JobState
from sentiflow.errors import JobError, UserError
from sentiflow.progress import say

log = logging.getLogger(__name__)

_PENDING_SECONDS = 20.0
"""The user is told that the job has not started after so long."""
_DELAY_SECONDS = 1.0
"""Delay between two connections, and between two requests for the state."""


def follow(
    client: JobClient,
    submission_id: str,
    write: Callable[[str], None],
    *,
    patience_seconds: float = 1800,
) -> JobState:
    """Write a job's log as it comes, from its beginning, until the job has ended.

    The end of the log does not mean the end of the job: Ray closes the connection for other reasons
    as well. So the state of the job is read until it is final. Then the complete log is read, and
    the missing rest is written. If the server does not answer, it is tried again.

    Args:
        client: Client of the job's cluster.
        submission_id: The job.
        write: Takes text.
        patience_seconds: How long the server may be unavailable.

    Returns:
        The final state.

    Raises:
        UserError: There is no such job.
        JobError: The server was unavailable for too long, refuses to answer, or does not know the
            job any more.
    """
    output = _Log(write)
    begin = time.monotonic()
    unavailable_since: float | None = None
    is_known = said_pending = False
    while True:
        try:
            state = client.read_state(submission_id)
            is_known = True
            if unavailable_since is not None:
                say("submit", f"connected to {client.address} again")
                unavailable_since = None
            if state.is_final:
                break
            if state.status != "PENDING":
                output.begin()
                client.tail_log(submission_id, output.add)
            elif time.monotonic() - begin > _PENDING_SECONDS and not said_pending:
                said_pending = True
                say("submit", f"the job has not started: {state.message}")
        except UserError as error:
            if not is_known:
                raise
            raise JobError(f"{error}: the cluster was restarted, and its jobs are lost") from error
        except ClusterUnavailableError as error:
            if unavailable_since is None:
                unavailable_since = time.monotonic()
                log.warning("submit    %s; the job continues, trying again", error)
            if time.monotonic() - unavailable_since > patience_seconds:
                raise JobError(
                    f"{error} for {patience_seconds / 60:,.0f} minutes; the job may still run: "
                    f"sentiflow submit --attach {submission_id}"
                ) from error
        time.sleep(_DELAY_SECONDS)
    try:
        output.begin()
        output.add(client.read_log(submission_id))
    except (UserError, JobError) as error:
        log.warning("submit    the end of the log cannot be read: %s", error)
    return state


class _Log:
    """Writes a log once, although each connection gives it from its beginning."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write
        self.num_written = self.position = 0
        """Characters that were written, and that this connection has given."""

    def begin(self) -> None:
        """Expect the log from its beginning."""
        self.position = 0

    def add(self, text: str) -> None:
        """Write what is new in the next text of the log."""
        new = text[max(0, self.num_written - self.position) :]
        self.position += len(text)
        if new:
            self.write(new)
            self.num_written += len(new)
