"""Packages in a real MLflow: an SQLite store, and a server with artifacts behind it."""

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest
import yaml
from conftest import make_store
from mlflow.entities import LoggedModelOutput

from sentiflow.data import manifest
from sentiflow.errors import JobError, UserError
from sentiflow.models.package import ModelPackage
from sentiflow.storage import filesystem
from sentiflow.tracking import (
    experiment_store,
    logged_model,
    mlflow_store,
    model_registry,
    recording,
)
from sentiflow.tracking.logged_model import ARCHIVE, REQUIREMENTS
from sentiflow.tracking.model_registry import CANDIDATE, Version
from sentiflow.tracking.recorder import Recorder


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory) -> str:
    return make_store(tmp_path_factory.mktemp("sqlite"))


@dataclass(frozen=True)
class Registered:
    """A package that is version 1 of ``laws`` in a store."""

    uri: str
    package: str
    run_id: str

    def resolve(self) -> model_registry.ResolvedModel:
        return model_registry.resolve("models:/laws/1", tracking_uri=self.uri)


@pytest.fixture(scope="module")
def laws(sqlite, make_package) -> Registered:
    """Register a package in the SQLite store; tests only look at it."""
    return register_laws(make_package(), sqlite)


def register_laws(package: str, uri: str) -> Registered:
    version, run_id = register(package, uri)
    assert version == Version("laws", 1)
    return Registered(uri, package, run_id)


def open_run(uri: str) -> contextlib.AbstractContextManager[Recorder]:
    store = experiment_store.open_store(uri, experiment="laws", required=True)
    return recording.open_run(store, "train", group="0123abcd", tags={})


def register(package: str, uri: str, *, name: str = "laws") -> tuple[Version, str]:
    """Register a package from a run of its own; returns the version and the run."""
    with open_run(uri) as recorder:
        recorder.log_settings({"train": {"seed": 3}})
        assert recorder.store.flush()
        version = model_registry.register(
            package, name=name, tracking_uri=uri, run_id=recorder.run_id
        )
    return version, recorder.run_id


def read_files(folder: str) -> dict[str, bytes]:
    return {name: filesystem.read_bytes(f"{folder}/{name}") for name in filesystem.listing(folder)}


def check_it_comes_back(laws: Registered, folder: Path) -> None:
    """Find and download a registered package by any of its names."""
    (output,) = mlflow_store.make_client(laws.uri).get_run(laws.run_id).outputs.model_outputs
    versions = ["models:/laws@candidate", "models:/laws/1", "models:/laws/latest"]
    logged = [f"models:/{output.model_id}", f"runs:/{laws.run_id}/model"]
    for name in [*versions, *logged]:
        found = model_registry.resolve(name, tracking_uri=laws.uri)
        assert found.uri == ("models:/laws/1" if name in versions else name)
        assert found.record == json.loads(read_files(laws.package)["manifest.json"])
    model_registry.download(name, to=str(folder / "downloaded"), tracking_uri=laws.uri)
    assert read_files(str(folder / "downloaded")) == read_files(laws.package)


