"""Any CSV becomes tables that can be checked by hand: rows, splits, duplicates and words."""

import csv
import io
from collections import Counter
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import without_token
from stages import run_stage

from sentiflow.cluster.resources import Resources
from sentiflow.config import settings
from sentiflow.config.locations import resolve_locations
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.data import corpus, manifest, parts, schema
from sentiflow.data.row_checks import RowRules
from sentiflow.preparation import part_counts
from sentiflow.preparation import prepare as preparation
from sentiflow.tracking.recorder import Recorder

pytestmark = pytest.mark.ray

AIRLINE = yaml.safe_load("""
  kind: csv
  columns: {text: text, label: airline_sentiment, id: tweet_id, user: name, time: tweet_created}
  labels: {negative: negative, positive: positive, neutral: neutral}
""")
"""A section ``format`` for the collections of tweets to airlines."""

PLAIN = yaml.safe_load("""
  kind: csv
  columns: {label: 0, text: 1}
  labels: {negative: n, positive: p, neutral: u}
""")
WITH_USER = PLAIN | {"columns": {"label": 0, "text": 1, "user": 2, "time": 3}}
HERE = Resources(2, 0, 1, 2)
MEANINGS = {"n": 0, "p": 1, "u": 2, "": None}

THIRDS = {"kind": "hash", "validation_fraction": 0.3, "test_fraction": 0.3}
TUTORIAL = {"kind": "tutorial"}


def prepare(folder, files, form, *, classes=None, **chosen):
    """Prepare CSV files in this process, to train on all or some classes; returns the manifest."""
    raw = {
        "name": "test",
        "output_uri": str(folder / "run"),
        "format": form,
        "prepare": {"csv": str(files), "vocabulary": {"min_count": 1}} | chosen,
        "train": {"classes": classes} if classes else {},
    }
    config = resolve_locations(settings.validate(raw, source="test"))
    record = run_stage(preparation, config, Recorder(), resources=HERE)
    counts = record["counts"]
    assert counts["rows_read"] == counts["accepted"] + counts["rejected"] + counts["left_out"]
    assert counts["left_out"] == sum(counts["left_out_by_reason"].values())
    assert counts["accepted"] == len(read(folder))
    assert counts["encoded"] == len(read(folder, "encoded"))
    return record


def read(folder, name="tweets"):
    """Read a table as rows in their order, each with its split."""
    found = ds.dataset(folder / "run/prepared" / name, format="parquet", partitioning="hive")
    return found.to_table().sort_by("row_id").to_pylist()


def numbers(rows):
    """List the numbers of rows."""
    return [row["row_id"] for row in rows]


