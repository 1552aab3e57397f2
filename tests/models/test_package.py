"""A package is whole or refused, and answers bit for bit as before it was saved."""
# ruff: noqa: F811 -- fixtures are imported

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from conftest import PROJECT, new_package
from saved_package import forge, package, saved  # noqa: F401

from sentiflow.models.linear import LinearModel
from sentiflow.models.package import ModelPackage
from sentiflow.models.profile import Profile
from sentiflow.models.scores import Scores

TEXTS = ["good good morning", "", "bad", "unheard of", "good bad day", " ", "morning " * 200]


def test_load_of_save_scores_bit_for_bit_the_same(package, saved):
    before = package.score(pa.array(TEXTS))
    after = ModelPackage.load(saved).score(pa.array(TEXTS))
    np.testing.assert_array_equal(before.probability, after.probability)
    np.testing.assert_array_equal(before.num_tokens, after.num_tokens)


def test_a_text_without_a_known_word_gets_the_prior(package):
    scores = package.score(pa.array(TEXTS))
    unknown = scores.num_tokens == 0
    assert unknown.tolist() == [False, True, False, True, False, True, False]
    assert set(scores.probability[unknown].tolist()) == {0.25}
    assert set(scores.prediction[unknown].tolist()) == {0}


def test_a_nul_is_read_as_in_texts_of_files(package):
    given, read = (package.score(pa.array([f"good{mark}day"])) for mark in ("\0", "\ufffd"))
    assert given.num_tokens.tolist() == read.num_tokens.tolist() == [2]
    assert given.probability.tolist() == read.probability.tolist()


def test_of_a_long_text_a_package_reads_both_ends(package, tmp_path):
    settings = package.settings.model_copy(update={"max_length": 4, "cut": "middle"})
    replace(package, settings=settings).save(str(tmp_path), lineage={})
    long, of_ends, of_start = ("good day bad good day bad", "good day day bad", "good day bad good")
    scores = ModelPackage.load(str(tmp_path)).score(pa.array([long, of_ends, of_start]))
    assert scores.probability[0] == scores.probability[1] != scores.probability[2]
    assert scores.lengths.tolist() == [6, 4, 4]


def test_a_package_is_used_without_heavy_modules_and_nothing_is_unpickled(saved):
    program = f"""
import sys
import pyarrow as pa
from sentiflow.models import package_files

words, vectors = package_files.read_vectors({saved!r})
assert vectors.shape == (len(words), 5)
assert not {{"torch", "ray", "mlflow", "pandas"}} & set(sys.modules), "words need no torch"

from sentiflow.models.package import ModelPackage

def refuse(event, arguments):
    assert not event.startswith("pickle."), arguments

sys.addaudithook(refuse)
scores = ModelPackage.load({saved!r}).score(pa.array(["good day", "unheard of"]))
assert scores.num_tokens.tolist() == [2, 0]
loaded = {{name.split(".")[0] for name in sys.modules}}
assert not loaded & {{"ray", "mlflow", "sympy"}}, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PROJECT)


def test_a_temperature_draws_probabilities_to_the_middle_and_changes_no_label(package):
    calm = replace(package, settings=package.settings.model_copy(update={"temperature": 4.0}))
    texts = pa.array([text for text in TEXTS if text.strip()])
    before = package.score(texts)
    after = calm.score(texts)
    known = before.num_tokens > 0
    logits = [np.log(s.probability / (1 - s.probability))[known] for s in (before, after)]
    np.testing.assert_allclose(logits[1], logits[0] / 4, atol=1e-5)
    assert after.prediction.tolist() == before.prediction.tolist()


def test_the_manifest_describes_the_package(package, tmp_path):
    reference = package.score(pa.array(TEXTS)).profile()
    record = package.save(
        str(tmp_path / "model"),
        lineage={"training": {"uri": "/t", "fingerprint": "f00d"}},
        metrics={"validation/accuracy": 0.8},
        reference=reference,
    )
    assert record["inputs"]["training"]["fingerprint"] == "f00d"
    assert record["metrics"] == {"validation/accuracy": 0.8}
    assert Profile.from_json(json.loads(json.dumps(record))["reference"]) == reference


def test_a_package_of_several_classes_answers_with_each(tmp_path):
    classes = ("good", "bad", "none", "mixed")
    new_package(classes=classes).save(str(tmp_path / "model"), lineage={})
    scores = ModelPackage.load(str(tmp_path / "model")).score(pa.array(TEXTS))
    assert scores.classes == classes
    assert scores.probability is None
    assert scores.probabilities.shape == (len(TEXTS), 4)
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(scores.probabilities[1], [0.25] * 4)
    assert scores.prediction.tolist() == scores.probabilities.argmax(axis=1).tolist()
    assert sum(scores.profile().predicted.values()) == scores.profile().rows == len(TEXTS)


def test_the_second_of_two_classes_is_predicted_at_one_half():
    scores = Scores(
        np.array([[0.5, 0.5], [0.6, 0.4]], np.float32), ("no", "yes"), *np.zeros((3, 2), np.int64)
    )
    assert scores.prediction.tolist() == [1, 0]


def test_an_average_is_not_saved_as_one_of_its_packages(package, tmp_path):
    average = replace(package, others=(new_package(seed=1),))
    with pytest.raises(AssertionError, match="average_files"):
        average.save(str(tmp_path), lineage={})
    assert not [*tmp_path.iterdir()]


def test_a_package_whose_linear_model_has_no_share_or_is_missing_is_not_saved(package, tmp_path):
    bias = np.zeros(2, np.float32)
    linear = LinearModel(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), bias[:0], bias)
    without = package.settings.model_copy(update={"linear_weight": 0.5})
    for faulty in (replace(package, linear=linear), replace(package, settings=without)):
        with pytest.raises(AssertionError, match="only a linear model has a share"):
            faulty.save(str(tmp_path), lineage={})
