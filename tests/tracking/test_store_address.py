"""Which store a job uses; wrong addresses give one line, and no line shows a password."""

import base64
import http.server
import sys
import threading

import pytest
from conftest import write_config
from mlflow.exceptions import MlflowException
from test_cli import invoke

from sentiflow.errors import UserError
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store, store_address
from sentiflow.tracking.store_address import default_uri


def test_the_default_store_is_sqlite_in_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert default_uri(None) == "http://127.0.0.1:5000"
    assert default_uri("sqlite:////x.db") == "sqlite:////x.db"


def test_a_relative_sqlite_file_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert default_uri("sqlite:///runs/m.db") == f"sqlite:///{tmp_path}/runs/m.db"


def test_a_submitted_job_refuses_a_store_that_is_a_file(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri("http://tracking:5000") == "http://tracking:5000"
    for uri in (None, "sqlite:////m.db"):
        with pytest.raises(UserError, match="would be lost"):
            default_uri(uri)


def test_a_password_in_an_address_is_used_and_not_shown(monkeypatch):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(500)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Be silent."""

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://ann:s%40cret@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    uri = default_uri(None)
    assert uri == f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(MlflowException):
        mlflow_store.make_client(uri).get_run("0" * 32)
    server.shutdown()
    assert asked[-1][1] == "Basic " + base64.b64encode(b"ann:s@cret").decode()


def test_only_the_client_gets_the_password_of_a_database(monkeypatch):
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    uri = default_uri("postgresql://me:secret@host/db")
    assert uri == "postgresql://host/db"
    assert store_address.with_password(uri) == "postgresql://me:secret@host/db"
    assert store_address.with_password("postgresql://other/db") == "postgresql://other/db"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/a", "http://host:5000/a"),
        ("http://me:se/cr@et@host:5000/a", "http://host:5000/a"),
        ("postgresql://me:secret@host/db", "postgresql://host/db"),
        ("http://me@corp.com:secret@host:5000/a", "http://host:5000/a"),
        ("postgresql://host/db?password=secret", "postgresql://host/db?password=***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "mssql+pyodbc:///?odbc_connect=***"),
        ("sqlite:////home/me@work/x.db", "sqlite:////home/me@work/x.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("http://[::1]/a@b", "http://[::1]/a@b"),
        ("http://me:secret@[::1]:5000/a", "http://[::1]:5000/a"),
        ("http://[:sec]ret@host/a", "http://host/a"),
    ],
)
def test_an_address_is_shown_without_password(uri, shown):
    assert without_credentials(uri) == shown


MISTYPED = [
    "me:hush@host:5000", "http//me:hush@host", "http:/me:hush@host", "htp://me:hush@host",
    "HTTP://me:hush@host", " http://me:hush@host", "http://me:hush @host",
    "http://me:hush@host:50x", "http://me:hu/sh@host", "http://me:hush@[::1", "http://me:hush@",
    "https:///me:hush@", "postgres://me:hush@host/db", "postgresql:/me:hush@host/db",
    "postgresql://me:hush@host:x/db", "postgresql+none://me:hush@host/db", "s3://me:hush@bucket",
    "sqlite:/x.db", "sqlite://x.db", "mlruns", "file:///mlruns",
]  # fmt: skip


@pytest.mark.parametrize("uri", MISTYPED)
def test_a_mistyped_address_gives_one_line_without_its_password(uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    config = str(write_config(tmp_path, tmp_path / "no.csv", tracking={}))
    submit = ["submit", "run", config, "--address", "http://127.0.0.1:9"]
    for command in (["run", config], ["tracking", "import", "x"], submit):
        result = invoke(*command)
        (line,) = result.stderr.splitlines()
        assert result.exit_code == 2, line
        assert "is not the address of " in line or "contains a password" in line
        assert "hu" not in line


@pytest.mark.parametrize(
    ("uri", "package", "hint"),
    [
        ("postgresql://me:hush@host/db", "psycopg", "install sentiflow[postgres]"),
        ("postgresql+psycopg2://me:hush@host/db", "psycopg2", "write postgresql://HOST/NAME"),
        ("mysql+pymysql://me:hush@host/db", "pymysql", "install sentiflow[mysql]"),
        ("mysql://me:hush@host/db", "MySQLdb", "write mysql+pymysql://HOST/NAME"),
    ],
)
def test_a_missing_driver_gives_one_line_that_names_the_extra(
    uri, package, hint, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    result = invoke("run", str(write_config(tmp_path, tmp_path / "no.csv", tracking={})))
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2, line
    assert f"cannot use the MLflow store {without_credentials(uri)}: " in line
    assert line.endswith(hint)
    assert "hush" not in line
