"""URL -> a file of known size, continued where it broke off."""

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from io import FileIO
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from sentiflow.progress import Progress, say
from sentiflow.storage.uris import without_credentials

_BLOCK_BYTES = 1 << 16
_MAX_REDIRECTS = 10
_RANGE = r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)"
_TRY_AGAIN = (408, 425, 429)
"""Answers that may be others a little later, beside all from 500 on."""


@dataclass(frozen=True)
class Patience:
    """How long a server may take, and how often to come back to it."""

    connect_seconds: float = 15
    read_seconds: float = 60
    """The longest silence, before the answer and in the middle of it."""
    pauses: Sequence[float] = (1, 4, 15)
    """Seconds before each further try; a try that brought the file on begins them anew."""


class RefusedError(Exception):
    """The file cannot be had from there, now or later; the message is the reason."""


class BrokenOffError(Exception):
    """The file did not come, and may come later; the message is the reason."""


class _NoAnswerError(BrokenOffError):
    """Nobody was there."""


@contextmanager
def open_partial(path: Path) -> Iterator[FileIO]:
    """Open a partial file for appending, as the only process; wait for another that has it.

    The lock is the system's and ends with the process, however that ends. An empty file is gone
    afterwards.
    """
    file = _lock(path)
    try:
        yield file
    finally:
        with file:
            if length(file) == 0:
                path.unlink(missing_ok=True)


def _lock(path: Path) -> FileIO:
    """Open and lock the file at ``path``, not one that its last owner has moved away."""
    while True:
        file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("download", f"another process writes {path}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(path, file):
            return file
        file.close()


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def length(file: FileIO) -> int:
    """Give the number of bytes in a file."""
    return file.seek(0, os.SEEK_END)


def fetch(url: str, file: FileIO, *, size: int, patience: Patience) -> bool:
    """Append to ``file`` what it lacks of the ``size`` bytes at ``url``.

    A proxy is taken from the environment. An address of https is never left for one of http.

    Returns:
        Whether the file came in pieces, which may be pieces of different files.

    Raises:
        RefusedError: There is no network, or no such file.
        BrokenOffError: It broke off more often than ``patience`` allows; ``file`` keeps what came.
    """
    most = length(file)
    in_pieces, answered, pauses = most > 0, False, iter(patience.pauses)
    with requests.Session() as session, Progress("download", total=size, unit="bytes") as progress:
        while length(file) < size:
            try:
                with _ask(session, url, length(file), patience) as response:
                    answered = True
                    in_pieces = _begin(response, file, size)
                    progress.start_at(length(file))
                    _append(response, file, size, progress)
            except BrokenOffError as error:
                if isinstance(error, _NoAnswerError) and not answered:
                    raise RefusedError(str(error)) from error
                if length(file) > most:
                    most, pauses = length(file), iter(patience.pauses)
                _pause(pauses, error)
    return in_pieces


def _pause(pauses: Iterator[float], error: BrokenOffError) -> None:
    """Wait before the next try; without one, it is over."""
    seconds = next(pauses, None)
    if seconds is None:
        raise error
    say("download", f"{error}; again in {seconds:g} s")
    time.sleep(seconds)


def _ask(session: requests.Session, url: str, start: int, patience: Patience) -> requests.Response:
    """Ask for the file from byte ``start`` on, wherever it has moved to."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    timeout = (patience.connect_seconds, patience.read_seconds)
    for _ in range(_MAX_REDIRECTS):
        try:
            response = session.get(
                url, headers=headers, timeout=timeout, stream=True, allow_redirects=False
            )
            target = session.get_redirect_target(response)
            if target is None:
                return response
            response.close()
            url = _redirected(url, target)
        except (OSError, ValueError) as error:  # all of requests' errors are the one or the other
            kind = BrokenOffError if _was_there(error) else _NoAnswerError
            raise kind(_explain(error, url)) from error
    raise RefusedError(f"it redirects more than {_MAX_REDIRECTS} times")


def _was_there(error: Exception) -> bool:
    """Say whether a server took the question, though it gave no answer."""
    if isinstance(error, requests.exceptions.ReadTimeout):
        return True
    reason = error.args[0] if error.args else None
    return isinstance(reason, urllib3.exceptions.ProtocolError)


def _redirected(url: str, target: str) -> str:
    target = urljoin(url, target)
    schemes = ("https",) if urlsplit(url).scheme == "https" else ("http", "https")
    if urlsplit(target).scheme not in schemes:
        raise RefusedError(f"it redirects to {without_credentials(target)}, which is not safe")
    return target


def _explain(error: Exception, url: str) -> str:
    """Say why there was no answer; the libraries' own words may hold a proxy's password."""
    if isinstance(error, ValueError):  # also of requests, as for a wrong port
        return "the address, or that of the proxy, is wrong"
    host = urlsplit(url).hostname
    if not isinstance(error, requests.RequestException):  # before anything is asked
        return "the certificates that REQUESTS_CA_BUNDLE names are not there"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy does not connect to {host} (see HTTPS_PROXY)"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the certificate of {host} is not trusted (see REQUESTS_CA_BUNDLE)"
    if isinstance(error, requests.exceptions.Timeout):
        return f"{host} does not answer"
    if _was_there(error):
        return f"{host} broke the connection"
    return f"no connection to {host} (no network, or a proxy to name in HTTPS_PROXY?)"


def _begin(response: requests.Response, file: FileIO, size: int) -> bool:
    """Look at an answer before its content; say whether that goes on with what ``file`` holds."""
    status = response.status_code
    if status == 206:
        found = re.fullmatch(_RANGE, response.headers.get("Content-Range", ""))
        if found and found[2] != "*":
            _check_size(int(found[2]), size)
        if found and int(found[1]) == length(file):
            return True
    if status in (200, 206, 416):
        file.truncate(0)
    if status == 200:
        announced = response.headers.get("Content-Length", "")
        if re.fullmatch(r"\d{1,18}", announced):
            _check_size(int(announced), size)
        return False
    if status in (206, 416) or status in _TRY_AGAIN or status >= 500:
        raise BrokenOffError(f"the server answers {_name(status)}")
    raise RefusedError(f"the server answers {_name(status)}")


def _name(status: int) -> str:
    """Name an answer in the standard's words, as the server's own may hold anything."""
    known = {item.value: item.phrase for item in HTTPStatus}
    return f"{status} {known.get(status, '')}".strip()


def _check_size(found: int, size: int) -> None:
    if found != size:
        raise RefusedError(f"it has {found:,} bytes there, not {size:,}: another file")


def _append(response: requests.Response, file: FileIO, size: int, progress: Progress) -> None:
    """Write the content of an answer to the end of ``file``."""
    try:
        for block in response.iter_content(_BLOCK_BYTES):
            if length(file) + len(block) > size:
                file.truncate(0)
                raise RefusedError(f"it has more than {size:,} bytes there: another file")
            rest = memoryview(block)
            while rest:
                rest = rest[file.write(rest) :]
            progress.advance(len(block))
    except requests.RequestException as error:
        raise BrokenOffError(f"broken off at {length(file):,} of {size:,} bytes") from error
    if length(file) < size:
        raise BrokenOffError(f"ended at {length(file):,} of {size:,} bytes")
