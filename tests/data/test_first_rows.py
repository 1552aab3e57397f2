"""The first rows of a file are those that the stages read, and damage is noticed."""

import gzip
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, first_rows, parts, row_checks, text_encodings
from sentiflow.errors import UserError

TICKETS = 'ticket;mood;message\n1;bad;caf\u00e9 closed\n2;good;"so; good"\n3;good;\n'


def form(**settings):
    return FormatSettings(**{"kind": "csv", "columns": {"text": 0}, "header": True} | settings)


def read(content, **settings):
    return first_rows.read_piece("tickets.csv", content, form(**settings))


def test_all_columns_are_read_as_texts():
    found = read(TICKETS.encode(), delimiter=";")
    assert found.names == ("ticket", "mood", "message")
    assert found.rows.to_pylist()[:2] == [
        {"ticket": "1", "mood": "bad", "message": "caf\u00e9 closed"},
        {"ticket": "2", "mood": "good", "message": "so; good"},
    ]
    assert (found.rows.num_rows, found.is_whole, found.is_damaged) == (3, True, False)
    assert row_checks.count_values(found.column("mood")) == {"good": 2, "bad": 1}


def test_records_that_cannot_be_split_are_counted():
    found = read(b'id,text\n1,good\n2\n3,"oh" no\n4,fine\n')
    assert Counter(found.faults.drop_null().to_pylist()) == {
        "wrong number of columns": 1, "text after a closing quote": 1,
    }  # fmt: skip
    assert found.column("text").to_pylist() == ["good", None, None, "fine"]


def test_a_megabyte_is_read_and_no_record_is_cut(tmp_path):
    csv = tmp_path / "tickets.csv"
    csv.write_text("id,text\n" + "".join(f'{i},"so\ngood {i}"\n' for i in range(100_000)))
    found = first_rows.read(str(csv), form())
    assert not found.is_whole
    assert found.column("text")[-1].as_py() == f"so\ngood {found.rows.num_rows - 1}"
    assert found.faults.null_count == found.rows.num_rows
    packed = tmp_path / "tickets.csv.gz"
    packed.write_bytes(gzip.compress(csv.read_bytes()))
    assert first_rows.read(str(packed), form()).rows.equals(found.rows)


def test_parquet_is_read_as_texts(tmp_path):
    path = tmp_path / "tickets.parquet"
    values = {
        "stars": [1, None],
        "text": ["so", "good"],
        "tags": [["a"], []],
        "raw": [b"\xff", b""],
    }
    pq.write_table(pa.table(values), path)
    found = first_rows.read(str(path), form())
    assert found.column("stars").to_pylist() == ["1", None]
    assert found.rows.column_names == ["stars", "text"]
    assert (found.is_whole, found.schema.field("stars").type) == (True, pa.int64())
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + bytes(30) + whole[50:])
    with pytest.raises(UserError, match="the file is damaged"):
        first_rows.read(str(path), form())
    path.write_bytes(b"id,text\n")
    with pytest.raises(UserError, match="is not Parquet"):
        first_rows.read(str(path), form())


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (b"plain", "utf-8", (False, "")),
        ("caf\u00e9".encode(), "utf-8", (False, "")),
        ("caf\u00e9".encode("latin-1"), "utf-8", (True, "latin-1")),
        ("caf\u00e9 \u20ac 5".encode("cp1252"), "utf-8", (True, "cp1252")),
        (b"caf\xe9 \x81", "utf-8", (True, "latin-1")),
        ("caf\u00e9 na\u00efve".encode() + b" \xff", "utf-8", (True, "")),
        ("\u043f\u0440\u0438\u0432\u0435\u0442".encode("cp1251"), "utf-8", (True, "")),
        ("caf\u00e9".encode(), "latin-1", (False, "utf-8")),
        ("caf\u00e9".encode("latin-1"), "latin-1", (False, "")),
        (b"caf\xe9 \x81", "cp1252", (True, "")),
    ],
)
def test_the_encoding_that_fits_is_named(content, encoding, expected):
    assert text_encodings.judge(content, encoding) == expected


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_the_rows_are_those_that_a_part_has(tmp_path_factory, lines):
    content = b"a,text\n" + b"\n".join(lines)
    csv = tmp_path_factory.mktemp("csv") / "tickets.csv"
    csv.write_bytes(content)
    settings = FormatSettings(kind="csv", columns={"text": "text"})
    found = first_rows.read(str(csv), settings)
    if not found.rows.num_rows:
        return
    source = corpus.open_csv([str(csv)], settings=settings, rows_per_part=100, unpack_to="")
    rules = row_checks.RowRules.of_texts(settings)
    rows = pa.concat_tables(parts.read(part, rules) for part in source.parts)
    texts = pc.replace_substring(found.column("text"), "\0", row_checks.REPLACEMENT)
    assert texts.to_pylist() == rows["text"].to_pylist()
    reasons = rows["reason"].to_pylist()
    assert [
        fault or reason for fault, reason in zip(found.faults.to_pylist(), reasons, strict=True)
    ] == reasons
