"""Every row of a dirty CSV is accepted as it was written, or refused with a reason."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.config.format_sections import ColumnsSettings, FormatSettings
from sentiflow.data import csv_format, csv_records, csv_rows, parts, schema, tweets
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.data.csv_records import find_records

SETTINGS = settings(max_examples=40, deadline=None)

GOOD = b'"4","17","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","ann","hello"'

LABELS = {b"0": 0, b"4": 1, b"2": 2}

SENTIMENT140, _ = csv_format.resolve(FormatSettings(), b"", source="tweets.csv")

KINDS = [csv_records.MISPLACED_QUOTE, tweets.WRONG_COLUMNS, tweets.UNKNOWN_LABEL, tweets.EMPTY_TEXT]


@dataclass(frozen=True)
class Row:
    """A line of a file, and what should become of it."""

    written: bytes
    reason: str
    tweet_id: bytes = b""
    text: bytes = b""
    label: int | None = None


def quote(value):
    """Write a field in quotes."""
    return b'"' + value.replace(b'"', b'""') + b'"'


TEXTS = st.one_of(
    st.binary(max_size=12),
    st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\xe2\x99\xa5", b"\xe9"])).map(
        b"".join
    ),
)
BLANKS = st.sampled_from([b"", b" ", b"\t \n", "\u00a0\u2003".encode()])


@st.composite
def judged_rows(draw):
    """Make a row whose fate is known."""
    label, tweet_id = draw(st.sampled_from([b"0", b"2", b"4"])), draw(st.sampled_from([b"", b"9"]))
    text = b"x" + draw(TEXTS)
    kind = draw(st.sampled_from(["good", "good", "good", *KINDS]))
    fields = [label, tweet_id, b"date", b"", b"user,name", text]
    if kind == csv_records.MISPLACED_QUOTE:
        return Row(draw(st.sampled_from([b'"0"x,"1"', b'x,"0" ,1', b'"0",""x'])), kind)
    if kind == tweets.WRONG_COLUMNS:
        extra = draw(st.sampled_from([fields[:5], [*fields, b""], [b""], fields * 2]))
        return Row(b",".join(map(quote, extra)), kind)
    if kind == tweets.UNKNOWN_LABEL:
        fields[0] = draw(st.sampled_from([b"", b"1", b"0 0", b"0.0", b"-4", b"\xff", b"null"]))
        return Row(b",".join(map(quote, fields)), kind, tweet_id, text)
    if kind == tweets.EMPTY_TEXT:
        fields[5] = draw(BLANKS)
        return Row(b",".join(map(quote, fields)), kind)
    written = [quote(field) if draw(st.booleans()) else field for field in fields[:4]]
    return Row(b",".join([*written, *map(quote, fields[4:])]), "", tweet_id, text, LABELS[label])


def whole(path):
    """Take a file as one range."""
    content = path.read_bytes()
    records, used = find_records(content)
    return CsvRange(str(path), 0, used, 0, len(records), bool(records.malformed.any()))


@dataclass(frozen=True)
class Checked:
    """The rows of a part, all of them, and as the two tables that are written."""

    rows: pa.Table
    tweets: pa.Table
    rejected: pa.Table


def read_range(csv_range, *, form=SENTIMENT140, errors="replace", required=("label",), **options):
    """Judge the rows of a range, of Sentiment140's form if no other is given."""
    form = replace(form, settings=form.settings.model_copy(update={"errors": errors}))
    part = parts.Part((csv_range,), form, {"fingerprint": "", "files": []})
    rows = parts.read(part, tweets.RowRules(required=tuple(required), **options))
    accepted = parts.take_accepted(rows, keep=options.get("keep", ()))
    assert accepted["split"].null_count == len(accepted)
    return Checked(rows, accepted.drop_columns("split"), parts.take_rejected(rows))


