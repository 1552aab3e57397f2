"""What fails while a corpus is scored is named, and what was scored is kept."""
# ruff: noqa: F811 -- fixtures are imported

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import with_weights
from saved_package import forge
from test_score import (  # noqa: F401
    configure,
    corpora,
    markers,
    model,
    score,
)

from sentiflow.errors import JobError, UserError
from sentiflow.models.golden_texts import GOLDEN
from sentiflow.models.package import ModelPackage

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def spoilt(tmp_path, model):
    """Make a model that has no answer for a text with the word ``happy``."""
    package = ModelPackage.load(model)
    word = package.vocabulary.words.index("happy").as_py()
    vectors = package.arrays["embedding.weight"].copy()
    vectors[word] = np.nan
    with_weights(package, embedding__weight=vectors).save(str(tmp_path / "spoilt"), lineage={})
    return str(tmp_path / "spoilt")


def test_a_probability_that_is_not_a_number_ends_the_job_and_names_rows(
    tmp_path, corpora, model, spoilt, resources
):
    config = configure(tmp_path, model, corpora / "all.csv")
    with pytest.raises(JobError, match=r"no finite probability for .*happy.* \(row [0-9,]+, row "):
        score(config, f"score.model_uri={spoilt}")
    assert not (tmp_path / "run/scored/manifest.json").exists()


def test_a_damaged_parquet_file_is_named_and_what_else_is_scored_is_kept(
    tmp_path, model, resources
):
    for name in "ab":
        rows = pa.table({"text": [f"good day {number}" for number in range(12_000)]})
        path = tmp_path / f"{name}.parquet"
        pq.write_table(rows, path, compression="zstd", row_group_size=6000)
    whole = path.read_bytes()
    begin = pq.read_metadata(path).row_group(1).column(0).data_page_offset + 60
    path.write_bytes(whole[:begin] + bytes(200) + whole[begin + 200 :])  # not in the first rows
    config = configure(tmp_path, model, tmp_path / "?.parquet")
    with pytest.raises(UserError, match=r"b\.parquet, rows [0-9,]+ to [0-9,]+: .*damaged"):
        score(config)
    assert markers(tmp_path)


def test_a_model_that_is_replaced_while_it_scores_ends_the_job(tmp_path, corpora, model, resources):
    from sentiflow.cluster import loaded_models

    with pytest.raises(JobError, match="has been replaced since the job began"):
        loaded_models.load_models((model, "another"), on_gpu=False)


def test_a_model_that_answers_differently_than_when_it_was_saved_ends_the_job(
    tmp_path, corpora, model, resources
):
    changed = str(tmp_path / "changed")
    shutil.copytree(model, changed)
    golden = json.loads(Path(changed, GOLDEN).read_bytes())
    golden["probabilities"][0].reverse()
    forge(changed, golden=json.dumps(golden).encode())
    config = configure(tmp_path, changed, corpora / "all.csv")
    with pytest.raises(UserError, match="answers differently than when it was saved") as raised:
        score(config)
    assert "\n" not in str(raised.value)
    assert not markers(tmp_path)
