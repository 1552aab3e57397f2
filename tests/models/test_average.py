"""An average is the mean of what its packages say, in memory, saved, and by the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import new_package
from test_cli import invoke

import sentiflow
from sentiflow.config.train_sections import RnnSettings
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.models import average_files, package_files, package_settings, vocabulary
from sentiflow.models.package import ModelPackage
from sentiflow.tracking import model_sources
from sentiflow.tracking import packages as loaded
from sentiflow.training import initial_model

TEXTS = [
    "good good morning",
    "",
    "bad",
    "unheard of",
    "good bad day",
    "night good",
    "morning " * 50,
]
THREE = ("negative", "positive", "neutral")


def of_words(package: ModelPackage, *words: str) -> ModelPackage:
    """Give a package another vocabulary of the same size."""
    counts = pa.table({"word": words, "count": range(len(words), 0, -1)})
    return replace(package, vocabulary=vocabulary.fit(counts, min_count=1, max_size=None))


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> list[str]:
    """Save packages of three classes: two of one vocabulary, and one that has another of each."""
    folder = tmp_path_factory.mktemp("packages")
    other = new_package(seed=3, classes=("neutral", "negative", "positive"))
    made = [new_package(seed=1, classes=THREE), of_words(other, "night", "good", "a", "morning")]
    made.append(new_package(seed=2, classes=THREE))
    for number, package in enumerate(made):
        package.save(str(folder / f"m{number}"), lineage={})
    return [str(folder / f"m{number}") for number in range(3)]


def save(uris: list[str], to: str) -> ModelPackage:
    """Save the average of packages, and load it."""
    model = model_sources.describe(uris, tracking=None, to=to)
    average_files.save(model, uris, to=to)
    return ModelPackage.load(to)


@pytest.fixture
def saved(packages, tmp_path) -> str:
    save(packages, str(tmp_path / "average"))
    return str(tmp_path / "average")


def mean_of(uris: list[str], classes: tuple[str, ...] = THREE) -> np.ndarray:
    """Average the probabilities of packages by the names of the classes."""
    found = [ModelPackage.load(uri).score(pa.array(TEXTS)) for uri in uris]
    columns = [
        np.mean([f.probabilities[:, f.classes.index(name)] for f in found], axis=0)
        for name in classes
    ]
    return np.stack(columns, axis=1)


def test_the_probabilities_are_the_mean_by_class_name_and_the_words_those_of_any(packages, saved):
    for model in (loaded.load(packages), ModelPackage.load(saved)):
        scores = model.score(pa.array(TEXTS))
        assert scores.classes == THREE
        np.testing.assert_allclose(scores.probabilities, mean_of(packages), atol=1e-6)
        each = [ModelPackage.load(uri).score(pa.array(TEXTS)).num_tokens for uri in packages]
        assert scores.num_tokens.tolist() == np.max(each, axis=0).tolist()
        assert scores.num_tokens[5] == 2 > each[0][5], "night is a word of the second only"


def test_packages_of_one_vocabulary_encode_a_text_once(packages, monkeypatch):
    model = loaded.load(packages)
    encoded = []
    encode = ModelPackage.read

    def encode_and_note(self, text):
        encoded.append(self)
        return encode(self, text)

    monkeypatch.setattr(ModelPackage, "read", encode_and_note)
    model.score(pa.array(TEXTS))
    assert len(encoded) == 2


def test_a_saved_average_is_the_one_described_wherever_it_and_its_members_are(packages, saved):
    described = model_sources.describe(packages, tracking=None, to="/elsewhere")
    there = model_sources.describe(saved, tracking=None)
    assert there | {"uri": "/elsewhere"} == described
    assert [member["uri"] for member in there["members"]] == packages
    swapped = model_sources.describe(packages[::-1], tracking=None)
    assert swapped["fingerprint"] != described["fingerprint"]


def test_an_average_promises_nothing_where_its_models_do(packages, tmp_path):
    promising = []
    rule = {"max_error": 0.05, "threshold": 0.5}
    for number, uri in enumerate(packages[:2]):
        package = ModelPackage.load(uri)
        settings = package_settings.PackageSettings.model_validate(
            package.settings.model_dump() | {"unsure": rule}
        )
        promising.append(str(tmp_path / f"p{number}"))
        replace(package, settings=settings).save(promising[-1], lineage={})
        assert "unsure" in sentiflow.load_model(promising[-1], device="cpu").predict("good")
    in_memory = sentiflow.load_model(promising, device="cpu").package
    saved = save(promising, str(tmp_path / "average"))
    for model in (in_memory, saved):
        assert model.score(pa.array(TEXTS)).unsure is None
    assert "unsure" not in manifest.read(str(tmp_path / "average"))["settings"]


def test_a_list_of_one_is_that_model(packages):
    alone = sentiflow.load_model([packages[0]], device="cpu")
    assert alone.uri == packages[0]
    assert alone.package.settings == ModelPackage.load(packages[0]).settings
    np.testing.assert_array_equal(alone.predict_proba(TEXTS), mean_of(packages[:1]))


def test_python_and_predict_take_a_list(packages, saved):
    model = sentiflow.load_model(packages, device="cpu")
    np.testing.assert_allclose(model.predict_proba(TEXTS), mean_of(packages), atol=1e-6)
    assert repr(model).count("m1") == 1
    for name in (f"[{', '.join(packages)}]", saved):
        result = invoke("predict", name, "good day", "--json")
        assert result.exit_code == 0, result.output
        answer = json.loads(result.stdout)
        expected = model.predict(["good day"]).iloc[0]
        assert answer["probability_neutral"] == pytest.approx(expected["probability_neutral"])
    refused = invoke("predict", f"[{packages[0]}, {packages[0]}]", "good")
    assert refused.exit_code == 2
    assert "the list of models names a model twice" in refused.stderr
    assert invoke("predict", "[]", "good").exit_code == 2


def test_models_of_other_classes_have_no_average(packages, tmp_path):
    two = str(tmp_path / "two")
    new_package().save(two, lineage={})
    with pytest.raises(UserError) as error:
        loaded.load([packages[0], two])
    said = str(error.value)
    assert f"{packages[0]} has the classes negative, positive, neutral, but {two} has " in said
    assert "negative, positive: only models of the same classes have an average" in said


def test_an_average_is_no_member_of_another_and_no_network_to_start_from(packages, saved):
    for refused in (
        lambda: model_sources.describe([packages[0], saved], tracking=None),
        lambda: package_files.read_vectors(saved),
        lambda: initial_model.check(
            model_sources.describe(saved, tracking=None), RnnSettings(), THREE, unit=None
        ),
    ):
        with pytest.raises(UserError, match=f"{saved} is an average of 3 models: name one of them"):
            refused()
    assert ModelPackage.load(f"{saved}/members/1").settings.classes[0] == "neutral"


@pytest.mark.parametrize("damage", ["other member", "member gone", "file changed", "unlisted"])
def test_an_average_whose_members_were_changed_is_refused(packages, saved, damage):
    if damage == "other member":
        shutil.copytree(packages[0], f"{saved}/members/2", dirs_exist_ok=True)
    if damage == "member gone":
        shutil.rmtree(f"{saved}/members/2")
    if damage == "file changed":
        with open(f"{saved}/members/2/weights.safetensors", "ab") as file:
            file.write(b" ")
    if damage == "unlisted":
        path = Path(saved, "manifest.json")
        record = json.loads(path.read_text())
        record["files"][0]["path"] = "../../elsewhere"
        path.write_text(json.dumps(record))
    with pytest.raises(UserError):
        ModelPackage.load(saved)


def test_a_member_that_is_replaced_before_it_is_copied_is_not_averaged(packages, tmp_path):
    copy = shutil.copytree(packages[0], tmp_path / "copy")
    to = str(tmp_path / "average")
    model = model_sources.describe([packages[2], str(copy)], tracking=None, to=to)
    shutil.rmtree(copy)
    shutil.copytree(packages[1], copy)
    average_files.save(model, [packages[2], str(copy)], to=to)
    with pytest.raises(UserError, match="holds other models than its manifest says"):
        ModelPackage.load(to)
