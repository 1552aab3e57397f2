"""Row ids of new files and of scored rows -> whether predictions can keep the new ids."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from sentiflow.cluster.map_stages import MapStages
from sentiflow.data import manifest, row_ids
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.row_ids import EarlierFile, MapTasks
from sentiflow.data.table_plans import TablePlan
from sentiflow.errors import UserError
from sentiflow.scoring import tasks
from sentiflow.storage.uris import join

_FILES_PER_TASK = 500
"""Files whose footers a task reads."""


class Checked(NamedTuple):
    """New files after the check of their row ids."""

    rows: TablePlan
    """The new files; their rows are numbered if their ids cannot be used."""
    scored_files: Sequence[FileEntry]
    """Files of earlier jobs. If the corpus has ids, each file of rows has the range of its ids."""


def check(rows: TablePlan, previous: Manifest | None, *, uri: str, maps: MapStages) -> Checked:
    """Check that the row ids of new files are distinct, also from the ids of scored rows.

    Args:
        rows: New files with a column ``row_id`` of integers.
        previous: The manifest of the scored rows, if there are any.
        uri: The directory of the scored rows.
        maps: Runs the work on many rows.

    Raises:
        UserError: A file is damaged, or the scored rows have ids and the new rows lack valid ones.
    """
    files = previous["files"] if previous else []
    if previous and not previous["has_row_ids"]:
        return Checked(rows.number_rows("the files scored before have no valid row_id"), files)
    key = manifest.fingerprint([rows.files, files, row_ids.DIVISION_VERSION])
    map_tasks = functools.partial(maps.map, key=key, unit="blocks of row ids")
    files = _add_ranges(files, uri, map_tasks)
    earlier = []
    for item in files:
        if _has_rows(item):
            num_rows = item["rows"] or 0
            earlier.append(EarlierFile(join(uri, item["path"]), num_rows, item["row_id_range"]))
    fault = row_ids.find_fault(rows.tables, earlier, map_tasks=map_tasks)
    if fault is None:
        return Checked(rows, files)
    if previous:
        raise UserError(fault, hint=tasks.IDS_HINT)
    return Checked(rows.number_rows(fault), files)


def _has_rows(item: FileEntry) -> bool:
    """Say whether a file of a scoring is a table of rows; others belong to an averaged model."""
    return item["path"].startswith(("predictions/", "rejected/"))


def _add_ranges(files: Sequence[FileEntry], uri: str, map_tasks: MapTasks) -> list[FileEntry]:
    """Add the range of ids to files of rows without it, which earlier versions did not write."""
    lacking = [item for item in files if _has_rows(item) and "row_id_range" not in item]
    uris = [join(uri, item["path"]) for item in lacking]
    batches = [uris[at : at + _FILES_PER_TASK] for at in range(0, len(uris), _FILES_PER_TASK)]
    if len(batches) > 1:
        results = map_tasks("read_ranges", row_ids.read_ranges, batches)
    else:  # avoids waiting for the start of workers
        results = map(row_ids.read_ranges, batches)
    ranges = dict(zip(uris, itertools.chain.from_iterable(results), strict=True))
    completed = list[FileEntry]()
    for item in files:
        row_id_range = ranges.get(join(uri, item["path"]))
        if row_id_range:
            item = {**item, "row_id_range": row_id_range}
        completed.append(item)
    return completed
