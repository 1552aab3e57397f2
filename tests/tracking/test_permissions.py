"""A server with users: who lacks a permission is told which, and what has one works."""

# ruff: noqa: F401, F811 - fixtures of other files

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import test_servers
from candidates import aliases, bad, config, good, prepared, register
from conftest import messages, write_config
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException, RestException
from test_rebuild import make_stage
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.errors import PermissionDeniedError
from sentiflow.pipeline import stage_plans, stages
from sentiflow.tracking import (
    experiment_store,
    mlflow_store,
    model_registration,
    model_registry,
    permissions,
    recording,
)
from sentiflow.tracking.model_registry import CANDIDATE, CHAMPION
from sentiflow.tracking.runs import FINGERPRINT_TAG

ANSWER = "API request to endpoint /api/2.0/mlflow/{} failed with error code {} != 200"
FILES = "403 Client Error: FORBIDDEN for url: http://h:1/api/2.0/mlflow-artifacts/artifacts/1/a"


@pytest.mark.parametrize(
    ("message", "needed", "problem"),
    [
        (ANSWER.format("registered-models/alias", 403), "EDIT", "EDIT on the registered model;"),
        (ANSWER.format("model-versions/set-tag", 403), "EDIT", "EDIT on the registered model;"),
        (ANSWER.format("runs/create", 403), "EDIT", "EDIT on the experiment;"),
        (ANSWER.format("runs/get", 403), "READ", "READ on the experiment, or there is none;"),
        (ANSWER.format("logged-models/m-0f", 403), "READ", "READ on the experiment, or "),
        (FILES, "EDIT", "EDIT on the experiment;"),
        (ANSWER.format("runs/create", 404), "EDIT", ""),
        (f"{ANSWER.format('runs/create', 403)}. Response body: 'Invalid Host header'", "EDIT", ""),
        ("[Errno 13] Permission denied: '/srv/x'", "EDIT", ""),
        ("403 Client Error: Forbidden for url: https://bucket.s3.amazonaws.com/x", "EDIT", ""),
    ],
)
def test_an_answer_names_the_permission(monkeypatch, message, needed, problem):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ben")
    found = permissions.explain(MlflowException(message), needed)
    assert bool(found) == bool(problem)
    if problem:
        assert found.startswith(f"MLflow's user ben lacks the permission {problem}")
        assert found.endswith("(docs/tracking_servers.md#permissions)")


