"""Location -> whether each node of the cluster can write there, and all others read it."""

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sentiflow import nodes, storage
from sentiflow.errors import UserError
from sentiflow.nodes import NodeAnswer
from sentiflow.uris import absolute_uri, is_local, join, without_credentials

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


def check_shared(setting: str, uri: str) -> None:
    """Make sure that all nodes see one directory at a local path; others are not looked at.

    Args:
        setting: What the user calls it, for the message.
        uri: The directory; it need not be there, and is not afterwards if it was not before.

    Raises:
        UserError: A node cannot write there, or does not see what another one wrote.
    """
    if not is_local(uri) or len(nodes.living()) < 2:
        return
    found, shown = exchange(uri), without_credentials(uri)
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


def exchange(uri: str, *, timeout_seconds: float = 20.0) -> Exchange:
    """Have each node write a small file below ``uri``, and read those of all others."""
    token = secrets.token_hex(6)
    places = {node.id: join(uri, f".sentiflow-{token}-{node.id}") for node in nodes.living()}
    absent = nodes.on_each(_find_absent, uri, timeout_seconds=timeout_seconds)
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
    unseen = [
        (answer.node.name, writer.node.name)
        for answer in seen
        if not answer.problem
        for place, writer in there.items()
        if place not in answer.result
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
    storage.write_bytes(place, place.encode())


def _see(places: Sequence[str]) -> list[str]:
    """Read all nodes' files; returns those that are there and hold what was written."""
    deadline, seen = time.monotonic() + _VISIBLE_AFTER_SECONDS, set[str]()
    while True:
        for place in set(places) - seen:
            with suppress(FileNotFoundError):
                if storage.read_bytes(place) == place.encode():
                    seen.add(place)
        if len(seen) == len(places) or time.monotonic() > deadline:
            return sorted(seen)
        time.sleep(0.1)


def _clear(places: dict[str, str], made: dict[str, list[str]]) -> None:
    """Delete this node's file, and directories that were absent before if nothing is in them.

    Where nodes share them, the last one that deletes its file finds them empty.
    """
    storage.delete(places[nodes.here()])
    for folder in made[nodes.here()]:
        with suppress(OSError):  # another node was quicker, or has put something there
            os.rmdir(folder)
