"""Input files -> their description as the input of a stage: sizes, times, hashes of the content."""

from collections.abc import Sequence

from pyarrow.fs import FileInfo

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, InputFile
from sentiflow.storage import filesystem


def describe(uris: Sequence[str], *, known: Input | None = None) -> Input:
    """Describe input files: size, time and a hash of the content.

    A file whose size and time are the same as in ``known``, an earlier description, is not read.

    Returns:
        ``files``, and a ``fingerprint`` over their contents in order.
    """
    before = {item["uri"]: item for item in known["files"]} if known else {}
    files = []
    for uri, info in zip(uris, filesystem.map_files(filesystem.file_info, uris), strict=True):
        old = before.get(uri)
        item = describe_file(uri, info, tree_sha256=old["tree_sha256"] if old else "")
        if item != old:
            item["tree_sha256"] = filesystem.tree_sha256(uri)
        files.append(item)
    return join(files)


def add(known: Input, uris: Sequence[str]) -> Input | None:
    """Describe input files that begin with the files of an earlier description.

    No content is read: new files have no hash yet.

    Returns:
        The description; None if ``uris`` do not begin with the files of ``known``, or if these have
        changed.
    """
    found, old = as_found(uris)["files"], known["files"]
    without_hash = [{**item, "tree_sha256": ""} for item in old]
    return join(old + found[len(old) :]) if found[: len(old)] == without_hash else None


def as_found(uris: Sequence[str]) -> Input:
    """Describe input files without reading their content: by URI, size and time."""
    found = zip(uris, filesystem.map_files(filesystem.file_info, uris), strict=True)
    files = [describe_file(uri, info, tree_sha256="") for uri, info in found]
    return {"fingerprint": manifest.fingerprint(files), "files": files}


def describe_file(uri: str, info: FileInfo, *, tree_sha256: str) -> InputFile:
    """Describe an input file; size and time of a member of an archive are those of the archive."""
    return {
        "uri": uri,
        "bytes": info.size,
        "modified_ns": info.mtime_ns,
        "tree_sha256": tree_sha256,
    }


def join(files: Sequence[InputFile]) -> Input:
    """Combine described files; the fingerprint depends on their contents, in order, alone."""
    contents = [manifest.identify_file(item) for item in files]
    return {"fingerprint": manifest.fingerprint(contents), "files": list(files)}
