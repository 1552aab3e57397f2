"""Predicted and labelled shares of the same rows: told where they differ beyond chance."""

import numpy as np
import pytest

from sentiflow.metrics.predicted_shares import compare_shares, compare_unseen

OFTEN = {"schlecht": {"schlecht": 30, "gut": 2}, "gut": {"schlecht": 23, "gut": 45}}


def test_a_class_that_is_predicted_too_often_is_told_with_its_interval():
    lines = dict(compare_shares(OFTEN, "test texts"))
    assert lines["53.0%"] == (
        "of the test texts are predicted schlecht, but 32.0% are: 21.0 points too many (95% "
        "interval 11.4 to 29.7)"
    )
    assert "predicted gut, but 68.0% are: 21.0 points too few" in lines["47.0%"]


def test_a_class_that_the_model_does_not_know_is_predicted_too_seldom():
    found = compare_shares({"a": {"a": 50}, "new": {"a": 50}}, "texts")
    assert [number for number, _ in found] == ["100.0%", "0.0%"]


def test_small_and_improbable_differences_are_no_line():
    certain = {"a": {"a": 50_000, "b": 2000}, "b": {"a": 1000, "b": 47_000}}  # one point
    assert compare_shares(certain, "texts") == compare_shares({}, "texts") == []
    few = {"a": {"a": 5, "b": 3}, "b": {"b": 2}}  # 30 points
    assert compare_shares(few, "texts") == []


@pytest.mark.parametrize("num_classes", [2, 5, pytest.param(30, marks=pytest.mark.soak)])
def test_a_model_without_a_preference_is_seldom_told_to_have_one(num_classes):
    rng, told, names = np.random.default_rng(0), 0, [f"class {n}" for n in range(num_classes)]
    for _ in range(400):
        counts = rng.multinomial(200, [*[0.3 / num_classes**2] * num_classes**2, 0.7])
        grid = counts[:-1].reshape(num_classes, -1) + np.diag(np.full(num_classes, counts[-1]))
        confusion = {
            name: dict(zip(names, row.tolist(), strict=True))
            for name, row in zip(names, grid, strict=True)
        }
        told += bool(compare_shares(confusion, "texts"))
    assert told / 400 <= 0.07


def test_the_texts_of_a_corpus_tell_more_than_those_of_the_model():
    model = {"reference": {"confusion": OFTEN}}
    assert "of the validation texts of the model" in compare_unseen({}, model)[0][1]
    assert compare_unseen({"a": {"a": 99}}, model) == []
    assert compare_unseen({}, {"reference": {}}) == compare_unseen({}, {}) == []
    assert compare_unseen({}, model | {"members": [{}]}) == []


def test_a_class_that_is_a_number_is_set_apart_from_the_numbers():
    confusion = {"10": {"10": 28, "9": 2}, "9": {"10": 20, "9": 50}}
    (_, high), _ = compare_shares(confusion, "texts")
    assert high.startswith("of the texts are predicted “10”, but 30.0% are: 18.0 points too many")
