import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from sentiflow import models, vocabulary
from sentiflow.errors import UserError
from sentiflow.model_package import ModelPackage, PackageSettings
from sentiflow.sections import ModelSettings
from sentiflow.tokenizer import TOKENIZERS

TEXTS = ["good good morning", "", "bad", "unheard of", "good bad day", " ", "morning " * 200]


@pytest.fixture
def package() -> ModelPackage:
    torch.manual_seed(0)
    counts = pa.table({"word": ["good", "bad", "morning", "day"], "count": [9, 8, 7, 6]})
    words = vocabulary.fit([counts], min_count=1, max_size=None)
    model = ModelSettings(hidden_size=6)
    network = models.build(model.model_dump(), vocabulary_size=len(words), embedding_dim=5)
    settings = PackageSettings(
        model=model,
        embedding_dim=5,
        tokenizer="tweet",
        tokenizer_version=TOKENIZERS["tweet"][0],
        max_length=20,
        prior=0.25,
    )
    return ModelPackage(network.eval(), words, settings)


@pytest.fixture
def saved(package, tmp_path) -> str:
    package.save(str(tmp_path / "model"), lineage={})
    return str(tmp_path / "model")


def test_load_of_save_scores_bit_for_bit_the_same(package, saved):
    before, after = package.score(pa.array(TEXTS)), ModelPackage.load(saved).score(pa.array(TEXTS))
    np.testing.assert_array_equal(before.probability, after.probability)
    np.testing.assert_array_equal(before.num_tokens, after.num_tokens)


def test_a_text_without_a_known_word_gets_the_prior(package):
    scores = package.score(pa.array(TEXTS))
    unknown = scores.num_tokens == 0
    assert unknown.tolist() == [False, True, False, True, False, True, False]
    assert set(scores.probability[unknown].tolist()) == {0.25}
    assert set(scores.prediction[unknown].tolist()) == {0}


def test_a_text_scores_the_same_alone_and_in_any_batch(package):
    together = package.score(pa.array(TEXTS), batch_size=2).probability
    alone = np.concatenate([package.score(pa.array([text])).probability for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_other_weights_are_another_model(package, tmp_path):
    first = package.save(str(tmp_path / "first"), lineage={})
    again = package.save(str(tmp_path / "again"), lineage={})
    with torch.no_grad():
        package.network.output.bias += 1e-3
    other = package.save(str(tmp_path / "other"), lineage={})
    assert first["fingerprint"] == again["fingerprint"] != other["fingerprint"]


def test_no_texts_give_no_scores(package):
    assert len(package.score(pa.array([], pa.string())).probability) == 0


def test_a_missing_manifest_is_refused(saved):
    (path := f"{saved}/manifest.json") and shutil.move(path, f"{saved}/other.json")
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        ModelPackage.load(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "vocabulary.parquet", "settings.json"])
def test_one_flipped_byte_is_refused(saved, name):
    path = f"{saved}/{name}"
    with open(path, "r+b") as file:
        file.seek(40)
        byte = file.read(1)
        file.seek(40)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(UserError, match=f"{name} is not the file that was saved"):
        ModelPackage.load(saved)


def test_a_missing_file_is_refused(saved):
    shutil.move(f"{saved}/weights.safetensors", f"{saved}/away")
    with pytest.raises(UserError, match=r"weights\.safetensors is missing"):
        ModelPackage.load(saved)


def test_a_tokenizer_of_another_version_is_refused(package, tmp_path):
    other = replace(package, settings=package.settings.model_copy(update={"tokenizer_version": 99}))
    other.save(str(tmp_path / "other"), lineage={})
    with pytest.raises(UserError, match="needs tokenizer tweet version 99"):
        ModelPackage.load(str(tmp_path / "other"))


def test_a_newer_format_is_refused(saved):
    path = f"{saved}/manifest.json"
    with open(path) as file:
        record = json.load(file)
    with open(path, "w") as file:
        json.dump(record | {"format_version": 99}, file)
    with pytest.raises(UserError, match="newer sentiflow"):
        ModelPackage.load(saved)
