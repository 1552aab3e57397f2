"""Folders name columns, which rows have beside the columns of their files."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import (
    column_checks,
    corpus,
    csv_plans,
    input_files,
    partitions,
    parts,
    table_plans,
)
from sentiflow.data.row_checks import RowRules
from sentiflow.errors import UserError

FORM = FormatSettings(kind="csv", columns={"text": "text"})


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("/in/x.csv", {}),
        ("/in/a=1/x=2.csv", {"a": "1"}),
        ("s3://bucket/in/brand=A%26B%20/day=12-01/x.parquet", {"brand": "A&B ", "day": "12-01"}),
        ("/in/a%3D=b=c/x.csv", {"a=": "b=c"}),
        ("/in/a=__HIVE_DEFAULT_PARTITION__/b=/x.csv", {"a": None, "b": None}),
        ("/in/a=1/a=2/x.csv", {"a": "2"}),
        ("/in/=1/text=2/label=3/row_id=4/time=5/x.csv", {}),
        ("/in/a=1/x.zip::b=2/y=3.csv", {"a": "1", "b": "2"}),
    ],
)  # fmt: skip
def test_folders_are_columns(uri, found):
    assert partitions.find(uri) == found


def write(folder, place, kind, rows):
    path = folder / f"{place}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(rows)
    if kind == "csv":
        table.to_pandas().to_csv(path, index=False)
    else:
        pq.write_table(table, path)


def make_plan(folder, kind, keep):
    files = input_files.find([f"{folder}/**/*.{kind}"])
    if kind == "csv":
        return csv_plans.plan_csv(
            files, settings=FORM, rows_per_part=9, unpack_to="", needs_all=False
        )
    return table_plans.plan_scoring(files, text_column="text", keep_columns=keep)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_have_the_columns_of_their_folders(tmp_path, kind):
    write(tmp_path, "brand=A/day=1/x", kind, {"text": ["a", "b"], "k": ["1", "2"]})
    write(tmp_path, "brand=__HIVE_DEFAULT_PARTITION__/day=2/x", kind, {"text": ["c"], "k": ["3"]})
    write(tmp_path, "day=3/x", kind, {"text": ["d"], "k": ["4"], "brand": ["own"]})
    keep = ("k", "day", "brand")
    plan = make_plan(tmp_path, kind, keep)
    assert {"k", "day", "brand"} <= {*plan.columns}
    partitions.check_unique(plan.columns_by_file, keep, setting="score.keep_columns")
    found = corpus.cut(plan, rows_per_part=9)
    rows = pa.concat_tables([parts.read(part, RowRules(keep=keep)) for part in found.parts])
    assert rows.select(["text", *keep]).to_pydict() == {
        "text": ["a", "b", "c", "d"],
        "k": ["1", "2", "3", "4"],
        "day": ["1", "1", "2", "3"],
        "brand": ["A", "A", None, "own"],
    }
    assert rows.schema.field("day").type == rows.schema.field("brand").type == pa.string()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_folder_that_a_file_lacks_is_no_column_and_one_that_it_repeats_is_refused(tmp_path, kind):
    write(tmp_path, "brand=A/x", kind, {"text": ["a"], "k": ["1"]})
    write(tmp_path, "y", kind, {"text": ["a"], "k": ["1"]})
    assert "brand" not in make_plan(tmp_path, kind, ("brand",)).columns
    write(tmp_path, "k=2/brand=B/x", kind, {"text": ["a"], "k": ["1"]})
    plan = make_plan(tmp_path, kind, ())
    partitions.check_unique(plan.columns_by_file, ["text"], setting="score.keep_columns")
    with pytest.raises(UserError) as error:
        partitions.check_unique(plan.columns_by_file, ["k"], setting="score.keep_columns")
    assert str(error.value) == (
        f"score.keep_columns: {tmp_path}/k=2/brand=B/x.{kind} has a column k, and its folder is "
        "k=2: rename the folder or the column, or leave it out"
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_message_names_the_file_that_lacks_a_column(tmp_path, kind):
    write(tmp_path, "brand=A/x", kind, {"text": ["a"], "k": ["1"]})
    write(tmp_path, "day=1/y", kind, {"text": ["a"], "k": ["1"]})
    with pytest.raises(UserError) as error:
        column_checks.check_scored(make_plan(tmp_path, kind, ("brand",)), ("k", "brand", "none"))
    assert str(error.value) == (
        f"score.keep_columns: {tmp_path}/day=1/y.{kind} has no column brand, none: other files "
        "have it, and all need it, in the file or by a folder; the columns of this one are "
        "'day', 'k', 'text'"
    )
    with pytest.raises(UserError, match=r"x\.\w+ has no column kk: did you mean 'k'?"):
        column_checks.check_scored(make_plan(tmp_path, kind, ("kk",)), ("kk",))


def test_types_of_a_column_must_fit_the_strings_of_folders(tmp_path):
    write(tmp_path, "k=1/x", "parquet", {"text": ["a"]})
    write(tmp_path, "y", "parquet", {"text": ["a"], "k": [1]})
    with pytest.raises(UserError, match=r"k is string in .*x\.parquet, int64 in .*y\.parquet"):
        make_plan(tmp_path, "parquet", ("k",))


def test_a_column_that_a_folder_repeats_is_refused_where_texts_are_read(tmp_path):
    write(tmp_path, "k=2/x", "csv", {"text": ["a"], "k": ["1"]})
    options = {"settings": FORM, "rows_per_part": 9, "unpack_to": ""}
    uris = [f"{tmp_path}/k=2/x.csv"]
    assert corpus.open_csv(uris, **options).num_rows == 1
    with pytest.raises(UserError, match=r"^keep_columns: .*/k=2/x\.csv has a column k, and its"):
        corpus.open_csv(uris, **options, keep_columns=["k"])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_two_folders_name_is_told_once(tmp_path, kind):
    write(tmp_path, "brand=A/x", kind, {"text": ["good"]})
    write(tmp_path, "brand=A/brand=B/x", kind, {"text": ["bad"]})
    write(tmp_path, "brand=C/brand=C/x", kind, {"text": ["same"]})
    found = corpus.cut(make_plan(tmp_path, kind, ["brand"]), rows_per_part=9)
    (note,) = found.notes
    assert f"brand=A/brand=B/x.{kind} name the column brand: the inner one counts, 'B'" in note
