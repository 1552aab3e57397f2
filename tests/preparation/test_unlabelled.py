"""Unlabelled texts are prepared beside the train split, and no held-out text is among them."""

import csv
import itertools
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import without_token
from test_prepare import PLAIN, THIRDS, prepare, read, write_rows

from sentiflow.data import schema
from sentiflow.errors import UserError

pytestmark = pytest.mark.ray

WORDS = ["late", "sunny", "delay", "great", "gate", "crew", "seat", "bag"]
LABELLED = [
    ("np"[number % 2], f"{one} {other} {number % 3}")
    for number, (one, other) in enumerate(itertools.product(WORDS, WORDS))
] * 2
FURTHER = [
    'so "far", so good', "two\nlines of text", "late late late", "unheard words only", " ",
    *(f"{one} {other} then" for one, other in itertools.product(WORDS, WORDS)),
]  # fmt: skip
LONG = "late " * 80


def write_further(path, texts):
    """Write texts as a CSV with a column beside them, or as Parquet; returns the path."""
    if path.suffix == ".parquet":
        table = pa.table({"other": [1] * len(texts), "text": texts})
        pq.write_table(table, path, row_group_size=20)
        return path
    return write_rows(path, [("other", "text"), *((1, text) for text in texts)])


def normalize(text):
    return " ".join(text.lower().split())


def encode(text, words):
    """Encode a text of plain words as the vocabulary of the corpus does."""
    ids = [words.get(word, 1) for word in text.lower().split()]
    return ids[:64] if set(ids) - {1} else []


def known_texts(folder):
    """List the texts of the splits in their normal form."""
    texts = {}
    for row in read(folder):
        texts.setdefault(row["split"], set()).add(normalize(row["text"]))
    return texts


