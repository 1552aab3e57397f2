"""Any CSV becomes tables that can be checked by hand: rows, splits, duplicates and words."""

import csv
import gzip
import io
import os
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import new_package
from stages import look, run_stage

from sentiflow.cluster.resources import Resources
from sentiflow.config import settings
from sentiflow.data import corpus, schema
from sentiflow.data.output_status import State, find_status
from sentiflow.errors import UserError
from sentiflow.preparation import flow, results
from sentiflow.preparation import prepare as preparation
from sentiflow.tracking.recording import Recorder

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
    config = settings.resolve(settings.validate(raw, source="test"))
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


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
def test_written_labels_may_be_the_names_of_the_classes(tmp_path, feelings, resources, duplicates):
    options = {"split": THIRDS | {"kind": "user"}, "rows_per_file": 100, "duplicates": duplicates}
    form = {"kind": "csv", "columns": COLUMNS}
    names = {name: name for name in sorted(filter(None, FEELINGS))}
    named = prepare(tmp_path / "named", feelings, form | {"labels": names}, **options)
    found = prepare(tmp_path / "auto", feelings, form | {"labels": "auto"}, **options)
    assert found["classes"] == named["classes"] == list(names)
    assert found["counts"] == named["counts"]
    assert found["duplicates"] == named["duplicates"]
    for table in ("tweets", "encoded"):
        assert read(tmp_path / "auto", table) == read(tmp_path / "named", table)


def test_another_order_of_the_classes_is_another_preparation(tmp_path):
    path = write_rows(tmp_path / "a.csv", [["text", "label"], ["a", "b"]])

    def identify(labels):
        raw = {"name": "a", "output_uri": str(tmp_path / "run"), "prepare": {"csv": str(path)}}
        columns = {"text": "text", "label": "label"}
        raw["format"] = {"kind": "csv", "columns": columns, "labels": labels}
        config = settings.resolve(settings.validate(raw, source="test"))
        return preparation.describe_output(config).fingerprint

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


@pytest.mark.parametrize("kind", ["hash", "user", "time"])
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
    parts = {item["path"].rpartition("/")[2] for item in found["files"]}
    assert {f"part-{number:05d}.parquet" for number in range(4)} <= parts


def test_a_column_of_parquet_keeps_its_type_in_the_tweets_and_in_a_corpus(tmp_path, resources):
    files = write_airline_tables(tmp_path)
    prepare(tmp_path, files, AIRLINE, split=THIRDS, keep_columns=["confidence"])
    assert {row["confidence"] for row in read(tmp_path)} == {1.0}
    found = corpus.open_prepared(
        str(tmp_path / "run/prepared"), rows_per_part=50, setting="", keep_columns=["confidence"]
    )
    rows = [corpus.read(part, keep=("confidence",)) for part in found.parts]
    assert {table.schema.field("confidence").type for table in rows} == {pa.float32()}
    assert sum(map(len, rows)) == found.num_rows == 240


def test_no_user_is_in_two_splits(tmp_path, airline_csv, resources):
    prepare(tmp_path, airline_csv, AIRLINE, split=THIRDS | {"kind": "user"}, keep_columns=["user"])
    found = read(tmp_path)
    assert [row["user"] for row in found] == [row["name"] for row in AIRLINE_ROWS]
    pairs = {(row["user"].lower(), row["split"]) for row in found}
    assert len(pairs) == len({user for user, _ in pairs}) == 17
    assert {split for _, split in pairs} == set(schema.SPLITS)


def test_train_is_before_validation_is_before_test(tmp_path, airline_csv, resources):
    rule = {"kind": "time", "validation_fraction": 0.2, "test_fraction": 0.1}
    prepare(tmp_path, airline_csv, AIRLINE, split=rule, keep_columns=["time", "user"])
    found = read(tmp_path)
    began = (LOCAL + timedelta(hours=8)).replace(tzinfo=UTC)
    assert [row["time"] for row in found] == [
        began + timedelta(minutes=number * 37 % 240) for number in range(240)
    ]
    times = {s: [row["time"] for row in found if row["split"] == s] for s in schema.SPLITS}
    assert max(times["train"]) < min(times["validation"])
    assert max(times["validation"]) < min(times["test"])
    assert [len(times[split]) for split in schema.SPLITS] == [168, 48, 24]


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


