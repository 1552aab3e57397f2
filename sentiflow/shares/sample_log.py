"""``<output_uri>/samples/``: a JSON file for each draw of rows to label, so the next takes others.

The file of a draw may not be labelled yet, or have any name and place. So the draws are kept here.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import pandas as pd

from sentiflow.config import submitter
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.shares import draw_history
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import display_uri, join

_FOLDER = "samples"
_NUMBER = re.compile(r"draw-(\d+)\.json")
"""Name of a file, with the number of its draw."""


class SaidWidth(NamedTuple):
    """What was said of the width of intervals when rows were drawn for it."""

    wanted: float
    """The wanted half-width, in points."""
    labels: int
    """The labels that it needs in all, also those of earlier draws."""
    widest: str
    """The class whose interval is the widest."""


class LoggedDraw(NamedTuple):
    """A draw."""

    history: draw_history.History
    """The draws up to it."""
    row_ids: list[int]
    """Its rows."""
    path: str
    """Its file, where it was written."""
    width: SaidWidth | None
    """None if a number of rows was asked for, not a width."""


class LoggedDraws(NamedTuple):
    """The draws of a corpus so far."""

    history: draw_history.History
    row_ids: list[int]
    """All rows that were drawn."""
    paths: list[str]
    """The files of the draws, where they were written."""


def find_folder(config: Config) -> str:
    """Return the location of the draws."""
    return join(config.output_uri, _FOLDER)


@contextmanager
def hold(config: Config) -> Iterator[None]:
    """Let nobody else draw rows of this corpus meanwhile.

    Raises:
        JobError: Another command draws rows.
    """
    user = submitter.find(config.tracking.user)
    with lease.hold(find_folder(config), job="sample", user=user):
        yield


def read(config: Config) -> LoggedDraws:
    """Read the draws so far; none if there is no folder.

    Raises:
        UserError: A file is damaged, or does not follow the ones before it.
    """
    history: draw_history.History = ()
    row_ids: list[int] = []
    paths: list[str] = []
    for found in read_each(config):
        history = found.history
        row_ids += found.row_ids
        paths.append(found.path)
    return LoggedDraws(history, row_ids, paths)


def read_each(config: Config) -> list[LoggedDraw]:
    """Read each draw so far, in their order.

    Raises:
        UserError: A file is damaged, or does not follow the ones before it.
    """
    folder = find_folder(config)
    history: draw_history.History = ()
    draws = []
    for name in _list_files(folder):
        uri = join(folder, name)
        found = _read_file(uri)
        if not draw_history.is_before(history, found.history):
            raise UserError(
                f"{display_uri(uri)} does not follow the draws before it",
                hint="move the files of draws that do not count away, the last ones first",
            )
        history = found.history
        draws.append(found)
    return draws


def record(
    config: Config, table: pd.DataFrame, *, path: str, width: SaidWidth | None = None
) -> None:
    """Add a draw.

    Args:
        config: Names the folder.
        table: ``row_id`` and ``sample`` of the drawn rows, as ``next_draw.draw_rows`` returns them.
        path: The file of these rows.
        width: What was said of the width of intervals, if rows were drawn for it.
    """
    folder = find_folder(config)
    content = {
        "sample": table["sample"].iloc[0],
        "drawn": datetime.now(UTC).isoformat(timespec="seconds"),
        "file": path,
        "row_ids": table["row_id"].tolist(),
    }
    if width is not None:
        content["width"] = width._asdict()
    # An earlier file may have been deleted, so the files are not counted.
    last = 0
    for file in _list_files(folder):
        numbered = _NUMBER.fullmatch(file)
        if numbered:
            last = max(last, int(numbered[1]))
    name = f"draw-{last + 1:04}.json"
    filesystem.write_bytes(join(folder, name), json.dumps(content).encode())


def _list_files(folder: str) -> list[str]:
    """List the files of draws, in their order."""
    names = filesystem.listing(folder, recursive=False)
    return sorted(name for name in names if name.startswith("draw-") and name.endswith(".json"))


def _read_file(uri: str) -> LoggedDraw:
    """Read a draw.

    Raises:
        UserError: The file is damaged.
    """
    try:
        content = json.loads(filesystem.read_bytes(uri))
        history = draw_history.read_history(content["sample"])
        row_ids = [int(row_id) for row_id in content["row_ids"]]
        path = str(content["file"])
        width = SaidWidth(**content["width"]) if content.get("width") else None
    except (ValueError, KeyError, TypeError):
        history = None
    if not history:
        raise UserError(
            f"{display_uri(uri)} is no draw of sentiflow trends --sample",
            hint="restore it, or move it away if its file of labels is lost",
        )
    return LoggedDraw(history, row_ids, path, width)
