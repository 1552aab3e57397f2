"""Hashes of the texts of all parts -> the rows to drop from each part, because others repeat them.

Texts are compared in groups: all rows of a text are in one group, and a task has one group in
memory. No hash and no row travels through the driver, only the names of files.

The same hashes tell which unlabelled texts repeat a labelled text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import schema
from sentiflow.data.arrays import find_sorted, one_array, put_columns
from sentiflow.data.manifest_types import DuplicateCounts
from sentiflow.preparation import duplicates
from sentiflow.preparation.most_repeated import RepeatedRows
from sentiflow.preparation.part_files import PrepareJob, load_table
from sentiflow.storage import filesystem

DROPPED_OF_PART = "dropped_of_part"
"""Name of the tables of :func:`write_dropped`, one for each part."""

_DROPPED_OF_GROUP = "dropped"
"""Name of the tables of :func:`find_duplicates`, one for each group."""
_KNOWN = "known"
"""Name of the tables of :func:`write_known`, one for each group."""
_TRAIN = schema.SPLITS.index("train")


class PartRows(NamedTuple):
    """Which rows a part has: those numbered from ``first`` to before ``stop``, over all parts."""

    number: int
    """Number of the part."""
    first: int
    stop: int


def find_duplicates(
    group: int, *, uris: Sequence[str], num_groups: int, fixed: Sequence[str], job: PrepareJob
) -> tuple[DuplicateCounts, str, list[RepeatedRows]]:
    """Find the repeated texts of a group, and write the rows to drop.

    Args:
        group: A number below ``num_groups``; all rows of a text are in the same group.
        uris: Files of :func:`part_files.write_keys`, of all parts.
        num_groups: Number of groups.
        fixed: Splits that have their own files.
        job: Arguments of all tasks.

    Returns:
        The counts; the URI of the rows to drop, with the columns of ``duplicates.DROPPED``; the
        texts with the most rows.
    """
    keys = _read_group(group, uris=uris, num_groups=num_groups)
    found = duplicates.find(keys, mode=job.settings.duplicates, fixed=fixed)
    uri = job.work_file(_DROPPED_OF_GROUP, group)
    filesystem.write_arrow(uri, found.dropped)
    return found.counts, uri, found.most_repeated


def write_dropped(batch: Sequence[PartRows], *, uris: Sequence[str], job: PrepareJob) -> None:
    """Write a table of the rows to drop for each of some parts, with ``duplicates.DROPPED``.

    Args:
        batch: Consecutive parts, so few that their rows to drop fit into this process.
        uris: Tables of :func:`find_duplicates`, of all groups.
        job: Arguments of all tasks.
    """

    def read(uri: str) -> pa.Table:
        return _find_rows(filesystem.read_arrow(uri), batch[0].first, batch[-1].stop)

    tables = filesystem.map_files(read, uris)
    dropped = pa.concat_tables(tables).sort_by("row_id").combine_chunks()
    for part in batch:
        rows = _find_rows(dropped, part.first, part.stop)
        filesystem.write_arrow(job.work_file(DROPPED_OF_PART, part.number), rows)


def _find_rows(table: pa.Table, first: int, stop: int) -> pa.Table:
    """Select the rows numbered from ``first`` to before ``stop``; the table is sorted by them."""
    start, end = np.searchsorted(table["row_id"].to_numpy(), [first, stop])
    return table[start:end]


def _read_group(group: int, *, uris: Sequence[str], num_groups: int) -> pa.Table:
    """Read the rows of a group from the files of :func:`part_files.write_keys`."""

    def read(uri: str) -> pa.Table:
        keys = filesystem.read_arrow(uri)
        groups = keys["normalized"].to_numpy() % np.uint64(num_groups)
        return keys.filter(pa.array(groups == group))

    return pa.concat_tables(filesystem.map_files(read, uris), promote_options="default")


def write_known(group: int, *, uris: Sequence[str], num_groups: int, job: PrepareJob) -> None:
    """Write the texts of labelled rows that unlabelled texts must not repeat.

    These are the texts of validation and test rows; with ``duplicates: drop`` also of train rows.

    Args:
        group: A number below ``num_groups``; only texts of this group are written.
        uris: Files of :func:`part_files.write_keys`, of all parts.
        num_groups: Number of groups.
        job: Arguments of all tasks.

    Columns:
        written: ``normalized`` in ascending order, and the ``reason`` to leave such a text out.
    """
    keys = _read_group(group, uris=uris, num_groups=num_groups)
    hashes = keys["normalized"].to_numpy()
    is_train = keys["split"].to_numpy() == _TRAIN
    held_out = hashes[~is_train]
    known = [held_out]
    if job.settings.duplicates == "drop":
        known.append(hashes[is_train])
    # np.unique gives the first place of each text, so a text that is in both counts as held out.
    distinct, first = np.unique(np.concatenate(known), return_index=True)
    reason = np.where(first < len(held_out), duplicates.IN_LATER_SPLIT, duplicates.REPEATED)
    table = pa.table({"normalized": distinct, "reason": pa.array(reason, pa.string())})
    filesystem.write_arrow(job.work_file(_KNOWN, group), table)


def leave_out_known(table: pa.Table, *, num_groups: int, job: PrepareJob) -> pa.Table:
    """Set the reason of unlabelled texts that are in a table of :func:`write_known`.

    Texts are compared by one 64-bit hash. With 10 million unlabelled and 3 million known texts, the
    probability that any text is left out by mistake is 2e-6. No known text is kept.
    """
    hashes = table["normalized"].to_numpy()
    reason = one_array(table["reason"])
    for group in range(num_groups):
        known = load_table(job.work_file(_KNOWN, group), job.key)
        is_known, place = find_sorted(known["normalized"].to_numpy(), hashes)
        new_reason = one_array(known["reason"]).take(pa.array(place, mask=~is_known))
        reason = pc.coalesce(reason, new_reason)
    return put_columns(table, {"reason": reason})
