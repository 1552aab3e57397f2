"""A refit of a whole run takes all from it, and nobody takes the refit for measured."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import make_store, messages
from mlflow import MlflowClient
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import model_card, promotion
from sentiflow.pipeline import stage_plans, stages
from sentiflow.tracking import rebuild, refits

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory, resources):
    """Copy a finished run, which is the champion, and refit it; return the folder."""
    folder = tmp_path_factory.mktemp("refit")
    shutil.copytree(finished_run, folder, dirs_exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(finished_run), str(folder)))
    promotion.promote(load(folder))
    stages.run(load(folder, f"train.refit.of={folder}/run"), ["train"])
    return folder


def load(folder, *overrides):
    return settings.load(folder / "config.yaml", overrides)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_settings_are_those_of_the_run_and_the_rows_are_all(run):
    before, after = (manifest.read(f"{run}/run/{name}trained") for name in ("", "refit/"))
    prepared = manifest.read(f"{run}/run/prepared")
    labels = prepared["counts"]["labels"].values()
    assert after["settings"] == before["settings"]
    assert after["counts"]["rows"] == sum(
        by_class[name] for by_class in labels for name in ("negative", "positive")
    )
    assert after["counts"]["rows"] > before["counts"]["rows"]
    assert len(after["history"]) == after["chosen_epoch"] == before["chosen_epoch"]
    package, first = (manifest.read(f"{run}/run/{n}trained/model") for n in ("refit/", ""))
    assert package["reference"] == first["reference"]
    assert package["calibration"] == first["calibration"]
    assert package["settings"]["temperature"] == first["settings"]["temperature"]
    assert package["refit"]["of"]["fingerprint"] == first["fingerprint"]
    tested = json.loads((run / "run/report/metrics.json").read_text())["figures"]["test"]
    assert package["refit"]["metrics"]["test/accuracy"] == tested["accuracy"]


def test_the_minimal_config_takes_all_from_the_run(run, tmp_path):
    raw = yaml.safe_load((run / "config.yaml").read_text())
    raw |= {"train": {"refit": {"of": f"{run}/run"}}, "output_uri": str(tmp_path / "other")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    config = refits.apply(load(tmp_path))[0]
    assert config.train.num_epochs == 6
    trained = manifest.read(f"{run}/run/trained")
    assert config.train.prepared_uri == trained["inputs"]["prepared"]["uri"]
    assert config.train.output_uri == f"{tmp_path}/other/refit/trained"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["train.seed=4"], r"trained with other settings than train\.seed=4: .*or write "
         r"train\.seed=0"),
        (["train.init_from={run}/trained"], r"train\.init_from: the run to repeat has started "
         r"from random weights"),
        (["train.refit.of={run}/refit", "train.output_uri={run}/x"], r"refit is a refit: name the"),
        (["train.refit.of={run}/report"], r"train\.refit\.of: .*report is an output of evalu"),
    ],
)  # fmt: skip
def test_what_would_not_repeat_the_run_is_refused(run, overrides, problem):
    given = [f"train.refit.of={run}/run", *(each.format(run=run / "run") for each in overrides)]
    before = sorted(run.rglob("*"))
    with pytest.raises(UserError, match=problem):
        stages.run(load(run, *given), ["train"])
    assert sorted(run.rglob("*")) == before


def test_other_prepared_data_are_refused(run, tmp_path):
    shutil.copytree(run / "run/prepared", tmp_path / "prepared")
    record = json.loads((tmp_path / "prepared/manifest.json").read_text())
    (tmp_path / "prepared/manifest.json").write_text(json.dumps(record | {"fingerprint": "0"}))
    given = [f"train.refit.of={run}/run", f"train.prepared_uri={tmp_path}/prepared"]
    with pytest.raises(UserError, match="is not the data of the run to repeat"):
        refits.apply(load(run, *given))


def test_a_sweep_refuses_a_refit(run):
    space = "sweep.space={train.seed: [1, 2]}"
    with pytest.raises(UserError, match="a sweep compares trials by validation rows"):
        stages.run(load(run, f"train.refit.of={run}/run", space), ["sweep"])
    with pytest.raises(UserError, match=r"train\.refit\.of cannot be swept"):
        stages.run(load(run, "sweep.space={train.refit.of: [a, b]}"), ["sweep"])


def test_a_whole_run_leaves_the_evaluation_out_and_evaluate_refuses(run, said):
    config = load(run, f"train.refit.of={run}/run")
    outcomes = stages.run(config, stage_plans.VERBS)
    assert [outcome.verb for outcome in outcomes] == ["prepare", "train", "score"]
    assert "left out: a refit is trained on every labelled row" in said.text
    result = invoke("evaluate", run / "config.yaml", f"train.refit.of={run}/run")
    assert result.exit_code == 2
    (line,) = messages(result.stderr)
    assert "the model is a refit, which was trained on all labelled rows of this corpus" in line
    assert "run has a test accuracy of 0." in line
    compared = invoke("compare", run / "run", run / "run/refit")
    assert compared.exit_code == 2
    assert "the model is a refit" in compared.stderr


def test_the_rows_that_it_was_trained_on_are_known_from_the_csv_too(run, tmp_path):
    config = load(run)
    places = [f"score.output_uri={tmp_path}/scored", f"evaluate.scored_uri={tmp_path}/scored"]
    places += [f"evaluate.output_uri={tmp_path}/report", f"score.model_uri={run}/run/refit"]
    given = [*places, f"score.corpus={config.prepare.csv[0]}", "evaluate.behavior=false"]
    stages.run(load(run, *given), ["score"])
    with pytest.raises(UserError, match="no labelled row that the model was not trained on"):
        stages.run(load(run, *given), ["evaluate"])
    lines = Path(config.prepare.csv[0]).read_bytes().splitlines(keepends=True)
    (tmp_path / "other.csv").write_bytes(b"".join(lines[:400]))
    given[-2] = f"score.corpus={tmp_path}/other.csv"
    stages.run(load(run, *given), ["score"], overwrite=True)
    (outcome,) = stages.run(load(run, *given), ["evaluate"])
    assert outcome.record["counts"]["rows"] > 300
    (note, *_) = outcome.record["notes"]
    assert note.startswith("the model is a refit of run: it was trained on all labelled rows")
    assert "he model is a refit of run" in (tmp_path / "report/report.html").read_text()


def test_the_card_says_that_no_figure_belongs_to_it_and_shows_those_of_the_run(run):
    card = model_card.find(f"{run}/run/refit")
    tested = json.loads((run / "run/report/metrics.json").read_text())["figures"]["test"]
    assert "These weights have no held-out figures" in card
    assert f"run has a test accuracy of {tested['accuracy']:.4f} (95% interval" in card
    assert "texts of all splits, epoch" in card
    assert "model-index" not in card


def test_mlflow_has_the_figures_of_the_run_by_another_name(run, tmp_path):
    record = manifest.read(f"{run}/run/refit/trained")
    stores = [f"sqlite:///{run}/mlflow.db", make_store(tmp_path)]
    found = rebuild.find(f"{run}/run/refit/trained")
    rebuild.send(found, tracking_uri=stores[1])
    client = MlflowClient(stores[1])
    (version,) = client.search_model_versions("name = 'test'")
    run_ids = [record["mlflow_run_id"], version.run_id]
    for store, run_id in zip(stores, run_ids, strict=True):
        known = MlflowClient(store).get_run(run_id).data
        assert known.metrics["refit_of/test/accuracy"] > 0.5
        assert not any(name.startswith(("validation/", "test/")) for name in known.metrics)
        assert "no held-out figure belongs" in known.tags["mlflow.note.content"]
        assert known.params["train.num_epochs"] == "6"
    registered = MlflowClient(stores[0]).get_model_version("test", "2")
    assert version.description == registered.description
    assert registered.description.startswith("the model is a refit of run: it was trained on all ")
    assert "sentiflow.test_accuracy" not in registered.tags


def test_the_refit_of_the_champion_replaces_it_and_is_judged_by_its_run(run):
    result = promotion.promote(load(run))
    assert promotion.to_text(result).splitlines()[0] == (
        "version 2 is the champion of test now: a refit of version 1, which was the champion, "
        "on all labelled rows"
    )
    assert result.record.reason == "in place of version 1, whose refit it is"
    result = promotion.promote(load(run), version=1)
    assert result.refused
    assert result.comparison.candidate_accuracy == result.comparison.champion_accuracy
    assert "version 2 is a refit, which has seen the test rows" in promotion.to_text(result)