def write_rows(path, rows, encoding="utf-8", **options):
    """Write a CSV; returns its path."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n", **options).writerows(rows)
    path.write_bytes(stream.getvalue().encode(encoding))
    return path


LOCAL = datetime(2015, 2, 24, 11, 35, 52)


def airline_row(number):
    """Make row ``number`` of a collection: by name of the column."""
    label = ["negative", "positive", "neutral", "negative", "positive", ""][number % 6]
    user = f"user{number % 17}"
    return {
        "tweet_id": str(570306133677760513 + number),
        "airline_sentiment": label,
        "airline_sentiment_confidence": "1.0",
        "negativereason": "Late Flight" if label == "negative" else "",
        "airline": "Virgin America",
        "name": user.upper() if number % 2 else user,
        "text": f'@VirginAmerica it\u2019s "flight" {number},\nso {label}\r\n \u2665',
        "tweet_created": f"{LOCAL + timedelta(minutes=number * 37 % 240)} -0800",
    }


AIRLINE_ROWS = [airline_row(number) for number in range(240)]
HEADER = list(AIRLINE_ROWS[0])


@pytest.fixture(scope="module")
def airline_csv(tmp_path_factory):
    """A collection of tweets to airlines."""
    path = tmp_path_factory.mktemp("airline") / "Tweets.csv"
    return write_rows(path, [HEADER, *([row[name] for name in HEADER] for row in AIRLINE_ROWS)])


def test_a_collection_of_tweets_needs_a_format_section_and_nothing_else(
    tmp_path, airline_csv, resources
):
    record = prepare(tmp_path, airline_csv, AIRLINE, split=THIRDS)
    labels = {"negative": 0, "positive": 1, "neutral": 2, "": None}
    wanted = [
        (number, row["tweet_id"], row["text"], labels[row["airline_sentiment"]])
        for number, row in enumerate(AIRLINE_ROWS)
    ]
    found = read(tmp_path)
    assert [tuple(row[name] for name in schema.TWEETS.names) for row in found] == wanted
    assert set(found[0]) == {*schema.TWEETS.names, "split"}
    labelled = [row for row in found if row["label"] is not None]
    assert [(row["row_id"], row["label"], row["split"]) for row in read(tmp_path, "encoded")] == [
        (row["row_id"], row["label"], row["split"]) for row in labelled
    ]
    assert record["classes"] == ["negative", "positive", "neutral"]
    for split, count in record["counts"]["labels"].items():
        real = Counter(row["label"] for row in found if row["split"] == split)
        assert list(count.values()) == [real[0], real[1], real[2], real[None]]
        assert list(count) == [*schema.LABEL_NAMES, "unlabelled"]


FEELINGS = ["joy", "anger", "fear", "love", "", "surprise"]


def feeling_rows(number):
    """Make a row of six kinds: five classes, and none."""
    label = FEELINGS[number % 6]
    return {"text": f"so {label} {number}", "mood": f" {label}", "who": f"u{number // 6}"}


@pytest.fixture(scope="module", params=["csv", "parquet"])
def feelings(request, tmp_path_factory):
    """Texts of five classes, in a CSV or in two Parquet files of small row groups."""
    folder = tmp_path_factory.mktemp("feelings")
    rows = [feeling_rows(number) for number in range(360)]
    if request.param == "csv":
        return write_rows(folder / "a.csv", [list(rows[0]), *(row.values() for row in rows)])
    for name, some in {"1.parquet": rows[:100], "2.parquet": rows[100:]}.items():
        pq.write_table(pa.Table.from_pylist(some), folder / name, row_group_size=50)
    return folder / "*.parquet"


COLUMNS = {"text": "text", "label": "mood", "user": "who"}


def test_any_classes_are_prepared_in_the_order_of_the_settings(tmp_path, feelings, resources):
    labels = {"love": ["love", "joy"], "surprise": "surprise", "other": ["fear", "anger"]}
    form = {"kind": "csv", "columns": COLUMNS, "labels": labels | {"hate": "hate"}}
    record = prepare(tmp_path, feelings, form, split=THIRDS, rows_per_file=100)
    assert record["classes"] == ["love", "surprise", "other", "hate"]
    meant = {"joy": 0, "love": 0, "surprise": 1, "fear": 2, "anger": 2, "": None}
    found = read(tmp_path)
    assert [row["label"] for row in found] == [meant[FEELINGS[n % 6]] for n in range(360)]
    assert [row["label"] for row in read(tmp_path, "encoded")] == [
        row["label"] for row in found if row["label"] is not None
    ]
    for split, count in record["counts"]["labels"].items():
        real = Counter(row["label"] for row in found if row["split"] == split)
        assert count == {
            "love": real[0],
            "surprise": real[1],
            "other": real[2],
            "hate": 0,
            "unlabelled": real[None],
        }
    words = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet").to_pydict()
    counted = dict(zip(words["word"], words["count"], strict=True))["so"]
    assert counted == len(read(tmp_path, "encoded/split=train"))


def test_another_order_of_the_classes_is_another_preparation(tmp_path):
    path = write_rows(tmp_path / "a.csv", [["text", "label"], ["a", "b"]])

    def identify(labels):
        raw = {"name": "a", "output_uri": str(tmp_path / "run"), "prepare": {"csv": str(path)}}
        columns = {"text": "text", "label": "label"}
        raw["format"] = {"kind": "csv", "columns": columns, "labels": labels}
        config = resolve_locations(settings.validate(raw, source="test"))
        return preparation.resolve(config).spec.fingerprint

    joy_first = identify({"joy": "j", "fear": "f"})
    assert joy_first == identify({"joy": "j", "unlabelled": "", "fear": "f"})
    assert joy_first != identify({"fear": "f", "joy": "j"})
    binary = identify({"negative": "n", "positive": "p"})
    assert binary == identify({"positive": "p", "negative": "n"})


def write_airline_tables(folder):
    """Write the collection as two Parquet files with types, and small row groups."""
    table = pa.Table.from_pylist(AIRLINE_ROWS)
    ids = table["tweet_id"].cast(pa.int64())
    moments = [datetime.fromisoformat(row["tweet_created"]) for row in AIRLINE_ROWS]
    table = table.set_column(table.schema.get_field_index("tweet_id"), "tweet_id", ids)
    table = table.drop_columns("tweet_created").append_column("tweet_created", pa.array(moments))
    confidence = table["airline_sentiment_confidence"].cast(pa.float32())
    table = table.append_column("confidence", confidence)
    pq.write_table(table[:150], folder / "1.parquet", row_group_size=20)
    pq.write_table(table[150:], folder / "2.parquet", row_group_size=20)
    return folder / "?.parquet"


@pytest.mark.parametrize("kind", ["user", "time"])
def test_parquet_gives_the_tables_of_a_csv_of_the_same_rows(tmp_path, airline_csv, resources, kind):
    options = {"split": THIRDS | {"kind": kind}, "rows_per_file": 60, "every_nth": 2}
    options |= {"keep_columns": ["user", "time", "negativereason"]}
    expected = prepare(tmp_path / "csv", airline_csv, AIRLINE, **options)
    found = prepare(tmp_path / "tables", write_airline_tables(tmp_path), AIRLINE, **options)
    assert found["counts"] == expected["counts"]
    assert found["vocabulary"] == expected["vocabulary"]
    assert read(tmp_path / "tables", "encoded") == read(tmp_path / "csv", "encoded")
    empty = {"negativereason": ""}
    rows = [row if row["negativereason"] else row | empty for row in read(tmp_path / "csv")]
    assert read(tmp_path / "tables") == rows
    assert [row["row_id"] for row in rows] == [*range(0, 240, 2)]
    parts = {without_token(item["path"].rpartition("/")[2]) for item in found["files"]}
    assert {f"part-{number:05d}.parquet" for number in range(4)} <= parts


def test_a_column_of_parquet_keeps_its_type_in_the_tweets_and_in_a_corpus(tmp_path, resources):
    files = write_airline_tables(tmp_path)
    prepare(tmp_path, files, AIRLINE, split=THIRDS, keep_columns=["confidence"])
    assert {row["confidence"] for row in read(tmp_path)} == {1.0}
    uri = str(tmp_path / "run/prepared")
    found = corpus.open_prepared(
        uri, manifest.read(uri), rows_per_part=50, keep_columns=["confidence"]
    )
    rows = [parts.read(part, RowRules(keep=("confidence",))) for part in found.parts]
    assert {table.schema.field("confidence").type for table in rows} == {pa.float32()}
    assert sum(map(len, rows)) == found.num_rows == 240


def test_rows_without_a_user_or_a_time_are_refused_where_the_split_needs_them(tmp_path, resources):
    rows = [["np"[i % 2], f"{i}", f"u{i // 2}", f"2020-01-{i // 5 + 1:02}"] for i in range(120)]
    rows += [["p", "nobody", " ", "2020-01-01"], ["p", "never", "ann", "2020-13-01"]]
    path = write_rows(tmp_path / "tweets.csv", rows)
    for kind, missing, reason in (("user", 120, "no user"), ("time", 121, "unreadable time")):
        rule = THIRDS | {"kind": kind}
        record = prepare(tmp_path / kind, path, WITH_USER, split=rule, max_rejected_fraction=0.1)
        assert record["counts"]["rejected_by_reason"] == {reason: 1}
        found = read(tmp_path / kind)
        assert sorted({*range(122)} - {*numbers(found)}) == [missing]
        assert set(found[0]) == {*schema.TWEETS.names, "split"}


WORDS = [
    ("p", "good good day"), ("n", "bad day zzqx"), ("p", "good zzqx unique"),
    ("n", "bad thing"), ("p", "good thing"),
    ("u", "meh meh meh"), ("", "ghost ghost ghost"), ("n", "bad"),
    ("p", "day"), ("n", "bad novel"),
    ("p", "good"), ("n", "bad"), ("p", "day"),
    ("n", "xyzzy"),
]  # fmt: skip
"""Of each two lines the first is in train; the other holds a row in test and one in validation."""

WORDS_REPORT = yaml.safe_load("""
  words: 6
  words_with_vector: 3
  tokens:
    train: {tokens: 13, unknown: 1, unknown_fraction: 0.07692}
    validation: {tokens: 4, unknown: 2, unknown_fraction: 0.5}
    test: {tokens: 4, unknown: 2, unknown_fraction: 0.5}
