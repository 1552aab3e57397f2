import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils import validation

from sentiflow.tracking import run_records
from sentiflow.tracking.run_records import (
    Begin,
    End,
    Files,
    Input,
    Inputs,
    Metrics,
    Model,
    Params,
    Tags,
)

INPUT = Input(name="a", digest="b", source_type="s3", source="{}", profile="{}", context="train")


@pytest.mark.parametrize(
    "record",
    [
        Begin(run="r", experiment_id="1", name="n", time=3, tags={"a": "ü\n"}),
        Metrics(run="r", values=(("a", 1.5, 2, 3), ("b", math.inf, 2, 3), ("c", -math.inf, 2, 3))),
        Params(run="r", values={"a": "b"}),
        Tags(run="r", values={}),
        Files(run="r", values={"a/b.png": bytes(range(256)), "c": b""}),
        Inputs(run="r", values=(INPUT,)),
        Model(run="r", package_uri="s3://b/m", name="n", alias="candidate"),
        End(run="r", status="KILLED", time=4),
    ],
    ids=lambda record: record.kind,
)
def test_a_record_comes_back_from_its_line(record):
    line = record.model_dump_json()
    assert "\n" not in line
    assert run_records.parse(line) == record


def test_a_figure_that_is_no_number_comes_back():
    (record,) = run_records.make_metrics("r", [(1, {"a": math.nan, "undefined": None})])
    ((name, value, _, step),) = run_records.parse(record.model_dump_json()).values
    assert (name, step) == ("a", 1)
    assert math.isnan(value)


@example({".": "", "..": "", "": "", "a/../b": ""})
@given(st.dictionaries(st.text(max_size=300), st.text(max_size=30), max_size=30))
def test_mlflow_takes_every_name_and_no_two_become_one(settings):
    params = [p for record in run_records.make_params("r", settings) for p in record.values.items()]
    assert len(dict(params)) == len(params) == len(settings)
    for key, value in params:
        validation._validate_param(key, value)
        validation._validate_tag(key, value)
        validation._validate_metric_name(key)


def test_what_is_long_is_cut_and_what_is_much_is_parted():
    space = {f"train.very.{'long.' * 60}{n}": "x" * 9000 for n in range(250)}
    records = [*run_records.make_params("r", {"sweep": {"space": space}})]
    assert [len(record.values) for record in records] == [100, 100, 50]
    assert {len(value) for record in records for value in record.values.values()} == {6000}
    assert {len(key) for record in records for key in record.values} == {250}
    assert [len(r.values) for r in run_records.make_tags("r", space)] == [100, 100, 50]
    series = [(step, {"a": 1.0, "b": 2.0, "c": None}) for step in range(1100)]
    assert [len(r.values) for r in run_records.make_metrics("r", series)] == [1000, 1000, 200]


def test_no_record_holds_a_secret():
    secret = {"space": {"csv": ["s3://AKIA:se/cret@bucket/x", "http://h/?access_key=se/cret&a=b"]}}
    tags = {"reason": "cannot open s3://AKIA:se/cret@bucket/x"}
    (params,), (tagged,) = run_records.make_params("r", secret), run_records.make_tags("r", tags)
    assert "se/cret" not in params.model_dump_json() + tagged.model_dump_json()
    assert "http://h/?access_key=***&a=b" in params.values["space.csv"]
    assert tagged.values["reason"] == "cannot open s3://bucket/x"


def test_what_is_no_character_is_written_out():
    (record,) = run_records.make_tags("r", {"file": "caf\udce9"})
    assert record.values == {"file": "caf\\udce9"}
    assert run_records.parse(record.model_dump_json()) == record
