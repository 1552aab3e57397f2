"""Names and values fit into MLflow, and hold no secret."""

from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils import validation

from sentiflow.tracking import runs


@example({".": "", "..": "", "": "", "a/../b": ""})
@given(st.dictionaries(st.text(max_size=300), st.text(max_size=30), max_size=30))
def test_mlflow_takes_every_name(settings):
    params = runs.to_params(settings)
    assert bool(params) == bool(settings)
    for key, value in params.items():
        validation._validate_param(key, value)
        validation._validate_tag(key, value)
        validation._validate_metric_name(key)


def test_long_values_are_cut():
    space = {f"train.very.{'long.' * 60}{n}": "x" * 9000 for n in range(250)}
    params = runs.to_params({"sweep": {"space": space}})
    assert {len(value) for value in params.values()} == {6000}
    assert {len(key) for key in params} == {250}
    assert {len(value) for value in runs.to_tags(space).values()} == {8000}


def test_an_undefined_metric_is_left_out():
    assert runs.to_metrics({"a b": 1, "undefined": None}) == {"a b": 1.0}


def test_metrics_of_any_classes_have_names_of_their_own():
    names = ["très bien", "5 stars", "n/a", "a:b", "C++", "C##", "😀"]
    found = runs.to_metrics({f"test/f1_{name}": n for n, name in enumerate(names)})
    assert list(found.values()) == list(range(7))
    assert list(found)[:4] == [f"test/f1_{name}" for name in names[:4]]
    assert [name[:12] for name in found][4:] == ["test/f1_C__-", "test/f1_C__-", "test/f1__"]


def test_no_value_holds_a_secret():
    secret = {"space": {"csv": ["s3://AKIA:se/cret@bucket/x", "http://h/?access_key=se/cret&a=b"]}}
    params = runs.to_params(secret)
    tags = runs.to_tags({"reason": "cannot open s3://AKIA:se/cret@bucket/x"})
    assert "se/cret" not in f"{params}{tags}"
    assert "http://h/?access_key=***&a=b" in params["space.csv"]
    assert tags["reason"] == "cannot open s3://bucket/x"


def test_what_is_not_unicode_is_escaped():
    assert runs.to_tags({"file": "caf\udce9"}) == {"file": "caf\\udce9"}
