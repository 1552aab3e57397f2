"""Every row of a dirty CSV is accepted as it was written, or refused with a reason."""

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.config.format_sections import ColumnsSettings, FormatSettings
from sentiflow.data import csv_format, csv_records, csv_rows, parts, row_checks, schema
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.data.csv_records import find_records
from sentiflow.data.table_files import TableFormat
from sentiflow.scoring import given_predictions

SETTINGS = settings(max_examples=40, deadline=None)

GOOD = b'"4","17","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","ann","hello"'

LABELS = {b"0": 0, b"4": 1, b"2": 2}

SENTIMENT140, _ = csv_format.resolve(FormatSettings(), b"", source="tweets.csv")

KINDS = [
    csv_records.MISPLACED_QUOTE,
    row_checks.WRONG_COLUMNS,
    row_checks.UNKNOWN_LABEL,
    row_checks.EMPTY_TEXT,
]


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
    label = draw(st.sampled_from([b"0", b"2", b"4"]))
    tweet_id = draw(st.sampled_from([b"", b"9"]))
    text = b"x" + draw(TEXTS)
    kind = draw(st.sampled_from(["good", "good", "good", *KINDS]))
    fields = [label, tweet_id, b"date", b"", b"user,name", text]
    if kind == csv_records.MISPLACED_QUOTE:
        return Row(draw(st.sampled_from([b'"0"x,"1"', b'x,"0" ,1', b'"0",""x'])), kind)
    if kind == row_checks.WRONG_COLUMNS:
        extra = draw(st.sampled_from([fields[:5], [*fields, b""], [b""], fields * 2]))
        return Row(b",".join(map(quote, extra)), kind)
    if kind == row_checks.UNKNOWN_LABEL:
        fields[0] = draw(st.sampled_from([b"", b"1", b"0 0", b"0.0", b"-4", b"\xff", b"null"]))
        return Row(b",".join(map(quote, fields)), kind, tweet_id, text)
    if kind == row_checks.EMPTY_TEXT:
        fields[5] = draw(BLANKS)
        return Row(b",".join(map(quote, fields)), kind)
    written = [quote(field) if draw(st.booleans()) else field for field in fields[:4]]
    return Row(b",".join([*written, *map(quote, fields[4:])]), "", tweet_id, text, LABELS[label])


def whole(path):
    """Take a file as one range."""
    content = path.read_bytes()
    records, used = find_records(content)
    return CsvRange(
        source=str(path),
        start=0,
        stop=used,
        first_row=0,
        num_rows=len(records),
        has_malformed=bool(records.malformed.any()),
    )


@dataclass(frozen=True)
class Checked:
    """The rows of a part, all of them, and as the two tables that are written."""

    rows: pa.Table
    tweets: pa.Table
    rejected: pa.Table


def read_parts(part, *, errors, **options):
    """Judge the rows of a part of Sentiment140's form."""
    form = replace(part.format, settings=part.format.settings.model_copy(update={"errors": errors}))
    return parts.read(replace(part, format=form), row_checks.RowRules(**options))


def read_range(csv_range, *, form=SENTIMENT140, errors="replace", required=("label",), **options):
    """Judge the rows of a range, of Sentiment140's form if no other is given."""
    form = replace(form, settings=form.settings.model_copy(update={"errors": errors}))
    part = parts.Part((csv_range,), form, {"fingerprint": "", "files": []})
    rows = parts.read(part, row_checks.RowRules(required=tuple(required), **options))
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
def test_every_row_is_accepted_or_refused(path, rows, errors, required, ends_with_newline):
    content = b"\n\n".join(row.written for row in rows)
    if ends_with_newline:
        content += b"\n"
    checked = read(path, content, errors=errors, required=required)
    forgiven = [""] if required else ["", row_checks.UNKNOWN_LABEL]
    accepted = []
    refused = []
    for number, row in enumerate(rows):
        if row.reason in forgiven:
            text = row.text.decode("utf-8", errors).replace("\0", "\ufffd")
            tweet_id = row.tweet_id.decode() or None
            accepted.append(
                {"row_id": number, "tweet_id": tweet_id, "text": text, "label": row.label}
            )
        else:
            refused.append((number, row.reason, row.written))
    assert checked.tweets.to_pylist() == accepted
    rejected = checked.rejected.select(["row_id", "reason", "raw"]).to_pylist()
    assert [tuple(row.values()) for row in rejected] == refused
    assert (checked.tweets.schema, checked.rejected.schema) == (schema.TWEETS, schema.REJECTED)
    assert checked.rows["row_id"].to_pylist() == list(range(len(rows)))
    has_unknown = checked.rows["unknown_label"].is_valid().to_pylist()
    assert has_unknown == [row.reason == row_checks.UNKNOWN_LABEL for row in rows]


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
    assert found.rejected["reason"].to_pylist() == [row_checks.WRONG_COLUMNS]
    assert found.rejected["source"].to_pylist() == [str(path)]


