"""The store of a location: the bucket or host in its URI, and what may be written there."""

import re

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Name of a bucket, a container or a host."""
_HOST = rf"(?:{_NAME}|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?"
"""A host, and perhaps its port; an IPv6 address is in brackets."""
_CONTAINER = rf"(?:[A-Za-z0-9$][A-Za-z0-9-]*@)?{_HOST}"
"""A container of Azure alone, or before the host of its account."""
STORES = {
    "s3": _NAME,
    "gs": _NAME,
    "gcs": _NAME,
    "abfs": _CONTAINER,
    "abfss": _CONTAINER,
    "hdfs": rf"(?:{_HOST})?",
    "viewfs": rf"(?:{_HOST})?",
}
"""Schemes of object stores: what may stand between ``://`` and the next slash.

Arrow would read options there: ``s3://b?endpoint_override=HOST`` sends requests that are signed
with the user's key to HOST. It would also open URIs of other schemes: ``fsspec+http://HOST``.
"""
_WEB = ("http", "https")
"""Schemes of files that must be downloaded first."""


class ForeignUri(str):
    """A location that a manifest names in another store than its own.

    It may be shown, but :func:`filesystem.locate` does not open it: whoever wrote the manifest does
    not decide to which hosts requests go. :func:`uris.join` keeps the type.
    """

    __slots__ = ()


def find_fault(store: str) -> str:
    """Say what to write instead of the URI of a store; empty if it can be opened.

    Args:
        store: A URI without a key, as :func:`uris.split_key` returns it.

    Example:
        >>> find_fault("s3://bucket/")
        ''
        >>> find_fault("https://host/")
        'download it first'
        >>> find_fault("gs://anonymous@bucket/")
        'write gs://NAME/PATH: a location has no options, no user and no %'
    """
    scheme, _, host = store.removesuffix("/").partition("://")
    if scheme in _WEB:
        return "download it first"
    if scheme not in STORES:
        return "write a path, or a URI of s3, gs, abfs or hdfs"
    if re.fullmatch(STORES[scheme], host):
        return ""
    fault = f"write {scheme}://NAME/PATH: a location has no options, no user and no %"
    if scheme == "s3":
        fault += "; AWS_DEFAULT_REGION and AWS_ENDPOINT_URL name region and server"
    return fault
