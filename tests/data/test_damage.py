"""A dirty Sentiment140 CSV: every kind of damage costs what it must, and no other row."""

import random
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from conftest import write_config

from sentiflow.config import settings
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.data import corpus, csv_ranges, parts, row_checks
from sentiflow.data.csv_records import MAX_RECORD_BYTES, MISPLACED_QUOTE, TOO_LONG, UNCLOSED_QUOTE
from sentiflow.data.csv_rows import MAX_RAW_BYTES
from sentiflow.data.row_checks import EMPTY_TEXT, TEXT_TOO_LONG, UNKNOWN_LABEL, WRONG_COLUMNS
from sentiflow.pipeline import stages
from sentiflow.storage import hashes

LABELS = {b"0": 0, b"2": 2, b"4": 1}


@dataclass(frozen=True)
class Record:
    """A record as it is written, and what should become of it."""

    written: bytes
    reason: str = ""
    text: bytes = b""
    """If it is accepted: as it is written but for the quotes."""
    label: bytes = b"4"
    ignored: str | None = None
    """The reason where broken bytes are ignored, if that is another."""
    end: bytes = b"\n"
    kind: str = "good"


def accepted(text, label=b"4", **options):
    """Write a row in quotes that is kept as it is."""
    fields = (label, b"17", b"Mon Apr 06 22:19:45 PDT 2009", b"NO_QUERY", b"ann", text)
    written = b",".join(b'"' + field.replace(b'"', b'""') + b'"' for field in fields)
    return Record(written, text=text, label=label, **options)


def refused(text, reason, label=b"4", **options):
    """Write a row in quotes that is refused for what is in it."""
    return replace(accepted(text, label, **options), reason=reason)


def plain(text):
    """Write a row without quotes that is kept."""
    return Record(b"4,17,date,NO_QUERY,ann," + text, text=text)


BLANKS = "\u00a0\u2003\u3000\u0085\u2028".encode()

TRICKY = b'and\n"4","1","d","q","u","a row in a row"\n"0","2","d","q","u","one more"\nend'