""")


def test_the_report_on_words_counts_what_is_trained_on_and_what_is_unknown(
    tmp_path, resources, monkeypatch
):
    monkeypatch.setattr(part_counts, "MIN_CLASS_ROWS", 1)
    path = write_rows(tmp_path / "tweets.csv", WORDS)
    form = PLAIN | {"labels": {"negative": "n", "positive": "p", "unlabelled": ["u", ""]}}
    record = prepare(
        tmp_path, path, form, split=TUTORIAL, vocabulary={"min_count": 2}, max_length=2
    )
    words = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet")
    assert words["word"].to_pylist() == ["<pad>", "<unk>", "good", "bad", "day", "zzqx"]
    assert words["count"].to_pylist() == [None, None, 4, 3, 3, 2]
    assert record["vocabulary"] == WORDS_REPORT
    assert record["counts"]["encoded_without_token"] == 1
    assert record["counts"]["encoded_cut"] == 3
    encoded = {row["row_id"]: row["token_ids"] for row in read(tmp_path, "encoded")}
    assert encoded[2] == [2, 5]
    assert encoded[13] == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "are cut at 64 tokens: raise prepare.max_length, or set prepare.cut=middle"),
        (
            {"unit": "characters"},
            "are cut at 64 characters: raise prepare.max_length, or set prepare.cut=middle",
        ),
        (
            {"cut": "middle"},
            "have more than 64 tokens: the network reads their beginning and end",
        ),
    ],
)
def test_the_advice_about_cut_texts_names_their_units_and_where_they_are_cut(changes, expected):
    chosen = PrepareSettings(**changes)
    line = preparation._describe_cut(30, 200, chosen)
    assert line == f"30 of 200 texts (15.0%) {expected}"
