"""The mean rating of ordered classes, by group and period."""

import re

import numpy as np
import pandas as pd
import pytest
from corpora import STARS, draw_stars, load, score
from stages import run_stage

from sentiflow.data import label_files
from sentiflow.metrics import sampling
from sentiflow.shares import ratings, trends
from sentiflow.tracking.recorder import Recorder

NUM_ROWS = 6000
VALUES = (1.0, 2.0, 3.0, 4.0, 5.0)


def run(folder, **options):
    """Run the stage; return its manifest, and its two tables."""
    record = run_stage(trends, load(folder, **options), Recorder(), overwrite=True)
    shares = pd.read_parquet(folder / "trends/trends.parquet")
    path = folder / "trends/means.parquet"
    return record, shares, pd.read_parquet(path) if path.exists() else None


def score_stars(folder, table, label=None, *, values=VALUES):
    score(folder, table, label, classes=STARS, values=values)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus with labels of a tenth of its rows, and the truth."""
    folder = tmp_path_factory.mktemp("stars")
    table, truth = draw_stars(NUM_ROWS)
    label = np.where(np.arange(NUM_ROWS) % 10 == 0, truth, -1)
    score_stars(folder, table, label)
    return folder, table.to_pandas().assign(rating=truth + 1)


@pytest.fixture(scope="module")
def outcome(corpus):
    return run(corpus[0], by=["airline", "created:week"])


def find_truth(rows, keys):
    return rows.groupby(keys)["rating"].mean()


def test_intervals_hold_the_mean_where_that_of_predictions_is_far_off(corpus, outcome):
    rows = corpus[1].assign(group=lambda table: table["airline"], period=corpus[1]["created"])
    rows["period"] = rows["period"].dt.floor("D")  # weeks begin on Monday, and so do the texts
    _, shares, means = outcome
    whole = means.iloc[0]
    assert whole["low"] <= rows["rating"].mean() <= whole["high"]
    assert whole["predicted_mean"] > whole["high"] + 0.3
    hits = []
    for by, keys in {
        "airline": ["group"],
        "created:week": ["period"],
        "airline, created:week": ["group", "period"],
    }.items():
        found = means[means["by"] == by].set_index(keys).sort_index()
        truth = find_truth(rows, keys)
        hits += ((found["low"] <= truth) & (truth <= found["high"])).tolist()
    assert np.mean(hits) > 0.9
    assert len(means) == len(shares) / 5  # a line for five classes


def test_means_have_the_rows_labels_and_methods_of_the_shares(outcome):
    _, shares, means = outcome
    columns = ["by", "group", "period", "rows", "labelled"]
    of_class = shares[shares["class"] == "1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(means[columns], of_class[columns])
    assert set(means["method"]) <= {"corrected", "pooled", "predicted"}
    assert means.loc[means["by"] == "airline", "p_adjusted"].notna().all()


def leave_out_difference(conclusions):
    """Beside a mean, shares have another part of the level, so the interval is wider."""
    return sorted((line[0], line[1].partition("; the clearest")[0]) for line in conclusions)


def test_shares_do_not_depend_on_the_order_of_the_classes(corpus, outcome, tmp_path):
    table, truth = draw_stars(NUM_ROWS)
    score_stars(tmp_path, table, np.where(np.arange(NUM_ROWS) % 10 == 0, truth, -1), values=None)
    record, shares, means = run(tmp_path, by=["airline", "created:week"])
    assert means is None
    pd.testing.assert_frame_equal(shares, outcome[1], check_exact=False, rtol=1e-9)
    assert "mean rating" not in (tmp_path / "trends/trends.html").read_text().lower()
    of_shares = [line for line in outcome[0]["conclusions"] if "mean rating" not in line[1]]
    assert leave_out_difference(record["conclusions"]) == leave_out_difference(of_shares)


def test_the_headline_is_the_mean_and_names_the_lowest_group(outcome):
    record = outcome[0]
    lines = [" ".join(line[:2]) for line in record["conclusions"]]
    assert re.match(r"3\.\d\d is the mean rating of the texts \(95% interval 3\.\d\d to", lines[0])
    assert re.match(r"2\.\d\d is the lowest mean rating: airline three \(p ", lines[2])
    assert "is the mean rating of 2026-03-23; no change beyond chance" in lines[3]
    difference = lines[3].partition("; the clearest difference is around ")[2]
    assert re.fullmatch(r"2026-\d\d-\d\d: \S+ \(95% interval \S+ to \S+\)", difference)
    named = [re.search(r"of the texts are “(\d)”", line) for line in lines[4:9]]
    assert [each[1] for each in named] == ["1", "2", "3", "4", "5"], "in the order of the classes"


def test_the_page_shows_the_mean_by_group_and_period(corpus, outcome):
    page = (corpus[0] / "trends/trends.html").read_text()
    mean = outcome[2]["corrected_mean"][0]
    assert f"<h1><em>{mean:.2f}</em> is the mean rating of the texts</h1>" in page
    assert "<h2>Mean rating, by airline</h2>" in page
    assert "<h2>Mean rating, by created:week</h2>" in page
    assert page.count("<figure>") == 4
    for name in ("mean_periods", "mean_groups", "periods", "groups"):
        assert (corpus[0] / f"trends/plots/{name}.png").exists()


def test_a_change_of_the_mean_is_told(tmp_path):
    table, truth = draw_stars(NUM_ROWS, change=-0.8)
    score_stars(tmp_path, table, np.where(np.arange(NUM_ROWS) % 10 == 0, truth, -1))
    record, _, _ = run(tmp_path, by="created:week")
    number, meaning, _ = record["conclusions"][1]
    assert re.match("\u22120\\.[5-9]", number)
    assert meaning.startswith("in the mean rating, changed around 2026-02-16: 3.")


def find_expected(table):
    """Average the expected ratings of predictions."""
    probabilities = np.stack([table[f"probability_{name}"].to_numpy() for name in STARS], axis=1)
    return probabilities @ np.array(VALUES)


def test_without_labels_the_mean_is_that_of_the_expected_ratings(tmp_path):
    table, _ = draw_stars(2000)
    score_stars(tmp_path, table)
    record, _, means = run(tmp_path, by="airline")
    assert set(means["method"]) == {"uncorrected"}
    assert means[["corrected_mean", "low", "high", "p_adjusted"]].isna().all(axis=None)
    predicted = table["prediction"].to_numpy().mean() + 1
    assert means["predicted_mean"][0] == pytest.approx(predicted)
    expected = find_expected(table)
    assert means["expected_mean"][0] == pytest.approx(expected.mean(), rel=1e-6)
    by_group = pd.Series(expected).groupby(table["airline"].to_numpy()).mean()
    of_groups = means[means["by"] == "airline"].set_index("group")["expected_mean"]
    pd.testing.assert_series_equal(of_groups, by_group, check_names=False, rtol=1e-6)
    assert f"{expected.mean():.2f}" != f"{predicted:.2f}"
    assert list(record["conclusions"][0]) == [
        f"{expected.mean():.2f}",
        "is the mean expected rating of the texts: uncorrected; predicted labels give "
        f"{predicted:.2f}",
        "shares",
    ]
    page = (tmp_path / "trends/trends.html").read_text()
    assert f"<em>{expected.mean():.2f}</em> is the mean expected rating of the texts</h1>" in page
    for mean in by_group:
        assert f'<td class="sign">{mean:.2f}</td>' in page


def test_a_label_that_is_only_counted_takes_the_place_of_an_expected_rating():
    sums = sampling.add_up(
        pd.DataFrame({"shop": ["a", "a", "b"]}),
        prediction=np.array([0, 1, 1]),
        probabilities=np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]]),
        label=np.array([1, -1, -1]),
        weight=np.array([0.0, 1.0, 1.0]),
        values=np.array([0.0, 1.0]),
    )
    of_values = sampling.of_values(sums, 2)
    means = ratings.average_expected(of_values, np.array([0, 1]))
    assert means.tolist() == [[(1 + 0.75) / 2], [0.5]]
    assert ratings.average_expected(of_values, np.array([0, 0])).tolist() == [[2.25 / 3]]


def test_with_all_labels_the_mean_is_counted(tmp_path):
    table, truth = draw_stars(2000)
    score_stars(tmp_path, table, truth)
    _, _, means = run(tmp_path)
    assert set(means["method"]) == {"counted"}
    for column in ("corrected_mean", "low", "high"):
        assert means[column][0] == pytest.approx(truth.mean() + 1)


def test_values_are_not_steps_of_one(tmp_path):
    """Falling and unequal values: the mean is that of the values."""
    table, truth = draw_stars(NUM_ROWS)
    values = (100.0, 50.0, 10.0, 0.0, -5.0)
    score_stars(tmp_path, table, np.where(np.arange(NUM_ROWS) % 10 == 0, truth, -1), values=values)
    _, _, means = run(tmp_path)
    assert means["low"][0] <= np.array(values)[truth].mean() <= means["high"][0]


def test_a_class_without_a_number_is_named_and_there_is_no_mean(tmp_path):
    table, _ = draw_stars(2000)
    score_stars(tmp_path, table, values=(1.0, 2.0, 3.0, 4.0, None))
    record, _, means = run(tmp_path)
    assert means is None
    assert any(
        "no mean rating: the number of the class “5” is unknown" in note for note in record["notes"]
    )


def test_kept_sums_are_not_of_other_values(tmp_path):
    """A second run with other values does not take the sums of the first."""
    table, truth = draw_stars(2000)
    score_stars(tmp_path, table, truth)
    run(tmp_path)
    score_stars(tmp_path, table, truth, values=(2.0, 4.0, 6.0, 8.0, 11.0))
    _, _, means = run(tmp_path)
    expected = np.array([2.0, 4.0, 6.0, 8.0, 11.0])[truth].mean()
    assert means["corrected_mean"][0] == pytest.approx(expected)


def test_manual_labels_and_the_corpus_give_the_same_mean(tmp_path):
    table, truth = draw_stars(3000)
    label = np.where(np.arange(3000) % 10 == 0, truth, -1)
    row_id = np.flatnonzero(label >= 0)
    path = tmp_path / "labels.csv"
    written = pd.DataFrame({"row_id": row_id, "label": [STARS[code] for code in label[row_id]]})
    path.write_bytes(label_files.to_csv(written))
    score_stars(tmp_path / "inside", table, label)
    score_stars(tmp_path / "beside", table)
    _, _, means = run(tmp_path / "beside", by="airline", labels=str(path))
    _, _, expected = run(tmp_path / "inside", by="airline")
    pd.testing.assert_frame_equal(means, expected)


def test_texts_of_authors_and_of_several_models_have_means(tmp_path):
    table, truth = draw_stars(3000)
    label = np.where(np.arange(3000) % 5 == 0, truth, -1)
    names = [f"user {number // 3}" for number in range(3000)]
    with_users = table.append_column("user", [names])
    score(
        tmp_path, with_users, label, classes=STARS, values=VALUES, keep=["user"],
        rows_of={"1": 1500, "2": 1500},
    )  # fmt: skip
    _, _, means = run(tmp_path)
    assert means["by"].tolist() == ["all", "model_version", "model_version"]
    assert (means["low"] <= truth.mean() + 1)[0]
    assert (truth.mean() + 1 <= means["high"])[0]


@pytest.mark.parametrize(
    ("classes", "values", "is_told"),
    [
        (("1", "2", "3 stars"), None, True),
        (("1", "2", "3"), [1, 2, 3], False),
        (("0", "1"), None, False),
        (("1", "2", "none"), None, False),
    ],
)
def test_classes_that_are_numbers_without_an_order_are_told(classes, values, is_told):
    scored = {"classes": list(classes)} | ({"class_values": values} if values else {})
    notes = ratings.note_unordered(scored)
    assert len(notes) == is_told
    assert all("format.ordered: true" in note for note in notes)
