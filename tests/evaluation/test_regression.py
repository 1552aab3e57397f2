"""A model that is worse beyond chance and margin is found, and one that is not is left alone."""

import pyarrow as pa
import pytest

from sentiflow.data.schema import BINARY
from sentiflow.evaluation import model_checks
from sentiflow.evaluation.comparison import Check, check_behavior, find_regression
from sentiflow.metrics import paired
from sentiflow.tracking import model_sources


def check(name, *, only_first, only_second, num_rows=1000):
    difference = paired.accuracy_difference(
        only_first=only_first, only_second=only_second, num_rows=num_rows
    )
    return Check(name, num_rows, 0.8, 0.8 + difference.value, difference)


def test_only_a_drop_beyond_chance_among_all_checks_counts():
    steady = [check(f"slice {k}", only_first=9, only_second=8) for k in range(20)]
    drop = check("accuracy", only_first=20, only_second=6)
    assert [c.name for c in find_regression([drop], margin=0).worse] == ["accuracy"]
    found = find_regression([*steady, drop], margin=0)
    assert not found.worse
    assert found.checks[0].p_adjusted == pytest.approx(21 * paired.mcnemar(20, 6))
    gain = check("accuracy", only_first=10, only_second=90)
    assert not find_regression([gain], margin=0).worse


def test_a_drop_within_the_margin_is_accepted_and_one_beyond_it_only_if_it_is_no_chance():
    drop = check("accuracy", only_first=120, only_second=40)  # 8 points, 5.6 to 10.4
    assert find_regression([drop], margin=0.05).worse
    assert not find_regression([drop], margin=0.07).worse
    assert not find_regression([drop], margin=0.09).worse


def test_no_difference_at_all_is_no_regression():
    same = Check("macro F1", 10, 0.5, 0.5, paired.Difference(0.0, 0.0, 0.0, 1.0))
    for margin in (0, 0.01):
        assert not find_regression([same], margin=margin).worse


def record_of(uri):
    model = model_sources.describe(uri, tracking=None)
    return {"inputs": {"model": model}}


def test_two_models_take_the_same_behavior_tests(make_package):
    good, bad = make_package(seed=1), make_package(seed=1, sign=-1)
    rows = pa.table({"row_id": [0, 1], "text": ["good morning", "a bad day"]})
    taken, reason = model_checks.judge_behavior(
        [record_of(good), record_of(bad)], rows, tracking=None
    )
    assert reason == ""
    checks = check_behavior(*taken)
    assert len(checks) == len(taken[0]) > 20
    assert {c.name for c in checks} >= {"behavior mention", "behavior added praise"}
    same = find_regression(check_behavior(taken[0], taken[0]), margin=0)
    assert all(c.difference.value == 0 for c in same.checks)
    turned = find_regression(checks, margin=0)
    back = find_regression(check_behavior(*reversed(taken)), margin=0)
    assert turned.worse or back.worse


def test_why_there_are_no_behavior_tests_is_said(make_package, tmp_path):
    other = make_package(seed=1, classes=("spam", "ham"))
    rows = pa.table({"row_id": [0], "text": ["good"]})
    good = record_of(make_package(seed=1))
    assert model_checks.judge_behavior([good, record_of(other)], rows, tracking=None) == (
        [], f"the classes do not include {' and '.join(BINARY)}",
    )  # fmt: skip
    gone = {"inputs": {"model": good["inputs"]["model"] | {"uri": str(tmp_path / "gone")}}}
    taken, reason = model_checks.judge_behavior([good, gone], rows, tracking=None)
    assert taken == []
    assert "gone" in reason
