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
_DELAY_SECONDS, _DELAY_PER_CHARACTER = 1.0, 1e-6
"""Delay between two requests; longer for a long log, as each request gives all of it."""


def follow(
    client: JobClient,
    submission_id: str,
    write: Callable[[str], None],
    *,
    patience_seconds: float = 1800,
) -> JobState:
    """Write a job's log as it grows, from its beginning, until the job has ended.

    The state of the job is read again and again, and after it the log, of which the new end is
    written. So the log is complete when the state is final. If the server does not answer, it is
    tried again.

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
    begin, num_written = time.monotonic(), 0
    state: JobState | None = None
    unavailable_since: float | None = None
    said_pending = False
    while True:
        try:
            state = client.read_state(submission_id)
            if state.status != "PENDING":
                text = client.read_log(submission_id)
                write(text[num_written:])
                num_written = max(num_written, len(text))
            elif time.monotonic() - begin > _PENDING_SECONDS and not said_pending:
                said_pending = True
                say("submit", f"the job has not started: {state.message}")
            if unavailable_since is not None:
                say("submit", f"connected to {client.address} again")
                unavailable_since = None
            if state.is_final:
                return state
        except (UserError, JobError) as error:
            if state and state.is_final:
                log.warning("submit    the end of the log cannot be read: %s", error)
                return state
            if isinstance(error, UserError) and state:
                lost = f"{error}: the cluster was restarted, and its jobs are lost"
                raise JobError(lost) from error
            if not isinstance(error, ClusterUnavailableError):
                raise
            if unavailable_since is None:
                unavailable_since = time.monotonic()
                log.warning("submit    %s; the job continues, trying again", error)
            if time.monotonic() - unavailable_since > patience_seconds:
                raise JobError(
                    f"{error} for {patience_seconds / 60:,.0f} minutes; the job may still run: "
                    f"sentiflow submit --attach {submission_id}"
                ) from error
        time.sleep(_DELAY_SECONDS + num_written * _DELAY_PER_CHARACTER)