@pytest.mark.parametrize(
    ("delimiter", "encoding", "extra"),
    [(";", "cp1252", "\u20ac 5 \u201cnow\u201d"), ("\t", "latin-1", "\u00bf\u00a35?")],
)
def test_other_delimiters_and_encodings_are_read(tmp_path, resources, delimiter, encoding, extra):
    rows = [["np"[i % 2], f"d\u00e9j\u00e0; vu,\t{extra} {i}"] for i in range(40)]
    path = write_rows(tmp_path / "tweets.txt", rows, encoding, delimiter=delimiter)
    form = PLAIN | {"delimiter": delimiter, "encoding": encoding}
    record = prepare(tmp_path, path, form, split=TUTORIAL)
    assert [row["text"] for row in read(tmp_path)] == [text for _, text in rows]
    assert record["counts"]["damaged"] == 0
    record = prepare(tmp_path / "utf-8", path, form | {"encoding": "utf-8"}, split=TUTORIAL)
    assert record["counts"]["damaged"] == 40


def test_files_may_have_their_columns_in_different_orders(tmp_path, resources):
    orders = {"a.csv": HEADER, "b.csv": HEADER[::-1], "c.csv": sorted(HEADER)}
    for number, (name, order) in enumerate(orders.items()):
        rows = AIRLINE_ROWS[number * 80 : number * 80 + 80]
        write_rows(tmp_path / name, [order, *([row[column] for column in order] for row in rows)])
    prepare(tmp_path, tmp_path / "?.csv", AIRLINE, split=THIRDS, keep_columns=["user"])
    assert [(row["text"], row["user"]) for row in read(tmp_path)] == [
        (row["text"], row["name"]) for row in AIRLINE_ROWS
    ]


REPEATS = [
    ("p", "alpha"), ("n", "beta"), ("p", "gamma"), ("p", "ALPHA"), ("n", "beta"),
    ("n", "delta"), ("p", "alpha"), ("p", "epsilon"), ("n", "delta"), ("p", "zeta"),
    ("p", "same  words"), ("n", "Same words"), ("p", "eta"), ("p", "theta"), ("p", "theta"),
    ("u", "eta"), ("", "iota"), ("n", "iota"), ("n", "kappa"), ("n", "lambda"),
    ("?", "alpha"),
]  # fmt: skip
"""Of each five rows three are in train, one in test and one in validation; the last is refused."""

CONTRADICTING, REPEATED = [10, 11, 12, 15], [3, 4, 6, 8, 14, 16]

REPORT = yaml.safe_load("""
  rows: {train: 12, validation: 4, test: 4}
  contradicting: {texts: 2, rows: {train: 4}}
  exact:
    repeated_texts: 6
    surplus_rows: 6
    within: {train: {repeated_texts: 3, surplus_rows: 3}}
    shared_texts: {train_and_validation: 1, train_and_test: 1, validation_and_test: 1}
    leaked_rows: {validation_in_train: 1, test_in_train: 1, test_in_validation: 1}
  normalized:
    repeated_texts: 7
    surplus_rows: 8
    within: {train: {repeated_texts: 4, surplus_rows: 4}}
    shared_texts: {train_and_validation: 1, train_and_test: 2, validation_and_test: 1}
    leaked_rows: {validation_in_train: 1, test_in_train: 2, test_in_validation: 1}
""")
"""What is counted of them, but for zeros."""


@pytest.fixture
def repeats_csv(tmp_path):
    """Rows that repeat each other, contradict each other, and leak."""
    return write_rows(tmp_path / "repeats.csv", REPEATS)


