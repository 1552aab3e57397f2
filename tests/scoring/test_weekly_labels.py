"""A file with its own ids arrives each week, and rows are drawn and labelled: all labels count."""
# ruff: noqa: F811 -- fixtures are imported

import shutil

import numpy as np
import pandas as pd
import pytest
from test_score import configure, model, score  # noqa: F401

import sentiflow
from sentiflow.config import settings
from sentiflow.data import label_files
from sentiflow.pipeline import stages as pipeline
from sentiflow.shares import next_draw, sample_log

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_WEEKS = 4
WEEK_ROWS = 150
SIZE = 40
WORDS = ("good", "bad", "day", "love", "hate", "how", "not", "much")


def write_week(folder, week, order):
    """Write a file of which one row is rejected."""
    rng = np.random.default_rng(week)
    texts = [" ".join(rng.choice(WORDS, 5)) for _ in range(WEEK_ROWS)]
    texts[2] = ""
    if order == "descending":
        row_id = 100_000 - 1000 * week - 3 * np.arange(WEEK_ROWS)
    else:
        every = np.random.default_rng(9).permutation(10**9 + np.arange(10**4))
        row_id = every[week * WEEK_ROWS : (week + 1) * WEEK_ROWS]
    path = folder / f"in/brand=A/day=2026-12-{7 * week + 1:02}/x.parquet"
    path.parent.mkdir(parents=True)
    rows = {"text": texts, "row_id": row_id, "shop": rng.choice(["north", "south"], WEEK_ROWS)}
    pd.DataFrame(rows).to_parquet(path, row_group_size=40)


def measure(config, files):
    """Measure the shares; returns their table, and what the manifest says."""
    loaded = settings.load(config, ["trends.by=[shop]", f"trends.labels=[{','.join(files)}]"])
    (outcome,) = pipeline.run(loaded, ["trends"], overwrite=True)
    return outcome.record


@pytest.mark.parametrize("order", ["descending", pytest.param("random", marks=pytest.mark.soak)])
def test_labels_of_all_weeks_count_whatever_order_the_ids_have(tmp_path, model, resources, order):
    config = configure(
        tmp_path,
        model,
        f"{tmp_path}/in/**/*.parquet",
        keep_columns=["shop", "text"],
        rows_per_file=60,
    )
    shares = tmp_path / "run/trends/trends.parquet"
    files: list[str] = []
    for week in range(NUM_WEEKS):
        write_week(tmp_path, week, order)
        score(config)
        loaded = settings.load(config, ["trends.by=[shop]"], command="trends")
        drawn, _ = next_draw.draw_rows(loaded, SIZE)
        num_rows = (WEEK_ROWS - 1) * (week + 1)
        assert drawn["sample"][0].startswith(f"{SIZE} of {num_rows:,} rows by shop")
        label = np.where(drawn["text"].str.contains("good|love"), "positive", "negative")
        path = tmp_path / f"week-{week}.csv"
        path.write_bytes(label_files.to_csv(drawn.assign(label=label)))
        sample_log.record(loaded, drawn, path=str(path))
        files.append(str(path))
        record = measure(config, files)
        assert record["counts"]["rows"] == num_rows
        assert record["counts"]["sample"] == SIZE * (week + 1)
        assert not [note for note in record["notes"] if "sample of" in note or "after" in note]
        found = shares.read_bytes()
        shutil.rmtree(tmp_path / "run/trends")
        assert measure(config, files)["counts"] == record["counts"]
        assert shares.read_bytes() == found, "what was kept gives the same shares"
    assert len(sentiflow.read_predictions(tmp_path / "run/scored")) == num_rows
