"""Finished part -> a marker with its result, so that a killed stage resumes."""

import concurrent.futures
import json
import re
from typing import Any, TypedDict

from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

FOLDER = "_work/receipts"
"""Below the stage's directory. A stage that writes markers owns ``_work``."""

_READ_AT_ONCE = 16
"""An object store answers slowly, but to many requests at once."""


class Marker(TypedDict):
    """What is kept of a finished part."""

    key: str
    """Settings and input of the part. A marker with another key does not count."""
    result: Any
    """What the work returned: JSON can hold it."""


def write(root: str, stage: str, part: int, marker: Marker) -> None:
    """Mark a part as done, after all files of the part are stored.

    Args:
        root: The directory of the output.
        stage: Name of the map stage: a job may have several over the same parts.
        part: Number of the part, from 0.
        marker: Key and result.
    """
    path = join(root, FOLDER, f"{stage}-{part:06d}.json")
    filesystem.write_bytes(path, json.dumps(marker).encode())


def read(root: str, stage: str) -> dict[int, Marker]:
    """Read the markers of a map stage by part, in the order of the parts."""
    pattern = re.compile(rf"{re.escape(stage)}-([0-9]{{6,}})\.json")
    found = filter(None, map(pattern.fullmatch, filesystem.listing(join(root, FOLDER))))
    paths = {int(match[1]): join(root, FOLDER, match[0]) for match in found}
    with concurrent.futures.ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        contents = pool.map(filesystem.read_bytes, paths.values())
        return {part: json.loads(c) for part, c in sorted(zip(paths, contents, strict=True))}
