"""A package that is not whole, or was forged, is refused before anything in it is used."""
# ruff: noqa: F811 -- fixtures are imported

import io
import json
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_package import flip_a_byte, forge, package, saved, weights_with  # noqa: F401

from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.models.golden_texts import GOLDEN
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_files import FILES
from sentiflow.storage import filesystem, parquet

TEXTS = ["good good morning", "", "unheard of", "good bad day"]


def test_a_tokenizer_of_another_version_is_refused(package, saved):
    settings = package.settings.model_copy(update={"tokenizer_version": 99})
    forge(saved, settings=settings.model_dump_json().encode())
    with pytest.raises(UserError, match=r"needs tokenizer .tweet. version 99"):
        ModelPackage.load(saved)


# Files that were changed together with their checksums


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"output__bias": None}, r'does not fit settings\.json: .*Missing key.*"output\.bias"'),
        ({"spare": torch.zeros(1)}, 'Unexpected key.*"spare"'),
        (
            {"output__bias": torch.zeros(3)},
            r"size mismatch for output\.bias: \(3,\), expected \(2,\)",
        ),
        (
            {"output__bias": torch.zeros(2).half()},
            r"weights\.safetensors has tensors that are not float32",
        ),
        (
            {"linear__bias": torch.zeros(2)},
            r"does not fit settings\.json: it has a linear model, but linear_weight is 0",
        ),
    ],
)
def test_tensors_that_are_not_those_of_the_network_are_refused(package, saved, changes, problem):
    forge(saved, weights=weights_with(package, **changes))
    with pytest.raises(UserError, match=problem):
        ModelPackage.load(saved)


