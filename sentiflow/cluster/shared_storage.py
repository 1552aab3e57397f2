"""Location -> whether each node of the cluster can write there, and all others read it."""

import os
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sentiflow.cluster import connection, nodes
from sentiflow.cluster.nodes import Node, NodeAnswer
from sentiflow.cluster.resources import Resources
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, is_local, join, without_credentials

_MOUNTS = "/proc/self/mounts"
_NETWORK = re.compile(
    r"nfs4?|cifs|smb3|smbfs|ceph|lustre|glusterfs|gpfs|beegfs\w*|wekafs|pvfs2|orangefs|afs"
    r"|fuse(\.(?!fuse-overlayfs|lxcfs).*)?"
)
"""Types of file systems whose files other machines have, too; FUSE is mostly one to a bucket."""
_VISIBLE_AFTER_SECONDS = 2.0
"""A network file system may show another node's file a little later."""


@dataclass(frozen=True)
class Exchange:
    """Which nodes wrote a file at a location, and who saw it."""

    written: list[NodeAnswer]
    """Their problem is why a node could not write."""
    read: list[NodeAnswer]
    """Of the nodes that wrote; their problem is why a node could not look."""
    unseen: list[tuple[str, str]]
    """Pairs of nodes' names: the first did not see what the second wrote."""


def lacks_workers(living: Sequence[Node], resources: Resources) -> bool:
    """Say whether the nodes that will do the work are still to come: only the head is there.

    A head that has cores does the work itself, unless an autoscaler may add nodes to it.
    """
    more = resources.max_cpus > resources.num_cpus or resources.max_gpus > resources.num_gpus
    return all(node.is_head for node in living) and (not resources.num_nodes or more)


def is_on_network(path: str) -> bool:
    """Say whether a directory is, or would be, on a file system that other machines can mount."""
    folder = os.path.realpath(absolute_uri(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.exists(_MOUNTS):
        return False
    kinds = {}  # of what is mounted at one place, the last is seen
    for line in Path(_MOUNTS).read_text(errors="replace").splitlines():
        _, place, kind, *_ = line.split(" ")
        kinds[re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), place)] = kind
    while folder not in kinds and folder != "/":
        folder = os.path.dirname(folder)
    return bool(_NETWORK.fullmatch(kinds.get(folder, "")))


def check_shared(setting: str, uri: str) -> None:
    """Make sure that all nodes see one directory at a local path; others are not looked at.

    Where only a head is there and the nodes that will work are still to come, nobody can be asked:
    the directory must then be on a network file system.

    Args:
        setting: What the user calls it, for the message.
        uri: The directory; it need not be there, and is not afterwards if it was not before.

    Raises:
        UserError: A node cannot write there, or does not see what another one wrote; or it is on
            the disk of a head that will not do the work.
    """
    if not is_local(uri):
        return
    living, shown = nodes.living(), without_credentials(uri)
    if lacks_workers(living, connection.count_resources()) and not is_on_network(uri):
        raise UserError(
            f"{setting}={shown} is on a disk of the head, and nodes are still to come that will "
            "not see it",
            hint="give a place that all nodes have in common, such as NFS or s3://bucket/run",
        )
    if len(living) < 2:
        return
    found = exchange(uri, among=living)
    for answers, what in ((found.written, "write"), (found.read, "read")):
        for answer in answers:
            if answer.problem:
                raise UserError(
                    f"{setting}={shown}: node {answer.node.name} cannot {what} there: "
                    f"{answer.problem}",
                    hint="give a place that every node can use, such as NFS or s3://bucket/run",
                )
    for reader, writer in found.unseen:
        raise UserError(
            f"{setting}={shown} is not shared: node {reader} does not see what node {writer} wrote",
            hint="give a place that all nodes have in common, such as NFS or s3://bucket/run",
        )


def exchange(uri: str, *, among: Sequence[Node], timeout_seconds: float = 20.0) -> Exchange:
    """Have each node write a small file below ``uri``, and read those of all others.

    Nodes that come meanwhile are not asked, and of those that go nothing is said.

    Args:
        uri: The directory.
        among: The nodes, as ``nodes.living`` gave them.
        timeout_seconds: For each of four steps.
    """
    token = secrets.token_hex(6)
    places = {node.id: join(uri, f".sentiflow-{token}-{node.id}") for node in among}
    absent = nodes.on_each(_find_absent, uri, timeout_seconds=timeout_seconds, nodes=among)
    asked = [answer.node for answer in absent if not answer.problem]
    written = [answer for answer in absent if answer.problem]
    written += nodes.on_each(_write, places, timeout_seconds=timeout_seconds, nodes=asked)
    there = {places[a.node.id]: a for a in written if not a.problem}
    try:
        readers = [answer.node for answer in written if not answer.problem]
        seen = nodes.on_each(_see, list(there), timeout_seconds=timeout_seconds, nodes=readers)
    finally:
        made = {answer.node.id: answer.result for answer in absent}
        nodes.on_each(_clear, places, made, timeout_seconds=timeout_seconds, nodes=asked)
    left = {node.id for node in nodes.living()}
    written = [answer for answer in written if answer.node.id in left]
    seen = [answer for answer in seen if answer.node.id in left]
    unseen = [
        (answer.node.name, writer.node.name)
        for answer in seen
        if not answer.problem
        for place, writer in there.items()
        if place not in answer.result and writer.node.id in left
    ]
    return Exchange(written, seen, unseen)


def _find_absent(uri: str) -> list[str]:
    """List the directories that writing at a location will make on this node, deepest first."""
    if not is_local(uri):
        return []
    path = Path(absolute_uri(uri))
    return [str(folder) for folder in (path, *path.parents) if not folder.exists()]


def _write(places: dict[str, str]) -> None:
    """Write this node's file."""
    place = places[nodes.here()]
    filesystem.write_bytes(place, place.encode())


def _see(places: Sequence[str]) -> list[str]:
    """Read all nodes' files; returns those that are there and hold what was written."""
    deadline, seen = time.monotonic() + _VISIBLE_AFTER_SECONDS, set[str]()
    while True:
        for place in set(places) - seen:
            with suppress(FileNotFoundError):
                if filesystem.read_bytes(place) == place.encode():
                    seen.add(place)
        if len(seen) == len(places) or time.monotonic() > deadline:
            return sorted(seen)
        time.sleep(0.1)


def _clear(places: dict[str, str], made: dict[str, list[str]]) -> None:
    """Delete this node's file, and directories that were absent before if nothing is in them.

    Where nodes share them, the last one that deletes its file finds them empty.
    """
    filesystem.delete(places[nodes.here()])
    for folder in made[nodes.here()]:
        with suppress(OSError):  # another node was quicker, or has put something there
            os.rmdir(folder)
