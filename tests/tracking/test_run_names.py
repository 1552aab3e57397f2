"""The name of a training says in what it differs: features first, then the preset."""

import pytest

from sentiflow.config import settings, yaml_text
from sentiflow.tracking import run_names, runs


@pytest.mark.parametrize(
    ("earlier", "changes"),
    [
        ([], ""),
        ([{}], ""),  # the same
        ([{"seed": "1"}], "seed=0"),
        ([{"seed": "1", "model.cell": "rnn"}, {"model.cell": "rnn"}], "cell=gru"),  # most similar
        ([{"seed": "1"}, {"seed": "2"}], "seed=0"),
        ([{"seed": "1"}, {}, {"seed": "2"}], ""),  # it has been there
        ([{"of an older version": "1"}], ""),
        (
            [{"a": "x", "b": "x", "model.cell": "x", "seed": "x"}],
            "seed=0, cell=gru, a=1 and 1 more",
        ),
        ([{"long": "x"}], f"long={'a' * 24}"),
    ],
)
def test_a_training_is_named_by_what_differs_from_the_most_similar_one(earlier, changes):
    params = {
        "seed": "0",
        "model.cell": "gru",
        "a": "1",
        "b": "1",
        "long": "a" * 30,
    }
    params = {f"train.{key}": value for key, value in params.items()}
    known = [params | {f"train.{key}": value for key, value in each.items()} for each in earlier]
    assert run_names.find_changes(params, known) == changes


def describe(*changes: str, linear: bool = False, **prepare: object) -> dict[str, str]:
    """Make the parameters of a training, as its run has them."""
    config = settings.load({"name": "a", "output_uri": "/a"}, changes)
    train = config.train.model_dump(mode="json") | {"linear": linear}
    features = {"tokenizer": "tweet", "max_length": 64, "rows_per_file": 100_000} | prepare
    return runs.to_params({"prepare": features, "preset": train["preset"], "train": train})


FIRST = describe()


@pytest.mark.parametrize(
    ("params", "changes"),
    [
        (describe(tokenizer="tutorial"), "tokenizer=tutorial"),
        (describe("train.seed=7", tokenizer="tutorial"), "tokenizer=tutorial, seed=7"),
        (describe("train.preset=fast"), "preset=fast"),
        (describe("train.preset=best", linear=True), "preset=best"),
        (
            describe("train.preset=best", "train.num_epochs=9", max_length=32, linear=True),
            "max_length=32, preset=best, num_epochs=9",
        ),
        (describe("train.linear=auto", linear=True), "linear=True"),
        (describe("train.linear=auto"), ""),  # resolved, it is the same
        (describe(rows_per_file=5), ""),  # no feature
        (describe("train.num_workers=2", "train.checkpoints.every_minutes=1"), ""),
    ],
)
def test_features_come_first_and_a_preset_has_its_name(params, changes):
    assert run_names.find_changes(params, [FIRST]) == changes


def test_a_preset_that_was_left_out_has_its_name_too():
    best = describe("train.preset=best", linear=True)
    assert run_names.find_changes(FIRST, [best]) == "preset=None"
    assert run_names.find_changes(describe("train.preset=fast"), [best]) == "preset=fast"


def test_a_training_without_a_preset_is_compared_with_others_without_one():
    known = [describe("train.preset=best", linear=True), FIRST]
    assert run_names.find_changes(describe(linear=True), known) == "linear=True"


def test_ten_runs_of_other_features_presets_and_seeds_have_ten_names():
    presets = [describe(f"train.preset={name}") for name in yaml_text.read_presets()]
    seeds = [describe(f"train.seed={seed}") for seed in (1, 2, 3)]
    features = [
        describe(tokenizer="tutorial"),
        describe(max_length=32),
        describe("train.seed=1", max_length=32),
    ]
    known = [FIRST]
    found = [""]
    for params in [*presets, *seeds, *features]:
        found.insert(0, run_names.find_changes(params, known, taken=found))
        known.insert(0, params)
    assert len(set(found)) == 10
    assert found[6:9] == ["preset=best", "preset=balanced", "preset=fast"]
    assert found[0] == "max_length=32, seed=1"


def test_a_training_of_an_earlier_version_lacks_parameters_and_hides_no_difference():
    earlier = {key: value for key, value in FIRST.items() if not key.startswith("prepare.")}
    other = describe(tokenizer="tutorial")
    assert run_names.find_changes(other, [earlier]) == ""
    assert run_names.find_changes(other, [earlier, FIRST]) == "tokenizer=tutorial"
