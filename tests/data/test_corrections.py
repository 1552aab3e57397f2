"""Corrected labels are read as people write them, and a wrong file is one line."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import label_files
from sentiflow.data.arrays import hash_texts
from sentiflow.data.corrections import NO_ROW, CorrectedRows, read_corrections
from sentiflow.errors import UserError

LABELS = {"negative": ["n", "0"], "positive": "p", "neutral": "u", "unlabelled": ["", "none"]}
FORM = FormatSettings(kind="csv", columns={"text": "text", "label": "label"}, labels=LABELS)
AUTO = FormatSettings(kind="csv", columns={"text": "text", "label": "label"}, labels="auto")


def read(path, content, form=FORM):
    """Write a file and read it."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_corrections([str(path)], form)


def test_labels_are_names_in_any_case_or_written_values(tmp_path):
    content = "row_id,label\n1,NEGATIVE\n2, p \n3,0\n4,none\n5,Unlabelled\n6,\n"
    found = read(tmp_path / "a.csv", content)
    assert found["label"].tolist() == ["negative", "positive", "negative", "", ""]
    assert found["row_id"].tolist() == [1, 2, 3, 4, 5]
    sentiment140 = read(tmp_path / "a.csv", "row_id,label\n1,4\n2,2\n3,0\n", FormatSettings())
    assert sentiment140["label"].tolist() == ["positive", "neutral", "negative"]
    assert read(tmp_path / "a.csv", "row_id,label\n1,Bug\n", AUTO)["label"].tolist() == ["Bug"]


def test_files_are_those_of_spreadsheets_and_of_parquet(tmp_path):
    texts = [
        "=a formula", "'=quoted", "two\nlines", "plain; text", "@me", "\n=second line", "\uff1d1+1",
        "\uff0b1", "\uff0d1", "\uff20me", "'\uff1dquoted",
    ]  # fmt: skip
    row_ids = [9007199254740993, *range(2, len(texts) + 1)]
    table = pd.DataFrame({"row_id": row_ids, "text": texts, "label": "p"})
    path = tmp_path / "a.parquet"
    table.to_parquet(path)
    expected = read_corrections([str(path)], FORM)
    assert expected["row_id"].tolist() == table["row_id"].tolist()
    assert expected["text"].tolist() == hash_texts(pa.array(texts)).tolist()
    found = read(tmp_path / "a.csv", label_files.to_csv(table))
    pd.testing.assert_frame_equal(found.drop(columns="place"), expected.drop(columns="place"))
    found = read(tmp_path / "a.csv", label_files.to_csv(table, is_wide=True))
    pd.testing.assert_frame_equal(found.drop(columns="place"), expected.drop(columns="place"))
    for delimiter, encoding in (";", "utf-8-sig"), ("\t", "utf-8-sig"), ("\t", "utf-16"):
        content = table.to_csv(sep=delimiter, index=False, lineterminator="\r\n").encode(encoding)
        of_spreadsheet = read(tmp_path / "b.csv", content)
        assert of_spreadsheet["row_id"].tolist() == table["row_id"].tolist()


