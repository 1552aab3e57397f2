"""Where MLflow says that it keeps files -> whether they may be fetched from there, or sent there.

Whoever may write to the MLflow server chooses the location of a version, and of an experiment with
its runs. MLflow's clients send ``MLFLOW_TRACKING_TOKEN``, or user and password, to the host in it.
"""

from urllib.parse import urlsplit

from sentiflow.errors import UserError, printable, shorten
from sentiflow.storage import stores
from sentiflow.storage.uris import is_local, split_key

_PROXY = "mlflow-artifacts"
"""Scheme of files that the MLflow server itself hands out; it may name a host."""
_OF_SERVER = (_PROXY, "http", "https")
"""Schemes of files that MLflow fetches from a server, with the user's password."""
_OTHER_STORES = ("dbfs", "wasbs")
"""Schemes of further object stores that MLflow knows; their hosts are those of a cloud."""
_MAX_SHOWN = 300
"""Maximum length of a location in a message, in characters."""


_OTHER_MODEL = "register the model again"
OTHER_RUN = "its experiment was made with this location: choose another name for the experiment"
"""What to do about a run whose files are on another server."""


class ForeignSourceError(UserError):
    """Files of MLflow are on another server, which is neither asked for them nor sent any."""


def check(source: str, *, uri: str, tracking_uri: str, hint: str = _OTHER_MODEL) -> None:
    """Check that files of MLflow are on this machine, in an object store or on the server.

    Args:
        source: Where MLflow keeps the files.
        uri: The model or the run, for messages.
        tracking_uri: Address of the MLflow server.
        hint: What to do if they are elsewhere.

    Raises:
        ForeignSourceError: They are on another server.
    """
    if is_local(source) or _is_in_store(source) or _is_on_server(source, tracking_uri):
        return
    raise ForeignSourceError(
        f"{uri} is kept at {shorten(printable(source), _MAX_SHOWN)}, which is neither an object "
        "store nor the MLflow server",
        hint=hint,
    )


def _is_in_store(source: str) -> bool:
    """Say whether a location is in an object store, and has no options for its client."""
    scheme, _, _ = source.partition(":")
    return scheme in _OTHER_STORES or not stores.find_fault(split_key(source)[0])


def _is_on_server(source: str, tracking_uri: str) -> bool:
    """Say whether a location is on the MLflow server: it names no host, or the server's."""
    try:
        parts = urlsplit(source)
        server = urlsplit(tracking_uri)
        if parts.scheme not in _OF_SERVER:
            return False
        if parts.scheme == _PROXY and not parts.netloc:
            return True
        return (parts.hostname, parts.port) == (server.hostname, server.port)
    except ValueError:  # not an address
        return False