def test_a_pickle_in_place_of_the_weights_is_refused_and_not_read(saved, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    for content in (pickle.dumps(Bomb()), zipped_pickle(Bomb())):
        forge(saved, weights=content)
        with pytest.raises(UserError, match=r"weights\.safetensors is not a safetensors file"):
            ModelPackage.load(saved)
    assert not (tmp_path / "exploded").exists()


def zipped_pickle(value):
    """Save a value as ``torch.save`` does."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["model.pkl", "code/__init__.py", "weights.bin"])
def test_a_file_that_is_no_part_of_a_package_is_refused(saved, name):
    filesystem.write_bytes(f"{saved}/{name}", b"import os")
    with pytest.raises(UserError, match=f"{name} is not part of a model package: move it away"):
        ModelPackage.load(saved)


def test_a_vocabulary_of_another_size_is_refused(package, saved):
    words = replace(package.vocabulary, words=package.vocabulary.words[:-1],
                    counts=package.vocabulary.counts[:-1])  # fmt: skip
    forge(saved, vocabulary=parquet.to_bytes(words.to_table()))
    with pytest.raises(UserError, match="a vocabulary of 5 words for a network of 6"):
        ModelPackage.load(saved)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (None, "is not a vocabulary"),
        ({"other": ["good"]}, "is not a vocabulary"),
        ({"id": [0], "word": [1.5], "count": [{"a": 1}]}, "is not a vocabulary"),
        ({"id": [0, 1], "word": ["good", "bad"], "count": [1, 1]}, "does not begin with <pad>"),
    ],
)
def test_a_file_that_is_not_a_vocabulary_is_refused(saved, columns, problem):
    content = b"not Parquet"
    if columns is not None:
        parquet.write(f"{saved}/vocabulary.parquet", pa.table(columns))
        content = filesystem.read_bytes(f"{saved}/vocabulary.parquet")
    forge(saved, vocabulary=content)
    with pytest.raises(UserError, match=rf"vocabulary\.parquet {problem}"):
        ModelPackage.load(saved)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"invented": 1},
            r"settings\.json cannot be read: invented: Extra inputs .* needs a newer sentiflow",
        ),
        ({"temperature": 0}, r"settings\.json cannot be read: temperature: "),
        (
            {"unsure": {"max_error": 0.05, "threshold": 1.5}},
            r"settings\.json cannot be read: unsure\.threshold: ",
        ),
        ({"unsure": {"threshold": 0.5}}, r"settings\.json cannot be read: unsure\.max_error: "),
        ({"unsure": 0.5}, r"settings\.json cannot be read: unsure: "),
        ({"temperature": 1e-320}, r"settings\.json cannot be read: temperature: "),
        ({"vocabulary_size": 10**12}, r"settings\.json cannot be read: vocabulary_size: "),
        ({"max_length": "many"}, r"settings\.json cannot be read: max_length: "),
        ({"model": {"cell": "transformer"}}, r"settings\.json cannot be read: model\.rnn\.cell: "),
        ({"vocabulary_size": "many"}, r"settings\.json cannot be read: vocabulary_size: "),
        ({"priors": [1.5, 0.5]}, r"settings\.json cannot be read: priors\.0: "),
        (
            {"priors": [1.0]},
            r"settings\.json cannot be read: .*priors: must have a number for each class",
        ),
        (
            {"classes": ["good", "good"]},
            r"settings\.json cannot be read: .*'good' and 'good' name one class",
        ),
        (
            {"classes": ["good", "\x1b[2Jbad"]},
            r"settings\.json cannot be read: .*must be printable",
        ),
        (
            {"linear_weight": 0.5},
            r'weights\.safetensors does not fit settings\.json: Missing key "linear\.hashes"',
        ),
        ({"embedding_dim": 10**9}, r"weights\.safetensors does not fit settings\.json: "),
        ({"model": {"hidden_size": 10**9}}, r"weights\.safetensors does not fit settings\.json: "),
        ({"model": {"hidden_size": 10**20}}, r"weights\.safetensors does not fit settings\.json: "),
    ],
)
def test_settings_that_cannot_be_are_refused(saved, change, problem):
    with open(f"{saved}/settings.json") as file:
        raw = json.load(file)
    forge(saved, settings=json.dumps(raw | change).encode())
    with pytest.raises(UserError, match=problem):
        ModelPackage.load(saved)


def other_path(record):
    record["files"][0]["path"] = "../secret.txt"


def other_settings(record):
    record["settings"]["classes"] = ["good", "bad"]
    record["fingerprint"] = manifest.identify("model", record["settings"], record["inputs"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (other_path, r"lists '\.\./secret\.txt', which is no path below its directory"),
        (other_settings, "has other settings than its manifest says"),
        (lambda record: record.update(fingerprint="f00d"), "has the fingerprint of another model"),
        (
            lambda record: record["inputs"].update(content={"fingerprint": "f00d"}),
            "has the fingerprint of another model",
        ),
    ],
)
def test_a_manifest_of_another_package_is_refused(saved, change, problem):
    record = json.loads(filesystem.read_bytes(f"{saved}/manifest.json"))
    change(record)
    filesystem.write_bytes(f"{saved}/manifest.json", json.dumps(record).encode())
    with pytest.raises(UserError, match=problem):
        ModelPackage.load(saved)


@pytest.mark.parametrize("name", [*FILES, GOLDEN])
def test_a_file_that_is_a_link_is_refused(saved, tmp_path, name):
    shutil.move(f"{saved}/{name}", tmp_path / "outside")
    os.symlink(tmp_path / "outside", f"{saved}/{name}")
    with pytest.raises(UserError, match=f"{name} is missing or damaged"):
        ModelPackage.load(saved)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_package_with_any_changed_byte_is_refused_or_predicts_as_before(package, saved, data):
    name = data.draw(st.sampled_from([*FILES, "manifest.json"]))
    content = bytearray(filesystem.read_bytes(f"{saved}/{name}"))
    place = data.draw(st.integers(0, len(content) - 1))
    before = content[place]
    content[place] = data.draw(st.integers(0, 255))
    filesystem.write_bytes(f"{saved}/{name}", bytes(content))
    try:
        scores = ModelPackage.load(saved).score(pa.array(TEXTS))
        assert name == "manifest.json" or content[place] == before
        np.testing.assert_array_equal(
            scores.probability, package.score(pa.array(TEXTS)).probability
        )
    except UserError:
        pass
    finally:
        content[place] = before
        filesystem.write_bytes(f"{saved}/{name}", bytes(content))


def test_the_vectors_are_the_embedding_without_padding_and_unknown(package, saved):
    words, vectors = package_files.read_vectors(saved)
    assert words.to_pylist() == ["good", "bad", "morning", "day"]
    trained = package.network.embedding.weight.detach().numpy()
    np.testing.assert_array_equal(vectors, trained[2:])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"embedding__weight": None}, "weights.safetensors holds no word vectors"),
        ({"embedding__weight": torch.zeros(6, 4)}, "holds no vectors of 6 words"),
        ({"embedding__weight": torch.zeros(6, 5).half()}, "holds no vectors of 6 words"),
    ],
)
def test_weights_without_the_vectors_of_the_words_are_refused(package, saved, changes, problem):
    forge(saved, weights=weights_with(package, **changes))
    with pytest.raises(UserError, match=problem):
        package_files.read_vectors(saved)


def test_weights_that_are_no_safetensors_file_are_refused(saved):
    forge(saved, weights=b"\x80\x04.")
    with pytest.raises(UserError, match="holds no word vectors: the model package is damaged"):
        package_files.read_vectors(saved)
