"""Model packages of earlier formats are read, checked as strictly, and answer as they did."""
# ruff: noqa: F811 -- fixtures are imported

import hashlib
import itertools
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hostile_run import MISSING, set_up
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_package import forge
from test_cli import invoke, one_line
from test_format_3 import FORMAT_3, earlier  # noqa: F401
from test_hostile_packages import (
    KINDS,
    NUMBERS,
    PATHS,
    TEXTS,
    TYPES,
    check_ended_well,
    put_each,
)

import sentiflow as package
from sentiflow.config.train_sections import RnnSettings
from sentiflow.data import lineage, manifest
from sentiflow.errors import UserError
from sentiflow.models import average_files, earlier_formats, package_files
from sentiflow.models.package import ModelPackage

EARLIER = Path(__file__).parent / "earlier_formats"
PACKAGES = {
    "format_1": "format_1",
    "format_2": "format_2",
    "format_2_0": "format_2/members/0",
    "format_2_1": "format_2/members/1",
    "tokenizer_3": "tokenizer_3",
}
"""The folder of each model, by the prefix of its columns in the answers."""
SINGLE = ["format_1", "format_2/members/0", "format_2/members/1", "tokenizer_3"]
"""The packages that are no average."""


def read_answers(name: str) -> tuple[pd.Series, pd.DataFrame]:
    """Return the texts, and what a model has answered when it was made."""
    answers = pd.read_parquet(EARLIER / "answers.parquet")
    columns = answers.filter(regex=rf"^{name}\.")
    return answers["text"], columns.rename(columns=lambda key: key.split(".")[1])


