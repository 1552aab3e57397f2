"""What columns mean is found out by their values and names, or it is asked for."""

import gzip
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pandas as pd
import pytest
from conftest import REAL_DATA
from hypothesis import given
from odd_files import make_rows, write
from test_sniffing import ODD_FILES, READ, named

from sentiflow.config import settings, yaml_text
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data.inspection import findings, new_config, roles, samples
from sentiflow.data.inspection.column_names import name_classes
from sentiflow.errors import UserError

ROWS = make_rows(300)
MEANINGS = ("text", "label", "id", "user", "time")


@pytest.fixture
def look(tmp_path):
    """Write a file, and inspect it."""

    def inspect(content, name="a.csv", **options):
        path = tmp_path / name
        path.write_bytes(content)
        return findings.inspect([str(path)], **options)

    return inspect


def places(found):
    """Name the position of each meaning."""
    given = {name: getattr(found.roles, name) for name in MEANINGS}
    return {n: found.sample.names.index(c) for n, c in given.items() if c is not None}


def one_line(caught) -> str:
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize("file", READ, ids=named)
def test_the_columns_of_odd_files_are_found_and_read(look, file):
    found = look(file.content)
    expected = {"text": file.text, "label": file.label, **file.columns}
    assert places(found) == {n: place for n, place in expected.items() if place is not None}
    num_ragged = 4 if file.name == "ragged" else 0
    assert sum(found.rejected.values()) == num_ragged
    assert FormatSettings.model_validate(findings.to_format(found))


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("airline_tweets", {"id": 0, "time": 1, "user": 3, "text": 4, "label": 5}),
        ("semeval_tweets", {"text": 0, "label": 1}),
        ("tweets_unlabelled", {"text": 0}),
        ("sentiment140_a", {"label": 0, "id": 1, "time": 2, "user": 4, "text": 5}),
    ],
)
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real tweets are not here")
def test_real_files_are_right_without_an_option(name, columns):
    found = findings.inspect([str(REAL_DATA / f"{name}.csv")])
    assert places(found) == columns
    assert found.is_sentiment140 == name.startswith("sentiment140")
    assert not found.rejected
    if name == "airline_tweets":
        assert found.roles.keep == ("airline",)
        assert list(found.classes) == ["negative", "positive", "neutral"]


def test_several_texts_are_asked_for(look):
    rows = [(text, text[::-1], label) for text, label in ROWS]
    content = write(rows, header=("question", "reply", "label"))
    with pytest.raises(UserError) as caught:
        look(content)
    assert "several columns hold texts: question, reply: choose one with --text" in one_line(caught)
    assert look(content, text="reply").roles.text == "reply"


def test_several_labels_are_asked_for(look):
    rows = [(text, label, str(i % 5)) for i, (text, label) in enumerate(ROWS)]
    mixed = [(text, "a" if label == "positive" else "b", stars) for text, label, stars in rows]
    content = write(mixed, header=("text", "category", "stars"))
    with pytest.raises(UserError) as caught:
        look(content)
    assert "several columns may be the label: category (" in one_line(caught)
    assert look(content, label="2").roles.label == "stars"
    assert look(content, label="stars").classes == {str(i): [str(i)] for i in range(5)}
    best = look(write(rows, header=("text", "category", "stars")))
    assert best.roles.label == "category", "its values are those of sentiments"


@pytest.mark.parametrize(
    ("start", "label"),
    [("今日は天気がとても良いですね", "良い"), ("天气非常好我们", "好"), ("วันนี้อากาศดีมาก", "ดี")],
)
def test_texts_without_spaces_are_found_by_their_letters(look, start, label):
    rows = [
        (
            f"田中{chr(0x4E00 + i)}子",
            f"{start}{chr(0x4E00 + i)}。",
            label if i % 2 else "悪い",
            "東京都庁舎前",
        )
        for i in range(120)
    ]
    found = look(write(rows, header=("投稿者", "文", "評価", "場所")))
    assert (found.roles.text, found.roles.keep) == ("文", ("評価",))
    with pytest.raises(UserError, match="no column holds texts"):
        look(write([(row[0], row[2]) for row in rows], header=("投稿者", "評価")))