@SETTINGS
@given(st.lists(judged_rows(), min_size=1, max_size=12), st.lists(st.integers(0, 12)))
def test_reading_in_many_ranges_equals_reading_in_one(path, rows, cuts):
    content = b"\n".join(row.written for row in rows) + b"\n"
    once = read(path, content)
    records, _ = find_records(content)
    edges = sorted({0, len(rows), *(edge for edge in cuts if edge < len(rows))})
    pieces = []
    for first, last in pairwise(edges):
        csv_range = CsvRange(
            source=str(path),
            start=int(records.starts[first]),
            stop=int(records.stops[last - 1]),
            first_row=first,
            num_rows=last - first,
            has_malformed=bool(records.malformed[first:last].any()),
        )
        pieces.append(read_range(csv_range).rows)
    assert pa.concat_tables(pieces).combine_chunks().equals(once.rows.combine_chunks())


@SETTINGS
@given(
    st.lists(st.lists(judged_rows(), min_size=1, max_size=4), min_size=1, max_size=5),
    st.lists(st.sampled_from([b"", b"\n", b"\r", b'\n"0","open\n', b'\n"0","open']), min_size=5),
    st.sampled_from(["replace", "ignore"]),
    st.booleans(),
)
def test_reading_files_at_once_equals_reading_each(path, files, ends, errors, with_offsets):
    ranges = []
    for number, (rows, end) in enumerate(zip(files, ends, strict=False)):
        file = path.with_name(f"{number}.csv")
        file.write_bytes(b"\n".join(row.written for row in rows) + end)
        first_row = sum(each.num_rows for each in ranges)
        split = ["train", None, "test"][number % 3]
        ranges.append(replace(whole(file), first_row=first_row, split=split))
    options = {"errors": errors, "with_offsets": with_offsets}
    each = []
    for csv_range in ranges:
        part = parts.Part((csv_range,), SENTIMENT140, {"fingerprint": "", "files": []})
        each.append(read_parts(part, **options))
    part = parts.Part(tuple(ranges), SENTIMENT140, {"fingerprint": "", "files": []})
    assert read_parts(part, **options).to_pylist() == pa.concat_tables(each).to_pylist()


@SETTINGS
@given(st.lists(st.sampled_from([b"a", b"\n", "\u2665".encode(), b"\xe2\x99", b"\xff"])))
def test_repairing_in_blocks_equals_repairing_at_once(pieces):
    content = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "_BLOCK_BYTES", 2)
        repaired = csv_rows.to_utf8(content, "utf-8")
    assert repaired == content.decode(errors="replace").encode()


def test_raw_bytes_are_blank_where_they_are_not_kept(path):
    refused = read(path, b'"0"x\n0\n' + GOOD, keep_raw=False).rejected.to_pylist()
    assert [row["raw"] for row in refused] == [b"", b""]
    assert [row["offset"] for row in refused] == [0, 5]


def test_columns_and_labels_follow_the_format(path):
    columns = ColumnsSettings(text=0, label=1, id=2)
    mine = CsvFormat(FormatSettings(), 3, columns, labels=(("neg", 0), ("pos", 1)))
    checked = read(path, b"good day,pos,7\nbad day, neg ,\nday,0,8", form=mine)
    assert checked.tweets.to_pylist() == [
        {"row_id": 0, "tweet_id": "7", "text": "good day", "label": 1},
        {"row_id": 1, "tweet_id": None, "text": "bad day", "label": 0},
    ]
    assert checked.rejected["reason"].to_pylist() == [row_checks.UNKNOWN_LABEL]


def test_the_page_lists_the_reasons_in_their_order():
    page = (Path(__file__).parents[2] / "docs/outputs.md").read_text()
    section = page.partition("## Why a row is rejected")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    assert listed == [*row_checks.REASONS, given_predictions.NO_PREDICTION]


def test_a_nul_in_a_text_is_damage():
    rows = pa.table({"text": ["ciao\0bello", None, "ciao"], "label": ["0", "1", "1"]})
    checked = row_checks.check(rows, TableFormat(), row_checks.RowRules(required=("label",)))
    assert checked["text"].to_pylist() == ["ciao\ufffdbello", None, "ciao"]
    assert checked["reason"].to_pylist() == [None, row_checks.EMPTY_TEXT, None]
