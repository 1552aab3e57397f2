"""A repetition reads the same inputs, and writes everything below another directory."""

import pytest

from sentiflow.config import repeated_settings, settings
from sentiflow.errors import UserError
from sentiflow.pipeline.stage_plans import VERBS

STORE = "http://tracking:5000"
WRITTEN = {
    "name": "my",
    "output_uri": "runs/my",
    "prepare": {"csv": "tweets.csv"},
    "train": {"seed": 3},
}


def repeat(written, *changes, verbs=VERBS, directory="/home/ann"):
    """Repeat a command of Ann's; the result is as a job sees it."""
    raw = repeated_settings.repeat(
        written,
        changes,
        verbs=verbs,
        directory=directory,
        tracking_uri=STORE,
        source="runs:/ID",
    )
    return settings.load(raw, changes, command="run" if verbs == VERBS else verbs[0])


def test_a_whole_run_is_repeated_elsewhere_from_the_same_files():
    config = repeat(WRITTEN, "output_uri=/new")
    assert config.prepare.csv == ("/home/ann/tweets.csv",)
    assert config.prepare.output_uri == config.train.prepared_uri == "/new/prepared"
    assert config.score.model_uri == "/new/trained/model"
    assert (config.evaluate.scored_uri, config.evaluate.output_uri) == (
        "/new/scored",
        "/new/report",
    )
    assert config.train.seed == 3
    assert WRITTEN["prepare"] == {"csv": "tweets.csv"}, "the settings of the run stay as they are"


def test_directories_of_the_earlier_run_are_not_written_again():
    written = WRITTEN | {
        "prepare": {"csv": "s3://b/in/*.csv", "output_uri": "s3://b/prepared"},
        "train": {"prepared_uri": "s3://b/prepared", "output_uri": "shared/trained"},
        "score": {"model_uri": "shared/trained/model", "prepared_uri": "s3://b/prepared"},
    }
    config = repeat(written, "output_uri=/new")
    dumped = str(config.model_dump())
    assert "shared" not in dumped
    assert "s3://b/prepared" not in dumped
    assert config.prepare.csv == ("s3://b/in/*.csv",)


def test_a_directory_may_be_named_again():
    config = repeat(WRITTEN, "output_uri=/new", "prepare.output_uri=/fast/prepared")
    assert config.prepare.output_uri == config.train.prepared_uri == "/fast/prepared"


@pytest.mark.parametrize(
    ("verb", "change", "inputs"),
    [
        ("train", "output_uri=/new", {"train.prepared_uri": "/home/ann/runs/my/prepared"}),
        ("train", "train.output_uri=/new", {"train.prepared_uri": "/home/ann/runs/my/prepared"}),
        (
            "score",
            "output_uri=/new",
            {
                "score.model_uri": "/home/ann/runs/my/trained/model",
                "score.prepared_uri": "/home/ann/runs/my/prepared",
            },
        ),
        ("evaluate", "output_uri=/new", {"evaluate.scored_uri": "/home/ann/runs/my/scored"}),
        ("trends", "output_uri=/new", {"score.output_uri": "/home/ann/runs/my/scored"}),
        ("sweep", "output_uri=/new", {"train.prepared_uri": "/home/ann/runs/my/prepared"}),
    ],
)
def test_one_stage_reads_what_the_earlier_stages_have_made(verb, change, inputs):
    config = repeat(WRITTEN, change, verbs=(verb,))
    flat = settings.flatten(config.model_dump())
    assert {key: flat[key] for key in inputs} == inputs
    assert flat[f"{verb}.output_uri"].startswith("/new")


def test_models_and_labels_of_elsewhere_are_read_where_they_are():
    written = WRITTEN | {
        "train": {"init_from": "old/model"},
        "score": {"model_uri": ["models:/a@champion", "runs/b"], "corpus": "march.csv"},
        "trends": {"labels": ["labels.csv"]},
    }
    config = repeat(written, "output_uri=/new")
    assert config.train.init_from == "/home/ann/old/model"
    assert config.score.model_uri == ("models:/a@champion", "/home/ann/runs/b")
    assert config.score.corpus == ("/home/ann/march.csv",)
    assert config.trends.labels == ("/home/ann/labels.csv",)
    assert config.prepare.vocabulary.vectors == "package:glove.6B.50d"


def test_settings_of_an_earlier_version_are_all_resolved():
    resolved = settings.load(WRITTEN, base="/home/ann").model_dump(mode="json")
    found = repeat(resolved, "output_uri=/new", directory="").model_dump()
    assert found == repeat(WRITTEN, "output_uri=/new").model_dump()


def test_the_settings_of_a_stranger_do_not_choose_the_store():
    written = WRITTEN | {"tracking": {"uri": "http://stranger:5000", "required": False}}
    config = repeat(written, "output_uri=/new")
    assert (config.tracking.uri, config.tracking.required) == (STORE, False)
    assert (
        repeat(written, "output_uri=/new", "tracking.uri=http://a:1").tracking.uri == "http://a:1"
    )


@pytest.mark.parametrize(
    ("written", "changes", "problem"),
    [
        (WRITTEN, [], "runs:/ID can be repeated in another directory only: add output_uri=NEW"),
        (WRITTEN, ["train.output_uri=/new"], "can be repeated in another directory only"),
        (WRITTEN | {"new": 1}, ["output_uri=/new"], "runs:/ID: unknown setting new"),
    ],
)
def test_what_cannot_be_repeated_is_told(written, changes, problem):
    with pytest.raises(UserError) as error:
        repeat(written, *changes)
    assert problem in str(error.value)
