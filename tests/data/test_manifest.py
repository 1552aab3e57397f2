"""A result is identified by its content, and only a manifest of ours is read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages import begin, look
from test_outputs import SETTINGS, finish

from sentiflow.data import manifest
from sentiflow.data.manifest import fingerprint
from sentiflow.data.output_status import OutputSpec, find_status
from sentiflow.errors import UserError
from sentiflow.storage import filesystem

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


def shuffled(value):
    """Give each dictionary the reverse order of keys."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@SETTINGS
@given(JSON)
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value):
    assert fingerprint(shuffled(value)) == fingerprint(value)


@SETTINGS
@given(JSON, JSON)
def test_other_values_have_other_fingerprints(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same


def test_a_fingerprint_is_16_digits_and_the_same_everywhere():
    assert fingerprint({"a": [1, "caf\u00e9"], "b": None}) == "8c83849043cf1613"


def test_a_spec_is_identified_by_stage_settings_and_inputs_alone(spec):
    def moved(one, uri, owns):
        inputs = {"csv": {"fingerprint": one.inputs["csv"]["fingerprint"], "uri": uri}}
        return OutputSpec(one.stage, uri, one.settings, inputs, owns).fingerprint

    assert moved(spec(), "/elsewhere", ("other",)) == spec().fingerprint
    others = [spec(seed=1), spec(csv="0000"), spec(stage="train"), spec(split=None)]
    assert len({one.fingerprint for one in [spec(), *others]}) == 5


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "is not JSON: it is damaged"),
        (b"\xff", "is not JSON: it is damaged"),
        (b"[]", "is not a manifest of sentiflow"),
        (b'{"name": "an app"}', "is not a manifest of sentiflow"),
        (b'{"stage": "prepare", "format_version": 3}', "was written by a newer sentiflow: update"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused_and_kept(spec, folder, content, problem):
    filesystem.write_bytes(str(folder / "manifest.json"), content)
    for act in (find_status, look, begin):
        with pytest.raises(UserError) as error:
            act(spec())
        assert f"{folder}/manifest.json {problem}" in str(error.value)
    with pytest.raises(UserError):
        begin(spec(), overwrite=True)
    assert (folder / "manifest.json").read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [b'{"stage": "prepare", "format_version": 2}', b'{"stage": "prepare", "format_version": "2"}'],
)
def test_a_manifest_without_its_parts_is_refused(spec, folder, content):
    filesystem.write_bytes(str(folder / "manifest.json"), content)
    with pytest.raises(UserError):
        find_status(spec())


def test_requiring_returns_the_manifest_of_a_complete_directory(spec, folder):
    finish(spec())
    record = manifest.require(str(folder), stage="prepare", setting="train.prepared_uri")
    assert record["fingerprint"] == spec().fingerprint


def test_requiring_names_the_setting_and_what_it_should_be(spec, folder):
    with pytest.raises(UserError) as error:
        manifest.require(str(folder), stage="prepare", setting="train.prepared_uri")
    assert str(error.value) == (
        f"train.prepared_uri: {folder} has no manifest.json: "
        "name the finished output of sentiflow prepare"
    )
    finish(spec())
    with pytest.raises(UserError) as error:
        manifest.require(str(folder), stage="model", setting="score.model_uri")
    assert f"score.model_uri: {folder} is an output of prepare: name a f" in str(error.value)
