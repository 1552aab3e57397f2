"""Draws from files with their own ids: what had arrived counts, whatever order the ids have."""

import json

import numpy as np
import pandas as pd
import pytest
from corpora import CLASSES, draw, load, score
from test_kept_sums import run, run_afresh

from sentiflow.data import label_files, manifest
from sentiflow.errors import UserError
from sentiflow.shares import draw_history, labels, next_draw, sample_log

PART_ROWS = 300
WEEK_ROWS = 3 * PART_ROWS
NUM_WEEKS = 4
NUM_ROWS = NUM_WEEKS * WEEK_ROWS
SIZE = 60
BY = ["airline", "created:day"]


def make_ids(order):
    """Make the ids of all rows, in the order of their arrival."""
    if order == "descending":
        return 10**7 - 3 * np.arange(NUM_ROWS)
    if order == "descending weeks":
        week = np.arange(NUM_ROWS) // WEEK_ROWS
        return (NUM_WEEKS - week) * 10**6 + np.arange(NUM_ROWS)
    if order == "random":
        return np.random.default_rng(4).permutation(50 * NUM_ROWS)[:NUM_ROWS]
    return np.arange(NUM_ROWS)


@pytest.fixture(scope="module")
def corpus():
    return draw(NUM_ROWS)


def grow(folder, corpus, ids, week, **options):
    """Publish the predictions of all weeks up to this one; two models have scored them."""
    whole, _ = corpus
    num_rows = WEEK_ROWS * (week + 1)
    first = min(num_rows, 2 * WEEK_ROWS + 100)  # within a part
    rows_of = {"1": first, "2": num_rows - first}
    at = whole.schema.get_field_index("row_id")
    table = whole.set_column(at, "row_id", [ids]).slice(0, num_rows)
    options = {"has_row_ids": True, "rows_per_file": PART_ROWS} | options
    score(folder, table, rows_of={name: rows for name, rows in rows_of.items() if rows}, **options)


def add_draw(folder, corpus, ids, files):
    """Draw rows of all that is there, label them, and keep the draw; returns the rows."""
    _, truth = corpus
    config = load(folder, by=BY, labels=files)
    drawn, _ = next_draw.draw_rows(config, SIZE)
    true = pd.Series(truth, ids)[drawn["row_id"]].to_numpy()
    label = np.array(CLASSES, object)[true]
    label[3] = ""  # this row was skipped
    path = folder / f"draw-{len(files)}.csv"
    path.write_bytes(label_files.to_csv(drawn.assign(label=label)))
    sample_log.record(config, drawn, path=str(path))
    files.append(str(path))
    return drawn


def read(folder, files):
    config = load(folder, labels=files)
    uri = config.score.output_uri
    return labels.read(config.trends, manifest.read(uri), uri)


@pytest.mark.parametrize(
    "order",
    [
        "random",
        pytest.param("descending", marks=pytest.mark.soak),
        pytest.param("descending weeks", marks=pytest.mark.soak),
    ],
)
def test_labels_of_each_week_count_and_what_is_kept_gives_the_same(tmp_path, corpus, order):
    ids = make_ids(order)
    arrival = pd.Series(np.arange(NUM_ROWS), ids)
    files = []
    for week in range(NUM_WEEKS):
        grow(tmp_path, corpus, ids, week)
        end = WEEK_ROWS * (week + 1)
        drawn = add_draw(tmp_path, corpus, ids, files)
        history = draw_history.read_history(drawn["sample"][0])
        assert [item.num_rows for item in history] == list(range(WEEK_ROWS, end + 1, WEEK_ROWS))
        place = arrival[drawn["row_id"]]
        assert len(drawn) == SIZE
        assert place.max() < end
        assert (place >= end - WEEK_ROWS).mean() > 0.8, "most rows are new ones"
        record, found = run(tmp_path, by=BY, labels=files)
        assert record["counts"]["sample"] == (SIZE - 1) * (week + 1)
        assert not [note for note in record["notes"] if "not in the sample" in note]
        assert not [note for note in record["notes"] if "came after the last draw" in note]
        assert found == run_afresh(tmp_path, by=BY, labels=files)[1]
        sample = read(tmp_path, files).sample
        assert sample.is_in_order
        assert sample.end == end
    first = read(tmp_path, files[:1])
    assert first.notes[1].startswith("2,700 rows came after the last draw")
    assert first.sample.end == WEEK_ROWS


def test_ids_that_are_the_numbers_of_the_rows_draw_the_same_rows(tmp_path, corpus):
    ids = make_ids("ascending")
    files: dict[bool, list[str]] = {True: [], False: []}
    for week in range(NUM_WEEKS):
        found = []
        for has_row_ids in (True, False):
            folder = tmp_path / str(has_row_ids)
            grow(folder, corpus, ids, week, has_row_ids=has_row_ids)
            drawn = add_draw(folder, corpus, ids, files[has_row_ids])
            found.append((drawn, run(folder, by=BY, labels=files[has_row_ids])[1]))
        pd.testing.assert_frame_equal(found[0][0], found[1][0])
        assert found[0][1] == found[1][1]


def test_other_parts_of_the_same_rows_give_the_same_draws(tmp_path, corpus):
    """``score --overwrite`` keeps the order of arrival, but may cut other parts."""
    ids = make_ids("random")
    files: list[str] = []
    for week in range(2):
        grow(tmp_path, corpus, ids, week)
        add_draw(tmp_path, corpus, ids, files)
    run(tmp_path, by=BY, labels=files)
    before = read(tmp_path, files).table
    grow(tmp_path, corpus, ids, 1, rows_per_file=700)
    pd.testing.assert_frame_equal(read(tmp_path, files).table, before)
    assert run(tmp_path, by=BY, labels=files)[1] == run_afresh(tmp_path, by=BY, labels=files)[1]


def test_a_draw_that_counted_up_to_the_largest_id_is_told(tmp_path, corpus):
    ids = make_ids("descending")
    files: list[str] = []
    grow(tmp_path, corpus, ids, 0)
    add_draw(tmp_path, corpus, ids, files)
    path = tmp_path / "draw-0.csv"
    written = "60 of 10,000,001 rows by airline"
    pd.read_csv(path, encoding="utf-8-sig").assign(sample=written).to_csv(path, index=False)
    grow(tmp_path, corpus, ids, 1)
    line = (
        r"'60 of 10,000,001 rows by airline': the predictions have 1,800 rows\. .* largest row_id"
    )
    with pytest.raises(UserError, match=line):
        read(tmp_path, files)
    log = tmp_path / "samples/draw-0001.json"
    content = json.loads(log.read_text())
    log.write_text(json.dumps(content | {"sample": written}))
    with pytest.raises(UserError, match=line):
        next_draw.draw_rows(load(tmp_path, by=BY), SIZE)
