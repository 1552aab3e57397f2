"""Submitted job -> its log, complete and without repetition, and how it has ended."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace

from sentiflow.cluster.job_client import ClusterUnavailableError, JobClient, JobState
from sentiflow.errors import JobError, UserError
from sentiflow.progress import say

log = logging.getLogger(__name__)

_QUIET_SECONDS = 2.0
"""Without a line for so long, the state of the job is looked up."""
_STALE_SECONDS = 60.0
"""Without a line for so long, the connection is replaced: it may be dead."""
_PENDING_SECONDS = 20.0
"""After so long, the user is told that the job has not started."""
_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.5, 15.0
"""Between two attempts: the first, and the longest."""
_PATIENCE_SECONDS = 1800.0
_KILLED_BY = {9: "SIGKILL; was there too little memory?", 15: "SIGTERM", 6: "SIGABRT"}


@dataclass(frozen=True)
class JobResult:
    """How a job has ended."""

    status: str
    """``SUCCEEDED``, ``FAILED`` or ``STOPPED``."""
    exit_code: int
    """The job's own; 1 if it has none: it was stopped, could not start, or was lost."""
    reason: str = ""
    """Why it failed, in one line."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What Ray keeps with the job."""


def follow(
    client: JobClient,
    submission_id: str,
    write: Callable[[str], None],
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> JobResult:
    """Write a job's log as it comes, from its beginning, until the job has ended.

    The end of the log does not mean the end of the job: Ray closes the connection for other reasons
    as well. So the state of the job is looked up until it is final. Then the complete log is read,
    and the missing rest is written. If the server does not answer, it is tried again.

    Args:
        client: Of the job's cluster.
        submission_id: The job.
        write: Takes text.
        patience_seconds: How long the server may be unavailable.

    Raises:
        UserError: There is no such job.
        JobError: The server was unavailable for too long, refuses to answer, or does not know the
            job any more.
    """
    return asyncio.run(_Follower(client, submission_id, write, patience_seconds).run())


class _Follower:
    """How much of a job's log has been written, and since when the server is unavailable."""

    def __init__(
        self,
        client: JobClient,
        submission_id: str,
        write: Callable[[str], None],
        patience_seconds: float,
    ) -> None:
        self.client, self.submission_id, self.write = client, submission_id, write
        self.patience_seconds = patience_seconds
        self.written = 0
        """Characters of the log."""
        self.began = time.monotonic()
        self.unavailable_since: float | None = None
        self.delay = _DELAY_SECONDS
        self.seen = self.said_pending = False

    async def run(self) -> JobResult:
        while True:
            try:
                state = await self._read_state()
                if state.is_final:
                    return await self._finish(state)
                await self._tail()
                await asyncio.sleep(_DELAY_SECONDS)
            except ClusterUnavailableError as error:
                await self._wait(error)

    async def _read_state(self) -> JobState:
        try:
            state = await asyncio.to_thread(self.client.read_state, self.submission_id)
        except UserError as error:
            if self.seen:
                raise JobError(
                    f"{error}: the cluster was restarted, and its jobs are lost"
                ) from error
            raise
        self.seen = True
        if self.unavailable_since is not None:
            say("submit", f"connected to {self.client.address} again")
            self.unavailable_since, self.delay = None, _DELAY_SECONDS
        self._report_pending(state)
        return state

    def _report_pending(self, state: JobState) -> None:
        waited = time.monotonic() - self.began
        if state.status == "PENDING" and waited > _PENDING_SECONDS and not self.said_pending:
            self.said_pending = True
            say("submit", f"the job has not started: {state.message}")

    async def _wait(self, error: ClusterUnavailableError) -> None:
        """Wait before the next attempt, longer each time."""
        now = time.monotonic()
        if self.unavailable_since is None:
            self.unavailable_since = now
            log.warning("submit    %s; the job continues, trying again", error)
        if now - self.unavailable_since > self.patience_seconds:
            raise JobError(
                f"{error} for {self.patience_seconds / 60:,.0f} minutes; the job may still run: "
                f"sentiflow submit --attach {self.submission_id}"
            ) from error
        await asyncio.sleep(self.delay)
        self.delay = min(2 * self.delay, _MAX_DELAY_SECONDS)

    async def _tail(self) -> None:
        """Write new text until the connection ends, the job ends, or the connection is stale."""
        last_text = time.monotonic()
        position = 0  # each connection gives the log from its beginning
        async with contextlib.aclosing(self.client.tail_log(self.submission_id)) as texts:
            while True:
                pending = asyncio.ensure_future(_next(texts))
                try:
                    while not (await asyncio.wait({pending}, timeout=_QUIET_SECONDS))[0]:
                        is_stale = time.monotonic() - last_text > _STALE_SECONDS
                        if (await self._read_state()).is_final or is_stale:
                            return
                finally:
                    if not pending.done():
                        pending.cancel()
                        await asyncio.wait({pending})
                text = pending.result()
                if text is None:
                    return
                last_text = time.monotonic()
                self._write_new(text, position)
                position += len(text)

    async def _finish(self, state: JobState) -> JobResult:
        """Write the rest of the log."""
        try:
            whole = await asyncio.to_thread(self.client.read_log, self.submission_id)
        except ClusterUnavailableError as error:
            log.warning("submit    the end of the log cannot be read: %s", error)
        else:
            self._write_new(whole, 0)
        return replace(_to_result(state), metadata=state.metadata)

    def _write_new(self, text: str, position: int) -> None:
        """Write the part of a text that is new; ``position`` is where it stands in the log."""
        new = text[max(0, self.written - position) :]
        if new:
            self.write(new)
            self.written += len(new)


async def _next(texts: AsyncGenerator[str, None]) -> str | None:
    return await anext(texts, None)


def _to_result(state: JobState) -> JobResult:
    """Turn a final state into a result, with the job's own exit code where it has one."""
    if state.status == "SUCCEEDED":
        return JobResult(state.status, 0)
    if state.status == "STOPPED":
        return JobResult(state.status, 1, "it was stopped; the same command resumes it")
    code = state.exit_code
    if code is None:
        lines = state.message.strip().splitlines()
        return JobResult(state.status, 1, lines[0] if lines else "Ray gives no reason")
    if code < 0:
        killed_by = _KILLED_BY.get(-code, f"signal {-code}")
        return JobResult(state.status, 128 - code, f"its driver was killed by {killed_by}")
    return JobResult(state.status, code or 1, f"exit code {code}")