def check_a_download_that_fails_leaves_no_finished_package(
    laws: Registered, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = laws.resolve()
    files = [*found.record["files"], {"path": "zz"}]
    changed = found._replace(record=found.record | {"files": files})
    monkeypatch.setattr(model_registry, "resolve", lambda uri, tracking_uri: changed)
    with pytest.raises(JobError, match="cannot download models:/laws/"):
        model_registry.download("models:/laws/1", to=str(folder / "half"), tracking_uri=laws.uri)
    assert "settings.json" in read_files(str(folder / "half"))
    assert "manifest.json" not in read_files(str(folder / "half"))


def check_a_model_of_another_kind_is_refused(uri: str, folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other/MLmodel").write_text("flavors: {}\n")
    with open_run(uri) as recorder:
        client = mlflow_store.make_client(uri)
        run = client.get_run(recorder.run_id)
        model = client.create_logged_model(
            run.info.experiment_id, name="forest", source_run_id=recorder.run_id
        )
        client.log_model_artifacts(model.model_id, str(folder / "other"))
        client.log_outputs(recorder.run_id, [LoggedModelOutput(model.model_id, step=0)])
    with pytest.raises(
        UserError, match="is not a model of sentiflow: there is no model package in"
    ):
        model_registry.resolve(f"runs:/{recorder.run_id}/forest", tracking_uri=uri)
    with pytest.raises(UserError, match="has no model model"):
        model_registry.resolve(f"runs:/{recorder.run_id}/model", tracking_uri=uri)


def test_a_registered_package_comes_back_by_any_of_its_names(laws, tmp_path, monkeypatch):
    check_it_comes_back(laws, tmp_path)
    check_a_model_of_another_kind_is_refused(laws.uri, tmp_path)
    check_a_download_that_fails_leaves_no_finished_package(laws, tmp_path, monkeypatch)


def test_the_same_package_is_registered_once_and_another_becomes_the_candidate(
    sqlite, make_package, tmp_path
):
    first, _ = register(make_package(), sqlite, name="once")
    again, _ = register(make_package(str(tmp_path / "elsewhere")), sqlite, name="once")
    assert first == again == Version("once", 1)
    other, _ = register(make_package(seed=1), sqlite, name="once")
    assert other == Version("once", 2)
    assert model_registry.read_aliases("once", tracking_uri=sqlite) == {CANDIDATE: 2}
    register(make_package(), sqlite, name="once")
    assert model_registry.read_aliases("once", tracking_uri=sqlite) == {CANDIDATE: 1}


def test_mlflow_knows_the_version_by_its_run_model_and_package(laws):
    client = mlflow_store.make_client(laws.uri)
    found = client.get_model_version("laws", "1")
    assert found.run_id == laws.run_id
    assert found.tags == {"sentiflow.fingerprint": laws.resolve().record["fingerprint"]}
    (output,) = client.get_run(laws.run_id).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, model.status) == ("model", "READY")
    assert model.params == {"train.seed": "3"}
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "laws", "version": "1"}]


def test_the_logged_model_has_signature_example_pins_and_code_and_no_pickle(laws):
    root = Path(laws.resolve().source)
    signature = yaml.safe_load((root / "MLmodel").read_text())["signature"]
    assert json.loads(signature["inputs"]) == [{"type": "string", "required": True}]
    (answer,) = json.loads(signature["outputs"])
    assert {name: kind["type"] for name, kind in answer["properties"].items()} == {
        "label": "string", "confidence": "double", "probability": "double",
        "probability_negative": "double", "probability_positive": "double", "num_tokens": "long",
    }  # fmt: skip
    assert json.loads((root / "input_example.json").read_text()) == [
        "I love this so much", "this is not good at all"
    ]  # fmt: skip
    pins = (root / "requirements.txt").read_text().split()
    assert [pin.partition("==")[0] for pin in pins] == [*REQUIREMENTS]
    assert all("==" in pin and "+" not in pin for pin in pins)
    logged = [path for path in root.rglob("*") if path.is_file()]
    assert {path.suffix for path in logged} == {
        "", ".json", ".parquet", ".py", ".safetensors", ".txt", ".yaml", ".zip"
    }  # fmt: skip
    assert len(logged) <= 15, "a server with users asks several questions for each file"


