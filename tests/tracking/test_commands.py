"""A command that names a run in MLflow repeats it; the run alone is enough."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import make_store, messages
from mlflow import MlflowClient
from test_cli import invoke

import sentiflow
from sentiflow.config import written
from sentiflow.data import manifest
from sentiflow.errors import UnavailableError, UserError
from sentiflow.tracking import commands, earlier_runs, experiment_store, recording, runs

SETTINGS = {"name": "laws", "output_uri": "runs/laws", "prepare": {"csv": "tweets.csv"}}


@pytest.fixture
def uri(tmp_path, monkeypatch) -> str:
    uri = make_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def record(uri: str, folder: Path, monkeypatch, config=None, *, stage="train") -> str:
    """Record a run whose command was typed in a folder; return its name, ``runs:/ID``."""
    store = experiment_store.open_store(uri, experiment="laws", required=True)
    config = config or SETTINGS
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        command = written.write_down("run", "configs/laws.yaml", (), raw=config)
    tags = {runs.FINGERPRINT_TAG: "c5f0"}
    with recording.open_run(store, stage, group="0123abcd", tags=tags) as recorder:
        recorder.log_command(command)
        recorder.log_metrics({"test/accuracy": 0.75, "train/seconds": 1.0})
    return f"runs:/{recorder.run_id}"


def test_a_run_has_its_command_and_its_settings(uri, tmp_path, monkeypatch):
    run = record(uri, tmp_path, monkeypatch)
    client = MlflowClient(uri)
    tags = client.get_run(run.removeprefix("runs:/")).data.tags
    assert tags["sentiflow.command"] == "sentiflow run configs/laws.yaml"
    assert tags["sentiflow.directory"] == str(tmp_path)
    path = client.download_artifacts(run.removeprefix("runs:/"), "config.yaml", str(tmp_path))
    assert yaml.safe_load(Path(path).read_text()) == SETTINGS


def test_a_run_is_loaded_like_a_settings_file(uri, tmp_path, monkeypatch, said):
    folder = tmp_path / "ann"
    folder.mkdir()
    run = record(uri, folder, monkeypatch)
    command = commands.load("run", Path(run), ["output_uri=new", "train.seed=5"])
    assert command.config.prepare.csv == (f"{folder}/tweets.csv",)
    assert command.config.output_uri == str(Path.cwd() / "new")
    assert command.config.train.seed == 5
    assert command.config.tracking.uri == uri
    assert command.written.line == f"sentiflow run {run} output_uri=new train.seed=5"
    assert f"{run} was made by sentiflow unknown, code" in said.text


def test_a_repetition_can_be_repeated(uri, tmp_path, monkeypatch):
    run = record(uri, tmp_path, monkeypatch)
    command = commands.load("run", run, {"output_uri": "new"})
    raw = yaml.safe_load(command.written.settings)
    again = record(uri, tmp_path, monkeypatch, raw)
    config = commands.load("run", again, {"output_uri": "newer"}).config
    assert config.prepare.csv == (f"{tmp_path}/tweets.csv",)
    assert config.prepare.output_uri.endswith("/newer/prepared")


def test_another_user_repeats_a_command_with_the_same_files(uri, tmp_path, monkeypatch):
    """``~`` in the settings is the home of the first user, also where another one repeats them."""
    settings = SETTINGS | {
        "prepare": {"csv": ["~/a.csv", "b.csv"]},
        "score": {"corpus": "~/c.csv"},
    }
    monkeypatch.setenv("HOME", "/home/ann")
    run = record(uri, tmp_path, monkeypatch, settings)
    monkeypatch.setenv("HOME", "/home/ben")
    config = commands.load("run", run, {"output_uri": "~/new"}).config
    assert config.prepare.csv == ("/home/ann/a.csv", f"{tmp_path}/b.csv")
    assert config.score.corpus == ("/home/ann/c.csv",)
    assert config.output_uri == "/home/ben/new"


def test_a_training_that_a_command_adds_writes_below_the_new_output(uri, tmp_path, monkeypatch):
    """An average of models does not train, so its directory of a training was never written."""
    settings = SETTINGS | {
        "train": {"output_uri": "/precious"},
        "score": {"model_uri": ["/models/a", "/models/b"]},
    }
    run = record(uri, tmp_path, monkeypatch, settings, stage="score")
    before = commands.load("run", run, {"output_uri": "/new"}).config
    assert before.score.model_uri == ("/models/a", "/models/b")
    assert before.run_stages == ("prepare", "score", "evaluate")
    changed = commands.load("run", run, {"output_uri": "/new", "score.model_uri": None}).config
    assert changed.train.output_uri == "/new/trained"


def test_a_run_of_an_earlier_version_is_repeated_by_its_resolved_settings(uri, tmp_path):
    store = experiment_store.open_store(uri, experiment="laws", required=True)
    resolved = commands.load("run", SETTINGS).config.model_dump(mode="json")
    with recording.open_run(store, "train", group="0123abcd", tags={}) as recorder:
        text = yaml.safe_dump(resolved).encode()
        recorder.log_files({"settings.yaml": text}, are_outputs=False)
    config = commands.load("run", f"runs:/{recorder.run_id}", {"output_uri": "/new"}).config
    assert config.prepare.csv == tuple(resolved["prepare"]["csv"])
    assert config.train.prepared_uri == "/new/prepared"


def test_a_trial_is_repeated_with_its_values(uri, tmp_path, monkeypatch):
    store = experiment_store.open_store(uri, experiment="laws", required=True)
    command = written.write_down("sweep", "laws.yaml", (), raw=SETTINGS)
    with recording.open_run(store, "sweep", group="0123abcd", tags={}) as recorder:
        recorder.log_command(command)
        changes = {"train.model.hidden_size": 16, "train.folds": 0}
        nested = recorder.begin_nested("0001", stage="train", tags={}, changes=changes)
        nested.end("FINISHED")
    config = commands.load("run", f"runs:/{nested.run_id}", {"output_uri": "/new"}).config
    assert config.train.model.hidden_size == 16


def compare(run: str, uri: str, **changes: object) -> str:
    """Compare a run with a repetition that has found something."""
    found = {"fingerprint": "c5f0", "run": {"metrics": {"train/seconds": 2.0}}}
    measured = {"training": {"metrics": {"test/accuracy": 0.75}}, "metrics": {}}
    records = {"train": found | changes, "evaluate": {"run": measured}}
    return earlier_runs.read(run, tracking_uri=uri).compare(records)


def test_a_repetition_says_whether_it_has_the_same_result(uri, tmp_path, monkeypatch):
    run = record(uri, tmp_path, monkeypatch)
    assert compare(run, uri) == f"the same settings and inputs as {run}; all 1 metrics are equal"
    assert compare(run, uri, fingerprint="aa").startswith(f"other settings or inputs as {run}; ")
    metrics = {"metrics": {"test/accuracy": 0.5}}
    records = {"train": {"fingerprint": "c5f0", "run": metrics}}
    found = earlier_runs.read(run, tracking_uri=uri).compare(records)
    assert found.endswith("; 1 of 1 metrics differ: test/accuracy 0.5, before 0.75")


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("runs:/ID", [], "runs:/ID can be repeated in another directory only: add output_uri=NEW"),
        ("runs:/ID/model", ["output_uri=new"], "runs:/ID/model is no run: write runs:/ID"),
        (f"runs:/{'0' * 32}", ["output_uri=new"], "not found; write runs:/ID"),
        (
            "runs:/ID",
            ["output_uri=new", "tracking.uri=sqlite:////no.db"],
            "there is no MLflow store",
        ),
        ("runs:/ID", ["output_uri=new", "tracking.uri=x"], "is not the address of an MLflow store"),
        ("runs:/OTHER", ["output_uri=new"], "is no run of sentiflow"),
        (
            "runs:/EMPTY",
            ["output_uri=new"],
            "has no settings: neither config.yaml nor settings.yaml",
        ),
        ("runs:/ALIASES", ["output_uri=new"], "holds no settings that can be read"),
        ("runs:/BROKEN", ["output_uri=new"], "config.yaml of runs:/"),
        ("runs:/TAGGED", ["output_uri=new"], "config.yaml of runs:/"),
    ],
)
def test_a_run_that_cannot_be_repeated_gives_one_line(
    uri, tmp_path, monkeypatch, name, changes, problem
):
    run = record(uri, tmp_path, monkeypatch)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("laws").experiment_id
    ids = {"ID": run.removeprefix("runs:/")}
    texts = {"OTHER": None, "EMPTY": None, "ALIASES": "a: &a [1]\nb: *a\n", "BROKEN": "a: [\n"}
    texts["TAGGED"] = "name: !!timestamp x\n"
    for key, text in texts.items():
        tags = {} if key == "OTHER" else {"sentiflow.stage": "train"}
        ids[key] = client.create_run(experiment, tags=tags).info.run_id
        if text:
            client.log_text(ids[key], text, "config.yaml")
    for key, run_id in ids.items():
        name = name.replace(f"/{key}", f"/{run_id}")
        problem = problem.replace("runs:/ID can", f"{run} can").replace("runs:/ID/m", f"{run}/m")
    result = invoke("run", name, *changes)
    assert result.exit_code == 2, result.output
    (line,) = messages(result.stderr)
    assert problem in line


def test_a_store_that_is_away_is_told(monkeypatch):
    with pytest.raises(UnavailableError, match="cannot look up runs:/"):
        commands.load("run", f"runs:/{'0' * 32}", {"tracking.uri": "http://127.0.0.1:9"})
    with pytest.raises(UserError, match="no such settings file"):
        commands.load("run", "run:/0")


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_of_another_user_is_repeated_in_an_empty_folder(
    finished_run, resources, tmp_path, monkeypatch, said
):
    """Only the store and the input are known: the tables and the metrics are the same."""
    shutil.copy(finished_run / "mlflow.db", tmp_path / "mlflow.db")  # the fixture stays as it is
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SENTIFLOW_USER", "ben")
    record = json.loads((finished_run / "run/trained/manifest.json").read_text())
    name = f"runs:/{record['mlflow_run_id']}"
    run = sentiflow.run(name, {"output_uri": "again", "tracking.uri": uri})
    before = sentiflow.load_run(finished_run / "run")
    assert run.predictions.to_arrow().drop(["model_version"]).sort_by("row_id") == (
        before.predictions.to_arrow().drop(["model_version"]).sort_by("row_id")
    )
    assert run.metrics == before.metrics
    for stage in ("prepare", "train", "score", "evaluate"):
        assert run.stages[stage].ran
        assert (
            run.stages[stage].manifest["fingerprint"]
            == (before.stages[stage].manifest["fingerprint"])
        )
    assert f"the same settings and inputs as {name}; all " in said.text
    client = MlflowClient(uri)
    repeated = manifest.read(f"{folder}/again/trained")
    users = [
        client.get_run(each["mlflow_run_id"]).data.tags["mlflow.user"]
        for each in (repeated, record)
    ]
    assert users[0] == "ben"
    assert users[1] != "ben"
