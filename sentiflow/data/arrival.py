"""Files of a growing corpus -> the same files in the order of their arrival.

The order decides the numbers of the rows. So files that are known keep their places, whatever their
names are, and new files follow. The order is kept in the manifest; while there is none, in the
description of the unfinished run.
"""

from collections import defaultdict
from collections.abc import Sequence

from sentiflow.data import input_files, output_status, partitions
from sentiflow.data.manifest_types import InputFile, Manifest
from sentiflow.storage.uris import split_member


def list_known(uri: str, record: Manifest | None, *, name: str) -> list[InputFile]:
    """List the files that an output directory knows, in the order of their arrival.

    These are the files of its result, then further files of its unfinished runs.

    Args:
        uri: The directory.
        record: Its manifest, if it has a result.
        name: The input that has the files.
    """
    inputs = [record["inputs"]] if record else []
    inputs += [run["inputs"] for run in output_status.read_runs(uri)]
    known: dict[str, InputFile] = {}
    for each in inputs:
        for item in each.get(name, {}).get("files", []):
            known.setdefault(item["uri"], item)
    return list(known.values())


def order(found: Sequence[InputFile], known: Sequence[InputFile]) -> list[InputFile]:
    """Put files into the order of their arrival: known files first, new ones in the given order.

    A known file is found by its URI. If it is gone, a new file with its content takes its place: it
    was moved. A file is opened only if its time has changed, or if it may be a moved one.

    Args:
        found: The files as they are now, without hashes.
        known: The known files, as they were described.

    Returns:
        The files as they are now. A file whose content is known keeps its description. A known file
        whose size has changed has no hash. A known file that is gone is left out.
    """
    new = {item["uri"]: item for item in found}
    kept = {item["uri"]: new.pop(item["uri"]) for item in known if item["uri"] in new}
    gone = [item for item in known if item["uri"] not in kept]
    kept |= _hash_touched(kept, known)
    moved = _find_moved(gone, list(new.values()))
    ordered = []
    for item in known:
        now = kept.get(item["uri"]) or moved.get(item["uri"])
        if now:
            ordered.append(_update(item, now))
            new.pop(now["uri"], None)
    return [*ordered, *new.values()]


def _hash_touched(kept: dict[str, InputFile], known: Sequence[InputFile]) -> dict[str, InputFile]:
    """Add the hashes of known files whose time has changed and whose size has not, by URI."""
    touched = []
    for item in known:
        now = kept.get(item["uri"])
        if now and item["tree_sha256"] and _is_touched(item, now):
            touched.append(now)
    return {item["uri"]: item for item in input_files.add_hashes(touched)}


def _is_touched(item: InputFile, now: InputFile) -> bool:
    """Say whether only the time of a file has changed, so that its content must be compared."""
    return now["bytes"] == item["bytes"] and now["modified_ns"] != item["modified_ns"]


def _find_moved(gone: Sequence[InputFile], new: Sequence[InputFile]) -> dict[str, InputFile]:
    """Find new files with the content of files that are gone, by the URI of the latter.

    Only new files of an equal size are opened.
    """

    def kind(item: InputFile) -> tuple[int, str]:
        return item["bytes"], split_member(item["uri"])[1]

    kinds = {kind(item) for item in gone if item["tree_sha256"]}
    candidates = [item for item in new if kind(item) in kinds]
    by_content: dict[str, list[InputFile]] = defaultdict(list)
    for item in input_files.add_hashes(candidates):
        by_content[partitions.identify(item)].append(item)
    moved = {}
    for item in gone:
        same = by_content.get(partitions.identify(item))
        if same:
            moved[item["uri"]] = same.pop(0)
    return moved


def _update(item: InputFile, now: InputFile) -> InputFile:
    """Return the description of a known file as it is now, with all that is known of its content.

    Args:
        item: The file as it was described.
        now: The file as it is now; it has a hash if its content was compared.
    """
    if now["tree_sha256"]:
        is_same = now["tree_sha256"] == item["tree_sha256"]
    else:
        is_same = all(now[key] == item[key] for key in ("bytes", "modified_ns"))
    if not is_same:
        return now
    return {**item, "uri": now["uri"], "modified_ns": now["modified_ns"]}
