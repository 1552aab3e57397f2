"""The passes over the rows of a preparation are numbered, and the numbers fit what is run."""

import pytest

from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.preparation.part_files import PrepareJob
from sentiflow.preparation.passes import Passes


def make(*, corrections=False, unlabelled=False, labels=("a", "b"), fixed=(), **settings):
    if labels != "auto":
        labels = {name: name for name in labels}
    form = {"kind": "csv", "columns": {"text": "text", "label": "label"}, "labels": labels}
    job = PrepareJob(
        settings=PrepareSettings.model_validate({"csv": ["x.csv"], **settings}),
        format=FormatSettings.model_validate(form),
        root="r", work="w", key="k", fixed_splits=fixed,
    )  # fmt: skip
    return Passes(job, has_corrections=corrections, has_unlabelled=unlabelled)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["ingest", "encode"]),
        ({"duplicates": "drop"}, ["hash", "ingest", "encode"]),
        ({"fixed": ("test",)}, ["hash", "ingest", "encode"]),
        ({"labels": "auto"}, ["find_classes", "ingest", "encode"]),
        ({"split": {"kind": "time"}}, ["count_times", "ingest", "encode"]),
        ({"corrections": True}, ["find_corrected", "ingest", "encode"]),
        (
            {"unlabelled": True, "duplicates": "drop"},
            ["hash", "ingest", "encode", "unlabelled_hash", "unlabelled_encode"],
        ),
    ],
)
def test_every_pass_has_its_number(options, names):
    passes = make(**options)
    found = [str(passes.find(name)) for name in names]
    assert found == [f"pass {number} of {len(names)}" for number in range(1, len(names) + 1)]


def test_a_pass_that_a_column_of_splits_makes_needless_is_not_counted():
    passes = make(split={"kind": "column", "column": "part"})
    assert str(passes.find("count_splits")) == "pass 1 of 4"
    passes.leave_out("hash")
    assert str(passes.find("ingest")) == "pass 2 of 3"