VERDICTS = {"negative": "schlecht", "positive": "gut", "neutral": "neutral"}


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (VERDICTS, {"negative": ["schlecht"], "positive": ["gut"], "neutral": ["neutral"]}),
        (VERDICTS | {"positive": "na ja"},
         {"negative": ["schlecht"], "neutral": ["neutral"], "na ja": ["na ja"]}),
        (VERDICTS | {"negative": "sehr gut"},
         {"gut": ["gut"], "neutral": ["neutral"], "sehr gut": ["sehr gut"]}),
        ({"negative": "ลบ", "positive": "บวก", "neutral": "เป็นกลาง"},
         {"negative": ["ลบ"], "positive": ["บวก"], "neutral": ["เป็นกลาง"]}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("header", [("Text", "Kategorie", "Category", "Antwort"), ()])
def test_values_of_sentiments_are_labels_before_a_name(look, values, classes, header):
    rows = [(text, str(i % 3), f"c{i % 4}", values[n]) for i, (text, n) in enumerate(ROWS)]
    found = look(write(rows, header=header))
    assert found.roles.label == (header or range(4))[3]
    assert found.classes == classes


@pytest.mark.parametrize(
    "header",
    [
        ("ข้อความ", "ป้าย"),
        ("本文", "ラベル"),
        ("النّص", "تصنيف"),
        ("पाठ", "लेबल"),
        ("Wie hat Ihnen der Besuch bei uns gefallen?", "Urteil"),
    ],
)
@pytest.mark.parametrize("start", ["", "วันนี้อากาศดีมาก "])
def test_a_header_in_any_script_is_one(look, header, start):
    found = look(write([(start + text, label) for text, label in ROWS], header=header))
    assert (found.roles.text, found.roles.label) == header
    assert look(write([(start + text, label) for text, label in ROWS])).roles.text == 0


def test_a_date_whose_day_may_be_its_month_is_left_out_and_told(look, said):
    rows = [(text, label, f"0{1 + n % 9}/02/2024") for n, (text, label) in enumerate(ROWS)]
    found = look(write(rows, header=("text", "mood", "created")))
    assert found.roles.time is None
    assert "created is left out: in 01/02/2024, is the day or the month first?" in said.text


DAYS = [pd.Timestamp("2003-11-25") + pd.Timedelta(days=11 * n) for n in range(len(ROWS))]


@pytest.mark.parametrize(
    "form", ["%y.%m.%d", "%y/%m/%d", "%y.%m.%d %H:%M", "%Y. %m. %d.", "%Y년 %m월 %d일", "%y-%m-%d"]
)
def test_dates_with_the_year_first_are_found(look, form):
    rows = [(text, label, f"{day:{form}}") for (text, label), day in zip(ROWS, DAYS, strict=True)]
    for header in ("text", "mood", "date"), ("text", "mood", "column"):
        found = look(write(rows, header=header))
        assert (found.roles.time, found.roles.time_format) == (header[2], form)
        assert found.times.read_as == "25 November 2003"
        assert found.times.last.date() == DAYS[-1].date()
        assert (found.times.unusual, found.has_sure_times) == ("", True)


def test_a_column_that_no_format_reads_is_left_out_with_the_reason(look, said):
    rows = [(*row, f"{n % 7} days ago") for n, row in enumerate(ROWS)]
    assert look(write(rows, header=("text", "mood", "date"))).roles.time is None
    assert "date is left out: no format reads nearly all of its 7 different times" in said.text
    assert "7 are not read, such as '0 days ago'" in said.text


def test_times_in_doubt_are_told_and_no_split_by_them_is_advised(look):
    rows = [(*row, f"2040-01-{1 + n % 28:02}") for n, row in enumerate(ROWS)]
    found = look(write(rows, header=("text", "mood", "date")))
    assert found.times.unusual == "of 300 times 300 are in the future"
    assert not found.has_sure_times
    config = new_config.render(found, files=["a.csv"], name="a", origin="", model_uri=None)
    assert "kind: time" not in config
    assert settings.validate(yaml_text.parse(config), source="a.yaml")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"0": 5, "4": 5}, {"negative": ["0"], "positive": ["4"]}),
        ({"1.0": 5, "-1.0": 5, "0.0": 2},
         {"negative": ["-1.0"], "positive": ["1.0"], "neutral": ["0.0"]}),
        ({"0": 5, "1": 5, "2": 5}, {"0": ["0"], "1": ["1"], "2": ["2"]}),
        ({"10": 5, "9": 5}, {"9": ["9"], "10": ["10"]}),
        ({"Joy": 5, "joy": 2, "fear": 3}, {"Joy": ["Joy", "joy"], "fear": ["fear"]}),
        ({"Positiv": 5, "NEG": 2}, {"negative": ["NEG"], "positive": ["Positiv"]}),
        ({"spam": 5, "ham": 2, "N/A": 3},
         {"ham": ["ham"], "spam": ["spam"], "unlabelled": ["", "N/A"]}),
    ],
)  # fmt: skip
def test_classes_are_named_after_their_values(counts, expected):
    found = name_classes(counts)
    assert found == expected
    assert list(found) == list(expected)


