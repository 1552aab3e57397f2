"""Corrected labels replace those of the corpus before anything is decided by labels."""

import re
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_prepare import PLAIN, THIRDS, prepare, read, write_rows
from test_unlabelled import LABELLED, normalize, tables_of

from sentiflow.data import arrays, label_files
from sentiflow.errors import JobError, UserError
from sentiflow.preparation import corrected
from sentiflow.preparation.flow import Flow

CLASSES = ("negative", "positive", "neutral")
ROWS = [*LABELLED, ("", "no label yet"), ("?", "An Unknown label"), ("n", " "), ("u", "late one")]
NAMED = PLAIN | {"columns": {"label": "label", "text": "text"}}
ANY = {
    "max_rejected_fraction": 0.5,
    "rows_per_file": 30,
    "classes": list(CLASSES[:2]),
    "split": THIRDS,
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A corpus as CSV, with the same as Parquet beside it."""
    path = tmp_path_factory.mktemp("labelled") / "labelled.csv"
    labels, texts = map(list, zip(*ROWS, strict=True))
    table = pa.table({"label": labels, "text": texts})
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=20)
    return write_rows(path, [("label", "text"), *ROWS])


def write(path, rows):
    """Write corrections: rows of row_id, text, label."""
    table = pd.DataFrame(rows, columns=["row_id", "text", "label"])
    path.write_bytes(label_files.to_csv(table))
    return str(path)


def by_hand(fixes_by_row, fixes_by_text):
    """Label the accepted rows as a plain program does."""
    names = dict(zip(("n", "p", "u", ""), (*CLASSES, None), strict=True))
    found = {}
    for number, (label, text) in enumerate(ROWS):
        name = names.get(label, "?")
        name = fixes_by_text.get(normalize(text), name)
        name = fixes_by_row.get(number, name)
        if text.strip() and name != "?":
            found[number] = name
    return found


def name_labels(rows):
    return {r["row_id"]: None if r["label"] is None else CLASSES[r["label"]] for r in rows}


@pytest.mark.ray
@pytest.mark.parametrize(
    ("suffix", "duplicates"), [(".csv", "keep"), (".parquet", "drop_contradicting")]
)
def test_labels_are_those_of_a_plain_program(tmp_path, labelled, resources, suffix, duplicates):
    corpus = labelled.with_suffix(suffix)
    first = len(LABELLED)
    one = write(tmp_path / "a.csv", [(3, "", "NEUTRAL"), (first, "", "p"), (0, "", "n")])
    other = write(tmp_path / "b.csv", [("", "an unknown  LABEL", "n"), ("", "nowhere", "n")])
    fixes_by_row = {3: "neutral", first: "positive", 0: "negative"}
    options = ANY | {"duplicates": duplicates}
    record = prepare(tmp_path, corpus, NAMED, corrections=[one, other], **options)
    expected = by_hand(fixes_by_row, {"an unknown label": "negative"})
    if duplicates != "keep":  # the text of row 3 has two labels now
        same = [n for n, (_, text) in enumerate(ROWS) if normalize(text) == normalize(ROWS[3][1])]
        expected = {n: name for n, name in expected.items() if n not in same}
    assert name_labels(read(tmp_path)) == expected
    counts = record["counts"]
    is_kept = duplicates == "keep"
    assert counts["corrections"] == {"labels": 5, "rows": 3 + is_kept}
    assert counts["rejected_by_reason"] == {"empty text": 1}
    assert [item["uri"] for item in record["inputs"]["corrections"]["files"]] == [one, other]
    encoded = {row["row_id"]: CLASSES[row["label"]] for row in read(tmp_path, "encoded")}
    assert encoded == {number: name for number, name in expected.items() if name}


@pytest.mark.ray
def test_classes_of_auto_are_those_after_the_correction(tmp_path, resources):
    rows = [("label", "text"), *((f"c{i % 2}", f"text {i}") for i in range(60)), ("c3", "typo")]
    path = write_rows(tmp_path / "corpus.csv", rows)
    fixes = write(tmp_path / "a.csv", [(60, "typo", "C1"), (0, "", "C0")])
    form = NAMED | {"labels": "auto"}
    record = prepare(tmp_path, path, form, corrections=fixes, rows_per_file=20)
    assert record["classes"] == ["c0", "c1"]
    assert read(tmp_path)[60]["label"] == 1
    assert record["counts"]["corrections"] == {"labels": 2, "rows": 2}


@pytest.mark.ray
def test_a_class_may_occur_in_corrections_only(tmp_path, labelled, resources):
    rows = [number for number, (label, _) in enumerate(ROWS) if label == "n"][:12]
    fixes = write(tmp_path / "a.csv", [(number, "", "mixed") for number in rows])
    options = ANY | {"classes": [*CLASSES[:2], "mixed"], "corrections": fixes}
    with pytest.raises(UserError, match=r"add to format.labels: mixed: mixed$"):
        prepare(tmp_path, labelled, NAMED, **options)
    form = NAMED | {"labels": NAMED["labels"] | {"mixed": "mixed"}}
    record = prepare(tmp_path, labelled, form, **options)
    assert record["classes"] == [*CLASSES, "mixed"]
    found = {row["row_id"]: row["label"] for row in read(tmp_path)}
    assert [number for number, label in found.items() if label == 3] == rows
    encoded = [row["row_id"] for row in read(tmp_path, "encoded") if row["label"] == 3]
    assert encoded == rows


@pytest.mark.ray
def test_only_the_content_of_the_files_counts(tmp_path, labelled, resources):
    fixes = write(tmp_path / "a.csv", [(0, "", "neutral")])
    for name in ("none", "one", "moved"):
        (tmp_path / name).mkdir()
    none = prepare(tmp_path / "none", labelled, NAMED, **ANY)
    again = prepare(tmp_path / "none", labelled, NAMED, corrections=[], **ANY)
    assert none["fingerprint"] == again["fingerprint"]
    assert "corrections" not in none["inputs"] | none["counts"] | none["settings"]
    one = prepare(tmp_path / "one", labelled, NAMED, corrections=fixes, **ANY)
    moved = shutil.copy(fixes, tmp_path / "copy.csv")
    same = prepare(tmp_path / "moved", labelled, NAMED, corrections=str(moved), **ANY)
    assert one["fingerprint"] == same["fingerprint"] != none["fingerprint"]
    assert tables_of(tmp_path / "one") == tables_of(tmp_path / "moved")
    write(tmp_path / "a.csv", [(0, "", "positive")])
    with pytest.raises(UserError, match=r"another corrections: .*a\.csv"):
        prepare(tmp_path / "one", labelled, NAMED, corrections=fixes, **ANY)


@pytest.mark.ray
def test_a_resumed_preparation_writes_the_same_files(tmp_path, labelled, resources, monkeypatch):
    fixes = write(tmp_path / "a.csv", [(0, ROWS[0][1], "neutral")])

    def fail(self):
        raise JobError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Flow, "encode", fail)
        with pytest.raises(JobError):
            prepare(tmp_path, labelled, NAMED, corrections=fixes, **ANY)
    write(tmp_path / "a.csv", [(0, ROWS[0][1], "positive")])
    with pytest.raises(UserError, match=r"unfinished run of other settings \(another corrections"):
        prepare(tmp_path, labelled, NAMED, corrections=fixes, **ANY)
    write(tmp_path / "a.csv", [(0, ROWS[0][1], "neutral")])
    prepare(tmp_path, labelled, NAMED, corrections=fixes, **ANY)
    (tmp_path / "whole").mkdir()
    prepare(tmp_path / "whole", labelled, NAMED, corrections=fixes, **ANY)
    assert tables_of(tmp_path) == tables_of(tmp_path / "whole")
    assert read(tmp_path)[0]["label"] == CLASSES.index("neutral")


def resolve(rows, corpus):
    """Resolve corrections (row_id, text, label) of one file in a corpus of texts."""
    frame = pd.DataFrame(rows, columns=["row_id", "text", "label"])
    frame["place"] = [f"a.csv: line {number + 2}" for number in range(len(frame))]
    frame["has_text"] = frame["text"] != ""
    frame["text"] = arrays.hash_texts(pa.array(frame["text"].tolist()))
    hashes = arrays.hash_texts(pa.array(corpus))
    known = pd.DataFrame({"row_id": range(len(corpus)), "text": hashes})
    found = corrected.resolve(frame.assign(file=0), known, ("a",))
    return dict(zip(found["row_id"], found["label"], strict=True))


def test_a_text_decides_and_else_the_row_id():
    corpus = ["same", "Same", "other", "same"]
    every = dict.fromkeys((0, 1, 3), "positive")
    assert resolve([(2, "same", "positive")], corpus) == every
    assert resolve([(-1, "SAME ", "positive"), (2, "", "n")], corpus) == every | {2: "n"}
    assert resolve([(0, "", "n"), (1, "", "p")], corpus) == {0: "n", 1: "p"}
    assert resolve([(0, "same", "n"), (0, "same", "n")], corpus) == dict.fromkeys((0, 1, 3), "n")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(9, "", "n"), (8, "", "n"), (0, "", "n")], "line 2: row_id '9' is not in prepare.csv (1"),
        ([(0, "", "n"), (0, "", "p")], "line 3: label p, but a.csv: line 2 names the same row"),
        ([(0, "", "n"), (-1, "a", "p")], "line 3: label p, but a.csv: line 2 names the same row"),
        ([(7, "b", "n"), (8, "B", "p")], "line 3: label p, but a.csv: line 2 names the same row"),
        ([(7, "x", "n")], "nothing in a is in prepare.csv"),
    ],
)
def test_what_does_not_fit_the_corpus_is_a_line(rows, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        resolve(rows, ["a", "b", "c"])
    assert "\n" not in str(error.value)
