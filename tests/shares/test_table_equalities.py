"""Shares of scored corpora in special cases, where a simpler corpus must give the same table."""

import numpy as np
import pandas as pd
import pytest
from corpora import CLASSES, draw, load, score

from sentiflow.data import label_files, manifest
from sentiflow.shares import next_draw, table

NUM_ROWS = 1500
COLUMNS = ["class", "rows", "predicted_share", "corrected_share", "low", "high", "labelled"]


@pytest.fixture(scope="module")
def corpus():
    """Draw a corpus, its truth, and labels of a fifth of its rows."""
    rows, truth = draw(NUM_ROWS, num_days=4)
    label = np.where(np.random.default_rng(0).random(NUM_ROWS) < 0.2, truth, -1)
    return rows, truth, label


def measure(folder, **options):
    """Measure the shares of a scored corpus: a table by the name of its breakdown."""
    uri = str(folder / "scored")
    found = table.measure(load(folder, **options).trends, manifest.read(uri), uri)
    return {item.by: item.table for item in found.breakdowns}, found


def assert_equal(found, expected, columns=COLUMNS, **options):
    pd.testing.assert_frame_equal(found[columns], expected[columns], **options)
    assert found["method"].tolist() == expected["method"].tolist()


def test_one_group_and_one_period_are_the_whole(tmp_path, corpus):
    rows, _, label = corpus
    score(tmp_path, rows.append_column("brand", [["one"] * NUM_ROWS]), label, keep=["brand"])
    found, _ = measure(tmp_path, by=["brand", "created:month"])
    for by in ("brand", "created:month", "brand, created:month"):
        assert_equal(found[by], found["all"])


def test_one_model_version_is_no_version(tmp_path, corpus):
    rows, _, label = corpus
    score(tmp_path / "plain", rows, label)
    score(tmp_path / "version", rows, label, rows_of={"1": NUM_ROWS})
    found, _ = measure(tmp_path / "version", by=["airline"])
    expected, _ = measure(tmp_path / "plain", by=["airline"])
    assert found.keys() == expected.keys() == {"all", "airline"}
    for by, of_plain in expected.items():
        assert_equal(found[by], of_plain)


def test_authors_of_one_text_are_no_authors(tmp_path, corpus):
    rows, _, label = corpus
    names = [f"user {number}" for number in range(NUM_ROWS)]
    score(tmp_path / "plain", rows, label)
    score(tmp_path / "authors", rows.append_column("user", [names]), label, keep=["user"])
    found, _ = measure(tmp_path / "authors", by=["airline"])
    expected, _ = measure(tmp_path / "plain", by=["airline"])
    for by, of_plain in expected.items():
        assert_equal(found[by], of_plain, rtol=1e-9)


def test_labels_in_a_file_are_labels_of_the_corpus(tmp_path, corpus):
    rows, _, label = corpus
    row_id = np.flatnonzero(label >= 0)
    written = [CLASSES[code] for code in label[row_id]]
    path = tmp_path / "labels.csv"
    path.write_bytes(label_files.to_csv(pd.DataFrame({"row_id": row_id, "label": written})))
    score(tmp_path / "inside", rows, label)
    score(tmp_path / "beside", rows)
    found, _ = measure(tmp_path / "beside", by=["airline"], labels=str(path))
    expected, _ = measure(tmp_path / "inside", by=["airline"])
    for by, of_inside in expected.items():
        assert_equal(found[by], of_inside)


def test_a_labelled_sample_of_all_rows_is_counted(tmp_path, corpus):
    rows, truth, _ = corpus
    score(tmp_path, rows)
    drawn, _ = next_draw.draw_rows(load(tmp_path, by="airline"), NUM_ROWS)
    filled = drawn.assign(label=[CLASSES[code] for code in truth[drawn["row_id"]]])
    path = tmp_path / "labels.csv"
    path.write_bytes(label_files.to_csv(filled))
    tables, found = measure(tmp_path, by=["airline"], labels=str(path))
    score(tmp_path / "counted", rows, truth)
    expected, counted = measure(tmp_path / "counted", by=["airline"])
    for by, of_counted in expected.items():
        assert set(of_counted["method"]) == {"counted"}
        assert_equal(tables[by], of_counted)
    assert (found.num_sample, found.num_counted) == (counted.num_sample, counted.num_counted)
    shares = np.bincount(truth) / NUM_ROWS
    for column in ("corrected_share", "low", "high"):
        assert tables["all"][column].tolist() == pytest.approx(shares.tolist())


def test_a_model_that_is_always_right_is_not_corrected_beyond_its_sample(tmp_path, corpus):
    rows, truth, label = corpus
    exact = rows
    for number, name in enumerate(CLASSES):
        at = exact.schema.get_field_index(f"probability_{name}")
        is_of = (truth == number).astype(np.float32)
        exact = exact.set_column(at, f"probability_{name}", [is_of])
    at = exact.schema.get_field_index("prediction")
    exact = exact.set_column(at, "prediction", [truth.astype(np.int8)])
    score(tmp_path, exact, label)
    found = measure(tmp_path)[0]["all"]
    gaps = (found["corrected_share"] - found["predicted_share"]).abs()
    of_sample = np.bincount(label[label >= 0]) / (label >= 0).sum()
    chance = np.abs(of_sample - found["predicted_share"])
    assert (gaps <= 0.1 * chance).all()
    assert (
        (found["low"] < found["predicted_share"]) & (found["predicted_share"] < found["high"])
    ).all()
