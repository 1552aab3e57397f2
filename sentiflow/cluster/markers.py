"""Completion markers: the parts that an unfinished run has done, with their results."""

import json
import re
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from sentiflow.data.output_status import MARKERS
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join


class Marker(TypedDict):
    """Record of a finished part, so that a killed stage resumes."""

    key: str
    """Hash of the part's settings and input. A marker with another key does not count."""
    files: dict[str, int]
    """Files that the work has written: size in bytes by path below the output."""
    result: Any
    """The result of the work, a value of JSON."""


_MARKER = TypeAdapter(Marker)


def read_markers(root: str, run_uri: str, name: str) -> dict[int, Marker]:
    """Read the sound completion markers of a map stage by part, in the order of the parts.

    A marker that cannot be read, or names a file that is missing or has another size, is unsound.

    Args:
        root: The output.
        run_uri: Folder of the run in it, which has the markers.
        name: Name of the map stage.
    """
    sizes = filesystem.sizes(root)  # by path below the root
    run_folder = f"{run_uri.removeprefix(f'{root}/')}/"
    pattern = re.compile(rf"{re.escape(run_folder)}{MARKERS}/{re.escape(name)}-([0-9]{{6,}})\.json")
    paths = {}
    for path in sizes:
        match = pattern.fullmatch(path)
        if match:
            paths[int(match[1])] = join(root, path)
    contents = filesystem.map_files(filesystem.read_bytes, paths.values())

    def is_stored(path: str, size: int) -> bool:
        published = path.removeprefix(run_folder)  # publishing may have moved the file
        return size in (sizes.get(path), sizes.get(published))

    markers = {}
    for part, content in sorted(zip(paths, contents, strict=True)):
        marker = _parse_marker(content)
        if marker and all(is_stored(path, size) for path, size in marker["files"].items()):
            markers[part] = marker
    return markers


def write_marker(run_uri: str, name: str, part: int, marker: Marker) -> None:
    """Mark a part as done, after all files of the part are stored."""
    path = join(run_uri, MARKERS, f"{name}-{part:06d}.json")
    filesystem.write_bytes(path, json.dumps(marker).encode())


def _parse_marker(content: bytes) -> Marker | None:
    """Parse a marker; None if it is not one."""
    try:
        return _MARKER.validate_python(json.loads(content), strict=True)
    except ValueError:
        return None
