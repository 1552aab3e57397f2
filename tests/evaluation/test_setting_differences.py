"""Settings in which two trainings differ are listed, and inputs count by their content."""

import shutil

import pytest
from test_evaluated_rows import Runs, csv_input

from sentiflow.evaluation import comparison


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def test_settings_that_differ_are_listed_by_key(runs):
    a = runs.run("a", train={"model": {"cell": "gru"}, "dropout": 0.3})
    b = runs.run(
        "b", prepare={"tokenizer": "tutorial"}, train={"model": {"cell": "rnn"}, "dropout": 0.3}
    )
    found = {s.key: (s.first, s.second) for s in comparison.compare(a, b).settings}
    assert found == {
        "prepare.tokenizer": ("(absent)", "tutorial"),
        "train.model.cell": ("gru", "rnn"),
    }


def test_the_model_to_begin_from_and_the_csv_count_by_their_content(runs):
    began = runs.train("old", runs.prepare("old"))
    shutil.copytree(began, f"{began}-copy")
    (a, b, c) = (
        runs.run(name, train=train, prepare={"csv": csv_input(uri=f"/data/{name}.csv")})
        for name, train in (
            ("a", {"init_from": f"{began}/model"}),
            ("b", {"init_from": f"{began}-copy/model"}),
            ("c", {}),
        )
    )
    assert comparison.compare(a, b).settings == []
    (changed,) = comparison.compare(a, c).settings
    assert (changed.key, changed.first, changed.second) == (
        "train.init_from",
        f"{began}/model",
        "(absent)",
    )


def test_a_note_says_that_settings_of_a_lost_training_are_not_compared(runs):
    a = runs.run("a")
    b = runs.run("b", prepare={"tokenizer": "tutorial"})
    shutil.rmtree(f"{b}/trained")
    found = comparison.compare(a, b)
    assert found.settings is None
    assert "settings are not compared: a training is gone or was redone" in found.notes
