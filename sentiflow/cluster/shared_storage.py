"""Location -> whether each node of the cluster can write there, and all others can read it."""

import os
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]

from sentiflow.cluster import connection, nodes
from sentiflow.cluster.nodes import Node, NodeAnswer, name_nodes
from sentiflow.cluster.resources import Resources
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, is_local, join, without_credentials

_NETWORK = re.compile(
    r"nfs4?|cifs|smb3|smbfs|ceph|lustre|glusterfs|gpfs|beegfs\w*|wekafs|pvfs2|orangefs|afs"
    r"|fuse(\.(?!fuse-overlayfs|lxcfs).*)?"
)
"""Types of file systems that several machines can share; FUSE mostly mounts a bucket."""
_VISIBLE_AFTER_SECONDS = 2.0
"""A network file system may show another node's file with a delay."""


@dataclass(frozen=True)
class SharingProblem:
    """Why nodes cannot share a location."""

    what: str
    """Follows the location in a sentence: ``is not shared with node …``."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes that have the problem; empty if it is about nodes that join later."""


def lacks_workers(living: Sequence[Node], resources: Resources) -> bool:
    """Say whether the cluster is only a head, and the nodes that will do the work are to come.

    A head that has cores does the work itself, unless an autoscaler may add nodes to it.
    """
    more = resources.max_cpus > resources.num_cpus or resources.max_gpus > resources.num_gpus
    return all(node.is_head for node in living) and (not resources.num_nodes or more)


def is_on_network(path: str) -> bool:
    """Say whether a directory is, or would be, on a file system that other machines can mount."""
    folder = filesystem.find_existing(os.path.realpath(absolute_uri(path)))
    # of several file systems mounted at one directory, the last is visible
    kinds = {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
    while folder not in kinds and folder != "/":
        folder = os.path.dirname(folder)
    return bool(_NETWORK.fullmatch(kinds.get(folder, "")))


def check_shared(setting: str, uri: str) -> None:
    """Make sure that all nodes see the same directory at a local path; nothing is done for others.

    Args:
        setting: Name of the setting, for the message.
        uri: The directory, which is not created.

    Raises:
        UserError: A node cannot write there, or does not see what another node wrote; or the
            directory is on the disk of a head that will not do the work.
    """
    if not is_local(uri):
        return
    living, resources = nodes.living(), connection.count_resources()
    if len(living) < 2 and (is_on_network(uri) or not lacks_workers(living, resources)):
        return
    for problem in find_problems(uri, among=living, resources=resources):
        raise UserError(
            f"{setting}={without_credentials(uri)} {problem.what}",
            hint="set a location that all nodes share, such as NFS or s3://bucket/run",
        )


def find_problems(
    uri: str, *, among: Sequence[Node], resources: Resources, timeout_seconds: float = 20.0
) -> list[SharingProblem]:
    """Have each node write a small file at ``uri`` and read those of all others.

    Where the directory does not exist on a node, its file is in the nearest one above. Where the
    nodes that will work are still to come, none can be asked: a local directory must then be on a
    network file system. Nodes that come or go during the check are ignored.

    Args:
        uri: The directory.
        among: The nodes, as ``nodes.living`` gave them.
        resources: Resources of the cluster.
        timeout_seconds: Limit for each of three steps.
    """
    if is_local(uri) and lacks_workers(among, resources) and not is_on_network(uri):
        return [
            SharingProblem("is on a disk of the head, which nodes that join later will not see")
        ]
    token = secrets.token_hex(6)
    written = nodes.on_each(_write, uri, token, timeout_seconds=timeout_seconds, nodes=among)
    alive = {node.id for node in nodes.living()}
    files = {a.node: a.result for a in written if a.result and a.node.id in alive}
    try:
        named = {node.name: file for node, file in files.items()}
        seen = nodes.on_each(
            _check_visible, named, timeout_seconds=timeout_seconds, nodes=list(files)
        )
    finally:
        nodes.on_each(_delete, uri, token, timeout_seconds=timeout_seconds, nodes=among)
    return [*_group("cannot be written on", written), *_group("is not shared with", seen)]


def _group(what: str, answers: Sequence[NodeAnswer[Any]]) -> list[SharingProblem]:
    """Combine equal problems of several nodes into one; nodes that are gone have none."""
    alive = {node.id for node in nodes.living()}
    names: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        if answer.problem and answer.node.id in alive:
            names[answer.problem].append(answer.node.name)
    return [
        SharingProblem(f"{what} {name_nodes(found)}: {problem}", tuple(found))
        for problem, found in names.items()
    ]


def _name_file(uri: str, token: str) -> str:
    """Name this node's file: at a location, or in the nearest directory above that exists."""
    folder = filesystem.find_existing(uri) if is_local(uri) else uri
    return join(folder, f".sentiflow-{token}-{nodes.here()}")


def _write(uri: str, token: str) -> str:
    """Write this node's file; return its location."""
    file = _name_file(uri, token)
    filesystem.write_bytes(file, file.encode())
    return file


def _check_visible(files: Mapping[str, str]) -> None:
    """Make sure that this node can read what others wrote, given by their names.

    Raises:
        UserError: It does not see a file.
    """
    deadline = time.monotonic() + _VISIBLE_AFTER_SECONDS
    for node, file in files.items():
        while not _is_visible(file):
            if time.monotonic() > deadline:
                raise UserError(f"it does not see what node {node} wrote")
            time.sleep(0.1)


def _is_visible(file: str) -> bool:
    with suppress(FileNotFoundError):
        return filesystem.read_bytes(file) == file.encode()
    return False


def _delete(uri: str, token: str) -> None:
    filesystem.delete(_name_file(uri, token))