def test_the_code_is_one_archive_that_is_equal_for_equal_code(laws, tmp_path):
    logged_model.archive_code(tmp_path / ARCHIVE)
    content = (tmp_path / ARCHIVE).read_bytes()
    assert (Path(laws.resolve().source) / "artifacts" / ARCHIVE).read_bytes() == content
    with zipfile.ZipFile(tmp_path / ARCHIVE) as archive:
        names = archive.namelist()
    assert "sentiflow/models/package.py" in names
    assert "sentiflow/config/presets.yaml" in names
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_mlflow_loads_a_model_by_the_code_in_its_archive(laws, tmp_path):
    script = """
import sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(*(answer.label for answer in model.predict(["good", "bad"])))
print(sys.modules["sentiflow"].__file__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, laws.resolve().source],
        capture_output=True, text=True, timeout=200, cwd=tmp_path, check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    labels, file = done.stdout.splitlines()
    predicted = ModelPackage.load(laws.package).score(pa.array(["good", "bad"]))
    assert labels.split() == [predicted.classes[label] for label in predicted.prediction]
    assert f"{ARCHIVE}/sentiflow/__init__.py" in file


def test_registering_says_nothing_and_leaves_mlflow_as_it_was(
    sqlite, make_package, capfd, monkeypatch
):
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", "sqlite:////x.db")
    path = list(sys.path)
    version, _ = register(make_package(), sqlite, name="quiet")
    model_registry.resolve(str(version), tracking_uri=sqlite)
    assert "".join(capfd.readouterr()) == ""
    assert mlflow.get_tracking_uri() == "sqlite:////x.db"
    assert sys.path == path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("models:/laws@champion", "alias champion not found; sentiflow ui shows"),
        ("models:/laws/7", "version=7) not found"),
        ("models:/other/latest", "in sqlite:///"),
        ("models:/other@champion", "name=other not found"),
        (f"models:/m-{'0' * 32}", "Logged model with ID"),
        (f"runs:/{'0' * 32}/model", "not found; sentiflow ui"),
        ("runs:/no:run/model", "no:run"),
        ("models:/laws", "cannot read models:/laws: write models:/NAME@champion"),
        ("models:/laws/Production", "write models:/NAME@champion"),
        ("runs:/0123", "write models:/NAME@champion"),
    ],
)
def test_a_name_that_leads_nowhere_gives_one_clear_line(laws, name, problem):
    with pytest.raises(UserError) as error:
        model_registry.resolve(name, tracking_uri=laws.uri)
    assert problem in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_manifest_that_names_other_files_is_refused(sqlite, make_package):
    version, _ = register(make_package(), sqlite, name="elsewhere")
    source = model_registry.resolve(str(version), tracking_uri=sqlite).source
    path = Path(source, "artifacts/package/manifest.json")
    content = path.read_text()
    for name, problem in (
        ("../../MLmodel", "no path below its directory"),
        ("MLmodel", "names files of no model package"),
    ):
        path.write_text(content.replace('"path": "settings.json"', f'"path": "{name}"'))
        with pytest.raises(UserError, match=problem):
            model_registry.resolve(str(version), tracking_uri=sqlite)


@pytest.mark.ray
@pytest.mark.slow
def test_a_whole_run_registers_its_model_as_candidate_when_it_is_evaluated(finished_run):
    trained, evaluated = (
        json.loads((finished_run / f"run/{name}/manifest.json").read_text())
        for name in ("trained", "report")
    )
    assert trained["registered"] is None
    assert evaluated["registered"]["name"] == "test"
    number = evaluated["registered"]["version"]
    uri = f"sqlite:///{finished_run}/mlflow.db"
    found = model_registry.resolve("models:/test@candidate", tracking_uri=uri)
    assert found.uri == f"models:/test/{number}"
    client = mlflow_store.make_client(uri)
    version = client.get_model_version("test", str(number))
    assert version.run_id == trained["mlflow_run_id"]
    assert found.record["fingerprint"] == trained["model_fingerprint"]
    said = (finished_run / "stderr.txt").read_text()
    assert f"evaluate  registered: models:/test/{number} (candidate)\n" in said
    assert "INFO" not in said
    accuracy = evaluated["figures"]["test"]["accuracy"]
    headline = version.description.splitlines()[0]
    assert headline.startswith(f"{accuracy:.1%} test accuracy (95% interval ")
    assert headline.endswith(f"/runs/{evaluated['run']['mlflow_run_id']}/artifacts/report.html)")
    assert float(version.tags["sentiflow.test_accuracy"]) == pytest.approx(accuracy, abs=1e-6)
    (model,) = client.search_logged_models([client.get_run(version.run_id).info.experiment_id])
    assert model.model_id in version.source
    metrics = {(metric.run_id, metric.key): metric.value for metric in model.metrics}
    assert metrics[evaluated["run"]["mlflow_run_id"], "test/accuracy"] == accuracy
    chosen = trained["history"][trained["chosen_epoch"] - 1]
    assert metrics[version.run_id, "validation/accuracy"] == chosen["validation_accuracy"]
    data = trained["inputs"]["prepared"]["fingerprint"]  # by which models are ranked
    assert {(m.dataset_name, m.dataset_digest) for m in model.metrics} == {("prepared", data)}
    run = client.get_run(trained["mlflow_run_id"])
    assert run.data.tags["mlflow.note.content"] == version.description
    (card,) = Path(version.source.removeprefix("file://")).glob("model_card.md")
    assert f"**{accuracy:.1%}** of " in card.read_text()


def test_a_model_of_an_older_run_leaves_the_alias_with_the_newer_candidate(sqlite, make_package):
    older, older_run = register(make_package(seed=20), sqlite, name="ages")
    newer, _ = register(make_package(seed=21), sqlite, name="ages")
    options = {"name": "ages", "tracking_uri": sqlite, "keeps_newer": True}
    again = model_registry.register(make_package(seed=20), run_id=older_run, **options)
    assert again == older
    assert model_registry.read_aliases("ages", tracking_uri=sqlite) == {CANDIDATE: newer.number}
    client = mlflow_store.make_client(sqlite)
    client.delete_registered_model_alias("ages", CANDIDATE)
    model_registry.register(make_package(seed=20), run_id=older_run, **options)
    assert model_registry.read_aliases("ages", tracking_uri=sqlite) == {CANDIDATE: older.number}


def test_a_value_with_a_quote_is_found_and_no_other(sqlite, make_package):
    version, _ = register(make_package(seed=22), sqlite, name="quotes")
    values = ["a'b", 'a"b', "a\\'b\\", "a b", 'it\'s "so" %_']
    for value in values:
        model_registry.describe(version, tags={"said": value}, tracking_uri=sqlite)
        for other in values:
            found = model_registry.find_tagged("quotes", "said", other, tracking_uri=sqlite)
            assert list(found) == ([1] if other == value else [])


def test_a_file_of_a_version_comes_back(sqlite, make_package):
    version, _ = register(make_package(seed=23), sqlite, name="files")
    assert model_registry.read_file(version, "a.json", tracking_uri=sqlite) is None
    model_registry.describe(version, tags={}, files={"a.json": b"{}"}, tracking_uri=sqlite)
    assert model_registry.read_file(version, "a.json", tracking_uri=sqlite) == b"{}"


def test_a_description_is_renewed_unless_a_user_has_changed_it(sqlite, make_package):
    package = make_package(seed=7)
    version, _ = register(package, sqlite, name="described")
    fingerprint = manifest.read(package)["fingerprint"]
    assert model_registry.find("described", fingerprint, tracking_uri=sqlite) == version
    assert model_registry.find("described", "0" * 16, tracking_uri=sqlite) is None
    client = mlflow_store.make_client(sqlite)

    def describe(text: str) -> str:
        model_registry.describe(version, text=text, tags={"a": text}, tracking_uri=sqlite)
        found = client.get_model_version("described", str(version.number))
        assert found.tags["a"] == text
        return found.description

    assert describe("1.0% test accuracy (") == "1.0% test accuracy ("
    assert describe("2.0% test accuracy (") == "2.0% test accuracy ("
    client.update_model_version("described", str(version.number), "for the night shift")
    assert describe("4.0% test accuracy (") == "for the night shift"