def check_answers(model: Any, name: str) -> None:
    """Check that a model answers as it did when it was made."""
    texts, expected = read_answers(name)
    predicted = model.predict(texts)
    assert len(predicted) == 300
    np.testing.assert_allclose(predicted[list(expected)], expected, rtol=0, atol=1e-6)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy the packages to a directory where they may be changed."""
    return shutil.copytree(EARLIER, tmp_path / "earlier")


@pytest.fixture
def saved(copied: Path) -> str:
    """Copy the package of format 1."""
    return str(copied / "format_1")


# Answers


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_of_an_earlier_format_answers_as_it_did(name):
    check_answers(package.load_model(EARLIER / PACKAGES[name]), name)


def test_an_average_may_have_packages_of_several_formats(tmp_path):
    uris = [str(EARLIER / "tokenizer_3"), str(EARLIER / "format_2/members/0")]
    members = []
    for uri in uris:
        record = manifest.require(uri, stage="model", setting="a model")
        members.append(package_files.to_input(uri, record))
    to = str(tmp_path / "average")
    average_files.save(average_files.describe(members, uri=to, setting="models"), uris, to=to)

    texts, first = read_answers("tokenizer_3")
    _, second = read_answers("format_2_0")
    columns = [name for name in first if name.startswith("probability")]
    predicted = package.load_model(to).predict(texts)
    expected = (first[columns] + second[columns]) / 2
    np.testing.assert_allclose(predicted[columns], expected, rtol=0, atol=1e-6)


@pytest.mark.ray
@pytest.mark.slow
def test_a_package_of_an_earlier_format_scores_a_corpus(earlier, resources):
    model = EARLIER / "format_1"
    result = invoke("score", "reviews.yaml", f"score.model_uri={model}", "score.output_uri=again")
    assert result.exit_code == 0, result.output
    texts = pd.read_parquet(earlier / "run/prepared/tweets", columns=["row_id", "text"])
    scored = package.read_predictions(str(earlier / "again")).merge(texts, on="row_id")
    assert len(scored) == 998
    expected = package.load_model(model).predict(scored["text"])
    np.testing.assert_allclose(scored["probability"], expected["probability"], rtol=0, atol=1e-6)


# Commands


@pytest.mark.parametrize("folder", PACKAGES.values())
def test_a_package_of_an_earlier_format_has_a_card(folder, tmp_path):
    result = invoke("card", str(EARLIER / folder), "--output", str(tmp_path / "card.md"))
    assert result.exit_code == 0, result.output
    assert "tokenizer tweet" in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize("folder", SINGLE)
def test_the_words_of_a_package_of_an_earlier_format_are_read(folder):
    result = invoke("words", "nearest", "film", "--vectors", str(EARLIER / folder))
    assert result.exit_code == 0, result.output


def test_no_training_starts_from_layers_that_no_training_has(earlier):
    command = ("train", "reviews.yaml", "--dry-run", "train.output_uri=new")
    result = invoke(*command, f"train.init_from={EARLIER / 'format_1'}")
    assert result.exit_code == 2, result.output
    assert "is of an earlier version (2 layers, n-grams up to 2)" in result.stderr
    assert "train.distill.teachers" in result.stderr


def test_a_training_in_an_earlier_format_has_a_package_that_is_read(copied):
    run = copied / "run"
    shutil.move(copied / "format_1", run / "trained/model")
    record = json.loads((run / "trained/model/manifest.json").read_text())
    (run / "trained/manifest.json").write_text(json.dumps(record | {"stage": "train"}))
    for place in (run, run / "trained", run / "trained/model"):
        check_answers(package.load_model(place), "format_1")
    line = one_line(invoke("tracking", "import", str(run)))
    assert "was made by sentiflow 0.1.0 in manifest format 1" in line


# Settings


def read_settings(**changes: Any) -> dict[str, Any]:
    """Return the settings of the package of format 1, with some changed."""
    return json.loads((EARLIER / "format_1/settings.json").read_text()) | changes


def test_the_settings_of_format_1_are_converted():
    converted = earlier_formats.convert_settings(read_settings(prior=0.25))
    assert converted["classes"] == ["negative", "positive"]
    assert converted["priors"] == [0.75, 0.25]
    assert converted["earlier_layers"] == {"num_layers": 2, "ngrams": 2, "ngram_buckets": 256}
    RnnSettings.model_validate(converted["model"])
    assert earlier_formats.convert_settings(converted) == converted


def test_settings_without_earlier_layers_have_none():
    raw = json.loads((EARLIER / "format_2/members/1/settings.json").read_text())
    assert raw["model"]["ngrams"] == 0
    assert "earlier_layers" not in earlier_formats.convert_settings(raw)


@pytest.mark.parametrize("name", ["run/trained/model", "average/scored/model"])
def test_settings_of_this_version_stay_as_they_are(name):
    folder = FORMAT_3 / name
    record = manifest.require(str(folder), stage="model", setting="the model")
    described = package_files.to_input(str(folder), record)
    assert json.dumps(described["settings"]) == json.dumps(record["settings"])


@pytest.mark.parametrize("folder", PACKAGES.values())
def test_a_model_is_described_by_settings_of_this_version(folder):
    uri = str(EARLIER / folder)
    record = manifest.require(uri, stage="model", setting="the model")
    model = package_files.to_input(uri, record)
    assert set(package_files.classes_of(model)) in (
        {"negative", "positive"},
        {"bad", "fine", "good"},
    )
    about = lineage.describe_model(model["settings"])
    has_earlier_layers = folder not in ("format_2/members/1", "tokenizer_3")
    assert ("layers of an earlier version" in about) == has_earlier_layers


# Packages that are not whole, or were forged


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"prior": 1.5}, "prior: must be a number from 0 to 1"),
        ({"prior": "half"}, "prior: must be a number from 0 to 1"),
        ({"labels": ["good", "bad"]}, "labels: must be negative and positive"),
        ({"labels": None}, "labels: must be negative and positive"),
        ({"model": {"num_layers": 99}}, "earlier_layers.num_layers: "),
        ({"model": {"num_layers": "many"}}, "earlier_layers.num_layers: "),
        ({"model": {"ngrams": -1}}, "earlier_layers.ngrams: "),
        ({"model": {"ngrams": 2, "ngram_buckets": 1 << 40}}, "earlier_layers.ngram_buckets: "),
        ({"model": {"ngrams": 2, "ngram_buckets": 1 << 24}}, "does not fit settings.json: "),
        ({"model": {"ngrams": 2, "hidden_size": 10**9}}, "does not fit settings.json: "),
        ({"model": {"kind": "bag_of_embeddings", "num_layers": 3}}, "does not fit settings.json: "),
        ({"invented": 1}, "invented: Extra inputs"),
        ({"tokenizer_version": 1}, "needs tokenizer 'tweet' version 1"),
        ({"tokenizer_version": 5}, "needs tokenizer 'tweet' version 5"),
        ({"tokenizer": "tutorial"}, "needs tokenizer 'tutorial' version 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(saved, changes, problem):
    forge(saved, settings=json.dumps(read_settings(**changes)).encode())
    with pytest.raises(UserError, match=problem):
        ModelPackage.load(saved)


def test_a_tokenizer_that_is_gone_is_told_with_the_version_that_made_the_model(saved):
    forge(saved, settings=json.dumps(read_settings(tokenizer_version=1)).encode())
    with pytest.raises(UserError, match=r"it was made by sentiflow 0\.1\.0, this is sentiflow"):
        ModelPackage.load(saved)


def change_weights(folder: str, **changes: torch.Tensor | None) -> bytes:
    """Write the weights of a package, with some replaced; None leaves one out."""
    weights = safetensors.torch.load((EARLIER / folder / "weights.safetensors").read_bytes())
    weights |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return safetensors.torch.save({k: v for k, v in weights.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ngrams__bias": None}, 'Missing key.*"ngrams.bias"'),
        ({"ngrams__weights__weight": torch.zeros(9, 2)}, "size mismatch for ngrams.weights.weight"),
        ({"ngrams__keys": torch.zeros(3, dtype=torch.int64)}, "size mismatch for ngrams.keys"),
        ({"ngrams__keys": torch.zeros(91)}, "has tensors that are not float32"),
        ({"ngrams__bias": torch.zeros(2).long()}, "has tensors that are not float32"),
        ({"forward_layers__2__bias_ih_l0": torch.zeros(18)}, "Unexpected key"),
        ({"linear__bias": torch.zeros(2)}, "it has a linear model, but linear_weight is 0"),
    ],
)
def test_tensors_that_are_not_those_of_the_network_are_refused(saved, changes, problem):
    forge(saved, weights=change_weights("format_1", **changes))
    with pytest.raises(UserError, match=problem):
        ModelPackage.load(saved)


def test_keys_of_ngrams_are_for_networks_with_ngrams(copied):
    saved = str(copied / "tokenizer_3")
    keys = torch.arange(91)
    forge(saved, weights=change_weights("tokenizer_3", ngrams__keys=keys))
    with pytest.raises(UserError, match=r'Unexpected key.*"ngrams\.keys"'):
        ModelPackage.load(saved)


def test_keys_that_are_the_ids_change_no_answer(saved):
    num_words = read_settings()["vocabulary_size"]
    keys = torch.arange(num_words)
    forge(saved, weights=change_weights("format_1", ngrams__keys=keys))
    check_answers(package.load_model(saved), "format_1")

    forge(saved, weights=change_weights("format_1", ngrams__keys=keys.flip(0).contiguous()))
    with pytest.raises(AssertionError):
        check_answers(package.load_model(saved), "format_1")


def test_a_pickle_in_place_of_the_weights_is_refused_and_not_read(saved, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.mkdir, (tmp_path / "exploded",))

    forge(saved, weights=pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"weights\.safetensors is not a safetensors file"):
        ModelPackage.load(saved)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("folder", SINGLE)
@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "f00d"},
        {"format_version": 1},
        {"format_version": 2},
        {"format_version": 3},
        {"settings": {"classes": ["bad", "good"]}},
    ],
    ids=str,
)
def test_a_manifest_of_another_package_is_refused(copied, folder, change):
    path = copied / folder / "manifest.json"
    record = json.loads(path.read_text())
    changed = record | change
    if changed == record:
        return
    path.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"the fingerprint of another model|cannot be read: "):
        ModelPackage.load(str(copied / folder))


@pytest.mark.parametrize("name", ["settings.json", "vocabulary.parquet", "weights.safetensors"])
def test_a_changed_file_of_an_average_is_refused(copied, name):
    path = copied / "format_2/members/1" / name
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is not the file that was saved"):
        ModelPackage.load(str(copied / "format_2"))


def test_an_average_of_other_packages_is_refused(copied):
    members = copied / "format_2/members"
    (members / "0").rename(copied / "aside")
    shutil.copytree(members / "1", members / "0")
    top = copied / "format_2/manifest.json"
    record = json.loads(top.read_text())
    for item in record["files"]:
        item["bytes"] = (copied / "format_2" / item["path"]).stat().st_size
    top.write_text(json.dumps(record))
    with pytest.raises(UserError, match="holds other models than its manifest says"):
        ModelPackage.load(str(copied / "format_2"))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_package_with_any_changed_byte_is_refused_or_answers_as_it_did(copied, data):
    folder = data.draw(st.sampled_from(["format_1", "format_2"]))
    files = sorted(path for path in (copied / folder).rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    content = bytearray(before)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        check_answers(package.load_model(copied / folder), folder)
        assert path.name == "manifest.json" or bytes(content) == before
    except UserError:
        pass
    finally:
        path.write_bytes(before)


def look_at(folder: Path) -> dict[str, str]:
    """Return the hash of each file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_nothing_is_written_by_reading(copied):
    before = look_at(copied)
    for name, folder in PACKAGES.items():
        check_answers(package.load_model(copied / folder), name)
    assert look_at(copied) == before