def test_rows_without_a_label_or_row_id_are_no_error(tmp_path):
    found = read(tmp_path / "a.csv", "row_id,text,label\n7.0,,p\n,Hello  you,n\nx,y,\n\n,,\n")
    assert found["row_id"].tolist() == [7, NO_ROW]
    assert found["has_text"].tolist() == [False, True]
    assert found["text"][1] == hash_texts(pa.array(["hello you"]))[0]
    assert found["place"].str.endswith("line 3").tolist() == [False, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("row_id,label\n1,p\n2,good\n3,x\n", "line 3: label 'good' is none of negative, positive"),
        ("row_id,label\n1,p\nx,n\n", "line 3: row_id 'x' is not a row number"),
        ("row_id,label\n-1,p\n", "line 2: row_id '-1' is not a row number"),
        ("row_id,label\n1.5,p\n", "line 2: row_id '1.5' is not a row number"),
        ("row_id;label\n1.000;p\n", "line 2: row_id '1.000' is not a row number"),
        ("row_id,text\n1,a\n", "has no column label; its columns are row_id, text"),
        ("id,label\n1,p\n", "has no column row_id or text; its columns are id, label"),
        ("row_id,label\n1,\n2, \n", "has no label: write negative, positive, neutral in column"),
        (
            "row_id,text,label\n,,p\n",
            "line 2: label 'p' belongs to no row: it has neither row_id nor",
        ),
        ("text,label\n\xe4,p\n".encode("latin-1"), "is not text in UTF-8: save it as CSV UTF-8"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_wrong_file_is_a_line_that_says_where(tmp_path, content, message):
    with pytest.raises(UserError) as error:
        read(tmp_path / "wrong.csv", content)
    assert message in str(error.value)
    assert "wrong.csv" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "added"),
    [
        (["mixed"], "for a new class, add to format.labels: mixed: mixed"),
        (
            ["Mixed", "mixed", "p", "yes", "so: so"],
            "for new classes, add to format.labels: Mixed: Mixed, 'yes': 'yes', 'so: so': 'so: so'",
        ),
        ([f"class {i}" for i in range(11)], None),
        (["a" * 61], None),
    ],
)
def test_an_unknown_label_names_the_setting_that_makes_it_a_class(tmp_path, labels, added):
    lines = [f"{number},{label}\n" for number, label in enumerate(labels)]
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.csv", f"row_id,label\n{''.join(lines)}")
    hint = "correct the file and run the same command again"
    assert str(error.value).endswith(f"{hint}; or {added}" if added else hint)
    if added:
        further = yaml.safe_load(f"{{{added.partition('format.labels: ')[2]}}}")
        form = FormatSettings(**FORM.model_dump() | {"labels": LABELS | further})
        content = f"row_id,label\n{''.join(lines)}"
        found = read(tmp_path / "a.csv", content, form)["label"].str.casefold()
        known = [label.casefold() if label != "p" else "positive" for label in labels]
        assert found.tolist() == known


@pytest.mark.parametrize(
    ("label", "ending"),
    [
        ("11", "add to format.labels: '11': '11', at its place in the order"),
        (
            "so so",
            "add to format.labels: so so: so so, at its place in the order; and to format.values "
            "the number of “so so”",
        ),
    ],
)
def test_a_new_class_with_an_order_needs_a_place_and_a_number(tmp_path, label, ending):
    labels = {name: name for name in ("1", "2", "3")}
    form = FormatSettings(**FORM.model_dump() | {"labels": labels, "ordered": True})
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.csv", f"row_id,label\n1,{label}\n", form)
    assert str(error.value).endswith(ending)


def test_a_format_without_the_setting_does_not_name_it(tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.csv", "row_id,label\n1,mixed\n", FormatSettings())
    assert "format.labels" not in str(error.value)


def test_numbers_of_a_models_classes_are_no_labels(tmp_path):
    path = tmp_path / "mistakes.parquet"
    pd.DataFrame({"row_id": [1], "label": [0], "prediction": [1]}).to_parquet(path)
    with pytest.raises(UserError, match="its labels are the numbers of a model's classes: write"):
        read_corrections([str(path)], FORM)
    with pytest.raises(UserError, match=r"prepare.corrections: there is no .*gone.csv"):
        read_corrections([str(tmp_path / "gone.csv")], FORM)


def test_corrected_rows_are_found_by_their_numbers():
    rows = CorrectedRows(np.array([2, 5, 9]), np.array([1, -1, 0]))
    found, label = rows.find_labels(pa.array([1, 2, 3, 5, 9, 12]))
    assert found.tolist() == [False, True, False, True, True, False]
    assert label.to_pylist() == [None, 1, None, None, 0, None]
    empty = np.array([], np.int64)
    found, label = CorrectedRows(empty, empty).find_labels(pa.array([1]))
    assert (found.tolist(), label.to_pylist()) == ([False], [None])


@pytest.mark.parametrize("is_wide", [False, True])
def test_no_cell_begins_like_a_formula(is_wide):
    starts = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
    table = pd.DataFrame({"row_id": 1, "text": [f"{start}cmd" for start in starts]})
    content = label_files.to_csv(table, is_wide=is_wide).decode(
        "utf-16" if is_wide else "utf-8-sig"
    )
    found = pd.read_csv(io.StringIO(content), sep="\t" if is_wide else ",", keep_default_na=False)
    assert [text[0] for text in found["text"]] == ["'"] * len(starts)
