"""Ratings keep their order and their numbers from the config to the report."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import new_package

import sentiflow
from sentiflow.models.package import ModelPackage
from sentiflow.scoring import lines

WORDS = ("awful", "bad", "fine", "good", "great")
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")


def write_reviews(path, num_rows=500):
    """Write reviews whose words say the stars, more or less."""
    generator = np.random.default_rng(0)
    rating = generator.integers(0, 5, num_rows)
    word = (rating + generator.integers(-1, 2, num_rows)).clip(0, 4)
    texts = [f"so {WORDS[place]} {number % 97}" for number, place in enumerate(word)]
    pd.DataFrame({"text": texts, "stars": [STARS[r] for r in rating]}).to_csv(path, index=False)


def make_config(folder, **form):
    write_reviews(folder / "reviews.csv")
    return {
        "name": "stars",
        "output_uri": str(folder / "run"),
        "format": {
            "kind": "csv",
            "columns": {"text": "text", "label": "stars"},
            "labels": "auto",
            "ordered": True,
            **form,
        },
        "prepare": {"csv": str(folder / "reviews.csv"), "vocabulary": {"min_count": 1}},
        "train": {
            "model": {"hidden_size": 4},
            "num_epochs": 1,
            "linear": True,
            "batching": {"num_shards": 1},
        },
        "tracking": {"uri": None},
    }


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_carries_the_ratings(tmp_path, resources):
    raw = make_config(tmp_path)
    run = sentiflow.run(raw)
    values = (1, 2, 3, 4, 5)
    assert run.prepared.classes == STARS
    assert run.prepared.class_values == values
    assert run.scored.class_values == values
    model = sentiflow.load_model(raw["output_uri"])
    assert model.class_values == values
    package = json.loads((tmp_path / "run/trained/model/settings.json").read_text())
    assert package["class_values"] == list(values)

    table = run.predictions.to_pandas()
    probabilities = table[[f"probability_{name}" for name in STARS]].to_numpy(float)
    np.testing.assert_allclose(table["expected_rating"], probabilities @ values, rtol=1e-5)
    median = (probabilities.cumsum(axis=1) >= 0.5).argmax(axis=1)
    assert table["median_label"].tolist() == [STARS[code] for code in median]

    figures = json.loads((tmp_path / "run/report/metrics.json").read_text())
    of_test = figures["figures"]["test"]
    rows = table[(table["split"] == "test") & table["label"].notna()]
    error = (rows["median_label"].map(STARS.index) - rows["label"]).abs().mean()
    assert of_test["mae"] == pytest.approx(error)
    assert 0 < of_test["quadratic_kappa"] < 1
    assert figures["baselines"][0]["ratings"]["mae_of_model"] == pytest.approx(error)
    page = (tmp_path / "run/report/report.html").read_text()
    assert "Quadratic kappa" in page
    assert "Mean absolute error" in (tmp_path / "run/report/model_card.md").read_text()


@pytest.mark.ray
@pytest.mark.slow
def test_without_an_order_no_file_has_a_rating(tmp_path, resources):
    run = sentiflow.run(make_config(tmp_path, ordered=False))
    assert run.scored.class_values is None
    assert not {"expected_rating", "median_label"} & set(run.predictions.to_pandas().columns)
    for path in (tmp_path / "run").rglob("*.json"):
        text = path.read_text()
        assert "class_values" not in text
        assert "neighbor_weight" not in json.dumps(json.loads(text).get("settings", {}))
        assert '"mae"' not in text
    model = yaml.safe_load((tmp_path / "run/trained/manifest.json").read_text())
    assert "ratings" not in json.dumps(model)


def test_a_model_of_ratings_answers_with_the_mean_and_the_median():
    plain = new_package(classes=("1", "2", "9"))
    package = new_package(classes=("1", "2", "9"), class_values=(1, 2, 9))
    texts = lines._split_lines(b"good day\nbad morning")
    scores = package.score(texts)
    assert "expected_rating" not in plain.score(texts).columns
    columns = list(scores.columns)
    assert columns[-3:] == ["expected_rating", "median_label", "num_tokens"]
    np.testing.assert_allclose(
        scores.expected_rating, scores.probabilities @ np.array([1, 2, 9]), rtol=1e-6
    )
    assert list(scores.top(1)) == ["predicted_label", "confidence", *columns[-3:]]
    answer = json.loads(lines.to_json(texts, scores).splitlines()[0])
    assert answer["median_label"] in ("1", "2", "9")
    assert lines.to_tsv(texts, scores).count(b"\t") == 2 * 4


def test_a_package_of_ratings_is_the_same_after_loading(tmp_path):
    new_package(classes=("1", "2"), class_values=(1, 2)).save(str(tmp_path / "ordered"), lineage={})
    new_package(classes=("1", "2")).save(str(tmp_path / "plain"), lineage={})
    assert ModelPackage.load(str(tmp_path / "ordered")).settings.class_values == (1, 2)
    assert "class_values" not in (tmp_path / "plain/settings.json").read_text()
