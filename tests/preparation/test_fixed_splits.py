"""Rows whose split is given by a file or a column stay there, and no other row has their text."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_prepare import PLAIN, numbers, prepare, read, write_rows

from sentiflow.config import settings
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.preparation import duplicates

NAMES = PLAIN | {"columns": {"label": "label", "text": "text"}}
TEST = 2


def row(number, prefix="text"):
    """Make a labelled row."""
    return {"label": "np"[number % 2], "text": f"{prefix} number {number}"}


CSV = [row(number) for number in range(120)]
GIVEN = [row(number, "new") for number in range(20)] + [
    {"label": "p", "text": " TEXT  number 3"},  # of csv, with another label
    {"label": "n", "text": "text number 3"},
    row(4),
    {"label": "u", "text": "only here"},
    {"label": "", "text": ""},
]
"""Rows of a test file: two of them have several labels, one is rejected."""


def write(path, rows, columns=("label", "text")):
    """Write rows as CSV or as Parquet; returns the path."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [r[name] for r in rows] for name in columns}), path)
        return path
    return write_rows(path, [columns, *([r[name] for name in columns] for r in rows)])


def by_split(folder):
    """Return the texts of each split, in the order of the rows."""
    return {name: [r["text"] for r in read(folder) if r["split"] == name] for name in SPLITS}


def plain(text):
    return " ".join(text.lower().split())


@pytest.mark.ray
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("mode", ["keep", "drop"])
def test_a_test_file_is_the_test_split_and_its_texts_are_nowhere_else(
    tmp_path, resources, suffix, mode
):
    csv = write(tmp_path / f"a{suffix}", CSV)
    test = write(tmp_path / f"test{suffix}", GIVEN)
    more = {"labels": NAMES["labels"] | {"neutral": ["u"], "unlabelled": ""}}
    record = prepare(
        tmp_path,
        str(tmp_path / f"*{suffix}"),  # it matches the test file, too
        NAMES | more,
        test=str(test),
        duplicates=mode,
        max_rejected_fraction=0.1,
    )
    found = by_split(tmp_path)
    assert found["test"] == [r["text"] for r in GIVEN[:-1]]
    assert numbers(read(tmp_path))[: len(GIVEN) - 1] == list(range(len(GIVEN) - 1))
    assert found["validation"]
    kept = {plain(text) for text in (*found["train"], *found["validation"])}
    assert kept == {plain(r["text"]) for r in CSV} - {plain(r["text"]) for r in GIVEN}
    assert record["counts"]["left_out_by_reason"] == {"held_out": 2}
    assert record["fixed_splits"] == ["test"]
    uris = [item["uri"] for item in record["inputs"]["csv"]["files"]]
    assert uris == [str(test), str(csv)]
    assert record["counts"]["labels"]["test"]["neutral"] == 1


@pytest.mark.ray
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("has_validation", [True, False])
def test_a_column_names_the_split_of_each_row(tmp_path, resources, suffix, has_validation):
    second = " DEV" if has_validation else "train"
    written = ["Train", second, "evaluation"] * 30  # and "Train" for the other rows
    rows = []
    for labelled, name in itertools.zip_longest(CSV, written, fillvalue="Train"):
        rows.append(labelled | {"set": name})
    rows += [row(7, "bad") | {"set": "other"}, row(8, "bad") | {"set": ""}]
    rows += [row(2) | {"set": "train"}]
    csv = write(tmp_path / f"a{suffix}", rows, ("label", "text", "set"))
    rule = {"kind": "column", "column": "set"}
    record = prepare(tmp_path, csv, NAMES, split=rule, max_rejected_fraction=0.1)
    found = by_split(tmp_path)
    assert found["test"] == [r["text"] for r in CSV[2:90:3]]
    assert record["counts"]["rejected_by_reason"] == {"unknown split": 2}
    assert record["counts"]["left_out_by_reason"] == {"held_out": 1}
    if has_validation:
        assert found["validation"] == [r["text"] for r in CSV[1:90:3]]
        assert record["fixed_splits"] == ["validation", "test"]
    else:
        assert 0 < len(found["validation"]) < 30
        assert record["fixed_splits"] == ["test"]
    raw = json.loads(Path(tmp_path / "run/prepared/manifest.json").read_text())
    assert raw["settings"]["split"]["column"] == "set"
    assert "set" not in read(tmp_path)[0]


