"""The labels that a wanted width needs are counted, drawn, and reach this width."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from corpora import CLASSES, draw, load, score

from sentiflow.data import label_files, manifest
from sentiflow.errors import UserError
from sentiflow.shares import label_plan, next_draw, reached_width, sample_log, table
from sentiflow.shares.sample_log import SaidWidth

NUM_ROWS = 6000
BY = ["airline", "created:day"]


@pytest.fixture(scope="module")
def corpus():
    return draw(NUM_ROWS)


def draw_file(folder, size, truth, *, num_labelled=None, name="one", width=None):
    """Draw rows, label the first of them, keep the draw; return the file."""
    config = load(folder, by=BY)
    drawn, _ = next_draw.draw_rows(config, size)
    label = np.array(CLASSES, object)[truth[drawn["row_id"]]]
    label[size if num_labelled is None else num_labelled :] = ""
    path = folder / f"{name}.csv"
    path.write_bytes(label_files.to_csv(drawn.assign(label=label)))
    sample_log.record(config, drawn, path=str(path), width=width)
    return str(path)


def plan(folder, wanted=4.0, **trends):
    return label_plan.plan(load(folder, **({"by": BY} | trends)), wanted)


def find_half_widths(folder, *paths, **trends):
    """Return half the width of the interval of each class in all rows, in points."""
    uri = str(folder / "scored")
    settings = load(folder, by=BY, labels=list(paths), **trends).trends
    whole = table.measure(settings, manifest.read(uri), uri).whole
    return 50 * (whole["high"] - whole["low"])


def test_a_plan_by_labels_reaches_the_width_that_was_wanted(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    first = plan(tmp_path)
    assert not first.is_measured
    assert first.labelled == first.pending == 0
    assert first.labels < first.at_most
    assert first.reached is None
    one = draw_file(tmp_path, 100, truth)
    second = plan(tmp_path, labels=[one])
    assert second.is_measured
    assert (second.labelled, second.pending) == (100, 0)
    assert second.num_to_draw == second.labels - 100
    two = draw_file(tmp_path, second.num_to_draw, truth, name="two")
    found = find_half_widths(tmp_path, one, two)
    assert found.max() == pytest.approx(4, rel=0.15)
    last = plan(tmp_path, labels=[one, two])
    assert last.widest == found.idxmax()
    assert last.reached.half_width == pytest.approx(found.max())
    assert last.labelled == second.labels
    # The plan for the width that was reached is the labels that are there.
    again = plan(tmp_path, wanted=float(found.max()), labels=[one, two])
    assert again.labels == pytest.approx(last.labelled, rel=0.05)


def test_rows_that_were_drawn_and_have_no_label_are_labelled_first(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    file = draw_file(tmp_path, 200, truth, num_labelled=50)
    found = plan(tmp_path, labels=[file])
    assert (found.labelled, found.pending) == (50, 150)
    assert found.num_more == found.labels - 50
    assert found.num_to_draw == found.labels - 200
    unnamed = plan(tmp_path)  # the file is known by its draw
    assert (unnamed.labelled, unnamed.pending) == (0, 200)
    (tmp_path / "one.csv").unlink()
    assert plan(tmp_path).pending == 0


def test_a_group_of_all_rows_needs_what_all_rows_need(tmp_path, corpus):
    whole, truth = corpus
    one_group = whole.set_column(
        whole.column_names.index("airline"), "airline", [["same"] * NUM_ROWS]
    )
    score(tmp_path, one_group)
    found = plan(tmp_path)
    (group,) = found.groups[0].table.to_dict("records")
    assert (group["group"], group["rows"]) == ("same", NUM_ROWS)
    assert group["labels"] == pytest.approx(found.labels, abs=1)
    assert group["in_sample"] == pytest.approx(found.labels, abs=1)
    assert found.groups[0].num_more <= 1
    file = draw_file(tmp_path, 300, truth)
    found = plan(tmp_path, labels=[file])
    assert found.groups[0].table["labels"][0] == pytest.approx(found.labels, abs=1)


def test_a_group_needs_fewer_labels_if_others_of_its_texts_are_counted(tmp_path, corpus):
    whole, truth = corpus
    own = np.random.default_rng(0).random(NUM_ROWS) < 0.5
    one_group = whole.set_column(
        whole.column_names.index("airline"), "airline", [["same"] * NUM_ROWS]
    )
    score(tmp_path, one_group, np.where(own, truth, -1))
    found = plan(tmp_path)
    assert found.groups[0].table["labels"][0] == pytest.approx(found.labels, abs=1)
    assert found.groups[0].num_more <= 1
    file = draw_file(tmp_path, 300, truth)
    reached = float(find_half_widths(tmp_path, file).max())  # of all texts, and so of the group
    found = plan(tmp_path, wanted=reached, labels=[file])
    assert found.groups[0].table["labels"][0] == pytest.approx(300, rel=0.05)
    assert found.groups[0].num_more <= 15


def test_the_groups_of_the_table_need_more(tmp_path, corpus):
    whole, _ = corpus
    score(tmp_path, whole)
    found = plan(tmp_path)
    by_airline, by_day = found.groups
    assert (by_airline.by, by_day.by) == tuple(BY)
    for item in found.groups:
        lines = item.table
        assert lines["rows"].sum() == NUM_ROWS
        assert lines["in_sample"].sum() == pytest.approx(found.labels, rel=0.01)
        assert (lines["labels"] <= lines["rows"]).all()
        missing = (lines["labels"] - lines["in_sample"]).clip(lower=0).sum()
        assert item.num_more == pytest.approx(missing, abs=1)
    assert by_day.table["group"][0] == "2015-02-16"
    assert by_day.num_more > by_airline.num_more > 0


def test_labels_of_the_corpus_measure_the_error_but_are_in_no_draw(tmp_path, corpus):
    whole, truth = corpus
    label = np.where(np.random.default_rng(0).random(NUM_ROWS) < 0.1, truth, -1)
    score(tmp_path, whole, label)
    found = plan(tmp_path)
    assert found.is_measured
    assert found.labelled == 0
    assert (found.num_rows, found.num_known) == (NUM_ROWS, (label >= 0).sum())
    assert found.groups[0].table["rows"].sum() == NUM_ROWS
    half_widths = find_half_widths(tmp_path)
    assert found.reached.half_width == pytest.approx(half_widths.max())
    assert found.reached.widest == half_widths.idxmax()
    assert not found.is_drawn


def test_a_corpus_whose_rows_are_all_labelled_needs_no_plan(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole, truth)
    with pytest.raises(UserError, match="every row of the predictions has a label"):
        plan(tmp_path)


def test_rows_of_several_models_are_planned_together(tmp_path, corpus):
    whole, _ = corpus
    score(tmp_path / "one", whole)
    score(tmp_path / "several", whole, rows_of={"1": 2500, "2": 3500})
    one = plan(tmp_path / "one").labels
    assert plan(tmp_path / "several").labels == pytest.approx(one, rel=0.1)


def test_rows_without_a_time_are_in_the_plan(tmp_path, corpus):
    whole, _ = corpus
    created = pc.if_else(pa.array(np.arange(NUM_ROWS) < 1000), None, whole["created"])
    missing = whole.set_column(whole.column_names.index("created"), "created", created)
    score(tmp_path, missing)
    found = plan(tmp_path, by=["created:day"])
    assert found.num_rows == NUM_ROWS
    assert found.groups[0].table["rows"].sum() == NUM_ROWS - 1000


def test_a_width_that_needs_all_rows_is_refused(tmp_path, corpus):
    whole, _ = corpus
    score(tmp_path, whole.slice(0, 200))
    with pytest.raises(UserError, match=r"--width 0.1: all 200 rows would have to be labelled"):
        plan(tmp_path, 0.1)


def test_the_draw_keeps_what_was_said_and_it_is_compared(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    said = SaidWidth(wanted=4.0, labels=210, widest="neutral")
    file = draw_file(tmp_path, 210, truth, width=said)
    content = json.loads((tmp_path / "samples/draw-0001.json").read_bytes())
    assert content["width"] == {"wanted": 4.0, "labels": 210, "widest": "neutral"}
    draw_file(tmp_path, 10, truth, name="two")
    config = load(tmp_path, by=BY, labels=[file])
    assert reached_width.find_said(config) == said
    assert reached_width.find_said(load(tmp_path, by=BY)) is None
    uri = config.score.output_uri
    measured = table.measure(config.trends, manifest.read(uri), uri)
    found = reached_width.compare(measured, said)
    half_widths = find_half_widths(tmp_path, file)
    assert found.reached == pytest.approx(half_widths.max(), abs=0.01)
    assert (found.widest, found.labelled, found.labels) == (half_widths.idxmax(), 210, 210)
    assert reached_width.compare(measured, None) is None
