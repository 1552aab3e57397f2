"""What a machine is asked, it answers truly and in time, broken or not."""

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray

import sentiflow
from sentiflow.cluster.doctor import node_probes


class Answering(BaseHTTPRequestHandler):
    """Answers as the test's server says, and notes who asks."""

    def do_GET(self):
        self._answer(self.server.health)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.headers.get("Authorization"))
        self._answer(self.server.search)

    def _answer(self, status):
        self.send_response(status)
        text = self.server.text
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    """Start a server on loopback that answers like one of MLflow that is well, or not."""
    found = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    found.uri = f"http://127.0.0.1:{found.server_port}"
    found.health, found.search, found.text, found.asked = 200, 200, b"", []
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


def test_versions_are_those_that_are_imported():
    found = node_probes.versions()
    assert found["ray"] == ray.__version__
    assert found["sentiflow"] == sentiflow.__version__
    assert found["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert all(found.values())


def test_all_that_a_machine_says_of_itself_is_json(monkeypatch, tmp_path):
    monkeypatch.setattr(node_probes.nodes, "here", lambda: "this")
    monkeypatch.setattr(node_probes.nodes, "name_address", lambda: "127.0.0.1")
    absent = str(tmp_path / "not/there")
    found = node_probes.look({"this": str(tmp_path), "other": "/other"}, [absent])
    assert json.loads(json.dumps(found)) == found
    assert found["disks"][absent]["free"] <= found["session_disk"]["total"]
    assert found["memory_bytes"] > 1 << 28
    assert found["code"] == node_probes._hash_code()


def test_a_disk_is_looked_up_where_a_directory_would_be(tmp_path):
    assert node_probes.disk(f"{tmp_path}/a/b/c")["device"] == tmp_path.stat().st_dev


def test_the_token_is_looked_up_where_ray_does(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert node_probes.token() is None
    for path in (tmp_path / ".ray/auth_token", tmp_path / "elsewhere"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("a")
        path.chmod(0o640)
    assert node_probes.token() == {"path": str(tmp_path / ".ray/auth_token"), "mode": 0o640}
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "elsewhere"))
    assert node_probes.token()["path"] == str(tmp_path / "elsewhere")


def test_each_file_is_read_or_says_why_not(tmp_path):
    (tmp_path / "a.csv").write_text("x" * 10_000)
    uris = [f"{tmp_path}/{name}" for name in ("a.csv", "b.csv")]
    found = node_probes.read_beginnings(uris)
    assert found[uris[0]] == {"bytes": 10_000, "problem": ""}
    assert found[uris[1]]["problem"] == "no such file or directory"


@pytest.mark.parametrize(
    ("health", "search", "expected"),
    [
        (200, 200, ""),
        (404, 200, ""),
        (503, 200, "it answers with status 503"),
        (200, 401, "it refuses this node's credentials (status 401)"),
        (200, 404, "it answers as no server of MLflow does (404)"),
    ],
)
def test_a_tracking_server_is_asked_whether_it_lets_in(server, health, search, expected):
    server.health, server.search = health, search
    assert node_probes.ask_tracking(server.uri) == expected


def test_a_server_that_knows_itself_by_another_name_is_told_how_to_learn_it(server, monkeypatch):
    monkeypatch.setattr(server, "text", b"Invalid Host header - possible DNS rebinding")
    server.health, server.search = 200, 403
    assert "mlflow server --allowed-hosts" in node_probes.ask_tracking(server.uri)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "x"}, "Basic YWRhOng="),
        ({"MLFLOW_TRACKING_TOKEN": "abc"}, "Bearer abc"),
    ],
)
def test_a_node_shows_the_credentials_of_its_own_environment(
    server, monkeypatch, variables, expected
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    node_probes.ask_tracking(server.uri)
    assert server.asked[-1] == expected


def test_a_server_that_is_not_there_or_silent_is_given_up_soon(monkeypatch):
    monkeypatch.setattr(node_probes, "_REQUEST_SECONDS", 0.3)
    assert node_probes.ask_tracking("http://127.0.0.1:9") == "connection refused"
    assert node_probes.ask_tracking("postgresql://127.0.0.1:9/db") == "connection refused"
    assert "not known" in node_probes.ask_tracking("http://no-such-host.invalid:5000")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert node_probes.ask_tracking(uri) == "no answer in time"
        assert time.monotonic() - began < 5


def test_of_a_database_it_is_looked_whether_something_listens(server):
    assert node_probes.ask_tracking(f"postgresql+psycopg://127.0.0.1:{server.server_port}/db") == ""


def test_the_dashboard_is_asked_without_a_token(server):
    server.health = 401
    assert node_probes.ask_dashboard(f"127.0.0.1:{server.server_port}") == 401


FAKE_TORCH = """
class _Array:
    def __init__(self, n): self.n = n
    def __matmul__(self, other): return self
    def __getitem__(self, key): return self.n
def ones(n, m, device, dtype):
    if device == "cuda:1": raise RuntimeError("CUDA error: no kernel image\\nmore")
    return _Array(n)
class cuda:
    device_count = staticmethod(lambda: 2)
    get_device_name = staticmethod("GPU {}".format)
    is_bf16_supported = staticmethod(lambda including_emulation: True)
class version:
    cuda = "13.0"
__version__, float32, bfloat16 = "9.9", 1, 2
"""


@pytest.fixture
def fake_torch(monkeypatch, tmp_path):
    """Put another torch first on the path of processes that this one starts."""

    def put(text):
        (tmp_path / "torch.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return put


def test_a_gpu_that_fails_does_not_hide_one_that_works(fake_torch):
    fake_torch(FAKE_TORCH)
    good, bad = node_probes.try_torch(60)["gpus"]
    assert good == {"name": "GPU 0", "bf16": True, "problem": ""}
    assert bad["problem"] == "CUDA error: no kernel image"


def test_gpus_that_ray_hides_from_its_tasks_are_seen(fake_torch, monkeypatch):
    seen = "lambda: 'CUDA_VISIBLE_DEVICES' not in os.environ"
    fake_torch(f"{FAKE_TORCH}\nimport os\ncuda.device_count = staticmethod({seen})")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert len(node_probes.try_torch(60)["gpus"]) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert not node_probes.try_torch(60)["gpus"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import time; time.sleep(60)", "within 1 s"),
        ("raise ImportError('libcudart.so.13: cannot open')", "libcudart.so.13: cannot open"),
        ("import os; os._exit(9)", "it ended with code 9"),
    ],
)
def test_a_torch_that_hangs_or_dies_takes_nothing_with_it(fake_torch, text, expected):
    fake_torch(text)
    assert expected in node_probes.try_torch(1 if "sleep" in text else 60)["problem"]


def test_an_address_that_no_interface_has_is_not_the_nodes_own(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr(node_probes.nodes, "name_address", lambda: "192.0.2.250")
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert node_probes.address() == {"is_own": False, "by_name": "127.0.0.1"}
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-host.invalid")
    assert node_probes.address()["by_name"] == ""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    assert node_probes.address()["is_own"]
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setattr(node_probes.nodes, "name_address", lambda: "127.0.0.1")
    assert node_probes.address()["is_own"]
