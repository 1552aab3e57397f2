"""Location -> whether each node of the cluster can write there, and all others can read it."""

import os
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
"""Types of file systems that several machines can share; FUSE mostly mounts a bucket."""
_VISIBLE_AFTER_SECONDS = 2.0
"""A network file system may show another node's file with a delay."""


@dataclass(frozen=True)
class SharingProblem:
    """Why nodes cannot share a location."""

    what: str
    """Follows the location in a sentence: ``is not shared: node …``."""
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
    folder = os.path.realpath(absolute_uri(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.exists(_MOUNTS):
        return False
    kinds = {}  # of several file systems mounted at one directory, the last is visible
    for line in Path(_MOUNTS).read_text(errors="replace").splitlines():
        _, mounted, kind, *_ = line.split(" ")
        kinds[re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), mounted)] = kind
    while folder not in kinds and folder != "/":
        folder = os.path.dirname(folder)
    return bool(_NETWORK.fullmatch(kinds.get(folder, "")))


def check_shared(setting: str, uri: str) -> None:
    """Make sure that all nodes see the same directory at a local path; nothing is done for others.

    Args:
        setting: Name of the setting, for the message.
        uri: The directory. If it does not exist, it does not exist afterwards either.

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
    """Have each node write a small file below ``uri`` and read those of all others.

    Where the nodes that will work are still to come, none can be asked: a local directory must then
    be on a network file system. Nodes that come or go during the check are ignored.

    Args:
        uri: The directory.
        among: The nodes, as ``nodes.living`` gave them.
        resources: Of the cluster.
        timeout_seconds: For each of four steps.
    """
    if is_local(uri) and lacks_workers(among, resources) and not is_on_network(uri):
        return [
            SharingProblem("is on a disk of the head, which nodes that join later will not see")
        ]
    token = secrets.token_hex(6)
    files = {node.id: join(uri, f".sentiflow-{token}-{node.id}") for node in among}
    absent = nodes.on_each(_find_absent, uri, timeout_seconds=timeout_seconds, nodes=among)
    able = [answer.node for answer in absent if not answer.problem]
    written = nodes.on_each(_write, files, timeout_seconds=timeout_seconds, nodes=able)
    writers = [answer.node for answer in written if not answer.problem]
    try:
        seen = nodes.on_each(
            _find_visible,
            [files[node.id] for node in writers],
            timeout_seconds=timeout_seconds,
            nodes=writers,
        )
    finally:
        made = {answer.node.id: answer.result or [] for answer in absent}
        nodes.on_each(_clean_up, files, made, timeout_seconds=timeout_seconds, nodes=able)
    alive = {node.id for node in nodes.living()}
    failed_before = [answer for answer in absent if answer.problem]
    return [
        *_group("cannot be written", [*failed_before, *written], alive),
        *_group("cannot be read", seen, alive),
        *_find_unseen(files, writers, seen, alive),
    ]


def _group(
    what: str, answers: Sequence[NodeAnswer[list[str]] | NodeAnswer[bool]], alive: set[str]
) -> list[SharingProblem]:
    """Make one problem of equal problems of several nodes."""
    names: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        if answer.problem and answer.node.id in alive:
            names[answer.problem].append(answer.node.name)
    return [
        SharingProblem(f"{what} on node {_shorten(found)}: {problem}", tuple(found))
        for problem, found in names.items()
    ]


def _find_unseen(
    files: Mapping[str, str],
    writers: Sequence[Node],
    seen: Sequence[NodeAnswer[list[str]]],
    alive: set[str],
) -> list[SharingProblem]:
    """Report files that a node wrote and another one does not see."""
    pairs = [
        (answer.node.name, writer.name)
        for answer in seen
        if answer.result is not None and answer.node.id in alive
        for writer in writers
        if writer.id in alive and files[writer.id] not in answer.result
    ]
    if not pairs:
        return []
    (reader, writer), *others = pairs
    what = f"is not shared: node {reader} does not see what node {writer} wrote"
    if others:
        what += f" ({len(others)} more pair{'s' if others[1:] else ''} of nodes)"
    return [SharingProblem(what, tuple(sorted({name for pair in pairs for name in pair})))]


def _shorten(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if names[1:] else names[0]


def _find_absent(uri: str) -> list[str]:
    """List the directories that writing at a location would create on this node, deepest first."""
    if not is_local(uri):
        return []
    path = Path(absolute_uri(uri))
    return [str(folder) for folder in (path, *path.parents) if not folder.exists()]


def _write(files: Mapping[str, str]) -> bool:
    """Write this node's file."""
    file = files[nodes.here()]
    filesystem.write_bytes(file, file.encode())
    return True


def _find_visible(files: Sequence[str]) -> list[str]:
    """List the files that this node can read and that hold what was written."""
    deadline, seen = time.monotonic() + _VISIBLE_AFTER_SECONDS, set[str]()
    while True:
        for file in set(files) - seen:
            with suppress(FileNotFoundError):
                if filesystem.read_bytes(file) == file.encode():
                    seen.add(file)
        if len(seen) == len(files) or time.monotonic() > deadline:
            return sorted(seen)
        time.sleep(0.1)


def _clean_up(files: Mapping[str, str], made: Mapping[str, Sequence[str]]) -> None:
    """Delete this node's file, and the directories that were created for it if they are empty.

    Where nodes share the directories, the node that deletes the last file removes them.
    """
    filesystem.delete(files[nodes.here()])
    for folder in made[nodes.here()]:
        with suppress(OSError):  # another node has removed it, or has put something there
            os.rmdir(folder)
