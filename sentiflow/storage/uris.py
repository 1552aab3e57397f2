"""Location as typed -> absolute URI, and paths below it."""

import os
import posixpath
import re
from urllib.parse import urlsplit

from sentiflow.errors import UserError, shorten
from sentiflow.storage import stores
from sentiflow.storage.stores import ForeignUri

MEMBER = "::"
"""Separates a zip archive from the name of a file in it."""

_IPV6 = r"\[[0-9a-fA-F:.]+\](?::\d+)?(?:[/?#\s]|$)"
"""An IPv6 host with its port, such as ``[::1]:5000``: its colons do not separate a password."""
_USER = re.compile(
    rf"://(?!{_IPV6})(?:[^/\s:@]*:(?!\d*/)[^\s'\"]*|(?<!abfs://)(?<!abfss://)[^/\s]*|[^/\s@]*@[^/\s]*)@"
)
"""User and password in a URI, even with a ``/`` or ``@`` that should have been encoded. The text
before the ``@`` in Azure's ``abfss://container@account…`` is no user."""
_SECRET = re.compile(
    r"([?&][^=&\s]*(?:secret|token|passw|pwd|key|sig|credential|auth|odbc_connect)[^=&\s]*=)[^&\s'\"]*",
    re.IGNORECASE,
)
"""A parameter of a URI whose name means a secret, and its value."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(/*)", re.IGNORECASE)
"""The scheme of a URI, and the slashes after it."""
_MODELS = ("models", "runs")
"""Schemes of models in MLflow."""
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104
"""Hosts in a URI that stand for the machine on which it is opened."""
_NOT_ON_DISK = ("//", "/net/", "/proc/")
"""Beginnings of paths that are not files of this machine: ``/net/HOST`` mounts a disk of a host."""
_MAX_PATH = 4095
"""Maximum length of a path in a manifest, in characters."""
_MAX_SHOWN = 80
"""Maximum length of a location in a message, in characters."""
_IN_ARCHIVE = re.compile(rf"(.+?\.zip){MEMBER}(.+)", re.DOTALL | re.IGNORECASE)
"""A zip archive, and the name of a file in it."""


def absolute_uri(uri: str, *, base: str | None = None, setting: str = "") -> str:
    """Make a location independent of the working directory.

    Args:
        uri: ``relative/path``, ``/absolute/path``, ``file:///absolute/path``, or ``scheme://…``. A
            scheme is converted to lower case; the name of a member of an archive is unchanged.
        base: Directory of a relative path. Default: the working directory.
        setting: The setting or the option that has this value, for messages.

    Raises:
        UserError: The value is not a location.

    Example:
        >>> absolute_uri("data/tweets.csv", base="/home/ada")
        '/home/ada/data/tweets.csv'
        >>> absolute_uri("S3://bucket/key/")
        's3://bucket/key'
    """
    try:
        return _resolve(uri, base or os.getcwd())
    except ValueError as error:
        shown = shorten(without_credentials(uri), _MAX_SHOWN)
        problem = repr(shown)
        if setting:
            problem = f"{setting}={problem}"
        raise UserError(problem, hint=str(error)) from error


def _resolve(uri: str, base: str) -> str:
    """Make a location absolute.

    Raises:
        ValueError: It is not a location; the message says what to write.
    """
    place, member = split_member(uri)
    scheme, slashes, path = _split_scheme(place)
    if scheme == "file":
        if len(slashes) not in (1, 3):
            raise ValueError("a file of this machine is file:///PATH, or its path alone")
        path = f"/{path}"
    elif scheme:
        needed = "/" if scheme in _MODELS else "//"
        if not path or not slashes.startswith(needed):
            raise ValueError(f"write {scheme}:{needed}…, or ./{scheme}:… for a file of this name")
        store, _ = split_key(f"{scheme}:{slashes}{path}")
        fault = stores.find_fault(store)
        if fault and scheme in stores.STORES:
            raise ValueError(fault)
        return join_member(f"{scheme}:{slashes}{path}".rstrip("/"), member)
    path = os.path.expanduser(path)
    if path.startswith("~"):
        raise ValueError("this user has no home directory: write its path, or ./~… for a file")
    return join_member(os.path.normpath(os.path.join(base, path)), member)


def _split_scheme(uri: str) -> tuple[str, str, str]:
    """Split a URI into scheme, slashes and path; a plain path has neither scheme nor slashes.

    ``gs:x`` is a mistyped URI, because ``gs`` is a known scheme; ``a:b`` is the name of a file.
    """
    match = _SCHEME.match(uri)
    if not match:
        return "", "", uri
    scheme = match[1].lower()
    slashes = match[2]
    if not slashes and scheme not in ("file", *stores.STORES, *_MODELS):
        return "", "", uri
    return scheme, slashes, uri[match.end() :]


def is_local(uri: str) -> bool:
    """Say whether ``uri`` names a file of this machine."""
    scheme, _, _ = _split_scheme(uri)
    return scheme in ("", "file")


def shares_store(uri: str, directory: str) -> bool:
    """Say whether a location that a manifest names is in the same store as a directory.

    The store is the bucket or host, or this machine. On this machine the location is absolute, as
    manifests write it, and on a disk.

    Example:
        >>> shares_store("s3://bucket/a", "s3://bucket/b"), shares_store("/a", "s3://bucket/b")
        (True, False)
    """
    if not is_local(uri) or not is_local(directory):
        return split_key(uri)[0] == split_key(directory)[0]
    is_absolute = posixpath.isabs(uri) and posixpath.normpath(uri) == uri
    return is_absolute and not uri.startswith(_NOT_ON_DISK)


def names_this_machine(uri: str) -> bool:
    """Say whether the host of ``uri`` is this machine, such as localhost.

    Example:
        >>> names_this_machine("http://localhost:5000"), names_this_machine("http://tracking:5000")
        (True, False)
    """
    try:
        return urlsplit(uri).hostname in _THIS_MACHINE
    except ValueError:  # not an address
        return False


def names_model(uri: str) -> bool:
    """Say whether ``uri`` names a model in MLflow, not a directory.

    Example:
        >>> names_model("models:/quickstart@champion"), names_model("runs/quickstart/trained/model")
        (True, False)
    """
    return uri.lower().startswith(("models:/", "runs:/"))


def names_encoder(source: str) -> bool:
    """Say whether ``source`` names a sentence encoder rather than a model or a file.

    Example:
        >>> names_encoder("encoder:use-multilingual"), names_encoder("answers.parquet")
        (True, False)
    """
    return source.startswith("encoder:")


def display_uri(uri: str) -> str:
    """Make a location below the working directory relative to it; return others unchanged."""
    if not is_local(uri):
        return uri
    archive, member = split_member(uri)
    relative = os.path.relpath(archive)
    if relative.startswith(".."):
        return uri
    return join_member(relative, member)


def holds_credentials(text: str) -> bool:
    """Say whether a URI contains a user name, a password or a key."""
    return bool(_USER.search(text) or _SECRET.search(text))


def without_credentials(text: str) -> str:
    """Remove user names, passwords and keys from the URIs in a text.

    Example:
        >>> without_credentials("cannot open s3://AKIA:se/cret@bucket/tweets.csv")
        'cannot open s3://bucket/tweets.csv'
        >>> without_credentials("http://host:5000/a@b?token=abc")
        'http://host:5000/a@b?token=***'
    """
    return _SECRET.sub(r"\1***", _USER.sub("://", text))


def split_member(uri: str) -> tuple[str, str]:
    """Split the name of a file in a zip archive into archive and member.

    Example:
        >>> split_member("data/tweets.zip::train/tweets.csv")
        ('data/tweets.zip', 'train/tweets.csv')
        >>> split_member("data/tweets.csv")
        ('data/tweets.csv', '')
    """
    match = _IN_ARCHIVE.fullmatch(uri)
    return (match[1], match[2]) if match else (uri, "")


def split_key(uri: str) -> tuple[str, str]:
    """Split the URI of an object into the URI of its store and the literal key.

    Example:
        >>> split_key("s3://bucket/run #1/50%.csv")
        ('s3://bucket/', 'run #1/50%.csv')
    """
    scheme, mark, path = uri.partition("://")
    host, _, key = path.partition("/")
    store = f"{scheme}{mark}{host}/" if mark else uri
    return store, key.rstrip("/")


def join_member(archive: str, member: str) -> str:
    """Join the names of an archive and a member; return the archive if ``member`` is empty."""
    return f"{archive}{MEMBER}{member}" if member else archive


def is_inside(path: str) -> bool:
    """Say whether a relative path is normalized and stays below its directory.

    Example:
        >>> is_inside("model/weights.safetensors"), is_inside("../weights.safetensors")
        (True, False)
    """
    is_normalized = posixpath.normpath(path) == path
    is_below = path.split("/")[0] not in ("", ".", "..")
    is_plain = path.isprintable() and "\\" not in path and len(path) <= _MAX_PATH
    return is_normalized and is_below and is_plain


def join(uri: str, *parts: str) -> str:
    """Append path segments to ``uri``."""
    joined = posixpath.join(uri, *parts)
    return ForeignUri(joined) if isinstance(uri, ForeignUri) else joined
