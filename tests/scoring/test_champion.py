"""A corpus that grows is scored by the champion of the day; what is scored stays, and is told."""
# ruff: noqa: F811 -- fixtures are imported

import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, make_store
from test_model_registry import register
from test_score import (  # noqa: F401
    DAY,
    NUM_ROWS,
    WORDS,
    configure,
    corpora,
    markers,
    model,
    record,
    score,
    table,
    times,
    wait_for,
)

from sentiflow.config import settings
from sentiflow.errors import UserError
from sentiflow.models.package import ModelPackage
from sentiflow.pipeline import run_plan
from sentiflow.tracking import model_registry
from sentiflow.tracking.model_registry import CHAMPION, Version

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ALIAS = "models:/test@champion"


@pytest.fixture(scope="module")
def packages(model, make_package):
    """Make the versions 1, 2 and 3 of a model; the last one has another class."""
    words = tuple(WORDS.split())
    three = make_package(words=words, classes=("negative", "positive", "neutral"))
    return model, make_package(words=words, sign=-1), three


@pytest.fixture
def promote(tmp_path, packages):
    """Register all versions in a store; version 1 is the champion."""
    store = make_store(tmp_path)
    for package in packages:
        register(package, store, name="test")

    def make_champion(number):
        model_registry.set_alias(Version("test", number), CHAMPION, tracking_uri=store)

    make_champion(1)
    return make_champion


def days(corpora, *numbers):
    return f"score.corpus=[{','.join(f'{corpora}/day-{number}.csv' for number in numbers)}]"


def versions(folder):
    """Name the version of each day's rows; every row is there exactly once."""
    rows = table(folder)
    assert rows["row_id"].tolist() == list(range(len(rows)))
    by_day = rows.groupby(rows["row_id"] // DAY)["model_version"].unique()
    return [",".join(names) for names in by_day]


def test_new_files_are_scored_by_the_new_champion_and_the_old_predictions_stay(
    tmp_path, corpora, packages, promote, resources, said
):
    config = configure(tmp_path, ALIAS, corpora / "day-0.csv", keep_columns=["text"])
    score(config)
    before = times(tmp_path)
    promote(2)
    assert not score(config).ran
    line = "models:/test/1 of negative, positive there, models:/test/2 of negative, positive here"
    assert f"{line} by score.model_uri: new files use it; --overwrite rescores all" in said.text
    plan = run_plan.plan(settings.load(config), ["score"], overwrite=True)
    assert "would replace" in plan.lines[0]
    score(config, days(corpora, 0, 1))
    score(config, days(corpora, 0, 1, 2))
    assert versions(tmp_path) == ["1", "2", "2"]
    assert before.items() <= times(tmp_path).items()
    found = record(tmp_path)
    rows = table(tmp_path)
    fingerprints = [each["fingerprint"] for each in found["models"].values()]
    assert fingerprints == [found["models"][name]["fingerprint"] for name in ("1", "2")]
    keys = ("model_version", "first_part", "first_file", "num_files", "rows")
    assert [tuple(each[key] for key in keys) for each in found["scorings"]] == [
        ("1", 0, 0, 1, DAY), ("2", 6, 1, 1, DAY), ("2", 12, 2, 1, DAY),
    ]  # fmt: skip
    assert found["profile"]["rows"] == 2 * DAY, "the statistics are those of one model"
    for version, package in zip(("1", "2"), packages, strict=False):
        of_one = rows[rows["model_version"] == version]
        scores = ModelPackage.load(package).score(pa.array([*of_one["text"]], pa.string()))
        assert of_one["prediction"].tolist() == scores.prediction.tolist()
    with pytest.raises(UserError, match=r"another model: models:/test/1 .*/2 .* score.model_uri"):
        score(config, days(corpora, 0, 1, 2), "score.model_uri=models:/test/2")
    promote(3)
    more = days(corpora, 0, 1, 2)[:-1] + f",{corpora}/all.csv]"
    with pytest.raises(UserError, match=r"another model: .*/3 of negative, positive, neutral here"):
        score(config, more)
    assert record(tmp_path) == found
    promote(1)
    score(config, days(corpora, 0, 1, 2), overwrite=True)
    assert versions(tmp_path) == ["1", "1", "1"]


@pytest.mark.soak
@pytest.mark.parametrize("promoted_first", [True, False])
def test_a_job_that_was_killed_around_a_promotion_scores_each_row_once(
    tmp_path, corpora, promote, resources, said, promoted_first
):
    config = configure(tmp_path, ALIAS, corpora / "day-0.csv")
    score(config)
    before = times(tmp_path)
    if promoted_first:
        promote(2)
    command = [sys.executable, "-m", "sentiflow", "score", config, days(corpora, 0, 1, 2)]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        wait_for(tmp_path, 2, lambda: process.poll() is not None)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(1)  # what was begun may still be finished
    promote(2)
    done = len(markers(tmp_path))
    score(config, days(corpora, 0, 1, 2))
    assert (f"resumes score: {done} of " in said.text) == promoted_first
    assert versions(tmp_path) == ["1", "2", "2"]
    assert len(table(tmp_path)) == NUM_ROWS
    assert before.items() <= times(tmp_path).items()
    listed = {item["path"].rpartition("/")[2] for item in record(tmp_path)["files"]}
    assert {*times(tmp_path)} <= listed, "nothing is left of the parts of the earlier model"


@pytest.mark.parametrize("is_table", [False, True])
def test_a_copy_of_a_file_is_told_and_scored_once(tmp_path, model, resources, said, is_table):
    def write(name, *ids):
        rows = [[number, f"good day number {number}"] for number in ids]
        if is_table:
            columns = {"row_id": ids, "tweet_id": list(map(str, ids)), "text": [r[1] for r in rows]}
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        else:
            lines = [f"{number},{text}\n" for number, text in rows]
            (tmp_path / f"{name}.csv").write_text("".join(["id,text\n", *lines]))

    kind = {"kind": "csv", "columns": {"id": "id", "text": "text"}}
    end = "parquet" if is_table else "csv"
    config = configure(tmp_path, model, tmp_path / f"*.{end}", format=kind)
    write("a", *range(10))
    score(config)
    shutil.copy(tmp_path / f"a.{end}", tmp_path / f"b.{end}")
    score(config)
    assert f"{tmp_path}/b.{end} is a copy of {tmp_path}/a.{end}: it is scored once" in said.text
    assert len(table(tmp_path)) == 10
    write("c", *range(10, 20))
    score(config)
    assert len(table(tmp_path)) == record(tmp_path)["counts"]["rows_read"] == 20
    files = record(tmp_path)["inputs"]["corpus"]["files"]
    assert [os.path.basename(item["uri"])[0] for item in files] == ["a", "b", "c"]
    assert not score(config).ran
    shutil.copy(tmp_path / f"c.{end}", tmp_path / f"c-2.{end}")  # before c, and in its place
    score(config)
    one_by_one = table(tmp_path)
    assert len(one_by_one) == 20
    score(config, f"score.output_uri={tmp_path}/once/run/scored")
    assert table(tmp_path / "once").equals(one_by_one)
