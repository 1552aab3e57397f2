"""Several draws of a growing corpus are one sample."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from corpora import CLASSES, draw, load, score
from hypothesis import given
from hypothesis import strategies as st
from weekly import find_hits, label_weeks

from sentiflow.data import label_files, manifest
from sentiflow.errors import UserError
from sentiflow.shares import draw_history, labels, next_draw, sample_log, table
from sentiflow.shares.draw_history import Draw

NUM_ROWS = 6000

sizes = st.integers(1, 10**9)
columns = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5).filter(str.strip)


@given(st.lists(st.tuples(sizes, sizes, st.just("") | columns), min_size=1, max_size=4))
def test_a_history_is_read_as_it_was_written(items):
    history = tuple(Draw(*item) for item in items)
    assert draw_history.read_history(draw_history.write_history(history)) == history


@pytest.mark.parametrize("by", ["a, after 5", "City, State", "x by y", "3 of 4", "rows"])
def test_a_column_of_any_name_is_read(by):
    history = (Draw(5, 10, by), Draw(7, 20, ""), Draw(9, 30, by), Draw(9, 30, by))
    assert draw_history.read_history(draw_history.write_history(history)) == history


@pytest.mark.parametrize(
    "text", ["x", "300", "300 of 400", "300 rows by a, then", "rows", ", after "]
)
def test_another_text_is_no_history(text):
    found = draw_history.read_history(text)
    assert found is None or text == "300 rows by a, then"


@pytest.fixture(scope="module")
def corpus():
    return draw(NUM_ROWS)


def draw_file(folder, size, truth, *, name, by="airline", blank=()):
    """Draw rows, label them, keep the draw; returns the rows and the file."""
    config = load(folder, by=by)
    drawn, _ = next_draw.draw_rows(config, size)
    label = np.array(CLASSES, object)[truth[drawn["row_id"]]]
    label[list(blank)] = ""
    path = folder / f"{name}.csv"
    path.write_bytes(label_files.to_csv(drawn.assign(label=label)))
    sample_log.record(config, drawn, path=str(path))
    return drawn, str(path)


def read(folder, *paths):
    config = load(folder, labels=list(paths))
    uri = config.score.output_uri
    return labels.read(config.trends, manifest.read(uri), uri)


def measure(folder, *paths, **options):
    uri = str(folder / "scored")
    settings = load(folder, labels=list(paths), **options).trends
    return table.measure(settings, manifest.read(uri), uri)


def test_a_second_draw_takes_other_rows_and_both_are_one_sample(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    first, one = draw_file(tmp_path, 300, truth, name="one")
    second, two = draw_file(tmp_path, 200, truth, name="two")
    assert not set(first["row_id"]) & set(second["row_id"])
    assert set(second["sample"]) == {"200 of 6,000 rows by airline, after 300 of 6,000"}
    score(tmp_path / "once", whole)
    at_once, other = draw_file(tmp_path / "once", 500, truth, name="other")
    both = {*first["row_id"], *second["row_id"]}
    assert len(both & set(at_once["row_id"])) > 490  # the order of ranks differs by groups
    together = read(tmp_path, one, two).table["weight"]
    expected = read(tmp_path / "once", other).table["weight"]
    common = sorted(both & set(at_once["row_id"]))
    np.testing.assert_allclose(together[common], expected[common], rtol=1e-6)
    assert not read(tmp_path, one, two).sample.is_in_order
    alone = read(tmp_path, two).table["weight"]
    assert alone.sum() == pytest.approx(NUM_ROWS, rel=0.1)


def test_earlier_looks_count_only_if_labels_came_in_the_order_of_the_rows(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    _, one = draw_file(tmp_path, 600, truth, name="one")
    looks = measure(tmp_path, one, by="created:day").looks["created:day"]
    assert looks.first < looks.last
    _, two = draw_file(tmp_path, 300, truth, name="two")
    looks = measure(tmp_path, one, two, by="created:day").looks["created:day"]
    assert looks.first == looks.last


def test_a_file_holds_as_the_corpus_grows(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole.slice(0, 2000))
    _, one = draw_file(tmp_path, 300, truth, name="one")
    before = read(tmp_path, one)
    score(tmp_path, whole)
    after = read(tmp_path, one)
    pd.testing.assert_frame_equal(before.table, after.table)
    assert after.notes[0].startswith("4,000 rows came after the last draw")
    assert after.sample.is_in_order
    second, two = draw_file(tmp_path, 300, truth, name="two")
    assert set(second["sample"]) == {"300 of 6,000 rows by airline, after 300 of 2,000"}
    # 300 of 2,000 rows were drawn before: nearly all further rows are new ones.
    assert (second["row_id"] >= 2000).mean() > 0.9
    found = read(tmp_path, one, two)
    weight = found.table["weight"]
    assert not found.notes
    assert found.sample.is_in_order
    assert weight[weight.index < 2000].sum() == pytest.approx(2000, rel=0.1)
    assert weight[weight.index >= 2000].sum() == pytest.approx(4000, rel=0.1)
    assert measure(tmp_path, one, two).num_sample == 600


def test_files_that_trends_labels_names_may_come_later(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    config = load(tmp_path, by="airline", labels=str(tmp_path / "*.csv"))
    first, _ = next_draw.draw_rows(config, 100)
    again, path = draw_file(tmp_path, 100, truth, name="one")
    pd.testing.assert_frame_equal(first, again)
    (tmp_path / "samples/draw-0001.json").unlink()
    second, _ = next_draw.draw_rows(config, 100)  # known by its file
    assert not set(first["row_id"]) & set(second["row_id"])
    empty = tmp_path / "two.csv"
    empty.write_bytes(label_files.to_csv(second))
    found = read(tmp_path, path, str(empty))
    assert found.notes == ["100 rows of trends.labels have no label yet"]
    pd.testing.assert_frame_equal(found.table, read(tmp_path, path).table)


def test_a_draw_without_labels_gives_its_rows_to_no_other_draw(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole.slice(0, 2000))
    draw_file(tmp_path, 300, truth, name="one")
    score(tmp_path, whole)
    _, two = draw_file(tmp_path, 300, truth, name="two")
    found = read(tmp_path, two)
    assert np.isfinite(found.table["weight"]).all()
    assert (
        "no label of the draws of 300 of 2,000: 2,000 rows could be in no other" in found.notes[0]
    )


def test_a_draw_that_no_file_has_is_told(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    _, one = draw_file(tmp_path, 300, truth, name="one")
    _, two = draw_file(tmp_path, 100, truth, name="two")
    (note,) = read(tmp_path, two).notes
    assert note == (
        "trends.labels has no row of an earlier draw (300 of 6,000 rows by airline): if its rows "
        "are labelled, name its file, too"
    )
    assert not read(tmp_path, one, two).notes


def test_draws_by_several_columns_follow_each_other(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    _, one = draw_file(tmp_path, 100, truth, name="one", by="airline")
    _, two = draw_file(tmp_path, 100, truth, name="two", by="created:day")
    third, three = draw_file(tmp_path, 100, truth, name="three", by=[])
    before = "after 100 of 6,000 rows by created:day, after 100 of 6,000 rows by airline"
    assert third["sample"][0] == f"100 of 6,000 rows, {before}"
    weight = read(tmp_path, one, two, three).table["weight"]
    assert weight.sum() == pytest.approx(NUM_ROWS, rel=0.1)


def test_files_of_other_histories_are_refused(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path / "a", whole)
    score(tmp_path / "b", whole)
    _, one = draw_file(tmp_path / "a", 100, truth, name="one")
    _, other = draw_file(tmp_path / "b", 50, truth, name="other")
    plain = tmp_path / "plain.csv"
    plain.write_text("row_id,label\n5999,negative\n")
    with pytest.raises(UserError, match="are not draws of one corpus, one after the other"):
        read(tmp_path / "a", one, other)
    with pytest.raises(UserError, match=r"some rows of trends.labels were drawn by --sample"):
        read(tmp_path / "a", one, str(plain))
    longer = tmp_path / "longer.csv"
    longer.write_text('row_id,label,sample\n7,negative,"20 of 6,000 rows, after 30 of 6,000"\n')
    with pytest.raises(UserError, match=r"other.csv: line 2: .*second value is at .*longer.csv"):
        read(tmp_path / "b", str(longer), other)


def test_a_log_of_another_corpus_or_with_damage_is_told(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    draw_file(tmp_path, 100, truth, name="one")
    score(tmp_path, whole.slice(0, 3000))
    with pytest.raises(UserError, match="drawn from 6,000 rows, and the predictions have 3,000"):
        next_draw.draw_rows(load(tmp_path), 10)
    airline = whole["airline"].to_pandas().sample(frac=1, random_state=0)
    at = whole.schema.get_field_index("airline")
    score(tmp_path, whole.set_column(at, "airline", [np.where(airline == "Delta", "United", "x")]))
    with pytest.raises(UserError, match=r"\d+ of 100 rows of earlier draws are not drawn again"):
        next_draw.draw_rows(load(tmp_path), 10)
    score(tmp_path, whole)
    path = tmp_path / "samples/draw-0001.json"
    content = json.loads(path.read_text())
    assert content["sample"] == "100 of 6,000 rows by airline"
    assert len(content["row_ids"]) == 100
    path.write_text("{}")
    with pytest.raises(UserError, match=r"draw-0001.json is no draw of sentiflow trends --sample"):
        next_draw.draw_rows(load(tmp_path), 10)


def test_a_deleted_file_of_a_draw_lets_no_later_one_be_overwritten(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    config = load(tmp_path, by="airline")
    for name in ("one", "two", "three"):
        draw_file(tmp_path, 20, truth, name=name)
    (tmp_path / "samples/draw-0001.json").unlink()
    before = sample_log.read(config).row_ids
    fourth, _ = draw_file(tmp_path, 20, truth, name="four")
    found = sample_log.read(config)
    assert (len(before), found.row_ids) == (40, [*before, *fourth["row_id"]])
    assert len(found.history) == 4


def test_when_all_rows_are_drawn_there_are_no_more(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole.slice(0, 50))
    draw_file(tmp_path, 60, truth, name="one")
    with pytest.raises(UserError, match="every row without a label was drawn before"):
        next_draw.draw_rows(load(tmp_path), 10)


def test_files_of_an_earlier_version_are_read(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    drawn, path = draw_file(tmp_path, 300, truth, name="one")
    expected = read(tmp_path, path).table
    shuffled = pd.read_csv(path, encoding="utf-8-sig").sample(frac=1, random_state=0)
    old = shuffled.assign(sample="300 rows by airline")
    old.iloc[100:, old.columns.get_loc("label")] = None
    old.to_csv(path, index=False)
    found = read(tmp_path, path)
    assert found.notes == ["200 rows of trends.labels have no label yet"]
    pd.testing.assert_series_equal(found.table["weight"], expected["weight"][found.table.index])
    (tmp_path / "samples/draw-0001.json").unlink()
    again, _ = next_draw.draw_rows(
        load(tmp_path, by="airline", labels=path), 100
    )  # known by the file
    assert not set(again["row_id"]) & set(drawn["row_id"])


def test_skipped_rows_are_told_from_rows_that_were_not_reached(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    blank = [3, 50, 77, *range(200, 300)]
    drawn, path = draw_file(tmp_path, 300, truth, name="one", blank=blank)
    pd.read_csv(path, encoding="utf-8-sig").sort_values("text").to_csv(path, index=False)
    found = read(tmp_path, path)
    skipped = found.table.index[found.table["label"] < 0]
    assert sorted(skipped) == sorted(drawn["row_id"][[3, 50, 77]])
    first, second = found.notes
    assert first.startswith("3 of 200 rows of the sample were skipped (")
    assert second == "100 rows of trends.labels have no label yet"
    shares = measure(tmp_path, path, by="airline")
    assert (shares.num_sample, shares.num_skipped) == (197, 3)
    score(tmp_path / "full", whole)
    _, full = draw_file(tmp_path / "full", 300, truth, name="one", blank=range(200, 300))
    other = measure(tmp_path / "full", full, by="airline")
    widths = [(each.whole["high"] - each.whole["low"]).mean() for each in (shares, other)]
    assert 0.012 < widths[0] - widths[1] < 0.04


def test_skipped_rows_that_a_file_no_longer_has_leave_the_others_to_be_labelled(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    blank = [3, 50, *range(200, 300)]
    _, path = draw_file(tmp_path, 300, truth, name="one", blank=blank)
    pd.read_csv(path, encoding="utf-8-sig").drop([3]).to_csv(path, index=False)
    first, second = read(tmp_path, path).notes
    assert first.startswith("2 of 200 rows of the sample were skipped (")
    assert second == "100 rows of trends.labels have no label yet"


def test_labels_of_two_annotators_are_compared(tmp_path, corpus):
    whole, truth = corpus
    score(tmp_path, whole)
    _, path = draw_file(tmp_path, 300, truth, name="one")
    filled = pd.read_csv(path, encoding="utf-8-sig")
    other = np.where(
        np.arange(300) % 10 == 0, (truth[filled["row_id"]] + 1) % 3, truth[filled["row_id"]]
    )
    filled["label_2"] = np.array(CLASSES, object)[other]
    filled.loc[100:, "label_2"] = ""
    filled.loc[5, "label"] = ""  # takes the label of the second annotator
    filled.to_csv(path, index=False)
    found = read(tmp_path, path)
    assert (found.agreement.rows, len(found.table)) == (99, 300)
    assert found.agreement.agreement == pytest.approx(89 / 99)
    assert found.notes[0].startswith("two annotators agree in 89.9% of 99 rows (kappa 0.8")
    assert found.notes[1] == "1 of 300 labels are by the second annotator alone"
    assert found.table.loc[filled["row_id"][5], "label"] == truth[filled["row_id"][5]]
    assert measure(tmp_path, path).agreement == found.agreement
    filled.loc[7, "label_2"] = "x"
    filled.to_csv(path, index=False)
    with pytest.raises(UserError, match="line 9: label_2 'x' is none of negative"):
        read(tmp_path, path)


def test_a_sample_by_thousands_of_groups_is_spread_by_size(tmp_path):
    whole, _ = draw(60_000)
    rng = np.random.default_rng(0)
    film = np.minimum(rng.pareto(0.6, 60_000) * 3, 15_000).astype(int)
    whole = whole.append_column("film", pa.array([f"film {number}" for number in film]))
    score(tmp_path, whole, keep=["film"])
    drawn, _ = next_draw.draw_rows(load(tmp_path, by="film"), 1000)
    size = pd.Series(film).value_counts()
    assert len(size) > 10_000 or len(size) > 1000
    of_drawn = size[film[drawn["row_id"]]].to_numpy()
    assert len(drawn) == 1000
    expected = np.sqrt(size)
    large = size >= 100
    part = (of_drawn >= 100).mean()
    assert part == pytest.approx(expected[large].sum() / expected.sum(), abs=0.05)


def test_a_few_weeks_of_labels_and_three_models(tmp_path):
    rng = np.random.default_rng(0)
    options = {"num_weeks": 9, "rows_a_week": 300, "size": 30, "by": ["airline", "created:week"]}
    methods = []
    for _, found, _, rows in label_weeks(tmp_path, rng, **options):
        methods.append(found.method)
        last = found, rows
    assert set(methods) <= {"corrected", "pooled"}
    hits = find_hits(*last, by="created:week")
    assert hits.mean() > 0.85  # 27 intervals


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_year_of_weekly_labels(tmp_path):
    """A file of 30 rows a week, three models; ``docs/trends.md`` has the figures."""
    hits = []
    answered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        options = {"num_weeks": 52, "rows_a_week": 300, "size": 30}
        folder = tmp_path / str(seed)
        by = ["airline", "created:month"]
        measured = None if seed < 5 else {51}
        for week, found, _, rows in label_weeks(folder, rng, **options, by=by, measured=measured):
            answered.append(found.method != "uncorrected")
            if week == 51:
                hits.append(find_hits(found, rows))
    print(f"answers {sum(answered)} of {len(answered)}, coverage by month {np.mean(hits):.3f}")
    assert all(answered)
    assert np.mean(hits) >= 0.93
