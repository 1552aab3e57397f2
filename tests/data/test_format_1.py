"""What format version 1 has left: it is read as input and as a package, and never resumed.

The directories beside this file were written by the last version that wrote format 1: 300 tweets of
``sentiflow sample``, prepared, trained and scored.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stages import look

from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.data.output_status import State, find_status
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_rows
from sentiflow.models.package import ModelPackage
from sentiflow.preparation import prepare
from sentiflow.scoring import score
from sentiflow.training import train

GOLDEN = Path(__file__).with_name("format_1")


@pytest.fixture
def run(tmp_path):
    """Copy the directories; return the settings that made them."""
    shutil.copytree(GOLDEN, tmp_path / "run")
    raw = {
        "name": "format_1",
        "output_uri": str(tmp_path / "run"),
        "prepare": {
            "csv": str(tmp_path / "run/tw.csv"),
            "rows_per_file": 200,
            "vocabulary": {"min_count": 2, "max_size": 120},
        },
        "train": {"model": {"hidden_size": 4}, "num_epochs": 1},
    }
    return settings.resolve(settings.validate(raw, source="test"))


@pytest.mark.parametrize("stage", ["prepare", "score"])
def test_a_result_of_format_1_is_a_whole_input(run, stage):
    uri = getattr(run, stage).output_uri
    record = manifest.require(uri, stage=stage, setting="", check_files=True)
    assert record["format_version"] == 1


def test_a_package_of_format_1_gives_the_probabilities_that_it_gave(run):
    package = ModelPackage.load(f"{run.output_uri}/trained/model")
    tweets = pq.ParquetDataset(f"{run.output_uri}/prepared/tweets").read().to_pandas()
    scored = pq.ParquetDataset(f"{run.output_uri}/scored/predictions").read().to_pandas()
    joined = tweets[["row_id", "text"]].merge(scored, on="row_id")
    found = package.score(pa.array(joined["text"].to_list(), pa.string())).probability
    assert len(joined) == 300
    np.testing.assert_allclose(found, joined["probability"], atol=1e-6)


def test_predictions_of_format_1_are_evaluated(run):
    record = manifest.read(run.score.output_uri)
    rows = evaluated_rows.read(run.score.output_uri, record)
    assert len(evaluated_rows.of_split(rows, "test")) == 24


@pytest.mark.parametrize("stage", [prepare, train, score])
def test_a_result_of_format_1_is_replaced_with_overwrite_only(run, stage):
    spec = stage.describe_output(run)
    assert find_status(spec).state is State.DIFFERENT
    with pytest.raises(UserError, match=r"written by another version of sentiflow.*--overwrite"):
        look(spec)
    assert not look(spec, overwrite=True).resumes