@pytest.mark.parametrize(
    ("mode", "dropped", "reasons"),
    [
        ("keep", [], {}),
        ("drop_contradicting", CONTRADICTING, {"contradicting": 4}),
        ("drop", CONTRADICTING + REPEATED, {"contradicting": 4, "repeated": 6}),
    ],
)
def test_repeats_are_reported_and_left_out_as_the_settings_say(
    tmp_path, repeats_csv, resources, monkeypatch, mode, dropped, reasons
):
    monkeypatch.setattr(results, "MIN_ROWS", 1)
    chosen = {
        "classes": ["negative", "positive"],
        "split": TUTORIAL,
        "duplicates": mode,
        "max_rejected_fraction": 0.1,
    }
    record = prepare(tmp_path, repeats_csv, PLAIN, **chosen)
    kept = [number for number in range(20) if number not in dropped]
    assert record["counts"]["left_out_by_reason"] == reasons
    assert record["counts"]["rows_read"] == 21
    assert [(row["row_id"], row["text"]) for row in read(tmp_path)] == [
        (number, REPEATS[number][1]) for number in kept
    ]
    assert numbers(read(tmp_path, "encoded")) == [n for n in kept if REPEATS[n][0]]
    labels = record["counts"]["labels"]
    assert sum(map(Counter, labels.values()), Counter()) == Counter(
        {"n": "negative", "p": "positive", "u": "neutral", "": "unlabelled"}[REPEATS[number][0]]
        for number in kept
    )
    report = dict(record["duplicates"])
    left_out = {reason: sum(count.values()) for reason, count in report.pop("dropped").items()}
    assert {reason: count for reason, count in left_out.items() if count} == reasons
    counted = {name: count for name, count in settings.flatten(report).items() if count}
    assert counted == settings.flatten(REPORT)


def kept_of(rows, every_nth):
    """Say which rows stay where repeats are dropped: the rule, row by row."""
    texts = defaultdict(list)
    for number, (label, text) in enumerate(rows):
        if number % every_nth == 0 and label in MEANINGS:
            texts[" ".join(text.lower().split())].append((label == "", number, label))
    return sorted(
        min(found)[1] for found in texts.values() if len({row[2] for row in found} - {""}) <= 1
    )


@pytest.mark.parametrize("is_large", [False, True])
def test_every_nth_row_is_chosen_before_repeats_are_dropped_over_all_parts(
    tmp_path, resources, monkeypatch, is_large
):
    """A large corpus is one whose texts are compared in groups, its words summed as a tree."""
    if is_large:
        monkeypatch.setattr(flow, "_MAX_KEYS", 400)
        monkeypatch.setattr(flow, "_MERGED", 2)
    rng = random.Random(5)
    pool = [f"{'word ' * 60}{number}" for number in range(150)]
    rows = []
    for _ in range(1500):
        text = rng.choice(pool)
        usual = "np"[pool.index(text) % 2]
        label = rng.choices([usual, "", "u", "?"], [40, 10, 1, 2])[0]
        rows.append((label, rng.choice([text, text.upper(), f" {text}\n"])))
    path = write_rows(tmp_path / "tweets.csv", rows)
    record = prepare(
        tmp_path, path, PLAIN, every_nth=3, duplicates="drop", split=THIRDS, rows_per_file=1,
        max_rejected_fraction=0.2, keep_columns=[],
    )  # fmt: skip
    counts = record["counts"]
    assert path.stat().st_size > 6 * 65_536
    assert (counts["rows_read"], counts["left_out_by_reason"]["every_nth"]) == (1500, 1000)
    assert counts["rejected"] == sum(label == "?" for label, _ in rows[::3])
    kept = kept_of(rows, 3)
    assert [(row["row_id"], row["label"]) for row in read(tmp_path)] == [
        (number, MEANINGS[rows[number][0]]) for number in kept
    ]
    trained = numbers(read(tmp_path, "encoded/split=train"))
    words = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet").to_pydict()
    count = dict(zip(words["word"], words["count"], strict=True))["word"]
    assert count == sum(rows[n][1].lower().count("word") for n in trained)


