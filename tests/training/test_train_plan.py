"""A training is planned once, and runs as it was planned."""

import json
import shutil

import numpy as np
import pytest
from test_train import configure, prepared  # noqa: F401

from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.data.outputs import open_output
from sentiflow.errors import JobError, UserError
from sentiflow.training import descriptions, rates, train_plan


@pytest.fixture
def plan(tmp_path, prepared):  # noqa: F811
    """Plan a training on the prepared corpus, with some settings."""

    def call(**train):
        return train_plan.resolve(settings.load(configure(tmp_path, prepared, **train)))

    return call


def test_the_plan_has_what_the_settings_refer_to(plan, prepared):  # noqa: F811
    found = plan()
    record = manifest.read(str(prepared))
    assert found.prepared == record
    assert found.splits == ("train",)
    labels = record["counts"]["labels"]["train"]
    assert found.learned.counts.tolist() == [labels[name] for name in found.learned.names]
    expected = {"uri": str(prepared), "fingerprint": record["fingerprint"]}
    assert found.spec.inputs == {"prepared": expected}
    assert (found.first, found.refit) == (None, None)


@pytest.mark.parametrize(
    ("linear", "most", "expected", "lines"),
    [
        ("auto", 10**6, True, ["train.linear=auto is true, as there are at most 1,000,000 train"]),
        ("auto", 10, False, ["train.linear=auto is false, as there are more than 10 train rows"]),
        (True, 10, True, []),
        (False, 10**6, False, []),
    ],
)
def test_a_linear_model_is_decided_by_the_plan_and_said_once(
    plan, monkeypatch, linear, most, expected, lines
):
    monkeypatch.setattr(rates, "MAX_LINEAR_ROWS", most)
    found = plan(linear=linear)
    assert found.has_linear is expected
    assert found.spec.settings["linear"] == linear, "the manifest has the setting as it is given"
    said = [
        line
        for line in descriptions.describe_plan(found, 9, 1, note="", why="")
        if "linear" in line
    ]
    assert len(said) == len(lines)
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True))
    amount = found.count_texts(None, {"pretrain": 1, "train": 3})
    num_rows = int(np.sum(found.learned.counts))
    assert (amount.num_rows, amount.total) == (num_rows, 4 * num_rows)
    assert (amount.linear > 0) is expected


def test_data_that_are_replaced_after_the_plan_are_not_published(tmp_path, prepared):  # noqa: F811
    copy = tmp_path / "prepared"
    shutil.copytree(prepared, copy)
    found = train_plan.resolve(settings.load(configure(tmp_path / "run", copy)))
    record = json.loads((copy / "manifest.json").read_text())
    with open_output(found.spec) as output:
        output.begin()
        (copy / "manifest.json").write_text(json.dumps(record | {"fingerprint": "ab"}))
        with pytest.raises(JobError, match="was replaced while it was read"):
            output.publish(counts={}, files=[], seconds=1)


def test_prepared_data_that_are_missing_are_named(tmp_path):
    config = settings.load(configure(tmp_path, tmp_path / "none"))
    with pytest.raises(UserError, match=r"train\.prepared_uri: .*none has no manifest\.json"):
        train_plan.resolve(config)
