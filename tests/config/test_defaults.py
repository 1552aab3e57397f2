"""A preset and an inherited format stand for settings; what is written takes precedence."""

# ruff: noqa: F401, F811 - fixtures of another file

import pytest
import yaml
from conftest import PROJECT
from test_settings import faults_of, load, path

from sentiflow.config import settings
from sentiflow.config.settings import flatten

FORMAT = """{kind: csv, columns: {text: body, label: mood}, delimiter: ;, errors: ignore,
    labels: {negative: bad, positive: good}}"""


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("{encoding: cp1252}", {"columns.text": "body", "labels.positive": ("good",)}),
        ("{columns: {text: message}}", {"columns.text": "message", "labels": None}),
        ("{columns: {text: a, label: b}}", {"columns.id": None, "labels.negative": ("bad",)}),
    ],
)
def test_a_scored_format_inherits_what_it_does_not_say(load, own, expected):
    config = load(f"format={FORMAT}", f"score.format={own}").score.format
    found = flatten(config.model_dump())
    assert expected.items() <= found.items()
    assert found["errors"] == "ignore"
    assert found["delimiter"] == ";"


@pytest.mark.parametrize("name", ["fast", "balanced", "best"])
def test_a_preset_is_a_whole_set_of_settings_and_every_one_can_be_changed(load, name):
    plain = load()
    preset = load(f"train.preset={name}")
    changed = load(
        f"train.preset={name}", "train.num_epochs=9", "train.model.hidden_size=7",
        "train.pretrain.num_epochs=3",
    )  # fmt: skip
    assert preset.train.model != plain.train.model
    assert (changed.train.num_epochs, changed.train.pretrain.num_epochs) == (9, 3)
    assert changed.train.model == preset.train.model.model_copy(update={"hidden_size": 7})
    assert changed.train.batching == preset.train.batching
    again = settings.validate(changed.model_dump(mode="json"), source="itself")
    assert again.train == changed.train


def test_a_preset_that_does_not_fit_is_one_line(load):
    (line,) = faults_of(load, "train.preset=bset")
    assert "train.preset='bset'" in line
    assert "'balanced'" in line
    (line,) = faults_of(load, "train.preset=fast", "train.model.kind=bag_of_embeddings")
    assert "preset=fast is a recurrent network" in line
