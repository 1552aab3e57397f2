"""A file that is changed or deleted while a job reads it is named, whatever error it causes."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, csv_plans, input_files, parts, row_checks, table_plans
from sentiflow.errors import UserError

FORM = FormatSettings(kind="csv", columns={"text": "text"})
RULES = row_checks.RowRules.of_texts(FORM, keep=(), keep_raw=False)


def write(path, *texts):
    """Write a file of texts; its name says whether it is CSV or Parquet."""
    if path.suffix == ".csv":
        path.write_text("\n".join(["text", *texts, ""]))
    else:
        pq.write_table(pa.table({"text": texts}), path)


def plan(uris):
    """Plan files for a scoring."""
    found = input_files.find(uris)
    if uris[0].endswith(".csv"):
        return csv_plans.plan_csv(
            found, settings=FORM, rows_per_part=10, unpack_to="", needs_all=False
        )
    return table_plans.plan_scoring(found, text_column="text", keep_columns=())


def replace(path):
    """Write a file with fewer rows in the place of another."""
    write(path, "x")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(("change", "what"), [(replace, "changed"), (os.remove, "deleted")])
@pytest.mark.parametrize("names", ["b", "ab"])
def test_a_file_that_changes_before_its_part_is_read_is_named(tmp_path, kind, change, what, names):
    paths = [tmp_path / f"{name}.{kind}" for name in names]
    for path in paths:
        write(path, "good", "bad")
    cut = corpus.cut(plan([str(path) for path in paths]), rows_per_part=10)
    (part,) = cut.parts
    assert len(parts.read(part, RULES)) == 2 * len(paths)
    change(paths[-1])
    with pytest.raises(UserError, match=rf"/b\.{kind} was {what} while it was read: run the same"):
        parts.read(part, RULES)