def test_another_kind_of_log_in_is_known_by_its_code(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    error = RestException({"error_code": "PERMISSION_DENIED", "message": "no"})
    found = permissions.explain(error, "EDIT")
    assert found.startswith("this user of MLflow lacks the permission EDIT on the experiment or")


# A real server, on which anna has made the experiment and the models


@dataclass(frozen=True)
class Server:
    """A server with users, as docs/tracking_servers.md starts it."""

    uri: str
    grants: str
    """The commands that give ann EDIT on experiment 1 and on the model quickstart."""
    folder: Path

    def grant(self, kind: str, name: str, *, user: str) -> None:
        """Type in the command of the page for another user and another experiment or model."""
        (command,) = [line for line in self.grants.split("curl ") if f'"{kind}"' in line]
        for old, new in {'"ann"': f'"{user}"', '"1"': f'"{name}"', "quickstart": name}.items():
            command = command.replace(old, new)
        subprocess.run(**test_servers.type_in(f"curl {command}", self.folder), check=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    pytest.importorskip("flask_wtf", reason="needs the extra auth")
    folder = tmp_path_factory.mktemp("users")
    with test_servers.serving("Users and passwords", folder) as (port, (add_ann, *_)):
        for user in ("anna", "ben"):
            command = add_ann.replace('"ann"', f'"{user}"').replace("of-ann", f"of-{user}")
            subprocess.run(**test_servers.type_in(command, folder), check=True)
        replaced = {"mlflow.example": "localhost", "5000": str(port)}
        (grants,) = test_servers.read_commands("Permissions", replaced)
        yield Server(f"http://localhost:{port}", grants, folder)


@pytest.fixture(autouse=True)
def account(monkeypatch) -> Callable[[str], None]:
    """Change the user of MLflow; at first it is anna."""

    def change(user: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", f"long-password-of-{user}")

    change("anna")
    return change


@pytest.fixture(scope="module")
def store(server) -> str:
    return server.uri


@pytest.fixture
def log(store) -> Callable[[str], object]:
    """Log packages, each once, without the code that MLflow would serve them with."""

    def run(package: str) -> object:
        opened = experiment_store.open_store(store, experiment="laws", required=True)
        client = mlflow_store.make_client(store)
        with recording.open_run(opened, "train", group="0123abcd", tags={}) as recorder:
            return log_package(client, opened.experiment_id, recorder.run_id, package)

    return run


@dataclass(frozen=True)
class Logged:
    """What the fixture ``register`` reads of a version."""

    source: str
    run_id: str
    model_id: str
    tags: dict[str, str]


def log_package(client: MlflowClient, experiment_id: str, run_id: str, package: str) -> Logged:
    tags = {FINGERPRINT_TAG: manifest.read(package)["fingerprint"]}
    model = client.create_logged_model(experiment_id, name="model", source_run_id=run_id, tags=tags)
    client.log_model_artifacts(model.model_id, package, "artifacts/package")
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return Logged(model.artifact_location, run_id, model.model_id, tags)


def promote(config: Path, *options: object):
    return CliRunner().invoke(app, ["promote", str(config), *map(str, options)])


@pytest.mark.soak
def test_another_account_promotes_when_it_may(
    config, register, good, bad, server, account, monkeypatch
):
    monkeypatch.setenv("SENTIFLOW_USER", "anna")
    register(bad)
    assert promote(config).exit_code == 0
    register(good)
    account("ben")
    monkeypatch.setenv("SENTIFLOW_USER", "Ben")
    name = settings.load(config).name
    lacks = "MLflow's user ben lacks the permission EDIT on the registered model; its creator or"
    for options in ([], ["--force"]):
        refused = promote(config, *options)
        assert refused.exit_code == 2
        (line,) = messages(refused.stderr)
        assert f"models:/{name}/2" in line
        assert lacks in line
    assert aliases(config) == {CANDIDATE: 2, CHAMPION: 1}
    server.grant("registered_model", name, user="ben")
    done = promote(config)
    assert done.exit_code == 0, done.stderr
    *_, mine, earlier = done.stdout.splitlines()
    assert mine.startswith("  promoted by Ben, 20")
    assert earlier.startswith("  version 1: promoted by anna, 20")
    account("anna")
    tags = MlflowClient(server.uri).get_model_version(name, "2").tags
    assert tags["sentiflow.promoted_by"] == tags["sentiflow.judged_by"] == "Ben"


@pytest.mark.slow
def test_a_job_ends_before_it_begins_if_it_may_not_log_its_run(
    server, account, tmp_path, sample_csv, monkeypatch, caplog
):
    opened = experiment_store.open_store(server.uri, experiment="test", required=True)
    account("ben")
    without = experiment_store.open_store(server.uri, experiment="test", required=False)
    with recording.open_run(without, "prepare", group="0123abcd", tags={}) as recorder:
        recorder.log_metrics({"rows": 1.0})
    assert not recorder.run_id
    (line,) = caplog.messages
    assert line.startswith("MLflow refuses a part of the run: MLflow's user ben lacks the permis")
    config = write_config(tmp_path, sample_csv, tracking={"uri": server.uri})
    monkeypatch.setattr(stage_plans, "import_stage", lambda verb: make_stage())
    result = CliRunner().invoke(app, ["evaluate", str(config)])
    assert result.exit_code == 2
    assert "cannot log runs to the experiment test in http://localhost:" in result.stderr
    assert "ben lacks the permission EDIT on the experiment; its creator or an" in result.stderr
    assert result.stderr.endswith("; tracking.required=false runs the job without it\n")
    assert not (tmp_path / "run/report").exists()
    server.grant("experiment", opened.experiment_id, user="ben")
    (outcome,) = stages.run(settings.load(config), ["evaluate"])
    run_id = outcome.record["run"]["mlflow_run_id"]
    assert MlflowClient(server.uri).get_run(run_id).info.status == "FINISHED"


@pytest.mark.soak
@pytest.mark.slow
def test_a_model_that_may_not_be_registered_does_not_fail_the_job(
    server, account, make_package, caplog
):
    """The name is that of a model of anna; ben may log to the experiment."""
    package = make_package(seed=5)
    name = "of_anna"
    opened = experiment_store.open_store(server.uri, experiment=name, required=True)
    mlflow_store.make_client(server.uri).create_registered_model(name)
    server.grant("experiment", opened.experiment_id, user="ben")
    account("ben")
    mine = experiment_store.open_store(
        server.uri, experiment=name, required=True, repair="sentiflow tracking import runs/x"
    )
    with recording.open_run(
        mine, "train", group="0123abcd", tags={}, registers_model=True
    ) as recorder:
        run_id = recorder.run_id
        log_package(mlflow_store.make_client(server.uri), mine.experiment_id, run_id, package)
        caplog.clear()
        registered = model_registration.register(
            recorder, package, "", run_id=run_id, text="", tags={}
        )
        assert registered is None
    (line,) = caplog.messages
    assert line.startswith(f"cannot register {name} in http://localhost:")
    assert "ben lacks the permission EDIT on the registered model; its creator" in line
    assert line.endswith("; to add it later: sentiflow tracking import runs/x")
    with pytest.raises(PermissionDeniedError, match="EDIT on the registered model"):
        model_registry.register(package, name=name, tracking_uri=server.uri, run_id=run_id)
    server.grant("registered_model", name, user="ben")
    version = model_registry.register(package, name=name, tracking_uri=server.uri, run_id=run_id)
    assert version.number == 1


@pytest.mark.soak
@pytest.mark.slow
def test_everybody_reads_and_what_is_not_there_is_said(config, register, good, server, account):
    register(good)
    account("ben")
    name = settings.load(config).name
    found = model_registry.resolve(f"models:/{name}@candidate", tracking_uri=server.uri)
    assert found.uri == f"models:/{name}/1"
    lacks = "cannot look up models:/nobody@champion in .* READ on the registered model, or there is"
    with pytest.raises(PermissionDeniedError, match=lacks):
        model_registry.resolve("models:/nobody@champion", tracking_uri=server.uri)
