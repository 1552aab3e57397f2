"""Parquet files of any columns and types are prepared as a CSV of the same rows is."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PROJECT

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, input_files, parts, table_plans
from sentiflow.data.row_checks import RowRules
from sentiflow.errors import UserError

NAMED = {"kind": "csv", "columns": {"text": "body", "label": "mood"}}
WORDS = {"negative": "bad", "positive": ["good", "4", "true"], "neutral": "2"}
CHOSEN = FormatSettings(**NAMED, labels=WORDS)
TEXTS = pa.array(["a", "b", "c", "d"])


def plan(folder, *tables, form=None, keep=()):
    """Write tables to files and plan their preparation."""
    uris = [f"{folder}/{number}.parquet" for number in range(len(tables))]
    for uri, table in zip(uris, tables, strict=True):
        pq.write_table(table, uri)
    files = input_files.describe_unread(uris)
    return table_plans.plan_preparation(files, settings=form or FormatSettings(), keep_columns=keep)


def read(folder, *tables, form=None, keep=(), required=("label",)):
    """Read tables as they are prepared."""
    source = corpus.cut(plan(folder, *tables, form=form, keep=keep), rows_per_part=100)
    (part,) = source.parts
    return parts.read(part, RowRules(required=required, keep=keep))


@pytest.mark.parametrize(
    ("written", "labels", "unknown"),
    [
        (pa.array(["bad", " good ", "?", None]), [0, 1, None, None], [None, None, "?", None]),
        (pa.array([4, 2, 0, None], pa.uint8()), [1, 2, None, None], [None, None, "0", None]),
        (pa.array([4.0, 2.0, 0.5, None]), [1, 2, None, None], [None, None, "0.5", None]),
        (pa.array([True, False, None, None]), [1, None, None, None], [None, "false", None, None]),
        (pa.array(["bad", "good"] * 2).dictionary_encode(), [0, 1, 0, 1], [None] * 4),
    ],
    ids=["strings", "integers", "floats", "truth", "categories"],
)
def test_labels_are_mapped_as_they_would_be_written(tmp_path, written, labels, unknown):
    rows = read(tmp_path, pa.table({"body": TEXTS, "mood": written}), form=CHOSEN)
    assert rows["label"].to_pylist() == labels
    assert rows["unknown_label"].to_pylist() == unknown
    reasons = [None if value is None else "unknown label" for value in unknown]
    assert rows["reason"].to_pylist() == reasons


@pytest.mark.parametrize("identity", ["id", "tweet_id"])
def test_without_a_format_the_columns_have_their_usual_names(tmp_path, identity):
    moment = datetime(2024, 1, 31, 10, tzinfo=UTC)
    times = pa.array([moment] * 4, pa.timestamp("us", "Europe/Berlin"))
    columns = {"text": TEXTS, "label": [0, 1, 2, None], identity: [7, 8, 9, None]}
    columns |= {"user": [" ann ", "bob", "", None], "time": times, "row_id": [5, 5, 5, 5]}
    rows = read(tmp_path, pa.table(columns), keep=("time", "user"))
    assert rows["row_id"].to_pylist() == [0, 1, 2, 3]
    assert rows["label"].to_pylist() == [0, 1, 2, None]
    assert rows["tweet_id"].to_pylist() == ["7", "8", "9", None]
    assert rows["user"].to_pylist() == ["ann", "bob", None, None]
    assert rows["time"].to_pylist() == [moment] * 4
    assert rows.schema.field("time").type == pa.timestamp("s", "UTC")


@pytest.mark.parametrize(
    "times",
    [
        pa.array(["2024-01-31", "1706659200", "", None]),
        pa.array([1706659200, 1706659200, None, None]),
        pa.array([date(2024, 1, 31), date(2024, 1, 31), None, None]),
        pa.array([datetime(2024, 1, 31, 0, 0, 0, 900_000)] * 2 + [None] * 2),
    ],
    ids=["strings", "seconds", "dates", "naive"],
)
def test_a_time_of_any_type_is_read_in_seconds_of_utc(tmp_path, times):
    table = pa.table({"text": TEXTS, "label": [0] * 4, "time": times})
    rows = read(tmp_path, table, required=("label", "time"), keep=("time",))
    assert rows["time"].to_pylist() == [datetime(2024, 1, 31, tzinfo=UTC)] * 2 + [None] * 2
    assert rows["reason"].to_pylist() == [None, None, "unreadable time", "unreadable time"]


def test_other_columns_keep_their_types(tmp_path):
    lists = pa.array([[1], [], None, [2, 3]], pa.list_(pa.int16()))
    table = pa.table({"text": TEXTS, "label": [0] * 4, "reason": lists, "price": [0.5, 1, 2, None]})
    rows = read(tmp_path, table, keep=("reason", "price"))
    assert rows["kept.reason"].combine_chunks().equals(lists)
    assert rows["price"].to_pylist() == [0.5, 1, 2, None]


REFUSED = {
    "no text": ({"body": TEXTS, "label": [0] * 4}, None, "0.parquet has no column text; its colu"),
    "no label": ({"text": TEXTS, "mood": [0] * 4}, None, "columns are 'text', 'mood': name the "),
    "no such name": (
        {"body": TEXTS, "moods": [0] * 4},
        CHOSEN,
        "format.columns.label: {folder}/0.parquet has no column 'mood': did you mean 'moods'?",
    ),
    "numbers as texts": ({"text": [1], "label": [0]}, None, "no column text of strings: its colum"),
    "lists as labels": ({"text": ["a"], "label": [[0]]}, None, "format.columns.label: label is of"),
    "lists as users": ({"text": ["a"], "label": [0], "user": [[0]]}, None, "format.columns.user: "),
    "truth as time": ({"text": ["a"], "label": [0], "time": [True]}, None, "columns.time: time is"),
}


@pytest.mark.parametrize(("columns", "form", "line"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_prepared_is_refused_in_one_line(tmp_path, columns, form, line):
    with pytest.raises(UserError) as error:
        plan(tmp_path, pa.table(columns), form=form)
    assert line.format(folder=tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_positions_must_mean_the_same_in_all_files(tmp_path):
    form = FormatSettings(kind="csv", columns={"text": 0})
    table = pa.table({"text": TEXTS, "other": TEXTS})
    assert read(tmp_path, table, form=form)["text"].to_pylist() == TEXTS.to_pylist()
    with pytest.raises(UserError, match=r"1\.parquet has other names at the positions of format"):
        plan(tmp_path, table, table.select(["other", "text"]), form=form)


def test_csv_and_parquet_do_not_mix():
    assert corpus.are_tables(["a.parquet", "b.PARQUET"], setting="prepare.csv")
    assert not corpus.are_tables(["a.csv", "b.csv.gz"], setting="prepare.csv")
    with pytest.raises(
        UserError, match=r"^prepare\.csv mixes CSV and Parquet: b\.csv, a\.parquet: "
    ):
        corpus.are_tables(["a.parquet", "b.csv"], setting="prepare.csv")


def test_the_example_of_the_page_on_preparing_reads_a_table_of_reviews(tmp_path):
    page = (PROJECT / "docs/preparing.md").read_text().partition("## Parquet")[2]
    example = yaml.safe_load(page.partition("```yaml")[2].partition("```")[0])
    reviews = {"review": TEXTS, "stars": [1, 3, 5, 6], "customer": ["ann"] * 4}
    reviews |= {"written_at": [datetime(2024, 1, 31)] * 4, "product": [7] * 4}
    keep = tuple(example["prepare"]["keep_columns"])
    rows = read(tmp_path, pa.table(reviews), form=FormatSettings(**example["format"]), keep=keep)
    assert rows["label"].to_pylist() == [0, 2, 1, None]
    assert rows["product"].to_pylist() == [7] * 4
