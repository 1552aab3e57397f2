"""Results of an earlier version are read, and its models answer as they did."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sentiflow as package

FORMAT_3 = Path(__file__).parent / "format_3"


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the results to a directory to work in."""
    shutil.copytree(FORMAT_3, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("uri", "name"), [("run", "run"), ("average/scored/model", "average")], ids=["one", "average"]
)
def test_a_model_of_format_3_gives_its_probabilities(uri, name):
    answers = pd.read_parquet(FORMAT_3 / "answers.parquet")
    assert len(answers) == 1000

    predicted = package.load_model(FORMAT_3 / uri).predict(answers["text"])

    expected = answers.filter(regex=rf"^{name}\.").rename(columns=lambda key: key.split(".")[1])
    assert list(predicted) == list(expected)
    assert predicted["predicted_label"].tolist() == expected["predicted_label"].tolist()
    numbers = expected.select_dtypes("number").columns
    np.testing.assert_allclose(predicted[numbers], expected[numbers], rtol=0, atol=1e-6)


def test_a_run_of_format_3_has_the_settings_and_inputs_of_today(earlier, sentiflow):
    """A report and shares have versions of their own, which rise with what they show."""
    result = sentiflow("run", "reviews.yaml", "--dry-run", cwd=earlier)

    assert result.returncode == 2, result.stderr
    for name in ("prepare", "train", "score"):
        assert f"# {name:9} complete: " in result.stdout


def test_tables_of_format_3_are_read(earlier):
    run = package.load_run("run")

    assert run.metrics["test/accuracy"] == pytest.approx(66 / 91)
    predictions = package.read_predictions(run)
    assert len(predictions) == 998
    assert predictions["unsure"].sum() > 0
    assert {"brand", "time"} <= set(predictions)
