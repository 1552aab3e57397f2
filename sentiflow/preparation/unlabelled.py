"""Part of the unlabelled texts -> its rows as token ids: the first and the last steps.

The texts pass the same steps as labelled rows, with the fitted vocabulary, in one map stage: they
have no split, and their words are not counted. What a validation or test row says is left out, and
never taught. Ray is not imported, so that workers start fast.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster.map_stages import Label
from sentiflow.config.classes import UNLABELLED
from sentiflow.config.sections import PrepareSettings
from sentiflow.data import parts, schema
from sentiflow.data.arrow_buffers import find_sorted, one_array
from sentiflow.data.tweets import RowRules
from sentiflow.preparation import duplicates, part_files, steps
from sentiflow.preparation.results import PartJson
from sentiflow.storage import filesystem, parquet

FOLDER = "unlabelled"
_KNOWN = "known"
_TRAIN = schema.SPLITS.index("train")


def read_texts(texts: part_files.Texts, *, settings: PrepareSettings) -> pa.Table:
    """Read and check a part, as :func:`part_files.read_texts`, but no label and no split."""
    table = parts.read(texts.part, RowRules(keep_raw=settings.keep_raw))
    table = steps.set_column(table, "label", pa.nulls(len(table), pa.int8()))
    table = steps.set_column(table, "split", pa.array(np.full(len(table), _TRAIN, np.int8)))
    return steps.leave_out(table, every_nth=settings.every_nth, repeated=texts.repeated)


def write_known(uris: Sequence[str], *, job: part_files.Job) -> None:
    """Write the texts of labelled rows that unlabelled texts must not repeat.

    Those of validation and test rows; with ``duplicates: drop`` also those of train rows.

    Args:
        uris: Files of :func:`part_files.write_keys`.
        job: Arguments of all tasks.

    Columns:
        written: ``normalized`` in ascending order, and the ``reason`` to leave such a text out.
    """
    drops = job.settings.duplicates == "drop"

    def read(uri: str) -> tuple[np.ndarray, np.ndarray]:
        keys = filesystem.read_arrow(uri)
        hashes, is_train = keys["normalized"].to_numpy(), keys["split"].to_numpy() == _TRAIN
        return hashes[~is_train], hashes[is_train & drops]

    hashes = filesystem.map_files(read, uris)
    held_out, train = (np.concatenate(some) for some in zip(*hashes, strict=True))
    known, first = np.unique(np.concatenate([held_out, train]), return_index=True)
    reason = np.where(first < len(held_out), duplicates.HELD_OUT, duplicates.REPEATED)
    table = pa.table({"normalized": known, "reason": pa.array(reason, pa.string())})
    filesystem.write_arrow(job.work_file(_KNOWN, 0), table)


def leave_out_known(table: pa.Table, *, job: part_files.Job) -> pa.Table:
    """Set the reason of texts that labelled rows have, too.

    Texts are compared by one 64-bit hash. Of 10 million unlabelled texts and 3 million known ones,
    the probability that any text is left out by mistake is 2e-6; none is kept by mistake.
    """
    known = part_files.load_table(job.work_file(_KNOWN, 0), job.key)
    is_known, place = find_sorted(known["normalized"].to_numpy(), table["normalized"].to_numpy())
    why = one_array(known["reason"]).take(pa.array(place, mask=~is_known))
    return steps.set_column(table, "reason", pc.coalesce(one_array(table["reason"]), why))


def write_texts(table: pa.Table, part: Label, *, job: part_files.Job) -> PartJson:
    """Write the accepted texts of a part with their token ids, and its rejected rows."""
    rows = parts.accepted(table)
    ids = rows.select(schema.UNLABELLED.names).cast(schema.UNLABELLED)
    files = parquet.write_part(job.root, f"{FOLDER}/{part.name_file()}", ids)
    path = f"rejected/{FOLDER}-{part.name_file()}"
    checked = part_files.write_rejected(table, path, job=job)
    return checked | {
        "files": checked["files"] + files,
        "labels": part_files.count_labels(rows, [UNLABELLED]),
        **part_files.count_encoded(rows),
    }
