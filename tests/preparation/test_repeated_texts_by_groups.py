"""Hashes of texts are compared in groups, by tasks; the number of groups changes nothing."""

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.preparation import duplicates, repeated_texts
from sentiflow.preparation.part_files import KEYS, PrepareJob
from sentiflow.storage import filesystem

NUM_PARTS = 3
ROWS = 400
"""Rows of each part."""


@pytest.fixture
def draws():
    return np.random.default_rng(4)


def make_job(folder, **settings):
    """Make the arguments of tasks, and write the hashes of three parts, many of them repeated."""
    root = str(folder)
    chosen = PrepareSettings(csv="tweets.csv", output_uri=root, **settings)
    job = PrepareJob(settings=chosen, format=FormatSettings(), root=root, work=root, key=root)
    draws = np.random.default_rng(3)
    texts = draws.integers(0, 1 << 62, 500).astype(np.uint64)
    for number in range(NUM_PARTS):
        hashes = draws.choice(texts, ROWS)
        keys = {
            "row_id": np.arange(number * ROWS, (number + 1) * ROWS),
            "label": np.zeros(ROWS, np.int8),
            "normalized": hashes,
            "check": hashes,
            "split": draws.integers(0, 3, ROWS).astype(np.int8),
        }
        uri = job.work_file(KEYS, number)
        filesystem.write_arrow(uri, pa.table(keys, schema=duplicates.KEYS))
    return job, [job.work_file(KEYS, number) for number in range(NUM_PARTS)], texts


@pytest.mark.parametrize("mode", ["keep", "drop"])
def test_texts_of_labelled_rows_are_known_whatever_the_number_of_groups(tmp_path, draws, mode):
    found = []
    for num_groups in (1, 3):
        job, uris, texts = make_job(tmp_path / str(num_groups), duplicates=mode)
        for group in range(num_groups):
            repeated_texts.write_known(group, uris=uris, num_groups=num_groups, job=job)
        others = draws.integers(0, 1 << 62, 100).astype(np.uint64)
        hashes = np.concatenate([texts, others])
        reason = pa.array([None] * len(hashes), pa.string())
        table = pa.table({"normalized": hashes, "reason": reason})
        left = repeated_texts.leave_out_known(table, num_groups=num_groups, job=job)
        found.append(left["reason"].to_pylist())
    assert found[0] == found[1]
    assert set(found[0][len(texts) :]) == {None}
    expected = {None, duplicates.IN_LATER_SPLIT}
    if mode == "drop":
        expected.add(duplicates.REPEATED)
    assert set(found[0]) == expected


def test_each_part_gets_its_own_repeated_rows_of_all_groups(tmp_path):
    job, uris, _ = make_job(tmp_path, duplicates="drop")
    whole = [filesystem.read_arrow(uri) for uri in uris]
    expected = duplicates.find(pa.concat_tables(whole), mode="drop").dropped
    dropped = []
    for group in range(2):
        _, uri, _ = repeated_texts.find_duplicates(
            group, uris=uris, num_groups=2, fixed=(), job=job
        )
        dropped.append(uri)
    rows = [
        repeated_texts.PartRows(number, number * ROWS, (number + 1) * ROWS)
        for number in range(NUM_PARTS)
    ]
    for batch in (rows[:2], rows[2:]):
        repeated_texts.write_dropped(batch, uris=dropped, job=job)
    tables = []
    for part in rows:
        table = filesystem.read_arrow(job.work_file(repeated_texts.DROPPED_OF_PART, part.number))
        row_ids = table["row_id"].to_numpy()
        assert part.first <= row_ids.min() <= row_ids.max() < part.stop
        tables.append(table)
    assert pa.concat_tables(tables).to_pylist() == expected.to_pylist()
