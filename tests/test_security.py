"""A job tells nobody its token, listens on loopback alone, and reports to no one."""

import ipaddress
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT, write_config

TELLS_BEFORE_IMPORT = """
import importlib, os, sys
import psutil, pyarrow.fs, pyarrow.parquet, pydantic, requests, sqlalchemy  # once for all

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("ray", "mlflow"):
            off = {"ray": "RAY_USAGE_STATS_ENABLED", "mlflow": "MLFLOW_DISABLE_TELEMETRY"}[name]
            os.write(1, f"{module} {name} {os.environ.get(off)}\\n".encode())
            os._exit(0)

sys.meta_path.insert(0, Watch())
for module in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(module)
        os._exit(0)
    os.wait()
"""


def test_telemetry_is_off_before_ray_or_mlflow_is_imported():
    """Each module is imported first of all, up to the line that imports one of them."""
    modules = [
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in (PROJECT / "sentiflow").rglob("*.py")
        if re.search(r"^(import|from) (ray|mlflow)\b", path.read_text(), re.MULTILINE)
    ]
    variables = ("RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY")
    result = subprocess.run(
        [sys.executable, "-c", TELLS_BEFORE_IMPORT, *modules],
        env={name: value for name, value in os.environ.items() if name not in variables},
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    found = [line.split() for line in result.stdout.splitlines()]
    assert {name for _, name, _ in found} == {"ray", "mlflow"}
    assert not {module for module, name, off in found if off != {"ray": "0"}.get(name, "true")}


class Watched:
    """What was seen of a command's processes while it ran."""

    def __init__(self) -> None:
        self.commands: set[str] = set()
        self.addresses: dict[str, set[str]] = {}

    def look(self, root: psutil.Process) -> None:
        for process in [root, *root.children(recursive=True)]:
            try:
                command = " ".join(process.cmdline())
                sockets = process.net_connections(kind="tcp")
            except psutil.Error:  # it has ended
                continue
            self.commands.add(command)
            for found in sockets:
                if found.status == "LISTEN":
                    self.addresses.setdefault(found.laddr.ip, set()).add(command)


def is_loopback(address):
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def files_below(*folders):
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path


@pytest.fixture
def ray_folder():
    """Make a folder with a path short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="rs"))
    yield folder
    shutil.rmtree(folder)


def watch(arguments, environment, *, token):
    """Run a command; returns its output, and what was seen of its processes."""
    command = [sys.executable, "-m", "sentiflow", *arguments]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=os.environ | environment, stdout=output, stderr=output
        )
        seen = Watched()
        while process.poll() is None:
            seen.look(psutil.Process(process.pid))
            time.sleep(0.5)
        output.seek(0)
        text = output.read()
    assert process.returncode == 0, text
    assert token not in text
    assert not [command for command in seen.commands if token in command]
    return text, seen


@pytest.mark.ray
@pytest.mark.slow
def test_the_token_is_written_nowhere_and_all_that_listens_is_on_loopback(
    tmp_path, ray_folder, sample_csv
):
    token = secrets.token_hex(32)
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").write_text(token)
    environment = {"HOME": str(home), "RAY_TMPDIR": str(ray_folder)}
    config = write_config(tmp_path, sample_csv)
    text, seen = watch(["prepare", str(config), "--verbose"], environment, token=token)
    assert "dashboard" in text.lower()
    assert any("gcs_server" in command for command in seen.commands)
    open_ones = {a: who for a, who in seen.addresses.items() if not is_loopback(a)}
    assert seen.addresses
    assert not open_ones
    logs = [path.name for path in files_below(ray_folder)]
    assert "gcs_server.out" in logs
    holders = [
        path for path in files_below(tmp_path, ray_folder) if token.encode() in path.read_bytes()
    ]
    assert holders == [home / ".ray/auth_token"]
    assert oct(holders[0].stat().st_mode)[-3:] == "600"


@pytest.mark.soak
@pytest.mark.ray
def test_a_whole_run_opens_no_port_to_others_but_that_of_torch(tmp_path, ray_folder, sample_csv):
    """PyTorch's store, through which training workers find each other, listens everywhere."""
    token = secrets.token_hex(32)
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").write_text(token)
    environment = {"HOME": str(home), "RAY_TMPDIR": str(ray_folder)}
    config = write_config(tmp_path, sample_csv)
    options = ["train.num_workers=2", "train.num_epochs=1", "--verbose"]
    _, seen = watch(["run", str(config), *options], environment, token=token)
    for address, commands in seen.addresses.items():
        assert is_loopback(address) or all("Train" in command for command in commands), address
    holders = [
        path for path in files_below(tmp_path, ray_folder) if token.encode() in path.read_bytes()
    ]
    assert holders == [home / ".ray/auth_token"]
