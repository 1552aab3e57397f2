"""Submitted job -> its log, whole and nothing twice, and how it has ended."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace

from sentiflow.cluster.job_client import AwayError, JobClient, State
from sentiflow.errors import JobError, UserError
from sentiflow.progress import say

log = logging.getLogger(__name__)

_QUIET_SECONDS = 2.0
"""After so long without a line the job is asked for its state."""
_STALE_SECONDS = 60.0
"""After so long the connection is made anew: one that has died may look like one that is quiet."""
_PENDING_SECONDS = 20.0
_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.5, 15.0
"""Between two tries."""
_PATIENCE_SECONDS = 1800.0
_KILLED_BY = {9: "SIGKILL; was there too little memory?", 15: "SIGTERM", 6: "SIGABRT"}


@dataclass(frozen=True)
class Ending:
    """How a job has ended."""

    status: str
    exit_code: int
    """Its own; 1 if it has none: it was stopped, could not start, or was lost."""
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What Ray keeps with the job."""


def follow(
    server: JobClient,
    submission_id: str,
    write: Callable[[str], None],
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> Ending:
    """Write a job's log as it comes, from its beginning, until the job has ended.

    A log that ends is no job that has ended: Ray closes the connection of a log for other reasons,
    too. So the job is asked for its state until that is final; then the complete log is read, and
    written what of it has not been. Where the server goes away, it is tried again.

    Args:
        server: Of the job's cluster.
        submission_id: The job.
        write: Takes text.
        patience_seconds: So long the server may be away.

    Raises:
        UserError: There is no such job.
        JobError: The server was away for too long, refuses to tell, or has forgotten the job.
    """
    return asyncio.run(_Follower(server, submission_id, write, patience_seconds).run())


class _Follower:
    """What has been written of a job's log, and since when the server is away."""

    def __init__(
        self,
        server: JobClient,
        submission_id: str,
        write: Callable[[str], None],
        patience_seconds: float,
    ) -> None:
        self.server, self.submission_id, self.write = server, submission_id, write
        self.patience_seconds = patience_seconds
        self.written = 0
        """Characters."""
        self.began = time.monotonic()
        self.away_since: float | None = None
        self.delay = _DELAY_SECONDS
        self.seen = self.said_pending = False

    async def run(self) -> Ending:
        while True:
            try:
                state = await self._look()
                if state.is_final:
                    return await self._finish(state)
                await self._tail()
                await asyncio.sleep(_DELAY_SECONDS)
            except AwayError as error:
                await self._wait(error)

    async def _look(self) -> State:
        """Ask for the job's state."""
        try:
            state = await asyncio.to_thread(self.server.look, self.submission_id)
        except UserError as error:
            if self.seen:
                raise JobError(
                    f"{error}: the cluster was started anew meanwhile, and has forgotten the job"
                ) from error
            raise
        self.seen = True
        if self.away_since is not None:
            say("submit", f"connected to {self.server.address} again")
            self.away_since, self.delay = None, _DELAY_SECONDS
        self._tell_of_waiting(state)
        return state

    def _tell_of_waiting(self, state: State) -> None:
        waited = time.monotonic() - self.began
        if state.status == "PENDING" and waited > _PENDING_SECONDS and not self.said_pending:
            self.said_pending = True
            say("submit", f"the job has not started: {state.message}")

    async def _wait(self, error: AwayError) -> None:
        """Let some time pass before the next try."""
        now = time.monotonic()
        if self.away_since is None:
            self.away_since = now
            log.warning("submit    %s; the job goes on, trying again", error)
        if now - self.away_since > self.patience_seconds:
            raise JobError(
                f"{error} for {self.patience_seconds / 60:,.0f} minutes; the job may go on: "
                f"sentiflow submit --attach {self.submission_id}"
            ) from error
        await asyncio.sleep(self.delay)
        self.delay = min(2 * self.delay, _MAX_DELAY_SECONDS)

    async def _tail(self) -> None:
        """Write what is new, until the connection ends, the job does, or it seems dead."""
        begins = time.monotonic()
        position = 0  # the connection gives the log from its beginning
        async with contextlib.aclosing(self.server.tail_log(self.submission_id)) as texts:
            while True:
                pending = asyncio.ensure_future(_next(texts))
                try:
                    while not (await asyncio.wait({pending}, timeout=_QUIET_SECONDS))[0]:
                        is_stale = time.monotonic() - begins > _STALE_SECONDS
                        if (await self._look()).is_final or is_stale:
                            return
                finally:
                    if not pending.done():
                        pending.cancel()
                        await asyncio.wait({pending})
                text = pending.result()
                if text is None:
                    return
                begins = time.monotonic()
                self._write_new(text, position)
                position += len(text)

    async def _finish(self, state: State) -> Ending:
        """Write what the stream has missed."""
        try:
            whole = await asyncio.to_thread(self.server.read_log, self.submission_id)
        except AwayError as error:
            log.warning("submit    the end of the log cannot be read: %s", error)
        else:
            self._write_new(whole, 0)
        return replace(_judge(state), metadata=state.metadata)

    def _write_new(self, text: str, position: int) -> None:
        """Write of a text that stands at a position of the log what was not written before."""
        new = text[max(0, self.written - position) :]
        if new:
            self.write(new)
            self.written += len(new)


async def _next(texts: AsyncGenerator[str, None]) -> str | None:
    return await anext(texts, None)


def _judge(state: State) -> Ending:
    """Say how a job has ended, with its own exit code where it has one."""
    if state.status == "SUCCEEDED":
        return Ending(state.status, 0)
    if state.status == "STOPPED":
        return Ending(state.status, 1, "it was stopped; the same command continues it")
    code = state.exit_code
    if code is None:
        lines = state.message.strip().splitlines()
        return Ending(state.status, 1, lines[0] if lines else "Ray does not say why")
    if code < 0:
        killed_by = _KILLED_BY.get(-code, f"signal {-code}")
        return Ending(state.status, 128 - code, f"its driver was killed by {killed_by}")
    return Ending(state.status, code or 1, f"exit code {code}")
