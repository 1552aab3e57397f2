"""Files become parts of one corpus, whatever some of them hold."""

import errno
import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, csv_plans, csv_ranges, input_files, parts, table_plans
from sentiflow.data.row_checks import RowRules
from sentiflow.errors import JobError, UserError
from sentiflow.storage import retries

FORM = FormatSettings(kind="csv", columns={"text": "text"})
EMPTY = [b"", b"\n\r\n", b"\xef\xbb\xbf", b"text\n", b"text"]


def open_files(folder, *contents):
    """Write files and open them as a corpus."""
    uris = []
    for number, content in enumerate(contents):
        suffix = ".gz" if content.startswith(b"\x1f\x8b") else ""
        (folder / f"{number}.csv{suffix}").write_bytes(content)
        uris.append(f"{folder}/{number}.csv{suffix}")
    return corpus.open_csv(uris, settings=FORM, rows_per_part=10, unpack_to=str(folder / "work"))


@pytest.mark.parametrize("empty", [*EMPTY, gzip.compress(b"\n", mtime=0)])
def test_a_file_without_a_record_adds_no_row_and_is_named(tmp_path, empty):
    found = open_files(tmp_path, empty, b"text,id\nx,1\ny,2\n", empty, b"text,id\nz,3\n")
    (part,) = found.parts
    assert [piece.first_row for piece in part.pieces] == [0, 2]
    assert (found.num_rows, len(found.files["files"])) == (3, 4)
    assert [note.partition(" ")[2] for note in found.notes] == ["holds no record"] * 2
    assert [item["rows"] for item in found.files["files"]] == [0, 2, 0, 1]
    assert parts.read(part, RowRules())["text"].to_pylist() == ["x", "y", "z"]


def test_small_files_that_follow_each_other_share_a_part(tmp_path):
    """A part has about ten rows; a file of other columns, or with several ranges, is not joined."""
    small = [b"text\n" + b"so good\n" * rows for rows in (4, 4, 4, 11, 2)]
    large = b"text\n" + b"so good so far\n" * 10_000
    found = open_files(tmp_path, *small, b"text,k\na,1\n", *small[:1], large, *small[:2])
    names = ["".join(piece.source[-5] for piece in part.pieces) for part in found.parts]
    assert names[:5] == ["012", "3", "4", "5", "6"]
    assert {*names[5:-1]} == {"7"}
    assert len(names[5:-1]) > 1
    assert names[-1] == "89"
    rows = pa.concat_tables([parts.read(part, RowRules()) for part in found.parts])
    assert rows["row_id"].to_pylist() == list(range(found.num_rows))
    for part in found.parts:
        uris = [item["uri"] for item in part.inputs["files"]]
        assert uris == [piece.source for piece in part.pieces], "a part has its own files only"


def test_few_bytes_are_cut_in_this_process_at_a_time(tmp_path, monkeypatch):
    """Files of all the corpus at once would take its size, twice, in the driver."""
    groups = []
    cut_files = corpus.cut_files

    def watch(files):
        groups.append([file.described["bytes"] for file in files])
        return cut_files(files)

    monkeypatch.setattr(corpus, "cut_files", watch)
    monkeypatch.setattr(corpus, "_AT_ONCE_BYTES", 100)
    found = open_files(tmp_path, *[b"text\n" + b"so good\n" * rows for rows in (9, 2, 9, 40, 1)])
    assert groups == [[77, 21, 77], [325], [13]]
    assert found.num_rows == 61


def test_rows_of_utf_16_are_those_of_utf_8_and_so_are_the_offsets(tmp_path):
    text = 'text\tid\r\nnaïve 🎉\t1\r\n"un\t2\r\n\t3\r\n"für\nzwei"\t4\r\n'
    read = []
    for encoding in ("utf-8", "utf-16"):
        form = FORM.model_copy(update={"delimiter": "\t"})
        (tmp_path / encoding).write_bytes(text.encode(encoding))
        work = str(tmp_path / "work")
        found = corpus.open_csv(
            [str(tmp_path / encoding)], settings=form, rows_per_part=9, unpack_to=work
        )
        read.append(parts.read(found.parts[0], RowRules()).drop_columns("source").to_pylist())
    assert read[0] == read[1]
    assert [row["text"] for row in read[1]] == ["naïve 🎉", None, "", "für\nzwei"]
    places = [row["offset"] for row in read[1]]
    assert places == [None, text.encode().index(b'"un'), text.encode().index(b"\t3"), None]


def test_a_corpus_without_a_record_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"0\.csv holds no record: it has at most a header$"):
        open_files(tmp_path, *EMPTY)


def test_columns_of_tables_are_kept_under_the_names_of_meanings(tmp_path):
    times = pa.array([1, None], pa.timestamp("us", "UTC"))
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a", "b"], "time": times, "user": ["ann", ""]}), path)
    files = input_files.describe_unread([path])
    keep = ("time", "user")
    plan = table_plans.plan_scoring(files, text_column="text", keep_columns=keep)
    found = parts.read(corpus.cut(plan, rows_per_part=9).parts[0], RowRules(keep=keep))
    kept = [found[parts.kept_name(name)].combine_chunks() for name in keep]
    assert kept == [times, pa.array(["ann", ""])]


@pytest.mark.parametrize("num_errors", [4, 5])
def test_the_driver_reads_again_after_an_io_error(tmp_path, monkeypatch, num_errors):
    path = tmp_path / "a.csv"
    path.write_text("text\ngood\n")
    plan = csv_plans.plan_csv(
        input_files.describe_unread([str(path)]),
        settings=FORM,
        rows_per_part=9,
        unpack_to="",
        needs_all=False,
    )
    really_cut = csv_ranges.cut
    left = [OSError(errno.EIO, "Input/output error", str(path))] * num_errors

    def cut(*arguments, **options):
        if left:
            raise left.pop()
        return really_cut(*arguments, **options)

    monkeypatch.setattr(csv_ranges, "cut", cut)
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: None)
    if num_errors < retries.MAX_FAILURES:
        assert corpus.cut(plan, rows_per_part=9).num_rows == 1
        return
    with pytest.raises(
        JobError, match=r"after 5 tries: Input/output error: '.*a\.csv': run the sa"
    ):
        corpus.cut(plan, rows_per_part=9)