@pytest.fixture(scope="module")
def labelled_csv(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("labelled") / "labelled.csv", LABELLED)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, labelled_csv, resources):
    """Prepare the labelled rows without any unlabelled text."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, prepare(folder, labelled_csv, PLAIN, split=THIRDS)


def judge_plainly(texts, known, *, drops):
    """Judge unlabelled texts one by one.

    Returns:
        Pairs of number and text of the accepted ones; and counts of the others by reason.
    """
    held_out = known["validation"] | known["test"]
    accepted = []
    counts = Counter()
    taken = known["train"].copy()
    for number, text in enumerate(texts):
        if not (text or "").strip():
            counts["empty text"] += 1
        elif normalize(text) in held_out:
            counts["held_out"] += 1
        elif drops and normalize(text) in taken:
            counts["repeated"] += 1
        else:
            accepted.append((number, text))
            taken.add(normalize(text))
    return accepted, counts


@pytest.mark.parametrize(("suffix", "duplicates"), [(".csv", "keep"), (".parquet", "drop")])
def test_rows_are_those_of_a_plain_program(
    tmp_path, labelled_csv, alone, resources, suffix, duplicates
):
    known = known_texts(alone[0])
    seen = []
    for of_split in known.values():
        seen += [f"  {text.upper()} " for text in sorted(of_split)]
    texts = [*FURTHER, LONG, *seen, *FURTHER[:3], None]
    files = [
        write_further(tmp_path / f"{number}{suffix}", part)
        for number, part in enumerate([texts[:30], texts[30:]])
    ]
    record = prepare(
        tmp_path,
        labelled_csv,
        PLAIN,
        split=THIRDS,
        duplicates=duplicates,
        rows_per_file=20,
        max_rejected_fraction=0.1,
        unlabelled={"files": [str(path) for path in files]},
    )
    table = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet", columns=["word", "id"])
    words = {row["word"]: row["id"] for row in table.to_pylist()}
    held_out = known["validation"] | known["test"]
    accepted, counts = judge_plainly(texts, known, drops=duplicates == "drop")
    found = pq.read_table(tmp_path / "run/prepared/unlabelled").sort_by("row_id")
    assert found.schema == schema.UNLABELLED
    rows = found.to_pylist()
    assert [(row["row_id"], row["text"]) for row in rows] == accepted
    plain = [row for row in rows if "," not in row["text"]]
    assert [row["token_ids"] for row in plain] == [encode(row["text"], words) for row in plain]
    assert all(row["length"] == len(row["token_ids"]) for row in rows)
    rejected = pq.read_table(tmp_path / "run/prepared/rejected").to_pylist()
    assert {(row["row_id"], row["reason"]) for row in rejected} == {
        (4, "empty text"), (len(texts) - 1, "empty text"),
    }  # fmt: skip
    assert {row["source"] for row in rejected} == set(map(str, files))
    further = record["counts"]["unlabelled"]
    assert further["rejected_by_reason"] == {"empty text": counts.pop("empty text")}
    assert further["left_out_by_reason"] == dict(counts)
    assert further["rows_read"] == len(texts)
    assert further["rejected"] + further["left_out"] == len(texts) - len(rows)
    assert further["accepted"] == len(rows)
    assert further["without_token"] == sum(not row["length"] for row in rows) > 0
    assert {normalize(row["text"]) for row in rows}.isdisjoint(held_out)
    listed = [item for item in record["files"] if item["path"].startswith("unlabelled/")]
    assert sum(item["rows"] for item in listed) == len(rows)
    assert len(listed) > 1
    assert [item["uri"] for item in record["inputs"]["unlabelled"]["files"]] == list(
        map(str, files)
    )


def tables_of(folder):
    """List the files of the labelled rows with their content."""
    root = folder / "run/prepared"
    return {
        without_token(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*.parquet")
        if "unlabelled" not in str(path.relative_to(root))
    }


def test_labels_of_sentiment140_are_not_read(tmp_path, labelled_csv, sample_csv, resources):
    record = prepare(
        tmp_path,
        labelled_csv,
        PLAIN,
        split=THIRDS,
        every_nth=3,
        unlabelled={"files": str(sample_csv), "format": {"kind": "sentiment140"}},
    )
    counts = record["counts"]["unlabelled"]
    with sample_csv.open(newline="", encoding="utf-8", errors="replace") as file:
        texts = [row[5] for row in csv.reader(file)]
    assert counts["rows_read"] == len(texts)
    assert counts["left_out_by_reason"] == {"every_nth": len(texts) - len(texts[::3])}
    found = pq.read_table(tmp_path / "run/prepared/unlabelled").sort_by("row_id").to_pydict()
    assert found["text"] == texts[::3]
    assert found["row_id"] == list(range(0, len(texts), 3))


REFUSED = {
    "other column": ("tweet\nso good\n", {}, "prepare.unlabelled.format.columns.text: "),
    "a position": ("a,b\nc,d\n", {"columns": {"text": 2}}, "prepare.unlabelled.format.columns.te"),
    "no row": ("text\n", {}, "more.csv holds no record"),
    "bad rows": (
        "text,other\ngood,1\n,2\nbad,3\n",
        {},
        "too many rows were rejected: 1 of 3 rejected (1 empty text): correct the CSV or the "
        "section prepare.unlabelled.format, or raise prepare.max_rejected_fraction",
    ),
}


@pytest.mark.parametrize(("content", "form", "line"), REFUSED.values(), ids=REFUSED)
def test_files_that_cannot_be_used_are_refused(
    tmp_path, labelled_csv, resources, content, form, line
):
    path = tmp_path / "more.csv"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        prepare(
            tmp_path,
            labelled_csv,
            PLAIN,
            split=THIRDS,
            unlabelled={"files": str(path), "format": form},
        )
    first = str(error.value).splitlines()[0]
    assert line in first
    assert not (tmp_path / "run/prepared").exists()


def test_files_are_part_of_what_is_compared(tmp_path, labelled_csv, resources):
    path = write_further(tmp_path / "more.csv", FURTHER[:4])
    chosen = {"split": THIRDS, "unlabelled": {"files": str(path)}}
    record = prepare(tmp_path, labelled_csv, PLAIN, **chosen)
    assert prepare(tmp_path, labelled_csv, PLAIN, **chosen)["created"] == record["created"]
    write_further(path, FURTHER[:3])
    with pytest.raises(UserError, match=r"another unlabelled: .*more.csv"):
        prepare(tmp_path, labelled_csv, PLAIN, **chosen)
    with pytest.raises(UserError, match="another unlabelled"):
        prepare(tmp_path, labelled_csv, PLAIN, split=THIRDS)
