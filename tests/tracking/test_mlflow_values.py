from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils import validation

from sentiflow.tracking import mlflow_values


@example({".": "", "..": "", "": "", "a/../b": ""})
@given(st.dictionaries(st.text(max_size=300), st.text(max_size=30), max_size=30))
def test_mlflow_takes_every_name_and_no_two_become_one(settings):
    params = mlflow_values.to_params(settings)
    assert len(params) == len(settings)
    for key, value in params.items():
        validation._validate_param(key, value)
        validation._validate_tag(key, value)
        validation._validate_metric_name(key)


def test_long_values_are_cut_and_many_are_batched():
    space = {f"train.very.{'long.' * 60}{n}": "x" * 9000 for n in range(250)}
    params = mlflow_values.to_params({"sweep": {"space": space}})
    assert [len(batch) for batch in mlflow_values.batches(params.items(), 100)] == [100, 100, 50]
    assert {len(value) for value in params.values()} == {6000}
    assert {len(key) for key in params} == {250}
    assert {len(value) for value in mlflow_values.to_tags(space).values()} == {8000}


def test_an_undefined_metric_is_left_out():
    assert mlflow_values.to_metrics({"a b": 1, "undefined": None}) == {"a b": 1.0}


def test_no_value_holds_a_secret():
    secret = {"space": {"csv": ["s3://AKIA:se/cret@bucket/x", "http://h/?access_key=se/cret&a=b"]}}
    params = mlflow_values.to_params(secret)
    tags = mlflow_values.to_tags({"reason": "cannot open s3://AKIA:se/cret@bucket/x"})
    assert "se/cret" not in f"{params}{tags}"
    assert "http://h/?access_key=***&a=b" in params["space.csv"]
    assert tags["reason"] == "cannot open s3://bucket/x"


def test_what_is_not_unicode_is_escaped():
    assert mlflow_values.to_tags({"file": "caf\udce9"}) == {"file": "caf\\udce9"}
