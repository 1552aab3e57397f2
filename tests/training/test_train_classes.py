"""The classes of a model are those with enough rows, in the order of the prepared classes."""

import re

import numpy as np
import pytest

from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UserError
from sentiflow.training import descriptions, learned_classes

NAMES = ["negative", "positive", "neutral", "mixed", "rare"]


def prepared(*, kind="csv", train=(40, 10, 50, 0, 8), validation=(4, 1, 5, 0, 2)):
    """Describe prepared data by the rows of each class."""
    return {
        "settings": {"format": {"kind": kind}, "split": {"kind": "hash"}},
        "classes": NAMES,
        "counts": {
            "labels": {
                "train": dict(zip(NAMES, train, strict=True)) | {"unlabelled": 9},
                "validation": dict(zip(NAMES, validation, strict=True)),
            }
        },
    }


def choose(record=None, **settings):
    return learned_classes.choose(record or prepared(), TrainSettings.model_validate(settings))


def test_every_class_with_rows_is_learned_in_order():
    found = choose()
    assert found.names == ("negative", "positive", "neutral", "rare")
    assert found.counts.tolist() == [40, 10, 50, 8]
    assert found.positions.tolist() == [0, 1, 2, -1, 3]
    assert found.priors == pytest.approx((40 / 108, 10 / 108, 50 / 108, 8 / 108))
    assert found.weights is None


@pytest.mark.parametrize(
    ("record", "settings", "names", "left_out"),
    [
        (prepared(), {}, "negative positive neutral rare", ""),
        # fewer than ten rows: not learned, and no choice of the user
        (prepared(validation=(4, 1, 5, 0, 1)), {}, "negative positive neutral", ""),
        (
            prepared(),
            {"classes": ["neutral", "negative"]},
            "negative neutral",
            "positive mixed rare",
        ),
        (prepared(kind="sentiment140"), {}, "negative positive", "neutral mixed rare"),
    ],
)
def test_classes_are_learned_in_the_order_of_the_data_and_those_left_out_are_known(
    record, settings, names, left_out
):
    found = choose(record, **settings)
    assert (found.names, found.left_out) == (tuple(names.split()), tuple(left_out.split()))
    assert [NAMES[n] for n in np.flatnonzero(found.positions >= 0)] == [*found.names]


@pytest.mark.parametrize(
    ("settings", "record", "problem"),
    [
        (
            {"classes": ["negative", "happy"]},
            prepared(),
            "no row to learn has the class happy: .*0 mixed",
        ),
        (
            {"classes": ["negative", "mixed"]},
            prepared(),
            "no row to learn has the class mixed: .*50 neutral",
        ),
        ({}, prepared(train=(40, 0, 0, 0, 0)), "two classes or more: .*40 negative, 0 positive"),
        (
            {"classes": ["positive", "neutral"]},
            prepared(kind="sentiment140"),
            "no row to learn has the class neutral: the train split has 40 negative, 10 positive",
        ),
    ],
)
def test_classes_without_rows_are_refused_with_the_counts(settings, record, problem):
    with pytest.raises(UserError, match=problem):
        choose(record, **settings)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("balanced", [1 / 40, 1 / 10, 1 / 50, 1 / 8]),
        ("sqrt", [40**-0.5, 10**-0.5, 50**-0.5, 8**-0.5]),
    ],
)
def test_weights_have_a_mean_of_one_over_the_rows(setting, expected):
    found = choose(class_weights=setting)
    assert (found.weights * found.counts).sum() / found.counts.sum() == pytest.approx(1)
    shares = np.divide(expected, expected[0])
    np.testing.assert_allclose(found.weights / found.weights[0], shares, rtol=1e-5)
    assert "rare (8, weight" in found.describe()


def test_unsure_without_a_row_that_the_model_has_not_seen_is_refused():
    settings = TrainSettings.model_validate({"prepared_uri": "a", "unsure": {"max_error": 0.05}})
    record = prepared()
    none = prepared(validation=(0, 0, 0, 0, 0))
    learned_classes.check_unseen(settings, record, choose(record))
    learned_classes.check_unseen(settings.model_copy(update={"folds": 5}), none, choose(none))
    with pytest.raises(UserError, match=r"train\.unsure: .*no validation rows.*train\.folds=5"):
        learned_classes.check_unseen(settings, none, choose(none))


@pytest.mark.parametrize(
    ("threshold", "num_rows", "said"),
    [
        (0.8125, 1000, "confidence up to 0.8125 are unsure; of 1,000 rows .* 62.5% are answered"),
        (1.0, 40, "as 40 rows .*: 59 or more are needed, so label 1.5 times as many"),
        (1.0, 59, "label more texts, or set a larger train.unsure.max_error"),
    ],
)
def test_training_says_what_is_answered_or_how_many_labels_it_takes(threshold, num_rows, said):
    unsure = {
        "max_error": 0.05,
        "threshold": threshold,
        "num_rows": num_rows,
        "answered_fraction": 0.625,
    }
    (line,) = descriptions.describe_calibration({"unsure": unsure}, is_refit=False)
    assert re.search(said, line)
