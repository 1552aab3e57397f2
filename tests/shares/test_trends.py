"""The stage: a scored corpus -> trends.parquet, with the truth beside it, and the page."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from corpora import AIRLINES, CLASSES, MODEL, draw, load, score
from stages import run_stage
from test_evaluated_rows import NUM_ROWS as NUM_PREPARED
from test_evaluated_rows import TEXTS, Runs, by_tens

from sentiflow.data import manifest
from sentiflow.data.outputs import open_output
from sentiflow.errors import JobError, UserError
from sentiflow.shares import breakdowns, next_draw, trends
from sentiflow.shares import table as shares_table
from sentiflow.tracking.recorder import Recorder

NUM_ROWS, NUM_LABELLED = 10_000, 1000


def run(folder, **options):
    record = run_stage(trends, load(folder, **options), Recorder(), overwrite=True)
    return record, pd.read_parquet(folder / "trends/trends.parquet")


def measure(folder, **options):
    """Measure the shares alone, without the page and its plots."""
    uri = str(folder / "scored")
    found = shares_table.measure(load(folder, **options).trends, manifest.read(uri), uri)
    return found, shares_table.tabulate(found).to_pandas()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus with labels of a tenth of its rows, and the truth."""
    folder = tmp_path_factory.mktemp("corpus")
    table, truth = draw(NUM_ROWS)
    label = np.where(np.arange(NUM_ROWS) % 10 == 0, truth, -1)
    score(folder, table, label)
    return folder, table.to_pandas().assign(truth=truth)


@pytest.fixture(scope="module")
def outcome(corpus):
    return run(corpus[0], by=["airline", "created:day"])


def test_a_comma_in_the_name_of_a_column_does_not_make_it_two_columns(tmp_path):
    table, truth = draw(300)
    score(tmp_path, table.rename_columns({"airline": "City, State"}), truth, keep=["City, State"])
    found, _ = measure(tmp_path, by="City, State")
    _, by_column = found.breakdowns
    assert by_column.by == "City, State"
    assert not by_column.is_by_both


def test_predictions_that_are_replaced_after_the_plan_are_not_measured(tmp_path):
    table, _ = draw(300)
    score(tmp_path, table)
    plan = trends.resolve(load(tmp_path))
    path = tmp_path / "scored/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "ab"}))
    is_refused = pytest.raises(JobError, match="was replaced while it was read")
    with open_output(plan.spec) as output, is_refused:
        trends.run(plan, output, Recorder())
    assert not (tmp_path / "trends/manifest.json").exists()


def test_each_column_is_taken_alone_and_both_together(outcome):
    record, table = outcome
    counts = table.groupby("by").size()
    assert counts.to_dict() == {
        "all": 3, "airline": 12, "created:day": 30, "airline, created:day": 120
    }  # fmt: skip
    assert (table.groupby("by")["rows"].sum() == 3 * NUM_ROWS).all()
    assert table["method"].groupby(table["by"]).unique().map(list).to_dict() == {
        "all": ["corrected"], "airline": ["corrected"], "created:day": ["corrected"],
        "airline, created:day": ["corrected", "pooled"],
    }  # fmt: skip
    counts = {"rows": 10_000, "sample": 1000, "counted": 0, "skipped": 0, "groups": 55}
    assert record["counts"] == counts


def test_intervals_hold_the_truth_where_shares_of_predictions_are_far_off(corpus, outcome):
    rows = corpus[1]
    table = outcome[1]
    rows["group"] = rows["airline"]
    rows["period"] = rows["created"].dt.floor("D")
    rows["negative"] = rows["truth"] == 0
    for by, keys in {
        "airline": ["group"],
        "created:day": ["period"],
        "airline, created:day": ["group", "period"],
    }.items():
        truth = rows.groupby(keys)["negative"].mean()
        found = table[(table["by"] == by) & (table["class"] == "negative")]
        found = found.set_index(keys).sort_index()
        assert len(found) == len(truth)
        inside = (found["low"] <= truth) & (truth <= found["high"])
        assert inside.mean() > 0.9, by
        assert ((found["predicted_share"] < found["low"]).mean()) > 0.5, by