EARLIER_SETTINGS = {
    f"{key}={name}": set_up(**{key: value})
    for key in ("prior", "labels", "classes", "priors", "model", "earlier_layers", "tokenizer")
    for name, value in (*KINDS.items(), ("NaN", float("nan")), ("long", "a" * 5000))
    if value != MISSING
}
"""Changes of settings that are converted."""
OF_MANIFESTS = TYPES | put_each(PATHS, "files.0.path")
"""Changes of the manifest of a package or an average."""


def list_hostile_cases() -> list[Any]:
    """Pair hostile changes with packages and commands."""
    of_packages = NUMBERS | TEXTS | OF_MANIFESTS | EARLIER_SETTINGS
    changes = [
        *itertools.product(of_packages.items(), ("format_1", "format_2/members/0")),
        *itertools.product(OF_MANIFESTS.items(), ("format_2",)),
    ]
    cases = []
    for number, (((name, change), folder), command) in enumerate(
        itertools.product(changes, ("predict", "card"))
    ):
        marks = [pytest.mark.soak] if number % 9 else []
        case = pytest.param(change, folder, command, id=f"{name}-{folder}-{command}", marks=marks)
        cases.append(case)
    return cases


@pytest.mark.parametrize(("change", "folder", "command"), list_hostile_cases())
def test_a_hostile_package_of_an_earlier_format_changes_nothing(
    copied, tmp_path, monkeypatch, change, folder, command
):
    place = copied / folder
    change(None, place)
    before = look_at(copied)
    monkeypatch.chdir(tmp_path)  # the card is written here
    arguments = ["good"] if command == "predict" else []
    check_ended_well(invoke(command, str(place), *arguments))
    assert look_at(copied) == before