def test_zero_and_one_are_negative_and_positive_where_the_column_says_so(look):
    rows = [(text, str(int(label == "positive"))) for text, label in ROWS]
    named = look(write(rows, header=("text", "sentiment")))
    assert named.classes == {"negative": ["0"], "positive": ["1"]}
    assert look(write(rows, header=("text", "target"))).classes == {"0": ["0"], "1": ["1"]}


def test_values_of_a_few_rows_are_taken_for_mistakes(look):
    rows = [*make_rows(6000), ("so good", "possitive")]
    found = look(write(rows, header=("text", "label")))
    assert found.unnamed == {"possitive": 1}
    assert found.rejected == {"unknown label": 1}


def test_a_file_that_is_sorted_by_label_shows_all_its_classes(look, monkeypatch):
    monkeypatch.setattr(samples, "SAMPLE_BYTES", 6_000)
    monkeypatch.setattr(samples, "MIN_FILE_BYTES", 1)
    rows = sorted(
        [(f'{t}\nand, well, "more"', n) for t, n in make_rows(3000)], key=lambda row: row[1]
    )
    found = look(write(rows, header=("text", "label")))
    assert set(found.classes) == {"negative", "neutral", "positive"}
    assert not found.sample.is_whole
    assert not found.rejected
    assert found.sample.num_rows == pytest.approx(3000, rel=0.2)


def test_files_are_read_together(tmp_path):
    names = []
    for number, header in enumerate([("text", "label"), ("label", "text")]):
        rows = [row if number == 0 else row[::-1] for row in make_rows(50, seed=number)]
        path = tmp_path / f"{number}.csv.gz"
        path.write_bytes(gzip.compress(write(rows, header=header)))
        names.append(str(path))
    found = findings.inspect(names)
    assert (len(found.sample.rows), found.sample.num_rows, found.sample.is_whole) == (
        100,
        100,
        True,
    )
    assert sum(found.label_counts.values()) == 100


def test_parquet_is_read_as_csv_is(tmp_path):
    table = pd.DataFrame(ROWS, columns=["message", "mood"])
    table["written"] = pd.date_range("2024-01-01", periods=len(table), freq="h", tz="UTC")
    table["tags"] = [["a"]] * len(table)
    table["brand"] = pd.Series(["north", "south", "east"] * 100).astype("category")
    table.to_parquet(tmp_path / "a.parquet")
    found = findings.inspect([str(tmp_path / "a.parquet")])
    assert found.roles == roles.Roles(text="message", label="mood", time="written", keep=("brand",))
    assert set(found.classes) == {"negative", "neutral", "positive"}
    assert not found.rejected


def test_the_rows_of_a_large_parquet_are_from_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_SAMPLE_ROWS", 30)
    rows = sorted(ROWS, key=lambda row: row[1])
    pd.DataFrame(rows, columns=["text", "label"]).to_parquet(tmp_path / "a.parquet")
    found = findings.inspect([str(tmp_path / "a.parquet")])
    assert set(found.classes) == {"negative", "neutral", "positive"}
    assert (found.sample.num_rows, found.sample.is_whole) == (300, False)