@pytest.mark.ray
def test_a_class_of_the_test_file_alone_is_no_class_to_learn(tmp_path, resources, caplog):
    csv = write(tmp_path / "a.csv", CSV)
    test = write(tmp_path / "test.csv", GIVEN[:-1])
    with caplog.at_level("INFO", logger="sentiflow"):
        record = prepare(tmp_path, csv, NAMES | {"labels": "auto"}, test=str(test))
    assert "no row to learn is u, so a model does not learn it" in caplog.text
    assert record["counts"]["labels"]["test"]["u"] == 1


@pytest.mark.ray
def test_a_test_file_without_a_row_is_refused(tmp_path, resources):
    csv = write(tmp_path / "a.csv", CSV)
    test = write(tmp_path / "test.csv", [])
    with pytest.raises(UserError, match=r"^too many test rows were rejected: 0 of 0"):
        prepare(tmp_path, csv, NAMES, test=str(test))


@pytest.mark.ray
def test_few_rejected_test_rows_are_told_and_many_stop(tmp_path, resources, caplog):
    wrong = [row(number) | {"label": "oops"} for number in range(1000, 1003)]
    test = write(tmp_path / "test.csv", [*GIVEN[:20], *wrong])
    csv = write(tmp_path / "a.csv", [row(number) for number in range(400)])
    with pytest.raises(UserError, match=r"^too many test rows were rejected: 3 of 23 \(of all"):
        prepare(tmp_path, csv, NAMES, test=str(test))  # 3 of 423
    with caplog.at_level("INFO", logger="sentiflow"):
        prepare(tmp_path, csv, NAMES, test=str(test), max_rejected_fraction=0.2)
    assert "3 test rows are rejected and do not count" in caplog.text


@pytest.mark.parametrize(
    ("prepare_section", "problem"),
    [
        ({"test": "t.csv", "split": {"kind": "time"}}, "leave out split.kind=time"),
        ({"split": {"kind": "column"}}, "kind: column and column: NAME belong together"),
        ({"split": {"column": "set"}}, "kind: column and column: NAME belong together"),
        ({"split": {"test_fraction": 0}}, "name a file of test rows in prepare.test"),
        ({"split": {"kind": "user", "test_fraction": 0}}, "only a share above 0 gives test rows"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(prepare_section, problem):
    raw = {"name": "a", "output_uri": "b", "prepare": prepare_section}
    with pytest.raises(UserError, match=problem):
        settings.validate(raw, source="test")


@st.composite
def labelled_rows(draw):
    """Draw rows: text, label and split."""
    cell = st.tuples(
        st.sampled_from("abc"), st.sampled_from([0, 1, None]), st.sampled_from([0, 1, 2])
    )
    return draw(st.lists(cell, min_size=1, max_size=12))


@given(rows=labelled_rows(), mode=st.sampled_from(["keep", "drop_contradicting", "drop"]))
def test_rows_that_stay_share_no_text_across_splits(rows, mode):
    texts, labels, split = zip(*rows, strict=True)
    keys = pa.table(
        {
            "row_id": range(len(rows)),
            "label": pa.array(labels, pa.int8()),
            **duplicates.hash_texts(pa.array(texts)),
            "split": pa.array(np.array(split, np.int8)),
        }
    )
    dropped = duplicates.find(keys, mode=mode, fixed=["test"])[1].to_pydict()
    reasons = dict(zip(dropped["row_id"], dropped["reason"], strict=True))
    stays = [n for n in range(len(rows)) if n not in reasons]
    assert {n for n in range(len(rows)) if split[n] == TEST} <= set(stays)
    splits_of_text = Counter(text for text, _ in {(texts[n], split[n]) for n in stays})
    assert set(splits_of_text.values()) <= {1}
    gone = set(texts) - {texts[n] for n in stays}
    for text in gone:  # its labelled rows contradict each other
        found = {labels[n] for n in range(len(rows)) if texts[n] == text} - {None}
        assert mode != "keep"
        assert len(found) == 2
    if mode == "drop":
        rest = Counter(texts[n] for n in stays if split[n] != TEST)
        assert not rest or max(rest.values()) == 1
