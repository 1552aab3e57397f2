"""Settings and the beginning of a CSV define the meaning of its columns, or the error."""

import csv

import pyarrow as pa
import pytest
import yaml

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data.csv_format import HEAD_BYTES, resolve
from sentiflow.errors import UserError

BOM = b"\xef\xbb\xbf"
LABELS = {"negative": "neg", "positive": "pos"}
HEADER = b"id,text,airline_sentiment,user_name\n"
ROWS = b"7,hello,pos,ann\n8,so sad,neg,bob\n"


def csv_form(**changes):
    """Describe a CSV that has at least a text."""
    return FormatSettings(**{"kind": "csv", "columns": {"text": "text"}} | changes)


def find(head, **changes):
    """Find the columns of a CSV: the format, and where its data begin."""
    return resolve(csv_form(**changes), head, source="tweets.csv")


def refusal(head, **changes):
    """Give the one line that refuses a CSV."""
    with pytest.raises(UserError) as error:
        find(head, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def positions(found):
    """List the positions of the columns that were found, by meaning."""
    result = {}
    for name in ("text", "label", "id", "user", "time"):
        if found.position(name) is not None:
            result[name] = found.position(name)
    return result


def test_sentiment140_is_known_without_a_look_at_the_file():
    found, start = resolve(FormatSettings(), b"whatever", source="tweets.csv")
    assert positions(found) == {"label": 0, "id": 1, "time": 2, "user": 4, "text": 5}
    assert (found.num_columns, start) == (6, 0)
    assert found.settings == FormatSettings()
    assert dict(found.labels) == {"0": 0, "4": 1, "2": 2}
    assert found.time_format == "%a %b %d %H:%M:%S PDT %Y"
    assert resolve(FormatSettings(), BOM + b'"0"', source="tweets.csv") == (found, 3)


COLUMNS = {
    "by name": {"text": "text", "label": "airline_sentiment", "id": "id", "user": "user_name"},
    "by position": {"text": 1, "label": 2, "id": 0, "user": 3},
    "mixed": {"text": "text", "label": 2, "id": "id", "user": 3},
}


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("mark", [b"", BOM], ids=["no mark", "mark"])
@pytest.mark.parametrize("before", [b"", b"\r\n\n"])
def test_columns_are_found_by_name_and_by_position(columns, mark, before):
    head = mark + before + HEADER + ROWS
    found, start = find(head, columns=columns, labels=LABELS, header=True)
    assert positions(found) == {"id": 0, "text": 1, "label": 2, "user": 3}
    assert found.num_columns == 4
    assert head[start:] == ROWS


@pytest.mark.parametrize(
    "header",
    [
        b"id,text,user",
        b'"id","text","user"',
        b" id , text,user\t",
        b'"id"," text ",user',
        BOM + b'"id","text","user"',
        b"id,text,user,",
        b'"id\nof it","text",user',
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_header_may_be_quoted_padded_and_marked(header, end):
    head = header + end + ROWS
    found, start = find(head, columns={"text": "text", "user": "user"})
    assert positions(found) == {"text": 1, "user": 2}
    assert head[start:] == ROWS


def test_a_name_means_a_header_and_the_settings_may_say_otherwise():
    assert find(HEADER + ROWS, columns={"text": 1})[1] == 0
    assert find(HEADER + ROWS, columns={"text": 1}, header=True)[1] == len(HEADER)
    assert find(HEADER + ROWS, columns={"text": "text"})[1] == len(HEADER)


LONG = b'"x",' + b"y" * csv.field_size_limit() + b"\n"


@pytest.mark.parametrize(
    "damaged",
    [b'"7,hello\n', b'"7"x,hello\n', b"7\n", b"7,1,2,3,4,5\n", b",,,,,\n,,,,,\n", b'""\n', LONG],
)
def test_without_a_header_most_of_the_first_records_say_how_many_columns(damaged):
    found, start = find(damaged + ROWS * 2, columns={"text": 1})
    assert (found.num_columns, start) == (4, 0)


REFUSED = {
    "misspelt": (
        HEADER,
        {"text": "texts"},
        "format.columns.text: tweets.csv has no column 'texts': did you mean 'text'?",
    ),
    "nothing close": (
        HEADER,
        {"text": "zzz"},
        "no column 'zzz': its columns are 'id', 'text', 'airline_sentiment', 'user_name'",
    ),
    "twice": (
        b"id,text,text\n",
        {"text": "text"},
        "format.columns.text: tweets.csv has 2 columns 'text': give its position, counted from 0",
    ),
    "too far": (
        ROWS,
        {"text": 1, "id": 4},
        "format.columns.id=4, but the last column of tweets.csv is 3: positions count from 0",
    ),
    "another delimiter": (
        HEADER.replace(b",", b";"),
        {"text": "text"},
        "no column 'text': its only column is 'id;text;airline_sentiment;user_name'; is the delim",
    ),
    "many names": (
        b",".join(b"%d" % i for i in range(13)) + b"\n",
        {"text": "text"},
        "'text': its columns are '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', … 3 more",
    ),
    "unclosed header": (
        b'id,"text\n' + ROWS,
        {"text": "text"},
        "the header is too long, or a quote in it is unclosed or misplaced: is it",
    ),
    "binary without header": (
        b"\x00" * HEAD_BYTES,
        {"text": 0},
        "has no valid record at its beginning: ",
    ),
}


@pytest.mark.parametrize(("head", "columns", "line"), REFUSED.values(), ids=REFUSED)
def test_a_column_that_is_not_there_is_named_with_the_way_out(head, columns, line):
    assert line in refusal(head, columns=columns)
    assert "delimiter" not in refusal(HEADER, columns={"text": "zzz"})


@pytest.mark.parametrize("head", [b"", BOM, b"\n\r\n\n", BOM + b"\n"])
@pytest.mark.parametrize("columns", [{"text": "text"}, {"text": 0}, {"text": 5}])
@pytest.mark.parametrize("header", [None, True])
def test_a_file_without_a_record_is_called_empty(head, columns, header):
    assert refusal(head, columns=columns, header=header) == (
        "tweets.csv holds no record: the file is empty: name another CSV"
    )


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("a,b".encode("utf-32"), "tweets.csv is UTF-32: convert it to UTF-8 first"),
        (b"PK\x03\x04", "tweets.csv is compressed: its name must end in .zip"),
        (pa.Codec("gzip").compress(ROWS), "tweets.csv is compressed: its name must end in .gz"),
        (pa.Codec("zstd").compress(ROWS), "tweets.csv is compressed: its name must end in .zst"),
        (b"PAR1", "tweets.csv is Parquet: its name must end in .parquet"),
    ],
)
@pytest.mark.parametrize("form", [FormatSettings(), csv_form()], ids=["sentiment140", "csv"])
def test_a_file_of_another_kind_is_told_by_its_mark(head, line, form):
    with pytest.raises(UserError) as error:
        resolve(form, bytes(head), source="tweets.csv")
    assert str(error.value) == line


@pytest.mark.parametrize(
    ("labels", "meanings"),
    [
        ("{negative: '0', positive: '4'}", {"0": 0, "4": 1, "": None}),
        ("{negative: 0, positive: 1}", {"0": 0, "1": 1, "": None}),
        ("{negative: -1, positive: [1, '+1']}", {"-1": 0, "1": 1, "+1": 1, "": None}),
        ("{negative: [bad, n], positive: good}", {"bad": 0, "n": 0, "good": 1, "": None}),
        (
            "{negative: n, positive: p, neutral: [u, mixed], unlabelled: ['', '?', n/a]}",
            {"n": 0, "p": 1, "u": 2, "mixed": 2, "": None, "?": None, "n/a": None},
        ),
        ("{negative: n, positive: p, unlabelled: []}", {"n": 0, "p": 1}),
        ("{negative: ' n', positive: 'p ', unlabelled: ' '}", {"n": 0, "p": 1, "": None}),
        (
            "{neutral: u, mixed: [m, '?'], positive: p, negative: n}",
            {"u": 2, "m": 3, "?": 3, "p": 1, "n": 0, "": None},
        ),
        ("{joy: j, positive: p, 3: c}", {"j": 0, "p": 1, "c": 2, "": None}),
        ("auto", {"": None}),
    ],
)
def test_labels_mean_what_the_settings_say(labels, meanings):
    columns = {"text": "text", "label": "airline_sentiment"}
    found, _ = find(HEADER, columns=columns, labels=yaml.safe_load(labels))
    assert dict(found.labels) == meanings
    assert len(found.labels) == len(meanings)
