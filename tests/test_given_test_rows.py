"""A run with a test file of its own: report, refit and card are about exactly its rows."""

import csv
import random
from pathlib import Path

import pytest
import yaml
from conftest import make_store

from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.evaluation import comparison
from sentiflow.pipeline import stages

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WORDS = {"bad": ["awful", "sad", "poor"], "good": ["great", "nice", "happy"]}
OTHERS = ["seat", "flight", "crew", "today", "the", "we", "with", "time"]


def make_rows(number, seed):
    """Make labelled texts of two classes, seven words each."""
    draw = random.Random(seed)
    labels = [draw.choice(list(WORDS)) for _ in range(number)]
    words = [draw.choices(OTHERS, k=5) + draw.choices(WORDS[label], k=2) for label in labels]
    return [(label, " ".join(each)) for label, each in zip(labels, words, strict=True)]


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
    return str(path)


@pytest.fixture(scope="module")
def config(tmp_path_factory, resources):
    """Run a config with a test file that shares 40 texts with the others; return its loader."""
    folder = tmp_path_factory.mktemp("given")
    train, test = make_rows(500, seed=1), make_rows(120, seed=2)
    raw = {
        "name": "given",
        "output_uri": str(folder / "run"),
        "format": {
            "kind": "csv", "columns": {"text": "text", "label": "label"}, "labels": "auto",
        },
        "prepare": {
            "csv": write(folder / "train.csv", train + test[:40]),
            "test": write(folder / "test.csv", test),
        },
        "train": {"num_epochs": 1, "model": {"hidden_size": 16}},
        "evaluate": {"behavior": False},
        "tracking": {"uri": make_store(folder)},
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(raw))

    def load(*overrides):
        return settings.load(path, overrides)

    stages.run(load(), ["prepare", "train", "score", "evaluate"])
    return load


def figures(record):
    return {split: found["num_rows"] for split, found in record["figures"].items()}


def test_the_report_is_about_the_rows_of_the_file(config):
    prepared, report = (
        manifest.read(getattr(config(), n).output_uri) for n in ("prepare", "evaluate")
    )
    assert figures(report)["test"] == 120
    assert prepared["counts"]["left_out_by_reason"]["held_out"] >= 40
    trained = manifest.read(config().train.output_uri)
    labels = prepared["counts"]["labels"]
    assert trained["counts"]["rows"] == sum(labels["train"].values())


@pytest.fixture(scope="module")
def started(config):
    """Run a part of the corpus, from a model of other data that has 30 of the test texts."""
    folder = config().output_uri.removesuffix("run")
    test = make_rows(120, seed=2)
    other = write(Path(folder) / "other.csv", make_rows(400, seed=3) + 3 * test[:30])
    part = write(Path(folder) / "part.csv", make_rows(500, seed=1)[:400])
    first = config(f"prepare.csv={other}", "prepare.test=[]", f"output_uri={folder}first")
    stages.run(first, ["prepare", "train"])
    second = config(
        f"prepare.csv={part}", f"output_uri={folder}second", f"train.init_from={folder}first"
    )
    stages.run(second, ["prepare", "train", "score", "evaluate"])
    return second


def test_rows_whose_text_an_earlier_model_learned_are_left_out(started):
    record = manifest.read(started.evaluate.output_uri)
    num_rows = figures(record)["test"]
    assert 90 <= num_rows < 105  # of the thirty, some were test rows of the earlier model
    (note,) = (note for note in record["notes"] if "left out" in note)
    assert note == f"{120 - num_rows} rows are left out: an earlier model learned their texts"


def test_models_of_other_rows_are_compared_by_the_same_test_file(config, started):
    found = comparison.compare(config().output_uri, started.output_uri)
    assert (found.split, found.num_rows) == ("test", 120)


def test_the_test_file_may_be_scored_by_itself_and_the_others_not(config):
    def evaluate(name):
        folder = config().output_uri.removesuffix("run")
        again = config(
            f"score.corpus={folder}{name}.csv", f"score.output_uri={folder}{name}",
            f"evaluate.output_uri={folder}{name}_report",
        )  # fmt: skip
        return stages.run(again, ["score", "evaluate"])[1].record

    alone, others = evaluate("test"), evaluate("train")
    assert figures(alone) == {"all": 120}
    assert alone["notes"] == []
    assert any("too optimistic: the model was trained on rows of" in n for n in others["notes"])


def test_a_refit_learns_all_but_the_test_rows_and_is_measured_on_them(config):
    again = config(f"train.refit.of={config().output_uri}")
    outcomes = stages.run(again, ["prepare", "train", "score", "evaluate"])
    assert [outcome.verb for outcome in outcomes if outcome.ran] == ["train", "score", "evaluate"]
    trained, report = outcomes[1].record, outcomes[3].record
    labels = manifest.read(config().prepare.output_uri)["counts"]["labels"]
    assert trained["counts"]["rows"] == sum(
        number for split in ("train", "validation") for number in labels[split].values()
    )
    assert trained["refit"]["splits"] == ["train", "validation"]
    assert figures(report)["test"] == 120
    (note,) = (note for note in report["notes"] if "refit" in note)
    assert "validation rows too, but no given test row" in note