def read(path, content, **options):
    """Write a file and judge all its rows."""
    path.write_bytes(content)
    return read_range(whole(path), **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file that one example after the other overwrites."""
    return tmp_path_factory.mktemp("tweets") / "tweets.csv"


@SETTINGS
@given(
    st.lists(judged_rows(), max_size=12),
    st.sampled_from(["replace", "ignore"]),
    st.sampled_from([(), ("label",)]),
    st.booleans(),
)
def test_every_row_is_accepted_or_refused(path, rows, errors, required, ends):
    content = b"\n\n".join(row.written for row in rows) + b"\n" * ends
    checked = read(path, content, errors=errors, required=required)
    forgiven = () if required else (tweets.UNKNOWN_LABEL,)
    assert checked.tweets.to_pylist() == [
        {
            "row_id": number,
            "tweet_id": row.tweet_id.decode() or None,
            "text": row.text.decode("utf-8", errors),
            "label": row.label,
        }
        for number, row in enumerate(rows)
        if row.reason in ("", *forgiven)
    ]
    assert [(row["row_id"], row["reason"], row["raw"]) for row in checked.rejected.to_pylist()] == [
        (number, row.reason, row.written)
        for number, row in enumerate(rows)
        if row.reason not in ("", *forgiven)
    ]
    assert (checked.tweets.schema, checked.rejected.schema) == (schema.TWEETS, schema.REJECTED)
    assert checked.rows["row_id"].to_pylist() == list(range(len(rows)))
    has_unknown = checked.rows["unknown_label"].is_valid().to_pylist()
    assert has_unknown == [row.reason == tweets.UNKNOWN_LABEL for row in rows]


COLUMNS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("offset", pa.int64()),
        ("tweet_id", pa.string()),
        ("text", pa.string()),
        ("label", pa.int8()),
        ("unknown_label", pa.string()),
        ("split", pa.string()),
        ("user", pa.string()),
        ("raw", pa.binary()),
        ("reason", pa.string()),
    ]
)


@pytest.mark.parametrize("lines", [[GOOD, b"wrong"], [GOOD], [b"wrong"]])
def test_a_part_has_the_same_columns_whatever_its_rows(path, lines):
    rows = read(path, b"\n".join(lines), keep=("user",)).rows
    assert rows.schema == COLUMNS


def test_accepted_rows_have_an_offset_on_demand(path):
    content = b"\n".join([GOOD, b"wrong", GOOD])
    assert read(path, content).rows["offset"].to_pylist() == [None, len(GOOD) + 1, None]
    found = read(path, content, with_offsets=True).rows["offset"].to_pylist()
    assert found == [0, len(GOOD) + 1, len(GOOD) + 7]


def test_a_kept_column_may_have_the_name_of_another(path):
    form = FormatSettings(kind="csv", columns={"text": "text"})
    content = b"text,reason,source\na,late,web\nb\n"
    form, start = csv_format.resolve(form, content, source="tweets.csv")
    path.write_bytes(content)
    csv_range = CsvRange(str(path), start, len(content), 0, 2, has_malformed=False)
    found = read_range(csv_range, form=form, keep=("source", "reason"))
    assert found.tweets.to_pylist() == [
        {"row_id": 0, "tweet_id": None, "text": "a", "label": None}
        | {"source": "web", "reason": "late"}
    ]
    assert found.rejected["reason"].to_pylist() == [tweets.WRONG_COLUMNS]
    assert found.rejected["source"].to_pylist() == [str(path)]


@SETTINGS
@given(st.lists(judged_rows(), min_size=1, max_size=12), st.lists(st.integers(0, 12)))
def test_reading_in_many_ranges_equals_reading_in_one(path, rows, cuts):
    content = b"\n".join(row.written for row in rows) + b"\n"
    once = read(path, content)
    records, _ = find_records(content)
    edges = sorted({0, len(rows), *(edge for edge in cuts if edge < len(rows))})
    pieces = [
        read_range(
            CsvRange(
                source=str(path),
                start=int(records.starts[first]),
                stop=int(records.stops[last - 1]),
                first_row=first,
                num_rows=last - first,
                has_malformed=bool(records.malformed[first:last].any()),
            )
        ).rows
        for first, last in pairwise(edges)
    ]
    assert pa.concat_tables(pieces).combine_chunks().equals(once.rows.combine_chunks())


REFUSED = {
    "unclosed quote": (b'"4","17","Mon","NO_QUERY","ann","hello', csv_records.UNCLOSED_QUOTE),
    "misplaced quote": (b'"4","17","Mon"x,"NO","ann","hi"', csv_records.MISPLACED_QUOTE),
    "too few columns": (b'"4","17","Mon","NO_QUERY","hello"', tweets.WRONG_COLUMNS),
    "too many columns": (GOOD + b',"more"', tweets.WRONG_COLUMNS),
    "unknown label": (GOOD.replace(b'"4"', b'"3"'), tweets.UNKNOWN_LABEL),
    "empty text": (GOOD.replace(b"hello", b""), tweets.EMPTY_TEXT),
    "long text": (GOOD.replace(b"hello", b"x" * 10_001), tweets.TEXT_TOO_LONG),
    "long line": (b"x" * (csv_records.MAX_RECORD_BYTES + 1), csv_records.TOO_LONG),
    "no user": (GOOD.replace(b"ann", b" "), tweets.NO_USER),
    "no time": (GOOD.replace(b"Mon Apr 06", b"Mon Apr"), tweets.NO_TIME),
    "blank text": (GOOD.replace(b"hello", b" \t "), tweets.EMPTY_TEXT),
}


@pytest.mark.parametrize(("line", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_rejected_row_keeps_its_position_its_bytes_and_the_reason(path, line, reason):
    checked = read(path, b"\n".join([GOOD, line, GOOD, line]), required=("label", "user", "time"))
    assert checked.tweets["row_id"].to_pylist() == [0, 2]
    raw = line[: csv_rows.MAX_RAW_BYTES]
    assert checked.rejected.to_pylist() == [
        {"row_id": row, "source": str(path), "offset": offset, "raw": raw, "reason": reason}
        for row, offset in ((1, len(GOOD) + 1), (3, 2 * len(GOOD) + len(line) + 3))
    ]


def test_the_hand_made_cases_show_every_reason():
    shown = {reason for _, reason in REFUSED.values()}
    assert shown | {tweets.UNKNOWN_SPLIT} == set(tweets.REASONS)


def test_a_value_that_names_no_split_is_a_reason():
    rows = pa.table({"text": ["a", "b", "c", ""], "split": [" Dev", None, "TRAIN", "x"]})
    found = tweets.check(rows, tweets.RowRules(splits={"train": None, "dev": "validation"}))
    assert found["split"].to_pylist() == ["validation", None, None, None]
    reasons = [None, tweets.UNKNOWN_SPLIT, None, tweets.EMPTY_TEXT]
    assert found["reason"].to_pylist() == reasons


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b'"3","1"x', csv_records.MISPLACED_QUOTE, id="malformed before all"),
        pytest.param(b'"3",""', tweets.WRONG_COLUMNS, id="columns before label"),
        pytest.param(b'"3","1","","","",""', tweets.UNKNOWN_LABEL, id="label before text"),
    ],
)
def test_the_first_reason_is_given(path, line, reason):
    assert read(path, line).rejected["reason"].to_pylist() == [reason]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('a "quoted" word', id="quotes"),
        pytest.param("one, two,", id="commas"),
        pytest.param("two\nlines\r\nand more\r", id="line ends"),
        pytest.param(" blanks stay  ", id="blanks"),
        pytest.param("NA", id="NA"),
        pytest.param("null", id="null"),
        pytest.param("a\\", id="backslash at the end"),
        pytest.param("a\x00b\x1a", id="control characters"),
        pytest.param("caf\u00e9 \u2665 \U0001f600", id="beyond ASCII"),
        pytest.param("\ufeffmark", id="byte order mark"),
    ],
)
def test_a_text_is_kept_as_it_was_written(path, text):
    content = GOOD.replace(b'"hello"', quote(text.encode()))
    assert read(path, content).tweets["text"].to_pylist() == [text]


@pytest.mark.parametrize(("written", "label"), [(b"0", 0), (b"4", 1), (b"2", 2)])
def test_sentiment140_writes_0_for_negative_2_for_neutral_4_for_positive(path, written, label):
    content = GOOD.replace(b'"4"', quote(written))
    assert read(path, content).tweets["label"].to_pylist() == [label]


@pytest.mark.parametrize(("errors", "text"), [("replace", "caf\ufffd!"), ("ignore", "caf!")])
def test_broken_utf8_costs_its_bytes_and_never_the_row(path, errors, text):
    broken = GOOD.replace(b"hello", b"caf\xe9!")
    checked = read(path, GOOD + b"\n" + broken, errors=errors)
    assert checked.tweets["text"].to_pylist() == ["hello", text]


def test_a_text_of_broken_bytes_alone_is_empty_where_they_are_ignored(path):
    content = GOOD.replace(b"hello", b"\xe9\xff")
    assert read(path, content, errors="replace").tweets.num_rows == 1
    assert read(path, content, errors="ignore").rejected["reason"].to_pylist() == ["empty text"]


@SETTINGS
@given(st.lists(st.binary(max_size=8), max_size=6))
def test_repairing_a_range_repairs_each_field_as_if_alone(values):
    fields = [value.replace(b",", b"") for value in values]
    repaired = csv_rows.to_utf8(b",".join(fields), "utf-8").decode()
    assert repaired == ",".join(field.decode("utf-8", "replace") for field in fields)


@SETTINGS
@given(st.lists(st.sampled_from([b"a", b"\n", "\u2665".encode(), b"\xe2\x99", b"\xff"])))
def test_repairing_in_blocks_equals_repairing_at_once(pieces):
    content = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "_BLOCK_BYTES", 2)
        repaired = csv_rows.to_utf8(content, "utf-8")
    assert repaired == content.decode(errors="replace").encode()


@pytest.mark.parametrize("line", [b"\xff", b'\xff"a', b'\xff"a"b', b"\xff,"])
def test_dropping_broken_bytes_never_changes_what_is_a_record(path, line):
    checked = read(path, GOOD + b"\n" + line + b"\n" + GOOD, errors="ignore")
    assert checked.tweets["row_id"].to_pylist() == [0, 2]
    assert checked.rejected["reason"].to_pylist() == ["wrong number of columns"]


def test_an_unknown_label_is_null_where_none_is_required(path):
    content = GOOD + b"\n" + GOOD.replace(b'"4"', b'"?"')
    checked = read(path, content, required=())
    assert checked.tweets["label"].to_pylist() == [1, None]
    assert checked.rejected.num_rows == 0
    assert checked.rows["unknown_label"].to_pylist() == [None, "?"]


def test_raw_bytes_are_blank_where_they_are_not_kept(path):
    refused = read(path, b'"0"x\n0\n' + GOOD, keep_raw=False).rejected.to_pylist()
    assert [row["raw"] for row in refused] == [b"", b""]
    assert [row["offset"] for row in refused] == [0, 5]


def test_raw_bytes_are_cut_to_4_kib(path):
    line = b"x" * (csv_rows.MAX_RAW_BYTES + 100)
    assert read(path, line + b"\n").rejected["raw"].to_pylist() == [line[:4096]]


def test_an_empty_id_is_null(path):
    content = GOOD + b"\n" + GOOD.replace(b'"17"', b'""')
    assert read(path, content).tweets["tweet_id"].to_pylist() == ["17", None]


@pytest.mark.parametrize("line", [b"wrong", b'"0"x'])
def test_a_range_may_hold_refused_rows_alone(path, line):
    checked = read(path, b"\n".join([line] * 3))
    assert (checked.tweets.num_rows, checked.rejected.num_rows) == (0, 3)


def test_a_later_range_knows_its_position_in_the_file(path):
    content = b"\xef\xbb\xbf" + b"\n".join([GOOD, b"wrong"] * 3)
    path.write_bytes(content)
    csv_range = CsvRange(str(path), 3, len(content), 50, 6, has_malformed=False)
    rejected = read_range(csv_range).rejected.to_pylist()
    assert [row["row_id"] for row in rejected] == [51, 53, 55]
    assert all(content[row["offset"] :].startswith(b"wrong") for row in rejected)


def test_columns_and_labels_follow_the_format(path):
    columns = ColumnsSettings(text=0, label=1, id=2)
    mine = CsvFormat(FormatSettings(), 3, columns, labels=(("neg", 0), ("pos", 1)))
    checked = read(path, b"good day,pos,7\nbad day, neg ,\nday,0,8", form=mine)
    assert checked.tweets.to_pylist() == [
        {"row_id": 0, "tweet_id": "7", "text": "good day", "label": 1},
        {"row_id": 1, "tweet_id": None, "text": "bad day", "label": 0},
    ]
    assert checked.rejected["reason"].to_pylist() == [tweets.UNKNOWN_LABEL]


def test_a_malformed_row_of_a_crlf_file_costs_itself_alone(path):
    checked = read(path, b"\r\n".join([GOOD, b'"4"x', GOOD, b""]))
    assert checked.tweets["row_id"].to_pylist() == [0, 2]
    assert checked.rejected["raw"].to_pylist() == [b'"4"x']


@pytest.mark.parametrize("line", [b"4,17,Mon,NO_QUERY,ann,one\rtwo", b"\r\r"])
def test_a_lone_cr_outside_quotes_is_judged_like_any_byte(path, line):
    checked = read(path, b"\n".join([GOOD, line, GOOD]))
    assert checked.tweets.num_rows + checked.rejected.num_rows == whole(path).num_rows


def test_a_byte_order_mark_within_a_file_is_text_wherever_ranges_begin(path):
    content = b"\n".join([GOOD, b"\xef\xbb\xbf" + GOOD])
    path.write_bytes(content)
    start = len(GOOD) + 1
    alone = read_range(CsvRange(str(path), start, len(content), 1, 1, has_malformed=False))
    assert alone.rejected.equals(read_range(whole(path)).rejected)


def test_a_row_with_broken_utf8_and_wrong_columns_is_refused(path):
    checked = read(path, b"\n".join([GOOD, b"caf\xe9,", GOOD]))
    assert checked.tweets["row_id"].to_pylist() == [0, 2]
    assert checked.rejected["raw"].to_pylist() == [b"caf\xe9,"]


def test_the_blank_characters_are_those_that_trimming_removes():
    points = (chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    characters = pa.array(points)
    found = tweets.check(pa.table({"text": characters}), tweets.RowRules())["reason"].is_valid()
    assert found.combine_chunks().equals(pc.equal(pc.utf8_trim_whitespace(characters), ""))
