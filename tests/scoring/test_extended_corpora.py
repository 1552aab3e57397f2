"""A corpus that grew is scored where it is new, and what was scored stays."""
# ruff: noqa: F811 -- fixtures are imported

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT
from test_score import (  # noqa: F401
    DAY,
    NUM_ROWS,
    assert_same,
    configure,
    corpora,
    first_day,
    markers,
    model,
    record,
    score,
    scored,
    table,
    times,
    undisturbed,
    wait_for,
)

from sentiflow.data import row_ids
from sentiflow.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.soak
def test_a_killed_incremental_scoring_resumes_with_files_added_since(
    tmp_path, corpora, model, undisturbed, resources, said
):
    config = configure(tmp_path, model, corpora / "day-0.csv")
    score(config)
    days = f"[{corpora}/day-0.csv,{corpora}/day-1.csv]"
    command = [sys.executable, "-m", "sentiflow", "score", config, f"score.corpus={days}"]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        wait_for(tmp_path, 2, lambda: process.poll() is not None)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(1)
    before = times(tmp_path)
    done = len(markers(tmp_path))
    score(config, f"score.corpus={corpora}/day-*.csv")
    assert f"resumes score: {done} of " in said.text
    after = times(tmp_path)
    assert sum(after.get(name) == time for name, time in before.items()) >= 6 + done
    assert_same(table(tmp_path), undisturbed)


def test_a_failed_incremental_scoring_keeps_the_previous_predictions(tmp_path, corpora, scored):
    before = record(tmp_path), times(tmp_path)
    (tmp_path / "damaged.csv.gz").write_text("\n")
    with pytest.raises(UserError, match=r"damaged\.csv\.gz cannot be unpacked"):
        score(scored, f"score.corpus=[{corpora}/day-0.csv,{tmp_path}/damaged.csv.gz]")
    assert (record(tmp_path), times(tmp_path)) == before
    assert not score(scored).ran


def test_an_empty_file_adds_no_row_and_does_not_block_those_after_it(
    tmp_path, corpora, scored, said
):
    (tmp_path / "empty.csv").write_text("\n")
    days = f"{corpora}/day-0.csv,{tmp_path}/empty.csv"
    score(scored, f"score.corpus=[{days}]")
    assert f"{tmp_path}/empty.csv holds no record" in said.text
    score(scored, f"score.corpus=[{days},{corpora}/day-1.csv]")
    assert record(tmp_path)["counts"]["rows_read"] == 2 * DAY
    assert table(tmp_path)["row_id"].tolist() == list(range(2 * DAY))


@pytest.mark.parametrize("has_row_ids", [False, True])
def test_row_numbers_continue_in_an_extended_parquet_corpus(
    tmp_path, corpora, model, resources, has_row_ids
):
    texts = [f"good day number {number}" for number in range(50)]
    ids = np.arange(50) * 7 if has_row_ids else np.zeros(50, np.int64)
    for name, rows in (("a", slice(0, 30)), ("b", slice(30, 50))):
        rows = pa.table({"row_id": ids[rows], "text": texts[rows]})
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    config = configure(tmp_path, model, tmp_path / "a.parquet", keep_columns=["text"])
    score(config, "score.rows_per_file=20")
    score(config, "score.rows_per_file=20", f"score.corpus={tmp_path}/?.parquet")
    found = table(tmp_path)
    assert found["row_id"].tolist() == (ids if has_row_ids else np.arange(50)).tolist()
    assert found["text"].tolist() == texts
    assert len(times(tmp_path)) == 3


def write_rows(folder, name, ids, texts=None):
    """Write a Parquet file of texts with row ids."""
    texts = texts or [f"good day number {number:02d}" for number in ids]
    table = pa.table({"row_id": ids, "text": texts})
    pq.write_table(table, folder / f"{name}.parquet", compression="none", use_dictionary=False)


@pytest.mark.parametrize("chunk_rows", [1, 1 << 21])
@pytest.mark.parametrize("ids", [[2, 3], [4, 3]], ids=["predicted", "rejected"])
def test_a_new_file_that_repeats_a_row_id_is_refused_and_predictions_stay(
    tmp_path, model, resources, monkeypatch, chunk_rows, ids
):
    monkeypatch.setattr(row_ids, "_CHUNK_ROWS", chunk_rows)  # 1: workers compare the ids
    write_rows(tmp_path, "a", [1, 2, 4], ["good", "bad", ""])
    write_rows(tmp_path, "b", ids, ["good", "bad"])
    config = configure(tmp_path, model, tmp_path / "a.parquet")
    score(config)
    before = record(tmp_path)
    with pytest.raises(
        UserError,
        match=rf"b\.parquet has the row_id {ids[0]} of a row that was scored before: give",
    ):
        score(config, f"score.corpus={tmp_path}/?.parquet")
    assert record(tmp_path) == before
    assert table(tmp_path)["row_id"].tolist() == [1, 2]
    assert not (tmp_path / "run/scored/_work").exists()


@pytest.mark.parametrize("has_ranges", [True, False], ids=["now", "earlier version"])
def test_ids_of_scored_rows_are_not_read_from_the_corpus_again(
    tmp_path, model, resources, monkeypatch, has_ranges
):
    monkeypatch.setattr(row_ids, "_CHUNK_ROWS", 10)
    write_rows(tmp_path, "a", range(0, 60, 2))
    config = configure(tmp_path, model, tmp_path / "?.parquet", rows_per_file=10)
    score(config)
    path = tmp_path / "run/scored/manifest.json"
    if not has_ranges:
        earlier = record(tmp_path)
        for item in earlier["files"]:
            del item["row_id_range"]
        path.write_text(json.dumps(earlier))
    # If the file were read again, its ids would be in the new file, too.
    state = os.stat(tmp_path / "a.parquet")
    write_rows(tmp_path, "a", range(1, 61, 2))
    os.utime(tmp_path / "a.parquet", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert os.stat(tmp_path / "a.parquet").st_size == state.st_size
    write_rows(tmp_path, "b", [*range(1, 60, 2), 99])  # each lies between ids of earlier rows
    score(config)
    assert table(tmp_path)["row_id"].tolist() == [*range(60), 99]
    for item in record(tmp_path)["files"]:
        found = pq.read_table(tmp_path / "run/scored" / item["path"])["row_id"].to_pylist()
        assert item["row_id_range"] == [min(found), max(found)]


def test_rows_are_numbered_if_many_ids_repeat_somewhere(
    tmp_path, model, resources, monkeypatch, said
):
    monkeypatch.setattr(row_ids, "_CHUNK_ROWS", 10)
    monkeypatch.setattr(row_ids, "_BUCKET_ROWS", 20)
    ids = np.random.default_rng(0).permutation(50)
    write_rows(tmp_path, "a", ids)
    write_rows(tmp_path, "b", [*range(50, 80), 7])
    config = configure(tmp_path, model, tmp_path / "?.parquet")
    score(config)
    files = f"{tmp_path}/a.parquet and {tmp_path}/b.parquet"
    assert f"{files} both have the row_id 7: rows are numbered over all files" in said.text
    assert table(tmp_path)["row_id"].tolist() == list(range(81))
    assert not any("row_id_range" in item for item in record(tmp_path)["files"])
    write_rows(tmp_path, "c", [90, 91])
    score(config)
    assert "the files scored before have no valid row_id: rows are numbered" in said.text
    assert table(tmp_path)["row_id"].tolist() == list(range(83))
