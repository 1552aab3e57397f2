"""``RAY_ADDRESS`` -> the cluster that jobs join, or none. This module does not import Ray."""

import os
import re

from sentiflow.errors import UserError

HOST_AND_PORT = re.compile(r"\[?([^/@]+?)\]?:(\d{1,5})")
"""An address ``host:port``; an IPv6 host stands in brackets."""


def joins_cluster() -> bool:
    """Whether jobs join a cluster; otherwise they start Ray on this machine."""
    return _read() != "local"


def find_address() -> str:
    """Return the address in ``RAY_ADDRESS``: ``local`` (also if unset), ``auto`` or ``host:port``.

    Raises:
        UserError: It is not an address of a cluster.
    """
    address = _read()
    if address in ("local", "auto") or HOST_AND_PORT.fullmatch(address):
        return address
    hint = "write HOST:6379, or unset it to use this machine"
    if "://" in address:
        hint = "from outside of the cluster use `sentiflow submit`; on one of its nodes, HOST:6379"
    raise UserError(f"RAY_ADDRESS={address} is not an address that a job can join", hint=hint)


def _read() -> str:
    return os.environ.get("RAY_ADDRESS") or "local"
