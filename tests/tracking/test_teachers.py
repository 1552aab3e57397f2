"""A teacher that is a scoring has the files of its manifest, and no others."""

import shutil

import pytest
from test_evaluated_rows import Runs

from sentiflow.config import settings
from sentiflow.errors import UserError
from sentiflow.tracking import model_sources


def find(uri):
    """Find the files of a teacher that the settings name."""
    raw = {"name": "a", "output_uri": "/a", "train": {"distill": {"teachers": [uri]}}}
    config = settings.validate(raw, source="test")
    (files,) = model_sources.find_teachers(config, None)
    return files


def test_a_part_that_the_manifest_does_not_list_is_not_read(tmp_path):
    scored = f"{Runs(tmp_path / '[a]').run('run')}/scored"
    part = f"{scored}/predictions/part-0.parquet"
    shutil.copy(part, f"{scored}/predictions/part-1.parquet")
    assert find(scored) == (part,)


def test_a_teacher_whose_part_is_gone_is_refused(tmp_path):
    scored = tmp_path / "run/scored"
    Runs(tmp_path).run("run")
    (scored / "predictions/part-0.parquet").rename(scored / "predictions/part-1.parquet")
    with pytest.raises(UserError, match=r"train\.distill\.teachers: .* is missing or damaged"):
        find(str(scored))