def test_repeats_are_dropped_beside_a_part_without_an_accepted_row(tmp_path, resources):
    rows = [("np"[n % 2], f"text {n % 70}", f"u{n}", "0") for n in range(140)]
    write_rows(tmp_path / "1.csv", rows)
    write_rows(tmp_path / "2.csv", [("?", "unknown", "u", "0")] * 3)
    prepare(
        tmp_path, tmp_path / "*.csv", WITH_USER, duplicates="drop", split=TUTORIAL,
        max_rejected_fraction=0.5, keep_columns=["user", "time"],
    )  # fmt: skip
    assert [row["user"] for row in read(tmp_path)] == [f"u{n}" for n in range(70)]


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
  frequent_unknown: [{word: thing, count: 2}, {word: novel, count: 1}, {word: unique, count: 1},
    {word: xyzzy, count: 1}]
  frequent_without_vector: [{word: zzqx, count: 2}]
  tokens:
    train: {tokens: 13, unknown: 1, unknown_fraction: 0.07692}
    validation: {tokens: 4, unknown: 2, unknown_fraction: 0.5}
    test: {tokens: 4, unknown: 2, unknown_fraction: 0.5}
""")


def test_the_report_on_words_counts_what_is_trained_on_and_what_is_unknown(
    tmp_path, resources, monkeypatch
):
    monkeypatch.setattr(results, "MIN_ROWS", 1)
    path = write_rows(tmp_path / "tweets.csv", WORDS)
    form = PLAIN | {"labels": {"negative": "n", "positive": "p", "unlabelled": ["u", ""]}}
    record = prepare(tmp_path, path, form, split=TUTORIAL, vocabulary={"min_count": 2})
    words = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet")
    assert words["word"].to_pylist() == ["<pad>", "<unk>", "good", "bad", "day", "zzqx"]
    assert words["count"].to_pylist() == [None, None, 4, 3, 3, 2]
    assert record["vocabulary"] == WORDS_REPORT
    assert record["counts"]["encoded_without_token"] == 1
    encoded = {row["row_id"]: row["token_ids"] for row in read(tmp_path, "encoded")}
    assert encoded[2] == [2, 5, 1]
    assert encoded[13] == []


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
        "prepare.keep_columns: one of the files has no column x: its columns are 'a', 'b', ",
    ),
    "own column": (PLAIN, {"keep_columns": ["Split"]}, "tweets have their own column split: leave"),
    "mixed": (PLAIN, {"csv": "t*"}, "prepare.csv mixes CSV and Parquet: "),
    "no label": (
        {"kind": "csv", "columns": {"text": 1}},
        {},
        "format.columns does not name the column label",
    ),
    "texts as labels": (
        PLAIN | {"columns": {"text": 2, "label": 1}, "labels": "auto"},
        {},
        "a class needs 10 rows or more, and 60 of 60 have fewer: text 0 (1), text 1 (1), text 10 ",
    ),
    "a constant as label": (
        PLAIN | {"columns": {"text": 1, "label": 2}, "labels": "auto"},
        {},
        "there is only one: 'ann': the values of the label are 'ann' (60): set format.columns.lab",
    ),
    "a class that is not there": (
        PLAIN,
        {"classes": ["positive", "negativ"]},
        "train.classes: the data have no negativ to learn: the classes are negative, positive, neu",
    ),
    "a written class that is not there": (
        PLAIN | {"labels": "auto"},
        {"classes": ["n", "u"]},
        "train.classes: the data have no u to learn: the classes are n, p",
    ),
    "another column as label": (
        PLAIN | {"columns": {"text": 1, "label": 2}},
        {},
        "(60 unknown label); labels that format.labels does not name: 'ann' (60): name them",
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
    files = tmp_path / chosen.get("csv", path.name)
    with pytest.raises(UserError) as error:
        prepare(tmp_path, files, form, **{k: v for k, v in chosen.items() if k != "csv"})
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run/prepared").exists()


@pytest.fixture
def vectors_txt(tmp_path):
    """A file with the vectors of three words."""
    path = tmp_path / "vectors.txt"
    path.write_text("good 1 2\nbad -1 2\nday 0 3\n")
    return path


def few_tweets(folder):
    texts = ["good day", "a bad day", "good good", "bad bad", "day", "good bad"]
    lines = [f"{'np'[i % 2]},{text} {i}" for i, text in enumerate(texts * 10)]
    (folder / "few.csv").write_text("\n".join(lines) + "\n")
    return folder / "few.csv"


def test_vectors_come_from_a_file_and_a_changed_file_is_refused(tmp_path, vectors_txt, resources):
    csv = few_tweets(tmp_path)
    words = {"kind": "pretrained", "vectors": str(vectors_txt)}
    made = prepare(tmp_path, csv, PLAIN, vocabulary=words, split=THIRDS)
    assert [item["uri"] for item in made["inputs"]["vectors"]["files"]] == [str(vectors_txt)]
    table = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet").to_pydict()
    assert table["word"] == ["<pad>", "good", "bad", "day"]
    assert table["vector"][1:] == [[1, 2], [-1, 2], [0, 3]]

    moved = vectors_txt.rename(tmp_path / "moved.txt")  # only what is in it decides
    raw = {"csv": str(csv), "split": THIRDS, "vocabulary": words | {"min_count": 1}}
    raw["vocabulary"]["vectors"] = str(moved)
    whole = {"name": "test", "output_uri": str(tmp_path / "run"), "format": PLAIN, "prepare": raw}
    config = settings.resolve(settings.validate(whole, source="test"))
    assert find_status(preparation.describe_output(config)).state is State.DIFFERENT
    raw["vocabulary"].pop("min_count")
    config = settings.resolve(settings.validate(whole, source="test"))
    assert find_status(preparation.describe_output(config)).state is State.COMPLETE
    moved.write_text("good 1 2\nbad -1 2\nday 0 4\n")
    with pytest.raises(UserError, match=r"another vectors: .*/vectors\.txt there, .*/moved\.txt"):
        look(preparation.describe_output(config))


def test_vectors_come_from_a_model_package(tmp_path, resources):
    package = new_package()
    made = package.save(str(tmp_path / "model"), lineage={})
    words = {"kind": "pretrained", "vectors": str(tmp_path / "model")}
    record = prepare(tmp_path, few_tweets(tmp_path), PLAIN, vocabulary=words, split=THIRDS)
    assert record["inputs"]["vectors"]["fingerprint"] == made["fingerprint"]
    found = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet")["word"].to_pylist()
    assert found == [
        "<pad>",
        *package.vocabulary.words[package.vocabulary.num_special :].to_pylist(),
    ]


@pytest.mark.parametrize("changes", ["time", "content"])
def test_a_csv_that_is_changed_while_it_is_prepared_is_refused(
    tmp_path, resources, monkeypatch, changes
):
    rows = [("np"[number % 2], f"text {number}") for number in range(60)]
    path = write_rows(tmp_path / "tweets.csv", rows)
    fit = preparation.fitting.fit

    def change_then_fit(*arguments):
        time = path.stat().st_mtime_ns + 1
        if changes == "content":
            path.write_bytes(path.read_bytes().replace(b"text", b"TEXT"))
        os.utime(path, ns=(time, time))
        return fit(*arguments)

    monkeypatch.setattr(preparation.fitting, "fit", change_then_fit)
    if changes == "time":
        assert prepare(tmp_path, path, PLAIN, split=THIRDS)["counts"]["accepted"] == 60
        return
    with pytest.raises(UserError, match=r"tweets\.csv was changed while it was read: run the same"):
        prepare(tmp_path, path, PLAIN, split=THIRDS)
    assert not (tmp_path / "run/prepared").exists()
    monkeypatch.undo()
    prepare(tmp_path, path, PLAIN, split=THIRDS)
    assert read(tmp_path)[0]["text"] == "TEXT 0"
