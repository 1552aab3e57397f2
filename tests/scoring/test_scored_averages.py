"""The models of several seeds are one model: scored, evaluated, registered, promoted, compared."""

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
import yaml
from conftest import make_store, new_package, write_config
from test_cli import invoke
from test_score import assert_same

import sentiflow
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import comparison
from sentiflow.models.package import ModelPackage
from sentiflow.pipeline import stages
from sentiflow.storage import filesystem
from sentiflow.tracking import mlflow_store, model_registry

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def table(folder: Path) -> pd.DataFrame:
    """Read predictions, by their row ids."""
    files = ds.dataset(folder / "predictions", format="parquet")
    return files.to_table().to_pandas().sort_values("row_id").reset_index(drop=True)


def succeed(*arguments: object) -> str:
    """Run a command in this process, on the session's Ray."""
    result = invoke(*map(str, arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, finished_run, resources):
    """Train one more model on the data of the finished run, and average both.

    Returns:
        The folder, and the directories of both models.
    """
    folder = tmp_path_factory.mktemp("averaged")
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    config["prepare"]["output_uri"] = str(finished_run / "run/prepared")
    config["tracking"] = {"uri": make_store(folder)}
    config["output_uri"] = str(folder / "run")
    config["train"]["seed"] = 5
    (folder / "second.yaml").write_text(yaml.safe_dump(config))
    succeed("train", folder / "second.yaml")
    models = [str(finished_run / "run/trained/model"), str(folder / "run/trained/model")]
    del config["train"]
    config["score"] = {"model_uri": models}
    config["evaluate"] = {"behavior": False}
    config["output_uri"] = str(folder / "run_best")
    (folder / "best.yaml").write_text(yaml.safe_dump(config))
    succeed("run", folder / "best.yaml")
    assert sorted(path.name for path in (folder / "run_best").iterdir()) == ["report", "scored"]
    return folder, models


def test_an_average_scores_a_corpus_by_the_mean_of_its_members(averaged, finished_run):
    folder, models = averaged
    found = table(folder / "run_best/scored")
    texts = sentiflow.load_run(finished_run / "run").prepared.tweets.to_arrow(["row_id", "text"])
    texts = texts.sort_by("row_id")["text"].combine_chunks()
    each = [ModelPackage.load(uri).score(texts).probability for uri in models]
    np.testing.assert_allclose(found["probability"], np.mean(each, axis=0), atol=1e-6)
    record = manifest.read(str(folder / "run_best/scored"))
    model = record["inputs"]["model"]
    assert [member["uri"] for member in model["members"]] == models
    prints = [manifest.read(uri)["fingerprint"] for uri in models]
    assert [member["fingerprint"] for member in model["members"]] == prints
    assert manifest.read(model["uri"])["fingerprint"] == model["fingerprint"]
    assert 0 <= record["drift"]["probability_psi"] < 1


def test_the_evaluation_of_an_average_names_each_training_and_knows_their_rows(averaged):
    folder, models = averaged
    record = manifest.read(str(folder / "run_best/report"))
    assert record["registered"] == {"name": "test", "version": 1}
    assert not any("unknown" in note for note in record["notes"])
    card = (folder / "run_best/report/model_card.md").read_text()
    assert "Network: average of 2 models: " in card
    assert card.count("| train.seed | ") == 2
    assert "The training is gone" not in card
    assert "Some trainings are gone" not in card
    assert succeed("card", folder / "run_best", "--output", folder / "card.md")
    assert (folder / "card.md").read_text() == card
    page = (folder / "run_best/report/report.html").read_text()
    assert all(uri in page for uri in models)


def test_a_registered_average_comes_back_and_is_promoted_like_any_model(averaged, monkeypatch):
    folder, models = averaged
    store = make_store(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert "version 1 is the champion" in succeed("promote", folder / "best.yaml")
    texts = ["what a lovely day", "so sad", "zzz"]
    expected = sentiflow.load_model(models, device="cpu").predict(texts)
    loaded = sentiflow.load_model("models:/test@champion", device="cpu").predict(texts)
    pd.testing.assert_frame_equal(loaded, expected)
    pd.testing.assert_frame_equal(
        sentiflow.load_run(folder / "run_best").model.to("cpu").predict(texts), expected
    )
    answers = mlflow.pyfunc.load_model("models:/test@champion").predict(texts)
    assert [answer.label for answer in answers] == expected["predicted_label"].tolist()
    np.testing.assert_allclose(
        [answer.probability for answer in answers], expected["probability"], atol=1e-7
    )
    card = succeed("card", "models:/test@champion", "--output", folder / "champion.md")
    assert card
    assert (folder / "champion.md").read_text() == (
        folder / "run_best/report/model_card.md"
    ).read_text()
    version = mlflow_store.make_client(store).get_model_version("test", "1")
    assert "- model: average of 2 models: " in version.description
    run = mlflow_store.make_client(store).get_run(version.run_id)
    assert run.data.metrics["test/accuracy"] > 0.5

    named = ["score.model_uri=models:/test@champion", f"score.output_uri={folder}/by_name"]
    succeed("score", folder / "best.yaml", *named)
    named = table(folder / "run_best/scored").assign(model_version="1")
    assert_same(table(folder / "by_name"), named)
    run_id = version.run_id
    model_registry.register(models[0], name="one", tracking_uri=store, run_id=run_id)
    named = [f"score.model_uri=[models:/one@candidate, {models[1]}]"]
    succeed("score", folder / "best.yaml", *named, f"score.output_uri={folder}/downloaded")
    assert_same(table(folder / "downloaded"), table(folder / "run_best/scored"))
    both = [manifest.read(str(folder / name)) for name in ("downloaded", "run_best/scored")]
    prints = {record["inputs"]["model"]["fingerprint"] for record in both}
    assert len(prints) == 1
    assert not (folder / "downloaded/_work").exists()
    mixed = f"score.model_uri=[models:/test@champion, {models[0]}]"
    refused = invoke("score", str(folder / "best.yaml"), mixed, f"score.output_uri={folder}/no")
    assert (refused.exit_code, "is an average of 2 models" in refused.output) == (2, True)


def test_an_average_is_compared_with_one_of_its_members(averaged):
    folder, models = averaged
    alone = [f"score.model_uri={models[0]}", f"score.output_uri={folder}/alone"]
    succeed("score", folder / "best.yaml", *alone)
    found = comparison.compare(str(folder / "alone"), str(folder / "run_best"), margin=0.5)
    figures = manifest.read(str(folder / "run_best/report"))["figures"]
    assert found.num_rows == figures["test"]["num_rows"]
    assert found.second.about.startswith("average of 2 models: ")
    assert "only the settings of the first averaged model are compared" in found.notes


@pytest.fixture
def three(tmp_path):
    """Save models of three classes, of which one names them in another order."""
    for number, classes in enumerate((("a", "b", "c"), ("c", "a", "b"))):
        new_package(seed=number, classes=classes).save(str(tmp_path / f"m{number}"), lineage={})
    return [str(tmp_path / f"m{number}") for number in range(2)]


def configure(folder: Path, models: object, corpus: str, times: int = 200) -> Path:
    """Write settings that score a CSV of texts and labels, so many times the same."""
    form = {"kind": "csv", "header": True, "columns": {"text": "text", "label": "label"}}
    form["labels"] = {name: name for name in ("a", "b", "c")}
    (folder / "day1.csv").write_text("text,label\n" + "good day,a\nbad morning,b\nzzz,c\n" * times)
    (folder / "day2.csv").write_text("text,label\n" + "day,a\nbad,b\n" * 200)
    score = {"model_uri": models, "corpus": str(folder / corpus), "rows_per_file": 100}
    return write_config(folder, folder / "day1.csv", format=form, score=score, prepare={})


def test_a_corpus_that_grows_keeps_its_average_and_a_lost_one_is_damage(tmp_path, three, resources):
    config = configure(tmp_path, three, "day1.csv")
    succeed("score", config)
    assert len(table(tmp_path / "run/scored")) == 600
    shutil.rmtree(three[1])
    shutil.copytree(tmp_path / "run/scored/model/members/1", three[1])
    succeed("score", config, f"score.corpus={tmp_path}/day*.csv")
    found = table(tmp_path / "run/scored")
    assert len(found) == 1000
    uri = str(tmp_path / "run/scored")
    record = manifest.read(uri)
    paths = [item["path"] for item in record["files"]]
    assert len(paths) == len({*paths})
    assert not manifest.find_damaged(uri, record, filesystem.sizes(uri))
    assert record["classes"] == ["a", "b", "c"]
    (tmp_path / "run/scored/model/members/1/settings.json").unlink()
    with pytest.raises(UserError, match=r"model/members/1/settings.json is missing or damaged"):
        stages.run(settings.load(config, [f"score.corpus={tmp_path}/day*.csv"]), ["score"])
