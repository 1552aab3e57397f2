"""A complete result in ``_next`` -> its directory, in place of an earlier result.

A stage that replaces a result writes the new one into ``_next``, a directory like any other. When
its manifest is there, the new result is complete, and its files are moved to their final names.
Each step can be repeated: whoever finds a manifest in ``_next`` first finishes the exchange.
"""

import json
from collections.abc import Collection

from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import join

MANIFEST = "manifest.json"
STARTED = "started.json"
"""Describes an unfinished run. It is written first and deleted last."""
NEXT = "_next"


def is_pending(uri: str) -> bool:
    """Say whether a complete result waits in ``_next``."""
    return filesystem.exists(join(uri, NEXT, MANIFEST))


def finish(uri: str) -> None:
    """Hold the directory and move the result in ``_next`` there.

    Raises:
        JobError: Another job holds the directory.
    """
    with lease.hold(uri, job="exchange"):
        if is_pending(uri):
            exchange(uri)


def exchange(uri: str) -> None:
    """Move the complete result in ``_next`` to its directory, which the caller holds."""
    new = join(uri, NEXT)
    record = json.loads(filesystem.read_bytes(join(new, MANIFEST)))
    owns = json.loads(filesystem.read_bytes(join(new, STARTED)))["owns"]
    listed, left = {item["path"] for item in record["files"]}, filesystem.sizes(new)
    inner = {path for path in listed if path.endswith(f"/{MANIFEST}")}
    for paths in (listed - inner, inner, {MANIFEST}):  # a manifest comes after its files

        def move(path: str) -> None:
            filesystem.move(join(new, path), join(uri, path))

        filesystem.map_files(move, sorted(paths & left.keys()))
    tidy(uri, owns, keep=listed)


def tidy(uri: str, owns: Collection[str], *, keep: Collection[str]) -> None:
    """Delete the files of a stage that are not to be kept, and every trace of unfinished runs."""
    delete_owned(uri, owns, keep=keep)
    filesystem.delete(join(uri, NEXT))
    filesystem.delete(join(uri, STARTED))


def delete_owned(uri: str, owns: Collection[str], *, keep: Collection[str] = ()) -> None:
    """Delete the files of a stage in its directory, except those to ``keep``."""
    kept = set(keep)
    for name in owns:
        if not any(path == name or path.startswith(f"{name}/") for path in kept):
            filesystem.delete(join(uri, name))
    unpublished = tuple(f"{name}." for name in (*owns, MANIFEST, STARTED))
    for name in filesystem.listing(uri):
        first = name.split("/")[0]
        owned = first in owns or (first.endswith(".tmp") and first.startswith(unpublished))
        if owned and name not in kept:
            filesystem.delete(join(uri, name))
