"""What would make a job fail on this machine is found without Ray, and nothing hangs."""

import json
import os
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray
from conftest import write_config
from test_cli import invoke

import sentiflow
from sentiflow.cluster import nodes
from sentiflow.config import settings
from sentiflow.pipeline.preflight import config_checks, machine_checks
from sentiflow.pipeline.preflight.machine_checks import examine_config
from sentiflow.storage import filesystem

FORMAT = {
    "kind": "csv",
    "columns": {"text": "message", "label": "mood"},
    "labels": {"negative": "bad", "positive": "good"},
}
ROWS = "ticket,mood,message,brand\n1,good,hello there,acme\n2,bad,oh no,acme\n"


@pytest.fixture
def load(tmp_path):
    """Load a config whose CSV has the columns ticket, mood, message and brand."""
    csv = tmp_path / "tickets.csv"
    csv.write_text(ROWS)
    config = write_config(tmp_path, csv, format=FORMAT)
    return lambda *overrides: settings.load(config, overrides)


def test_a_machine_that_is_well_passes_every_check_and_stays_as_it_was(
    tmp_path, sample_csv, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = write_config(tmp_path, sample_csv)
    before = sorted(tmp_path.rglob("*"))
    result = invoke("doctor", str(config), "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [r["check"] for r in found] == ["versions", "config", "tracking"]
    assert {r["level"] for r in found} == {"ok"}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_does_not_act_on_the_terminal(tmp_path, sample_csv):
    config = str(write_config(tmp_path, sample_csv))
    result = invoke("doctor", config, r'prepare.csv="/no/\e]0;such.csv"')
    assert r"no such file: /no/\x1b]0;such.csv" in result.stdout


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        (["tracking.uri=http://127.0.0.1:9"], 1),
        (["prepare.csv=/no/such.csv"], 2),
        (["prepare.csv=/no/such.csv", "tracking.uri=http://127.0.0.1:9"], 2),
    ],
)
def test_the_exit_code_says_whether_an_error_may_go_away(tmp_path, sample_csv, overrides, code):
    config = str(write_config(tmp_path, sample_csv))
    assert invoke("doctor", config, *overrides).exit_code == code


def problems(config):
    """List what is wrong with the input of a config."""
    return [found.what for found in examine_config(config) if found.level != "ok"]


def test_a_config_for_scoring_alone_is_checked(load, tmp_path, make_package):
    alone = [f"score.corpus={tmp_path}/tickets.csv", f"score.model_uri={make_package()}"]
    assert not problems(load("prepare={}", *alone))
    (tmp_path / "tickets.csv").write_text("message,brand\nhello there,acme\n")
    assert not problems(load("prepare={}", *alone))
    (line,) = problems(load("prepare={}", *alone, "score.keep_columns=[brnd]"))
    assert "has no column brnd" in line
    (line,) = problems(load("prepare={}", *alone, "score.model_uri=/no/model"))
    assert "score.model_uri: /no/model has no manifest.json" in line


def bad_output(config):
    return [r for r in examine_config(config) if r.check == "output" and r.level != "ok"]


def test_output_that_cannot_be_written_is_found(load, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (result,) = bad_output(load(f"output_uri={tmp_path}/file/run"))
    assert result.level == "error"
    assert f"{tmp_path}/file is a file, not a directory" in result.what
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))
    (result,) = bad_output(load())
    assert f"{tmp_path}/run: {tmp_path} cannot be written: choose another location" in result.what


def test_output_in_an_object_store_is_tried(load, bucket):
    elsewhere = load(f"output_uri={bucket}/run")
    found = [r.what for r in machine_checks.examine(elsewhere) if r.check == "output"]
    assert found == [f"{bucket}/run can be written"]
    assert filesystem.listing(f"{bucket}/run") == []
    elsewhere = load("score.output_uri=s3://absent/scored")
    (line,) = [r.what for r in machine_checks.examine(elsewhere) if r.check == "output"]
    assert "s3://absent" in line


def test_versions_are_those_that_are_imported():
    found = machine_checks.find_versions()
    assert found["ray"] == ray.__version__
    assert found["sentiflow"] == sentiflow.__version__
    assert found["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert "missing" not in found.values()


def test_a_tracking_store_that_cannot_be_used_is_found(load, tmp_path, monkeypatch):
    def find(uri):
        return machine_checks.examine_tracking(load(f"tracking.uri={uri}"))[0].what

    assert "Connection refused" in find("http://127.0.0.1:9")
    assert "is not the address of an MLflow store" in find("mlruns")
    (tmp_path / "file").write_text("")
    assert "is a file, not a directory" in find(f"sqlite:///{tmp_path}/file/mlflow.db")
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path / "file"))
    assert f"{tmp_path}/file cannot be written" in find(f"sqlite:///{tmp_path}/file")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "would be lost with the machine" in find(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_store_that_a_job_can_do_without_is_a_warning(load):
    config = load("tracking.uri=http://127.0.0.1:9", "tracking.required=false")
    (result,) = machine_checks.examine_tracking(config)
    assert (result.check, result.level) == ("tracking", "warning")


def test_an_unknown_failure_of_a_check_is_not_hidden(load, monkeypatch):
    monkeypatch.setattr(config_checks.column_checks, "check_kept_names", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        examine_config(load())


class Handler(BaseHTTPRequestHandler):
    """Gives each request the status of its server."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        self.send_header("Location", "/login")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextmanager
def answering(status):
    """Run an HTTP server on this machine; its ``address`` is ``host:port``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.status = status
    server.requests = []
    server.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (200, "error"),
        (401, "ok"),
        (403, "ok"),
        (302, "unchecked"),
        (404, "unchecked"),
        (500, "unchecked"),
        (502, "unchecked"),
    ],
)
def test_only_a_dashboard_that_refuses_asks_for_a_token(monkeypatch, status, level):
    with answering(status) as dashboard:
        monkeypatch.setattr(nodes, "find_dashboard", lambda: dashboard.address)
        result = machine_checks.check_token()
    assert result.level == level
    assert dashboard.requests == [("/api/jobs/", None)]
    if level == "unchecked":
        assert f"answers with HTTP status {status}" in result.what


def test_no_proxy_answers_for_the_dashboard(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(200) as dashboard, answering(403) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        monkeypatch.setattr(nodes, "find_dashboard", lambda: dashboard.address)
        assert machine_checks.check_token().level == "error"
    assert proxy.requests == []
    assert dashboard.requests == [("/api/jobs/", None)]  # no password is sent


def test_a_dashboard_that_does_not_answer_is_unchecked(monkeypatch):
    with answering(200) as gone:
        address = gone.address
    for here in ("", address):
        monkeypatch.setattr(nodes, "find_dashboard", lambda here=here: here)
        assert machine_checks.check_token().level == "unchecked"
