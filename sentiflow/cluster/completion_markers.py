"""Finished part -> a note of what came of it, so that a killed stage goes on."""

import concurrent.futures
import json
import re
from typing import Any

from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

FOLDER = "_work/receipts"
"""Below the stage's directory; a stage that keeps receipts owns ``_work``."""

_READ_AT_ONCE = 16
"""A small file of an object store takes long to come, but many come as fast as one."""


def keep(root: str, name: str, part: int, result: dict[str, Any]) -> None:
    """Note that a part is done, after all that it has written is in its place.

    Args:
        root: The directory of the stage.
        name: Of the work, as a stage may do several things with each part.
        part: Its number, from 0.
        result: What came of it, in what JSON can hold.
    """
    content = json.dumps(result).encode()
    filesystem.write_bytes(join(root, FOLDER, f"{name}-{part:06d}.json"), content)


def read(root: str, name: str) -> dict[int, dict[str, Any]]:
    """Read what came of the parts that are done, by their number, in its order."""
    pattern = re.compile(rf"{re.escape(name)}-([0-9]{{6,}})\.json")
    found = filter(None, map(pattern.fullmatch, filesystem.listing(join(root, FOLDER))))
    paths = {int(match[1]): join(root, FOLDER, match[0]) for match in found}
    with concurrent.futures.ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        contents = pool.map(filesystem.read_bytes, paths.values())
        return {part: json.loads(c) for part, c in sorted(zip(paths, contents, strict=True))}