NUMBERED = [(text, str(i)) for i, (text, _) in enumerate(ROWS)]
PLAIN = write(ROWS, header=("text", "label"))
REFUSED = {
    "no text": (
        write([(str(i), "a" if i % 2 else "b") for i in range(50)], header=("id", "kind")),
        {},
        "no column holds texts of several words: name one with --text; the columns are id, kind",
    ),
    "no such text": (PLAIN, {"text": "mood"}, "--text: a.csv has no column 'mood': its columns "),
    "no such label": (
        PLAIN,
        {"label": "mood"},
        "has no column 'mood': its columns are text, label",
    ),
    "many values": (
        write(NUMBERED, header=("text", "label")),
        {"label": "label"},
        "column label cannot be the label (300 values: 0, 1, 10, ",
    ),
    "no record": (b"\n\n", {}, "holds no record"),
    "only a header": (b"text,label\n", {}, "a.csv holds no record: it has at most a header"),
    "JSON": (b"[]", {"name": "a.json"}, "is JSON"),
    "a spreadsheet": (b"PK", {"name": "a.xlsx"}, "is a spreadsheet: save it as CSV"),
    "packed otherwise": (b"BZh", {"name": "a.csv.bz2"}, "is packed in a format that is not supp"),
    "damaged": (
        b"\x1f\x8bno",
        {"name": "a.csv.gz"},
        "a.csv.gz cannot be unpacked: Compressed file ended",
    ),
    "not packed": (PLAIN, {"name": "a.csv.gz"}, "a.csv.gz cannot be unpacked: Not a gzipped file"),
    "Parquet": (b"PAR1", {}, "is Parquet"),
    "no Parquet": (b"text", {"name": "a.parquet"}, "is not Parquet"),
}


@pytest.mark.parametrize(("content", "options", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(look, tmp_path, content, options, expected):
    with pytest.raises(UserError) as caught:
        look(content, **options)
    assert expected in one_line(caught).replace(f"{tmp_path}/", "")


def test_files_that_differ_are_refused(tmp_path):
    for name, delimiter in (("a.csv", ","), ("b.csv", ";")):
        content = write(ROWS, header=("text", "label"), delimiter=delimiter)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"b\.csv is not written like "):
        findings.inspect([str(tmp_path / name) for name in ("a.csv", "b.csv")])


@given(st.data())
@hypothesis.settings(max_examples=25)
def test_any_bytes_give_a_config_or_one_line(data):
    content = bytearray(data.draw(st.sampled_from(ODD_FILES)).content[:2000])
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(content)))
        inserted = data.draw(st.sampled_from([b'"', b"\n", b"\0", b"\xff", b";", b",", b"\r", b""]))
        content[place : place + data.draw(st.integers(0, 40))] = inserted
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        Path(file.name).write_bytes(content)
        found, message = None, "one line"
        try:
            found = findings.inspect([file.name])
        except UserError as error:
            message = str(error)
    assert len(message.splitlines()) == 1
    if found:
        text = new_config.render(found, files=["a.csv"], name="a", origin="", model_uri=None)
        assert settings.validate(yaml_text.parse(text), source="a.yaml").name == "a"


def label_in_turn(values):
    return [(text, values[number % len(values)]) for number, (text, _) in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("name", "values", "is_ordered"),
    [
        ("star", ["1", "2", "3", "4", "5"], True),
        ("star_rating", [str(number) for number in range(1, 11)], True),
        ("rating", [str(number) for number in range(11)], True),
        ("rating", [str(number / 2) for number in range(1, 11)], True),
        ("label", ["1 star", "2 stars", "3 stars"], True),
        ("label", ["★", "★★", "★★★"], True),
        ("label", ["1", "2", "3", "4", "5"], False),  # may be codes of any classes
        ("rating", ["0", "1"], False),
        ("rating", ["-1", "0", "1"], False),  # negative, neutral, positive
        ("rating", ["10", "20", "30"], False),
        ("rating", ["good", "bad", "5"], False),
    ],
)
def test_ratings_are_classes_with_an_order(look, name, values, is_ordered):
    found = look(write(label_in_turn(values), header=("text", name)))
    assert found.roles.label == name
    assert found.is_ordered == is_ordered
    config = new_config.render(found, files=["a.csv"], name="a", origin="", model_uri=None)
    form = settings.validate(yaml_text.parse(config), source="a.yaml").format
    assert form.ordered == is_ordered
    if is_ordered:
        assert list(form.class_values) == sorted(form.class_values)
        assert set(form.classes) == set(values)
