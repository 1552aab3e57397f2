"""Prepared data name their classes."""

import pytest

from sentiflow.data import manifest


@pytest.mark.parametrize(
    ("record", "classes", "learnable"),
    [
        ({"kind": "csv", "classes": ["joy", "anger"]}, ("joy", "anger"), ("joy", "anger")),
        (
            {"kind": "sentiment140", "classes": ["negative", "positive", "neutral"]},
            ("negative", "positive", "neutral"),
            ("negative", "positive"),
        ),
    ],
    ids=["own classes", "Sentiment140"],
)
def test_prepared_data_name_their_classes(record, classes, learnable):
    settings = {"format": {"kind": record.pop("kind")}}
    found = record | {"settings": settings}
    assert manifest.find_classes(found) == classes
    assert manifest.find_learnable(found) == learnable
