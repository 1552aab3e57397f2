"""A model is worse where a check drops beyond chance and beyond the margin."""

import pytest

from sentiflow.evaluation.regression import Check, find_regression
from sentiflow.metrics import paired


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
    assert not find_regression([gain], margin=0.2).worse, "a gain within the margin is no drop"
    same = check("accuracy", only_first=0, only_second=0)
    assert not find_regression([same], margin=0.01).worse


def test_a_drop_within_the_margin_is_accepted_and_one_beyond_it_only_if_it_is_no_chance():
    drop = check("accuracy", only_first=120, only_second=40)  # 8 points, 5.6 to 10.4
    assert find_regression([drop], margin=0.05).worse
    assert not find_regression([drop], margin=0.07).worse
    assert not find_regression([drop], margin=0.09).worse
