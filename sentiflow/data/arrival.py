"""Files of a growing corpus -> the same files in the order of their arrival.

The order of the files decides the numbers of their rows. So known files keep their places, whatever
their names are, and new files follow. The manifest keeps the order; until there is a manifest, the
description of the unfinished run keeps it.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence

from sentiflow.data import input_files, manifest, output_status, partitions
from sentiflow.data.manifest_types import InputFile, Manifest


def list_known(uri: str, record: Manifest | None, *, name: str) -> list[InputFile]:
    """List the files that an output directory knows, in the order of their arrival.

    These are the files of its result, then further files of its unfinished runs. A file that was
    moved before an unfinished run is one of the result, and is found by its content again.

    Args:
        uri: The directory.
        record: Its manifest, if it has a result.
        name: The input that has the files.
    """
    files = list(record["inputs"].get(name, {}).get("files", [])) if record else []
    of_result = {item.get("read_as", item["uri"]) for item in files}
    for run in output_status.read_runs(uri):
        of_run = run["inputs"].get(name, {}).get("files", [])
        files += [item for item in of_run if item.get("read_as") not in of_result]
    known: dict[str, InputFile] = {}
    for item in files:
        known.setdefault(item["uri"], item)
    return list(known.values())


def order(
    found: Sequence[InputFile],
    known: Sequence[InputFile],
    *,
    may_be_gone: Collection[str] = (),
) -> list[InputFile]:
    """Put files into the order of their arrival: known files first, new ones in the given order.

    A known file is found by its URI. If it is gone, a new file with its content takes its place:
    the file was moved. Only two kinds of files are opened: known files whose time has changed, and
    new files that have the size of a file that is gone.

    Args:
        found: The files as they are now, without hashes.
        known: The known files, as they were described.
        may_be_gone: URIs of known files that keep their places if they are gone, unless a new file
            has their content.

    Returns:
        The files as they are now. A file whose content is known keeps its description. A known file
        whose size has changed has no hash. Another known file that is gone is left out.
    """
    unknown = {item["uri"]: item for item in found}
    present = {}
    gone = []
    for item in known:
        uri = item["uri"]
        if uri in unknown:
            present[uri] = unknown.pop(uri)
        else:
            gone.append(item)
    present |= _hash_touched(present, known)
    candidates = _hash_candidates(gone, list(unknown.values()))
    moved = _find_moved(gone, candidates)
    ordered = []
    for item in known:
        now = present.get(item["uri"]) or moved.get(item["uri"])
        if now:
            ordered.append(_update(item, now))
            unknown.pop(now["uri"], None)
        elif item["uri"] in may_be_gone and not _is_elsewhere(item, candidates):
            ordered.append(item)
    return [*ordered, *unknown.values()]


def _hash_touched(
    present: dict[str, InputFile], known: Sequence[InputFile]
) -> dict[str, InputFile]:
    """Hash the known files whose time has changed and whose size has not; return them by URI."""
    touched = []
    for item in known:
        now = present.get(item["uri"])
        if now and item["tree_sha256"] and _is_touched(item, now):
            touched.append(now)
    return {item["uri"]: item for item in input_files.add_hashes(touched)}


def _is_touched(item: InputFile, now: InputFile) -> bool:
    """Say whether the time of a file has changed and its size has not: its content may differ."""
    return now["bytes"] == item["bytes"] and now["modified_ns"] != item["modified_ns"]


def _hash_candidates(gone: Sequence[InputFile], new: Sequence[InputFile]) -> list[InputFile]:
    """Hash the new files that may have the content of a file that is gone; return them.

    These are the files with the size and the member name of a file that is gone.
    """
    wanted = {input_files.size_and_member(item) for item in gone if item["tree_sha256"]}
    candidates = [item for item in new if input_files.size_and_member(item) in wanted]
    return input_files.add_hashes(candidates)


def _find_moved(gone: Sequence[InputFile], candidates: Sequence[InputFile]) -> dict[str, InputFile]:
    """Find new files with the content of files that are gone; return them by the earlier URI."""
    by_content: dict[str, list[InputFile]] = defaultdict(list)
    for item in candidates:
        by_content[partitions.identify(item)].append(item)
    moved = {}
    for item in gone:
        same = by_content.get(partitions.identify(item))
        if same:
            moved[item["uri"]] = same.pop(0)
    return moved


def _is_elsewhere(item: InputFile, candidates: Sequence[InputFile]) -> bool:
    """Say whether a new file has the content of a file that is gone, in whatever folder."""
    content = manifest.identify_file(item)
    return any(manifest.identify_file(new) == content for new in candidates)


def _update(item: InputFile, now: InputFile) -> InputFile:
    """Update the description of a known file; keep what it says of the content if that is the same.

    Args:
        item: The file as it was described.
        now: The file as it is now; it has a hash if its content was compared.
    """
    if now["tree_sha256"]:
        is_same = now["tree_sha256"] == item["tree_sha256"]
    else:
        has_same_size = now["bytes"] == item["bytes"]
        is_same = has_same_size and now["modified_ns"] == item["modified_ns"]
    if not is_same:
        return now
    same: InputFile = {**item, "uri": now["uri"], "modified_ns": now["modified_ns"]}
    if now["uri"] != item["uri"]:  # the file was moved, maybe not for the first time
        same["read_as"] = item.get("read_as", item["uri"])
    return same