KINDS = {
    "unclosed first field": Record(b'"4,17,date,NO_QUERY,ann,hello', UNCLOSED_QUOTE),
    "unclosed middle field": Record(b'4,17,"date,NO_QUERY,ann,hello', UNCLOSED_QUOTE),
    "unclosed last field": Record(b'"4","17","d","q","ann","hello, you', UNCLOSED_QUOTE),
    "unclosed, then quotes": Record(b'"4,"17","d","q","ann","hello"', MISPLACED_QUOTE),
    "unclosed in the middle, then quotes": Record(b'"4","17","d,"q","a","b"', MISPLACED_QUOTE),
    "a lone quote": Record(b'"', UNCLOSED_QUOTE),
    "three quotes": Record(b'"4","17","d","q","ann","""', UNCLOSED_QUOTE),
    "text after a quote": Record(b'"4","17"x,"d","q","ann","hello"', MISPLACED_QUOTE),
    "blank after a quote": Record(b'"4","17" ,"d","q","ann","hello"', MISPLACED_QUOTE),
    "quotes not doubled": Record(b'"4","1","d","q","u","so "good" today"', MISPLACED_QUOTE),
    "quotes with backslashes": Record(rb'"4","1","d","q","u","so \"good\"!"', MISPLACED_QUOTE),
    "too few columns": Record(b'"4","17","d","q","hello"', WRONG_COLUMNS),
    "too many columns": Record(b'"4","17","d","q","ann","hello",""', WRONG_COLUMNS),
    "comma in a plain text": Record(b"4,17,d,q,ann,hello, you", WRONG_COLUMNS),
    "semicolons": Record(b'"4";"17";"d";"q";"ann";"x"', MISPLACED_QUOTE),
    "tabs": Record(b"4\t17\td\tq\tann\thello", WRONG_COLUMNS),
    "quoted twice": Record(b'"""4"",""17"",""d"",""q"",""ann"",""x"""', WRONG_COLUMNS),
    "a comment": Record(b"# exported in 2009", WRONG_COLUMNS),
    "JSON": Record(b'{"target": 4, "text": "hello"}', WRONG_COLUMNS),
    "commas alone": Record(b",,,,,", UNKNOWN_LABEL),
    "too few commas alone": Record(b",,", WRONG_COLUMNS),
    "blanks alone": Record(b"  \t ", WRONG_COLUMNS),
    "header in the middle": Record(b"target,ids,date,flag,user,text", UNKNOWN_LABEL),
    "unknown label": refused(b"hello", UNKNOWN_LABEL, b"3"),
    "label as a word": refused(b"hello", UNKNOWN_LABEL, b"positive"),
    "label as a fraction": refused(b"hello", UNKNOWN_LABEL, b"4.0"),
    "empty label": refused(b"hello", UNKNOWN_LABEL, b""),
    "apostrophes": Record(b"'4','17','d','q','ann','hello'", UNKNOWN_LABEL),
    "byte order mark": Record(b"\xef\xbb\xbf" + accepted(b"x").written, UNKNOWN_LABEL),
    "empty text": refused(b"", EMPTY_TEXT),
    "empty plain text": Record(b"4,17,d,q,ann,", EMPTY_TEXT),
    "blank text": refused(b" \t \n ", EMPTY_TEXT),
    "blanks of Unicode alone": refused(BLANKS, EMPTY_TEXT),
    "text too long": refused(b"x" * 10_001, TEXT_TOO_LONG),
    "line too long": Record(b"4,17,d,q,ann," + b"x" * MAX_RECORD_BYTES, TOO_LONG),
    "binary": Record(b"\x89PNG\x1a\x00\x00\xff\xd8\xff\xe0\x00\x10JFIF\x00\x80", WRONG_COLUMNS),
    "NULs alone": Record(b"\x00" * 40, WRONG_COLUMNS),
    "broken bytes alone, no columns": Record(b"\xff\xfe\xe9", WRONG_COLUMNS),
    "UTF-16": Record("4,1,d,q,u,hello".encode("utf-16-le"), UNKNOWN_LABEL),
    "UTF-16 in quotes": Record('"4","1","d"'.encode("utf-16-le"), MISPLACED_QUOTE),
    "broken label": refused(b"hello", UNKNOWN_LABEL, b"4\xff", ignored=""),
    "broken text alone": accepted(b"\xff\xe9", ignored=EMPTY_TEXT),
    "broken text": accepted(b"caf\xe9 \xf0\x9f\x98 \xed\xa0\x80 \xc0\xaf!"),
    "broken text without quotes": plain(b"caf\xe9!"),
    "text cut within a character": accepted(b"I \xe2\x99"),
    "text as long as may be": accepted("\u00e9".encode() * 10_000),
    "NULs": accepted(b"a\x00b\x00"),
    "control characters": accepted(b"\x01\x08bell\x07 \x1a end of file \x7f\x1b[0m"),
    "CRLF": accepted(b"hello", end=b"\r\n"),
    "CRLF, too few columns": Record(b"4,17,hello", WRONG_COLUMNS, end=b"\r\n"),
    "line ends in quotes": accepted(b"one\ntwo\r\nthree\rfour\n"),
    "lone CR": [replace(plain(b"one"), end=b"\r"), Record(b"two", WRONG_COLUMNS)],
    "blank lines": [accepted(b"a", end=b"\n\r\n\n\r\r\n"), accepted(b"b", end=b"\n\n")],
    "doubled quotes": accepted(b'"so" ""good""'),
    "quotes in plain fields": plain(b'so "good" today"'),
    "no quotes": plain(b" hello "),
    "backslash at the end": accepted(b"hello\\"),
    "commas in quotes": accepted(b',one, two,,",",'),
    "blanks around a label": accepted(b"hello", b"\t2 "),
    "rows in a row": accepted(TRICKY),
    "rows in a row, doubled": accepted(TRICKY.replace(b'"', b'""')),
    "other line ends": accepted("a\u2028b\u2029c\u0085d\u000be".encode()),
    "byte order mark in a text": accepted(b"\xef\xbb\xbfhello"),
    "formula": accepted(b"=1+1"),
    "null": accepted(b"NULL"),
    "null without quotes": plain(b"NA"),
}
"""What may be wrong with a row, or may look as if it were."""

CUT_OFF = Record(b'"0","17","d","q","ann","cut o', UNCLOSED_QUOTE, end=b"", kind="cut off")


def good_row(rng, number, size=0):
    """Make a row that holds its number, padded to ``size`` bytes with its line end."""
    words = " ".join(rng.choices(["good", "bad", "day", "so", "it is", "\u2665"], k=20))
    text = f"{number} {words[: rng.randrange(90)]}".encode()
    row = accepted(text, rng.choice([b"0", b"4"]))
    return accepted(text + b"x" * max(0, size - len(row.written) - 1), row.label)


