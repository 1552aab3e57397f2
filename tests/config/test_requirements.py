"""What a command or a section needs is there, or is named in one line."""

# ruff: noqa: F401, F811 - fixtures of another file

import pytest
import yaml
from test_settings import load, path

from sentiflow.config import settings
from sentiflow.config.requirements import PREDICTED
from sentiflow.data import schema
from sentiflow.errors import UserError

MODEL, CORPUS = {"model_uri": "models:/m/1"}, {"corpus": "new.csv"}


@pytest.mark.parametrize(
    ("command", "sections", "needs"),
    [
        ("prepare", {}, "prepare.csv"),
        ("run", {"prepare": {}}, "prepare.csv"),
        ("score", {}, "score.corpus and score.model_uri"),
        ("score", {"score": MODEL}, "score.corpus"),
        ("score", {"score": CORPUS}, "score.model_uri"),
    ],
)
def test_what_a_command_needs_is_named_in_one_line(tmp_path, command, sections, needs):
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump({"name": "trial", "output_uri": "runs"} | sections))
    values = " ".join(f"{key}=VALUE" for key in needs.split(" and "))
    with pytest.raises(UserError) as error:
        settings.load(path, command=command)
    assert str(error.value) == (
        f"{path}: sentiflow {command} needs {needs}: add what is missing, or give {values}"
    )


@pytest.mark.parametrize(
    "sections",
    [
        {"score": MODEL | CORPUS},
        {"train": {"seed": 1}, "score": CORPUS},
        {"prepare": {"output_uri": "there"}, "score": MODEL},
        {"score": MODEL | {"prepared_uri": "there"}},
        {"prepare": {"csv": "a.csv"}},
    ],
)
def test_scoring_alone_needs_neither_input_nor_training(tmp_path, sections):
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump({"name": "trial", "output_uri": "runs"} | sections))
    assert settings.load(path, command="score") == settings.load(path)


@pytest.mark.parametrize(
    ("overrides", "there"),
    [
        ([], "row_id, tweet_id"),
        (["prepare.keep_columns=[airline]"], "airline, row_id"),
        (["score.corpus=other.csv", "prepare.keep_columns=[brand]"], "row_id, tweet_id"),
        (["score.corpus=other.csv", "score.keep_columns=[airline]"], "airline, row_id"),
    ],
)
def test_a_column_of_slices_that_no_stage_keeps_is_refused(load, overrides, there):
    line = (
        "trial.yaml: evaluate.slices.columns: predictions will have no column brand; "
        f"their columns are {there}"
    )
    slices = "evaluate.slices.columns=[predicted_label, probability_joy, brand]"
    with pytest.raises(UserError, match=line):
        load(slices, *overrides)
    load(slices, *overrides, "score.keep_columns=[airline, brand]")
    load(slices, *overrides, "evaluate.scored_uri=other/scored")


def test_patterns_need_the_texts_of_scored_files(load):
    overrides = ["evaluate.slices={rain: rain}", "score.corpus=other.csv"]
    with pytest.raises(UserError, match=r"slices\.patterns need the texts, which .*name text"):
        load(*overrides)
    load(*overrides, "score.keep_columns=[text]")
    load(*overrides, "evaluate.scored_uri=other/scored")
    load(overrides[0])


@pytest.mark.parametrize(
    "override", ["prepare.keep_columns=[brand]", "score.prepared_uri=other/prepared"]
)
def test_prepared_data_may_hold_a_column_of_slices(load, override):
    config = load("evaluate.slices.columns=[brand]", override)
    assert config.evaluate.slices.columns == ("brand",)


def test_finished_predictions_say_themselves_which_columns_they_have(path):
    config = settings.load(path, ["evaluate.slices.columns=[brand]"], command="evaluate")
    assert config.evaluate.slices.columns == ("brand",)


def test_the_columns_of_all_predictions_are_those_of_the_settings():
    found = {name for name in schema.predictions(["positive"]).names if "y_p" not in name}
    assert found == set(PREDICTED)
