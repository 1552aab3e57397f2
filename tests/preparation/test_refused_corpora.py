"""A corpus that cannot be used is refused in one line, and nothing is left of it."""

# ruff: noqa: F401 - fixtures of another file

import csv
import gzip
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_prepare import PLAIN, THIRDS, WITH_USER, airline_csv, prepare, read, write_rows

from sentiflow.errors import UserError
from sentiflow.preparation import prepare as preparation

pytestmark = pytest.mark.ray

BY_TIME = {"split": {"kind": "time"}}

REFUSED = {
    "no user": (PLAIN, {"split": {"kind": "user"}}, "format.columns does not name the column user"),
    "no time": (
        PLAIN,
        BY_TIME,
        "the column time, which preparation needs: add format.columns.time",
    ),
    "no user to keep": (PLAIN, {"keep_columns": ["user"]}, "or remove user from prepare.keep_col"),
    "no such column to keep": (
        PLAIN | {"columns": {"text": "b", "label": "a"}},
        {"keep_columns": ["d", "x"], "csv": "named.csv"},
        "named.csv has no column x: its columns are 'a', 'b', ",
    ),
    "a table without a row": (
        PLAIN | {"columns": {"text": "text", "label": "label"}},
        {"csv": "empty.parquet"},
        "empty.parquet holds no record: name a file with rows",
    ),
    "mixed": (PLAIN, {"csv": "t*"}, "prepare.csv mixes CSV and Parquet: "),
    "no label": (
        {"kind": "csv", "columns": {"text": 1}},
        {},
        "format.columns does not name the column label",
    ),
    "texts as labels": (
        PLAIN | {"columns": {"text": 2, "label": 1}, "labels": "auto"},
        {},
        "a class needs 10 rows or more, and 60 of 60 have fewer: “text 0” (1), “text 1” (1), ",
    ),
    "a constant as label": (
        PLAIN | {"columns": {"text": 1, "label": 2}, "labels": "auto"},
        {},
        "there is only one: 'ann': the values of the label are 'ann' (60): set format.columns.lab",
    ),
    "a written class that is not there": (
        PLAIN | {"labels": "auto"},
        {"classes": ["n", "u"]},
        "train.classes: the data have no u to learn: the classes are n, p",
    ),
    "another column as label": (
        PLAIN | {"columns": {"text": 1, "label": 2}},
        {},
        "100.0% of the labels; labels that format.labels does not name: 'ann' (60): name them",
    ),
    "two times": (WITH_USER, BY_TIME, "needs three distinct times, and the rows have 2: use more"),
    "no such column": (PLAIN | {"columns": {"text": 7, "label": 0}}, {}, "format.columns.text=7, "),
    "damaged": (PLAIN, {"csv": "damaged.csv.gz"}, "damaged.csv.gz cannot be unpacked: "),
}


@pytest.mark.parametrize(("form", "chosen", "line"), REFUSED.values(), ids=REFUSED)
def test_an_unusable_corpus_is_refused_in_one_line_and_nothing_is_left(
    tmp_path, resources, form, chosen, line
):
    rows = [["np"[i % 2], f"text {i}", "ann", f"2020-01-0{1 + i % 2}"] for i in range(60)]
    path = write_rows(tmp_path / "tweets.csv", rows)
    (tmp_path / "damaged.csv.gz").write_bytes(gzip.compress(path.read_bytes())[:-1])
    write_rows(tmp_path / "named.csv", [["a", "b", "c", "d"], *rows])
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "tables.parquet")
    empty = pa.table({"text": ["a"], "label": ["n"]})[:0]
    pq.write_table(empty, tmp_path / "empty.parquet")
    settings = dict(chosen)
    files = tmp_path / settings.pop("csv", path.name)
    with pytest.raises(UserError) as error:
        prepare(tmp_path, files, form, **settings)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run/prepared").exists()


@pytest.mark.parametrize("changes", ["time", "content"])
def test_a_csv_that_is_changed_while_it_is_prepared_is_refused(
    tmp_path, resources, monkeypatch, changes
):
    rows = [("np"[number % 2], f"text {number}") for number in range(60)]
    path = write_rows(tmp_path / "tweets.csv", rows)
    fit = preparation.fit_vocabulary

    def change_then_fit(*arguments):
        time = path.stat().st_mtime_ns + 1
        if changes == "content":
            path.write_bytes(path.read_bytes().replace(b"text", b"TEXT"))
        os.utime(path, ns=(time, time))
        return fit(*arguments)

    monkeypatch.setattr(preparation, "fit_vocabulary", change_then_fit)
    if changes == "time":
        assert prepare(tmp_path, path, PLAIN, split=THIRDS)["counts"]["accepted"] == 60
        return
    with pytest.raises(UserError, match=r"tweets\.csv was changed while it was read: run the same"):
        prepare(tmp_path, path, PLAIN, split=THIRDS)
    assert not (tmp_path / "run/prepared").exists()
    monkeypatch.undo()
    prepare(tmp_path, path, PLAIN, split=THIRDS)
    assert read(tmp_path)[0]["text"] == "TEXT 0"
