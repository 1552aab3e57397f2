"""A package answers with the calibration that was fitted, whatever computes its logits."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from conftest import new_package

from sentiflow.config.model_sections import BagSettings, RnnSettings
from sentiflow.metrics.confidence import Calibration, calibrate
from sentiflow.models import networks
from sentiflow.models.package import ModelPackage
from sentiflow.training import trained_package

TEXTS = pa.array(["good", "bad", "good bad morning", "a day", "unheard of", "day day good"])
EFFECT = {"temperature": 1.7, "bias": {"positive": 0.9, "negative": -0.4, "neutral": -0.5}}
CLASSES = ("negative", "positive", "neutral")


@pytest.mark.parametrize(
    "model",
    [
        RnnSettings(hidden_size=6),
        RnnSettings(hidden_size=6, bidirectional=True, pooling="attention"),
        BagSettings(kind="bag_of_embeddings", hidden_sizes=(4,)),
    ],
)
def test_the_bias_is_part_of_the_output_layer(model, tmp_path):
    package = new_package(classes=CLASSES)
    sizes = {"vocabulary_size": len(package.vocabulary), "embedding_dim": 5, "num_classes": 3}
    network = networks.build(model, **sizes).eval()
    settings = package.settings.model_copy(update={"model": model})
    package = replace(package, network=network, settings=settings)
    before = package.score(TEXTS)
    trained_package._apply(package, EFFECT).save(str(tmp_path), lineage={})
    after = ModelPackage.load(str(tmp_path)).score(TEXTS)
    known = before.num_tokens > 0
    fitted = Calibration.read(EFFECT, CLASSES)
    assert fitted == Calibration(1.7, (-0.4, 0.9, -0.5))
    expected = calibrate(before.probabilities[known], fitted)
    np.testing.assert_allclose(after.probabilities[known], expected, rtol=1e-5)
    assert (after.prediction != before.prediction).any()
    np.testing.assert_array_equal(after.probabilities[~known], before.probabilities[~known])
