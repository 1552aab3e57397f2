import math

import pytest
import yaml
from conftest import PROJECT

from sentiflow.config import settings
from sentiflow.errors import UserError
from sentiflow.training.search_space import expand

QUICKSTART = PROJECT / "configs/quickstart.yaml"


def trials(space, *overrides, **sweep):
    text = yaml.safe_dump(sweep | {"space": space}, default_flow_style=True, sort_keys=False)
    return expand(settings.load(QUICKSTART, [f"sweep={text}", *overrides]))


def values(space, **sweep):
    return [values for values, _ in trials(space, **sweep)]


RANGES = {
    "train.learning_rate": {"low": "1e-4", "high": 1e-2, "log": True},
    "train.model.dropout": {"low": 0.1, "high": 0.5},
    "train.model.hidden_size": {"low": 16, "high": 24},
    "train.model.cell": ["gru", "lstm"],
}


def test_each_trial_has_the_settings_with_its_values_and_all_others_as_they_are():
    base = settings.load(QUICKSTART)
    for values, config in trials({"train.model.hidden_size": [50, 100], "train.seed": [1]}):
        train = config.train
        assert train.model.hidden_size == values["train.model.hidden_size"]
        assert train.seed == 1
        assert train.model.model_copy(update={"hidden_size": 64}) == base.train.model
        assert config.prepare == base.prepare


def test_samples_are_the_same_each_time_and_within_their_ranges():
    found = values(RANGES, num_trials=200)
    assert found == values(RANGES, num_trials=200)
    assert found[:5] == values(RANGES, num_trials=5)
    rates = [v["train.learning_rate"] for v in found]
    assert 1e-4 <= min(rates) < 2e-4
    assert 5e-3 < max(rates) <= 1e-2
    assert 0.35 < sum(math.log10(rate) < -3 for rate in rates) / 200 < 0.65
    sizes = {v["train.model.hidden_size"] for v in found}
    assert sizes == set(range(16, 25))
    assert all(0.1 <= v["train.model.dropout"] <= 0.5 for v in found)
    assert {v["train.model.cell"] for v in found} == {"gru", "lstm"}


def test_samples_are_distinct_and_a_small_space_is_exhausted():
    found = values({"train.seed": [1, 2], "train.num_epochs": [3, 4]}, num_trials=8)
    assert len(found) == 4
    assert all(found.count(one) == 1 for one in found)


def test_a_value_is_parsed_as_in_the_settings():
    assert values({"train.learning_rate": ["1e-3"]}) == [{"train.learning_rate": 0.001}]
    assert values({"train.clip_norm": [None, 1]}) == [
        {"train.clip_norm": None}, {"train.clip_norm": 1.0}
    ]  # fmt: skip


def test_a_setting_may_be_named_on_the_command_line_or_below_its_sections():
    nested = {"train": {"model": {"hidden_size": [50]}, "learning_rate": {"low": 1, "high": 2}}}
    found = trials(nested, "sweep.space.train.model.cell=[rnn]", num_trials=1)
    assert found[0][0].keys() == {
        "train.model.hidden_size", "train.model.cell", "train.learning_rate"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({}, "sweep.space is empty: name settings and values"),
        (
            {"train.model.hiden_size": [1]},
            "unknown setting train.model.hiden_size: did you mean train.model.hidden_size?",
        ),
        ({"train.modle.cell": ["gru"]}, "unknown setting train.modle: did you mean train.model?"),
        ({"train.seed.x": [1]}, "cannot override train.seed.x"),
        ({"train.seed": [1, -1]}, "sweep.space: train.seed=-1: input should be greater than"),
        ({"train.model.cell": ["gru", "x"]}, "sweep.space: train.model.cell='x': input should be"),
        ({"train.model": [{"cell": "gru"}]}, "train.model is a section"),
        ({"prepare.max_length": [5]}, "prepare.max_length is not below train"),
        ({"train.num_workers": [1, 2]}, "train.num_workers cannot be swept"),
        ({"train.output_uri": ["x"]}, "train.output_uri cannot be swept"),
        ({"train.distill.teachers": [["a"]]}, "all trials learn the answers of the same teachers"),
        ({"train.preset": ["fast"]}, "train.preset cannot be swept: name the settings that it"),
        ({"train.checkpoints.every_minutes": [1]}, "train.checkpoints.every_minutes cannot"),
        ({"train.seed": [1, 1]}, "train.seed has 1 twice"),
        ({"train.learning_rate": [0.001, "1e-3"]}, "train.learning_rate has 0.001 twice"),
        ({"train.seed": {"low": 1, "high": 3}}, "train.seed is a range: a grid needs lists"),
        ({"train.seed": 5}, "train.seed=5: must be a list of values, or {low"),
        ({"train.seed": []}, "train.seed=[]: must be a list of values, or {low"),
        ({"train.seed": {"low": 3, "high": 1}}, "train.seed: low must be below high"),
        ({"train.seed": {"low": 3}}, "train.seed: high: Field required"),
        ({"train.seed": {"low": 0, "high": 9, "log": True}}, "log: true needs a low above 0"),
        (
            {"train.seed": {"low": "a", "high": 9}},
            "train.seed: low: Input should be a valid number",
        ),
        ({"train.seed": {"low": 0, "hihg": 9}}, "train.seed: high: Field required"),
        ({"train.seed": {"low": 0, "high": 9, "lgo": True}}, "train.seed: lgo: "),
    ],
)
def test_a_wrong_space_gives_one_clear_line(space, expected):
    with pytest.raises(UserError) as error:
        trials(space)
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_both_ends_of_a_range_must_be_values_of_the_setting():
    space = {"train.model.dropout": {"low": -1.0, "high": 2.0}}
    with pytest.raises(UserError) as error:
        trials(space, num_trials=8)
    lines = str(error.value).splitlines()
    assert ["train.model.dropout=-1.0" in lines[0], "train.model.dropout=2.0" in lines[1]] == [
        True, True
    ]  # fmt: skip


def test_classes_are_not_swept_beside_teachers():
    space = {"train.classes": [["negative", "positive"]]}
    taught = "train.distill.teachers=[a]"
    assert len(trials(space)) == 1
    assert len(trials({"train.distill.hard_weight": [0, 0.5]}, taught)) == 2
    with pytest.raises(UserError, match=r"train\.classes cannot be swept"):
        trials(space, taught)