def dirty_records():
    """Lay damage at random places among good rows, and wherever ranges of 64 KiB meet."""
    rng = random.Random(11)
    kinds = []
    for name in KINDS:
        repeats = 1 if name == "line too long" else 7  # a long line is a megabyte
        kinds += [name] * repeats
    rng.shuffle(kinds)
    found = []
    place = 0
    for kind in kinds:
        pieces = KINDS[kind] if isinstance(KINDS[kind], list) else [KINDS[kind]]
        good = [good_row(rng, len(found) + i) for i in range(rng.randrange(1, 8))]
        size = sum(len(row.written) + 1 for row in good)
        room = -(place + size) % hashes.LEAF_BYTES
        if (
            300 < room < 9000
        ):  # fill up with a good row, so that the damage meets the end of a range
            length = len(pieces[0].written)
            into = rng.choice([0, 1, length // 2, length])
            good.append(good_row(rng, len(found) + len(good), room - min(into, 40)))
        added = [*good, *(replace(piece, kind=kind) for piece in pieces)]
        place += sum(len(piece.written) + len(piece.end) for piece in added)
        found += added
    return [*found, CUT_OFF]


RECORDS = dirty_records()

CONTENT = b"".join(record.written + record.end for record in RECORDS)


def expected(errors="replace"):
    """Say what should become of the file: accepted rows, and refused ones but for their source."""
    kept = []
    refused_rows = []
    place = 0
    for number, record in enumerate(RECORDS):
        reason = record.reason
        if errors == "ignore" and record.ignored is not None:
            reason = record.ignored
        if reason:
            raw = record.written[:MAX_RAW_BYTES]
            refused_rows.append({"row_id": number, "offset": place, "raw": raw, "reason": reason})
        else:
            text = record.text.decode("utf-8", errors).replace("\0", "\ufffd")
            label = LABELS[record.label.strip(b" \t\xff")]
            kept.append({"row_id": number, "text": text, "label": label})
        place += len(record.written) + len(record.end)
    return kept, refused_rows


def rows_of(table, *columns):
    """List the rows of a table in their order."""
    return table.select(columns).sort_by("row_id").to_pylist()


def judged(kept, refused_rows):
    """Shape two tables as :func:`expected` does."""
    accepted_rows = rows_of(kept, "row_id", "text", "label")
    rejected_rows = rows_of(refused_rows, "row_id", "offset", "raw", "reason")
    return accepted_rows, rejected_rows


@pytest.fixture(scope="module")
def dirty_csv(tmp_path_factory):
    """The dirty file."""
    path = tmp_path_factory.mktemp("dirty") / "tweets.csv"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, dirty_csv, resources):
    """What the job prepare leaves of the file, in several ranges."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare = {"csv": str(dirty_csv), "rows_per_file": 500, "max_rejected_fraction": 0.5}
    config = settings.load(write_config(folder, dirty_csv, prepare=prepare))
    stages.run(config, ["prepare"])
    return folder / "run/prepared"


def judge(found):
    """Judge the rows of all parts."""
    rules = row_checks.RowRules.of_labelled(FormatSettings(), PrepareSettings())
    tables = [parts.read(part, rules) for part in found]
    return (
        pa.concat_tables(map(parts.take_accepted, tables)),
        pa.concat_tables(map(parts.take_rejected, tables)),
    )


def test_the_file_shows_damage_of_all_kinds_wherever_ranges_meet():
    assert {record.kind for record in RECORDS} == {"good", "cut off", *KINDS}
    assert sum(record.kind == "good" for record in RECORDS) > 1000
    reasons = {row["reason"] for row in expected()[1]}
    assert len(reasons) >= 7
    kinds = set()
    start = 0
    for record in RECORDS:
        size = len(record.written) + len(record.end)
        bytes_to_next_range = -start % hashes.LEAF_BYTES
        if bytes_to_next_range <= size:
            kinds.add(record.kind)
        start += size
    assert len(kinds - {"good"}) > 5


@pytest.mark.ray
def test_the_job_keeps_a_row_as_written_or_refuses_it_with_the_reason(prepared, dirty_csv):
    kept = ds.dataset(prepared / "tweets", format="parquet", partitioning=None).to_table()
    rejected = ds.dataset(prepared / "rejected", format="parquet", partitioning=None).to_table()
    assert judged(kept, rejected) == expected()
    assert set(rejected["source"].to_pylist()) == {str(dirty_csv)}


def test_small_ranges_from_any_position_find_the_same(dirty_csv):
    found = corpus.open_csv(
        [str(dirty_csv)], settings=FormatSettings(), rows_per_part=10**6, unpack_to=""
    )
    ranges, _ = csv_ranges.cut(str(dirty_csv), data_start=0, range_bytes=3001, delimiter=",")
    pieces = [replace(found.parts[0], pieces=(one,)) for one in ranges]
    assert len(pieces) > 30
    assert judged(*judge(pieces)) == expected()