def test_the_headline_says_the_share_the_worst_airline_and_no_change(outcome):
    numbers = [" ".join(line[:2]) for line in outcome[0]["conclusions"]]
    assert re.match(r"5\d\.\d% of the texts are negative \(95% interval 5\d\.\d% to", numbers[0])
    assert re.match(r"\d+\.\d% is the highest share of negative: airline United \(p ", numbers[3])
    assert "no change beyond chance" in numbers[4]


def test_a_corpus_without_labels_gets_uncorrected_shares_and_a_way_out(tmp_path):
    table, _ = draw(2000)
    score(tmp_path, table)
    record, found = run(tmp_path, by="airline")
    assert set(found["method"]) == {"uncorrected"}
    assert found[["corrected_share", "low", "high", "p_adjusted"]].isna().all(axis=None)
    assert "--sample 300" in record["notes"][0]
    assert "uncorrected" in record["conclusions"][0][1]
    page = (tmp_path / "trends/trends.html").read_text()
    assert "predicted negative" in page
    assert "It is not corrected" in page


def test_six_versions_without_labels_are_uncorrected_not_known(tmp_path):
    table, _ = draw(3000)
    score(tmp_path, table, rows_of={str(number): 500 for number in range(6)})
    record, found = run(tmp_path)
    assert set(found["method"]) == {"uncorrected"}
    assert "uncorrected" in record["conclusions"][0][1]
    assert "texts have a label" not in (tmp_path / "trends/trends.html").read_text()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A corpus of many texts, without labels."""
    folder = tmp_path_factory.mktemp("many")
    score(folder, *draw(12_000))
    return folder


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("brand", "trends.by: the predictions have no column brand; there are airline, created"),
        ("created", "trends.by: created is a time: name a unit, such as created:week"),
        ("airline:day", "trends.by: airline holds no times, but values such as"),
        (
            "created:quarter",
            "created:quarter: 'quarter' is no unit of time; the units are hour, day, week, month",
        ),
        (
            ["created:day", "created:week"],
            "by may name one column with a unit of time, not 2: created:day, created:week",
        ),
        (["airline", "split", "text"], "at most 2"),
    ],
)
def test_a_wrong_column_is_a_line_that_says_so(many, by, message):
    with pytest.raises(UserError) as error:
        run(many, by=by)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (many / "trends/manifest.json").exists()


def test_times_are_cut_as_written_and_rows_without_one_are_counted(tmp_path):
    table, truth = draw(3000)
    written = table["created"].to_pandas().dt.strftime("%Y-%m-%d %H:%M:%S -0800").to_numpy(object)
    written[:100] = ""
    at = table.schema.get_field_index("created")
    score(tmp_path, table.set_column(at, "created", [written]), truth)
    for unit, periods in {"month": 1, "week": 2, "day": 10, "hour": 10}.items():
        shares, found = measure(tmp_path, by=f"created:{unit}")
        found = found[found["by"] != "all"]
        assert found["period"].nunique() == periods, unit
        assert shares.notes[1:] == ["100 rows have no time in created and are in no period"]
        assert found["rows"].sum() == 3 * 2900
    assert set(found["period"].dt.hour) == {20}  # UTC


@pytest.mark.parametrize("missing", ["", None])
def test_a_part_whose_rows_all_lack_a_time_is_in_no_period(tmp_path, missing):
    table, truth = draw(3000)
    written = table["created"].to_pandas().dt.strftime("%Y-%m-%d").to_numpy(object)
    written[1000:2000] = missing
    at = table.schema.get_field_index("created")
    table = table.set_column(at, "created", [pa.array(written, pa.string())])
    score(tmp_path, table, truth, rows_per_file=1000)
    shares, found = measure(tmp_path, by="created:day")
    assert shares.notes[1:] == ["1,000 rows have no time in created and are in no period"]
    assert found.loc[found["by"] != "all", "rows"].sum() == 3 * 2000
    written[:] = missing
    score(tmp_path, table.set_column(at, "created", [pa.array(written, pa.string())]), truth)
    shares, found = measure(tmp_path, by="created:day")
    assert shares.notes[1:] == ["3,000 rows have no time in created and are in no period"]
    assert set(found["by"]) == {"all"}


@pytest.mark.parametrize(
    ("zone", "months"),
    [("UTC", {"2024-02-01": 1, "2024-03-01": 2}), ("Europe/Berlin", {"2024-03-01": 3})],
)
def test_times_with_a_zone_are_cut_in_the_one_that_is_asked_for(tmp_path, zone, months):
    table, truth = draw(300)
    written = ["2024-02-29T23:30", "2024-03-15T12:00", "2024-03-31T21:30"]
    times = pa.array(np.array(written, "datetime64[us]")[np.arange(300) % 3])
    at = table.schema.get_field_index("created")
    in_zone = times.cast(pa.timestamp("us", "America/New_York"))
    score(tmp_path, table.set_column(at, "created", in_zone), truth)
    _, found = measure(tmp_path, by="created:month", time_zone=zone)
    found = found[(found["by"] != "all") & (found["class"] == "negative")]
    rows = dict(zip(found["period"].dt.strftime("%Y-%m-%d"), found["rows"] // 100, strict=True))
    assert rows == months


def test_names_in_the_page_are_text(tmp_path):
    table, truth = draw(2000)
    at = table.schema.get_field_index("airline")
    evil = pd.Series(AIRLINES).map(lambda name: f"<script>{name}</script>$x$")
    names = table["airline"].to_pandas().map(dict(zip(AIRLINES, evil, strict=True)))
    score(tmp_path, table.set_column(at, "airline", [names]), np.where(truth > 9, truth, -1))
    run(tmp_path, by="airline")
    page = (tmp_path / "trends/trends.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_labels_of_rows_and_texts_that_the_model_was_trained_on_are_only_counted(tmp_path):
    runs = Runs(tmp_path)
    prepared = runs.prepare("a")
    trained = runs.train("a", prepared)
    record = manifest.read(trained)
    model = {"uri": f"{trained}/model", "fingerprint": record["model_fingerprint"]}
    model |= {"training": manifest.reference(trained, record), "settings": MODEL}
    table, truth = draw(NUM_PREPARED)
    own = {"model": model, "corpus": manifest.reference(prepared, manifest.read(prepared))}
    split = table.schema.get_field_index("split")
    score(tmp_path / "own", table.set_column(split, "split", [by_tens()]), truth, **own)
    found, _ = measure(tmp_path / "own")
    assert (found.num_sample, found.num_counted) == (60, 240)  # test rows; training, validation
    item = {"uri": "/data/new.csv", "bytes": 9, "modified_ns": 9, "tree_sha256": "0e4"}
    other = {"fingerprint": "0e4", "files": [item]}
    text = table.schema.get_field_index("text")
    texts = [TEXTS[0].upper(), TEXTS[8], *(f"new {at}" for at in range(2, NUM_PREPARED))]
    score(
        tmp_path / "new", table.set_column(text, "text", [texts]), truth, model=model, corpus=other
    )
    found, _ = measure(tmp_path / "new")
    assert (found.num_sample, found.num_counted) == (300, 0)  # text 8 is one of its test rows


def test_labels_that_were_chosen_by_certainty_are_told_and_nothing_is_claimed(tmp_path):
    table, truth = draw(NUM_ROWS)
    of_classes = [table[name].to_numpy() for name in table.column_names if "probability_" in name]
    is_sure = np.max(of_classes, axis=0) > 0.9
    chosen = is_sure & (np.arange(NUM_ROWS) % 5 == 0)
    score(tmp_path, table, np.where(chosen, truth, -1))
    record, found = run(tmp_path, by=["airline", "created:day"])
    assert re.match(
        r"the labelled texts are not a random sample: 100.0% of them have a probability of "
        r"0\.\d+ or more, but \d\d\.\d% of all texts \(p < 0.001\); "
        r".* no group or period is claimed to differ",
        record["notes"][0],
    )
    assert (
        "The labelled texts are not a random sample"
        in (tmp_path / "trends/trends.html").read_text()
    )
    assert found["p_adjusted"].isna().all()
    assert len(record["conclusions"]) == 3  # the shares alone


def test_labels_that_are_mostly_older_are_told(tmp_path):
    table, truth = draw(4000, num_days=8)
    is_old = table["created"].to_numpy() < np.datetime64("2015-02-20")
    is_labelled = np.random.default_rng(0).random(4000) < np.where(is_old, 0.75, 0.12)
    score(tmp_path / "older", table, np.where(is_labelled, truth, -1))
    record, found = run(tmp_path / "older", by=["airline", "created:day"])
    note = record["notes"][0]
    assert re.fullmatch(
        r"labels are uneven: 7\d(\.\d)?% of the texts of 2015-02-1\d have one, "
        r"(9\.\d\d|1\d(\.\d)?)% of 2015-02-2\d; the intervals assume that the labelled texts are "
        r"a random sample: draw one by --sample",
        note,
    )
    page = (tmp_path / "older/trends/trends.html").read_text()
    assert f'<p class="note warning">L{note[1:]}.</p>' in page
    assert not found["p_adjusted"].isna().all()  # groups are compared as before

    # Each version of a model is corrected by its own labels.
    order = np.argsort(~is_old, kind="stable")
    num_old = int(is_old.sum())
    score(
        tmp_path / "versions",
        table.take(order).set_column(0, "row_id", pa.array(np.arange(4000))),
        np.where(is_labelled, truth, -1)[order],
        rows_of={"1": num_old, "2": 4000 - num_old},
    )
    versions, _ = measure(tmp_path / "versions", by="created:day")
    assert not any("uneven" in line for line in versions.notes)


def test_labels_of_a_file_are_uneven_by_group_unless_sample_has_drawn_them(tmp_path):
    table, truth = draw(4000)
    score(tmp_path, table)
    is_united = (table["airline"].to_pandas() == "United").to_numpy()
    chosen = np.flatnonzero(np.random.default_rng(0).random(4000) < np.where(is_united, 0.3, 0.05))
    rows = pd.DataFrame({"row_id": chosen, "label": np.array(CLASSES)[truth[chosen]]})
    rows.to_csv(tmp_path / "chosen.csv")
    found, _ = measure(tmp_path, by="airline", labels=[str(tmp_path / "chosen.csv")])
    (line,) = [line for line in found.notes if "uneven" in line]
    assert "of the texts of airline United have one" in line

    own = np.where(np.arange(4000) % 2, truth, -1)
    score(tmp_path / "own", table, own)
    found, _ = measure(tmp_path / "own", by="airline", labels=[str(tmp_path / "chosen.csv")])
    (line,) = [line for line in found.notes if "uneven" in line]
    assert "(leaving out texts whose label does not measure the error); the intervals" in line

    drawn, _ = next_draw.draw_rows(load(tmp_path, by="airline"), 400)
    number = drawn["row_id"]
    drawn.assign(label=np.array(CLASSES)[truth[number]]).to_csv(tmp_path / "drawn.csv")
    found, _ = measure(tmp_path, by="airline", labels=[str(tmp_path / "drawn.csv")])
    assert not any("uneven" in line for line in found.notes)


def test_a_group_without_a_label_says_so_and_is_not_claimed_to_differ(tmp_path):
    table, truth = draw(NUM_ROWS)
    is_united = (table["airline"].to_pandas() == "United").to_numpy()
    rng = np.random.default_rng(0)
    kept = np.flatnonzero(~is_united | (rng.random(NUM_ROWS) < 0.05))  # too few to be noticed
    table, truth, is_united = table.take(kept), truth[kept], is_united[kept]
    label = np.where((rng.random(len(kept)) < 0.1) & ~is_united, truth, -1)
    score(tmp_path, table, label)
    record, found = run(tmp_path, by="airline")
    united = found[found["group"] == "United"]
    assert set(united["method"]) == {"unlabelled"}
    assert united["p_adjusted"].isna().all()
    assert united["low"].notna().all()
    assert ", of 3 groups with at least 30 texts and 10 labels" in record["conclusions"][3][1]
    assert ">no labelled text<" in (tmp_path / "trends/trends.html").read_text()


def group(table, values):
    """Add the column ``brand`` to a table of ``draw``."""
    return table.append_column("brand", pa.array(values, pa.string()))


def test_any_number_of_groups_is_in_the_table_and_the_largest_are_on_the_page(tmp_path):
    table, truth = draw(12_000)
    number = np.arange(12_000)
    brand = np.where(number < 8000, number % 40, number)  # 40 large ones, and 4,000 of one text
    label = np.where(np.random.default_rng(0).random(12_000) < 0.2, truth, -1)
    score(tmp_path, group(table, brand.astype(str)), label, keep=["brand"])
    record, found = run(tmp_path, by="brand")
    found = found[(found["by"] == "brand") & (found["class"] == "negative")]
    assert len(found) == 4040
    assert found["rows"].sum() == 12_000
    assert found.loc[found["rows"] == 1, "p_adjusted"].isna().all()
    assert found.loc[found["rows"] > 1, "p_adjusted"].notna().all()
    page = (tmp_path / "trends/trends.html").read_text().partition("By brand")[2]
    lines = re.findall(r'<th scope="row"><b>([^<]*)</b>', page)
    assert len(lines) == 31
    assert lines[-1] == "other (4,010 groups)"
    assert set(lines[:30]) <= {str(one) for one in range(40)}
    assert "4,010 more, with as many texts or fewer, are in" in page
    assert ", of 40 groups with at least 30 texts and 10 labels" in record["conclusions"][3][1]


def test_other_groups_are_estimated_as_one_group(tmp_path):
    table, truth = draw(6000)
    brand = np.arange(6000) ** 2 % 97 % 60
    label = np.where(np.arange(6000) % 4 == 0, truth, -1)
    score(tmp_path, group(table, brand.astype(str)), label, keep=["brand"])
    found, _ = measure(tmp_path, by="brand")
    by_brand = found.breakdowns[1]
    of_class = by_brand.of("negative")
    largest = of_class.nlargest(breakdowns.MAX_SHOWN, "rows")["group"]
    assert by_brand.num_groups > breakdowns.MAX_SHOWN
    merged = np.where(np.isin(brand.astype(str), largest), brand.astype(str), "other")
    score(tmp_path / "merged", group(table, merged), label, keep=["brand"])
    expected, _ = measure(tmp_path / "merged", by="brand")
    expected = expected.breakdowns[1].of("negative").set_index("group").loc["other"]
    other = by_brand.other.set_index("class").loc["negative"]
    for name in ("rows", "labelled", "corrected_share", "low", "high"):
        assert other[name] == pytest.approx(expected[name]), name


def test_a_period_of_one_text_starts_no_change(tmp_path):
    table, truth = draw(3000, num_days=1)
    created = table["created"].to_numpy().copy()
    created[0] -= np.timedelta64(4000, "D")
    truth[0] = 1  # a share of negative of 0, of one text
    at = table.schema.get_field_index("created")
    score(tmp_path, table.set_column(at, "created", pa.array(created)), truth)
    record, found = run(tmp_path, by="created:month")
    assert set(found["method"]) == {"counted"}
    _, meaning, _ = record["conclusions"][3]
    assert meaning.endswith(
        "too few labels to tell a change: 30 before it and 30 after it are the least"
    )
    page = (tmp_path / "trends/trends.html").read_text()
    assert "all labelled" in page
    assert "0.0% \u2013 0.0%" not in page  # its share is known


def test_groups_of_one_labelled_text_are_not_colored(tmp_path):
    table, truth = draw(3000)
    brand = np.where(np.arange(3000) < 100, np.arange(3000), -1)
    score(tmp_path, group(table, brand.astype(str)), truth, keep=["brand"])
    _, found = run(tmp_path, by="brand")
    assert set(found["method"]) == {"counted"}
    assert found["p_adjusted"].isna().all() or (found["p_adjusted"].dropna() >= 0.05).all()
    assert "worse" not in (tmp_path / "trends/trends.html").read_text().partition("By brand")[2]


def test_too_few_labels_for_groups_are_told(tmp_path):
    table, truth = draw(NUM_ROWS)
    brand = np.arange(NUM_ROWS) // 5
    label = np.where(np.arange(NUM_ROWS) % 200 == 0, truth, -1)  # one label in each of 50 brands
    score(tmp_path, group(table, brand.astype(str)), label, keep=["brand"])
    record, found = run(tmp_path, by="brand")
    found = found[found["by"] == "brand"]
    assert set(found["method"]) == {"unbounded"}
    assert found[["low", "high", "p_adjusted"]].isna().all(axis=None)
    assert found["corrected_share"].notna().all()
    notes = "; ".join(record["notes"])
    assert "by brand: too few labels for groups: 2,000 of 2,000 have no interval" in notes
    page = (tmp_path / "trends/trends.html").read_text().partition("<h2>By brand")[2]
    assert "too few labels for groups" in page
    assert "nan" not in page
    assert record["conclusions"][3][0] == "0 of 2,000"


def test_a_group_of_which_nothing_is_known_is_not_drawn(tmp_path):
    table, truth = draw(2000, num_days=4)
    airline = np.array(table["airline"].to_pylist())
    is_labelled = (np.arange(2000) % 20 == 0) & (airline != "United")
    score(tmp_path, table, np.where(is_labelled, truth, -1))
    _, shares = run(tmp_path, by=["airline"])
    shares = shares[(shares["by"] == "airline") & (shares["class"] == "negative")]
    is_unknown = (shares["low"] == 0) & (shares["high"] == 1)
    assert 0 < is_unknown.sum() < len(shares)
    page = (tmp_path / "trends/trends.html").read_text().partition("By airline")[2]
    assert page.count(">unknown<") == 2 * is_unknown.sum()  # on a phone, and elsewhere
    assert page.count("<circle") == len(shares) - is_unknown.sum()
    for row in shares[~is_unknown].itertuples():
        assert page.count(f"{row.low:.1%} \u2013 {row.high:.1%}") == 2  # on a phone, and elsewhere


def test_texts_of_an_author_are_one_observation_unless_they_were_drawn(tmp_path):
    table, truth = draw(NUM_ROWS)
    author = np.arange(NUM_ROWS) // 20
    names = [f"user {number}" for number in author]
    label = np.where(author % 10 == 0, truth, -1)
    score(tmp_path / "rows", table, label)
    score(tmp_path / "authors", table.append_column("user", [names]), label, keep=["user"])
    (by_row, rows), (by_author, authors) = measure(tmp_path / "rows"), measure(tmp_path / "authors")
    assert by_row.num_sample == by_author.num_sample == 1000
    np.testing.assert_allclose(rows["corrected_share"], authors["corrected_share"])
    wider = (authors["high"] - authors["low"]) / (rows["high"] - rows["low"])
    assert wider.between(0.9, 2).all()  # authors of this corpus are alike
    # All texts of an author have one class: there are 50 observations.
    same = np.where(label >= 0, truth[author * 20], -1)
    score(tmp_path / "rows", table, same)
    score(tmp_path / "authors", table.append_column("user", [names]), same, keep=["user"])
    rows, authors = (measure(tmp_path / name)[1] for name in ("rows", "authors"))
    wider = (authors["high"] - authors["low"]) / (rows["high"] - rows["low"])
    assert (wider > 2.5).all()


def draw_versions():
    """Draw a day that a model has scored, and one of another, which finds too many negative."""
    (one, truth), (two, other) = (draw(3000, seed=seed, num_days=1) for seed in (1, 2))
    is_negative = np.where(np.random.default_rng(0).random(3000) < 0.3, 0, other)
    chosen = np.eye(3)[is_negative] * 0.7 + 0.1
    columns = {"prediction": pa.array(is_negative, pa.int8())}
    columns |= {
        f"probability_{n}": pa.array(p, pa.float32())
        for n, p in zip(CLASSES, chosen.T, strict=True)
    }
    columns["created"] = pa.array(two["created"].to_numpy() + np.timedelta64(1, "D"))
    columns["row_id"] = pa.array(np.arange(3000, 6000))
    for name, column in columns.items():
        two = two.set_column(two.schema.get_field_index(name), name, column)
    return pa.concat_tables([one, two.cast(one.schema)]), np.concatenate([truth, other])


@pytest.mark.parametrize("labelled", [(300, 60), (300, 5), (0, 0)])
def test_labels_tell_errors_of_the_version_that_scored_their_rows_alone(tmp_path, labelled):
    table, truth = draw_versions()
    label = truth.copy()
    for start, number in zip((0, 3000), labelled, strict=True):
        label[start + number : start + 3000] = -1
    score(tmp_path, table, label, rows_of={"1": 3000, "2": 3000})
    record, shares = run(tmp_path, by=["created:day"])
    negative = shares[shares["class"] == "negative"]
    by_day = negative[negative["by"] == "created:day"].sort_values("period")
    by_model = negative[negative["by"] == "model_version"].sort_values("group")
    (whole,) = negative[negative["by"] == "all"].itertuples()
    truths = [(truth[start : start + 3000] == 0).mean() for start in (0, 3000)]
    names = ["predicted_share", "corrected_share", "low", "high"]
    np.testing.assert_array_equal(by_day[names], by_model[names])
    for line, number, true in zip(by_day.itertuples(), labelled, truths, strict=True):
        if number < 10:
            assert line.method == "uncorrected"
            assert np.isnan(line.corrected_share)
            continue
        assert line.low < true < line.high
        assert abs(line.predicted_share - true) > (line.high - line.low) / 2
    notes = [note for note in record["notes"] if note.startswith("model version")]
    few = (
        "; too few to measure its error: any share among its rows is possible, and shares of "
        "which they are more than 20% are not corrected"
    )
    assert notes == [
        f"model version {name}: 3,000 rows, {number} labelled{few if number < 10 else ''}"
        for name, number in zip("12", labelled, strict=True)
    ]
    assert (whole.method == "corrected") == (min(labelled) > 10)
    if min(labelled) > 10:
        assert whole.corrected_share == pytest.approx(by_day["corrected_share"].mean())
        reach = np.sqrt(((by_day["high"] - by_day["corrected_share"]) ** 2).sum()) / 2
        assert whole.high == pytest.approx(whole.corrected_share + reach)
        assert whole.low < np.mean(truths) < whole.high
    assert not any("model_version" in meaning for _, meaning, _ in record["conclusions"])


def find_periods(record):
    """Return the conclusions on time, each as a sentence."""
    return [f"{number} {text}" for number, text, part in record["conclusions"] if part == "periods"]


def draw_days(shares, *, labels=20, texts=200):
    """Draw texts of consecutive days with some shares of negative; the first texts have labels.

    The model has probabilities that say little.
    """
    rng = np.random.default_rng(8)
    table, _ = draw(texts * len(shares))
    day = np.repeat(np.arange(len(shares)), texts)
    is_negative = rng.random(len(day)) < np.array(shares)[day]
    truth = np.where(is_negative, 0, rng.integers(1, 3, len(day)))
    created = np.datetime64("2024-01-01T12:00:00", "us") + day * np.timedelta64(1, "D")
    at = table.column_names.index("created")
    table = table.set_column(at, "created", pa.array(created))
    is_labelled = np.tile(np.arange(texts), len(shares)) < labels
    return table, np.where(is_labelled, truth, -1)


def test_a_change_that_lasts_is_said_with_its_interval(tmp_path):
    score(tmp_path, *draw_days([0.2] * 15 + [0.6] * 15))
    found = find_periods(run(tmp_path, by="created:day")[0])
    said = re.match(
        r"\+(\d+\.\d) points of negative, changed around 2024-01-(\d\d): (\d+\.\d)% before, "
        r"(\d+\.\d)% since \(95% interval of the change \+\d+\.\d to \+\d+\.\d, at every look\)$",
        found[0],
    )
    gain, day, before, since = map(float, said.groups())
    assert abs(gain - 40) < 12
    assert abs(day - 16) <= 2
    assert gain == pytest.approx(since - before, abs=0.11)


def test_a_change_that_is_past_is_said_to_be_past(tmp_path):
    score(tmp_path, *draw_days([0.2] * 10 + [0.7] * 8 + [0.2] * 6))
    (first, *_) = find_periods(run(tmp_path, by="created:day")[0])
    assert "points of negative, changed around 2024-01-1" in first
    assert re.search(r"before, \d+\.\d% (since|until 2024-01-\d\d) \(95% interval", first)


def test_no_change_is_said_with_the_first_look(tmp_path):
    score(tmp_path, *draw_days([0.4] * 20))
    (line,) = find_periods(run(tmp_path, by="created:day")[0])
    assert re.match(
        r"\d+\.\d% of the texts of 2024-01-20 are negative; no change beyond chance, as at every "
        r"look since 2024-01-0\d; the clearest difference is around 2024-01-\d\d: "
        r"[+\u2212]\d+\.\d points \(95% interval \u2212\d+\.\d to \+\d+\.\d\)$",
        line,
    )


def test_periods_of_the_future_are_told(tmp_path):
    table, _ = draw(300)
    created = table["created"].to_numpy().copy()
    created[:40] = np.datetime64("2150-03-01T12:00:00", "us")
    place = table.column_names.index("created")
    score(tmp_path, table.set_column(place, "created", pa.array(created)))
    record, _ = run(tmp_path, by="created:month")
    assert record["notes"][-1] == (
        "40 rows are in periods of the future by created, the last one of 2150-03-01: check these "
        "times"
    )
    page = (tmp_path / "trends/trends.html").read_text()
    assert "Shaded areas" not in page  # there are no intervals


def test_too_few_labels_tell_no_change(tmp_path):
    score(tmp_path, *draw_days([0.2] * 10 + [0.9] * 10, labels=2))
    (line,) = find_periods(run(tmp_path, by="created:day")[0])
    assert line.endswith(
        "; too few labels to tell a change: 30 before it and 30 after it are the least"
    )


def test_a_version_with_few_labels_a_day_leaves_the_intervals_of_the_other(tmp_path):
    """As after a promotion: 15 labels of 15 days do not tell how much days differ."""
    table, truth = draw(NUM_ROWS, num_days=30)
    label = np.where(np.arange(NUM_ROWS) % 20 == 0, truth, -1)
    old = NUM_ROWS * 19 // 20
    day = pd.Series(table["created"].to_numpy())[old:]
    label[old:] = -1
    label[day.drop_duplicates().index[:15]] = truth[day.drop_duplicates().index[:15]]
    score(tmp_path, table, label, rows_of={"1": old, "2": NUM_ROWS - old})
    _, found = run(tmp_path, by="created:day")
    days = found[(found["by"] == "created:day") & (found["class"] == "negative")]
    assert days["method"].isin(["pooled", "corrected"]).mean() > 0.9
    is_negative = pd.Series(truth == 0).groupby(table["created"].to_numpy()).mean()
    is_hit = (days["low"].to_numpy() <= is_negative) & (is_negative <= days["high"].to_numpy())
    assert is_hit.mean() > 0.9


def test_the_column_of_times_needs_a_unit_where_it_is_text(tmp_path):
    table, _ = draw(50)
    written = pa.array(["15.08.11"] * 50)
    table = table.set_column(table.column_names.index("created"), "created", written)
    form = {
        "kind": "csv",
        "columns": {"text": "text", "time": "created"},
        "time_format": "%y.%m.%d",
    }
    score(tmp_path, table, form=form)
    with pytest.raises(UserError, match="created is a time: name a unit, such as created:week"):
        run(tmp_path, by="created")
    run(tmp_path, by="created:week")


def test_a_new_version_without_labels_widens_the_interval_of_all_rows(tmp_path):
    table, truth = draw_versions()
    kept = np.r_[0:3000, 3000:3300]
    table, truth = table.take(kept), truth[kept]
    label = np.where((np.arange(3300) < 3000) & (np.arange(3300) % 10 == 0), truth, -1)
    score(tmp_path / "one", table.slice(0, 3000), label[:3000])
    score(tmp_path / "two", table, label, rows_of={"1": 3000, "2": 300})
    _, one = run(tmp_path / "one", by=["created:day"])
    record, two = run(tmp_path / "two", by=["created:day"])
    (one,) = one[(one["by"] == "all") & (one["class"] == "negative")].itertuples()
    (whole,) = two[(two["by"] == "all") & (two["class"] == "negative")].itertuples()
    assert whole.method == "corrected"
    assert one.high - one.low + 0.02 < whole.high - whole.low < one.high - one.low + 0.1
    assert whole.low < (truth == 0).mean() < whole.high
    assert "; too few to measure its error: any share among its rows" in " ".join(record["notes"])
    last = record["conclusions"][-1][1]
    assert "but 0 of its 300 texts measure the error of the model (at least 30 texts and 10" in last
