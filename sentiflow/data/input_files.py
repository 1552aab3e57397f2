"""Input files -> an input for a spec: their sizes, times, and a hash of their content."""

import concurrent.futures
from collections.abc import Sequence
from typing import Any

from pyarrow.fs import FileInfo

from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry
from sentiflow.storage import filesystem

_LOOKED_UP_AT_ONCE = 16


def describe(uris: Sequence[str], *, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe input files: size, time and a hash of the content.

    A file whose size and time equal those in ``known``, an earlier description, is not read
    again.

    Returns:
        An input for a spec: ``fingerprint`` over the contents in order, and ``files``.
    """
    earlier = {item["uri"]: item for item in (known or {}).get("files", ())}
    files = []
    for uri, info in zip(uris, look_up(uris), strict=True):
        before = earlier.get(uri, {}).get("tree_sha256", "")
        item = describe_file(uri, info, tree_sha256=before)
        if item != earlier.get(uri):
            item["tree_sha256"] = filesystem.tree_sha256(uri)
        files.append(item)
    return join(files)


def add(known: dict[str, Any], uris: Sequence[str]) -> dict[str, Any] | None:
    """Describe input files of which all but the last ones are described already.

    Nothing is read: the new ones have no hash yet.

    Returns:
        An input for a spec; None if ``uris`` do not begin with the files of ``known``, or these
        have changed.
    """
    found, old = as_found(uris)["files"], known["files"]
    without_hash = [item | {"tree_sha256": ""} for item in old]
    return join(old + found[len(old) :]) if found[: len(old)] == without_hash else None


def as_found(uris: Sequence[str]) -> dict[str, Any]:
    """Describe input files by what can be known without reading them: not their content."""
    found = zip(uris, look_up(uris), strict=True)
    files = [describe_file(uri, info, tree_sha256="") for uri, info in found]
    return {"fingerprint": manifest.fingerprint(files), "files": files}


def describe_file(uri: str, info: FileInfo, *, tree_sha256: str) -> dict[str, Any]:
    """Describe an input file that was read; of a member of an archive, the archive."""
    size, time = info.size, info.mtime_ns
    return {"uri": uri, "bytes": size, "modified_ns": time, "tree_sha256": tree_sha256}


def join(files: Sequence[FileEntry]) -> dict[str, Any]:
    """Make one input of several described files; only their contents decide, in their order."""
    contents = [manifest.identify_file(item) for item in files]
    return {"fingerprint": manifest.fingerprint(contents), "files": list(files)}


def look_up(uris: Sequence[str]) -> list[FileInfo]:
    """Look many files up at the same time, as an object store takes long to answer for each."""
    with concurrent.futures.ThreadPoolExecutor(_LOOKED_UP_AT_ONCE) as pool:
        return list(pool.map(filesystem.file_info, uris))
