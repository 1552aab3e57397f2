"""The wheel, the sdist and the image: what they hold and say, and that they work elsewhere."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from conftest import PROJECT

QUICKSTART = "sentiflow/cli/quickstart.yaml"


def build(source: Path, to: Path, *options: object) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", to, *options, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(clone, tmp_path_factory) -> Path:
    """Build an sdist of a clone, and a wheel of the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build(clone, folder)
    return folder


@pytest.fixture
def wheel(built) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


@pytest.mark.soak
def test_the_packages_are_sound_and_hold_the_demo(built, wheel):
    files = sorted(built.iterdir())
    check = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(check, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    config = (PROJECT / "configs/quickstart.yaml").read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.read(QUICKSTART) == config
        assert "sentiflow/evaluation/templates/report.html.j2" in names
        tops = {name.split("/")[0] for name in names}
        assert len(tops) == 2, tops
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inner = {name.partition("/")[2] for name in archive.getnames()}
    assert {QUICKSTART, "configs/quickstart.yaml", "docs/install.md", "Dockerfile"} <= inner
    assert not [name for name in inner if name.startswith(("runs", "data", ".env", ".venv"))]


@pytest.mark.soak
def test_the_metadata_say_where_what_and_for_whom(metadata):
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert urls.keys() == {"Homepage", "Documentation", "Changelog"}
    assert "Operating System :: POSIX" in metadata.get_all("Classifier")
    assert metadata["Keywords"]
    assert set(metadata.get_all("Provides-Extra")) == settings["optional-dependencies"].keys()
    assert metadata["Requires-Python"] == settings["requires-python"]
    page = metadata.get_payload()
    links = re.findall(r"\]\(([^)]+)\)", page) + re.findall(r'src="([^"]+)"', page)
    assert len(links) > 10
    for link in links:
        assert link.startswith(("https://", "#")), link
        assert link.startswith((urls["Homepage"] + "/", "#")) or "://example.org" not in link
    for link in (link for link in links if link.startswith(urls["Homepage"])):
        assert (PROJECT / link.removeprefix(urls["Homepage"] + "/").split("#")[0]).exists(), link


@pytest.mark.soak
def test_the_image_gets_what_it_needs_and_nothing_else(clone, tmp_path):
    rules = (PROJECT / ".dockerignore").read_text().splitlines()
    assert rules[1] == "*"
    for source in (path for rule in rules if rule[0] == "!" for path in clone.glob(rule[1:])):
        target = tmp_path / source.relative_to(clone)
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    build(tmp_path, tmp_path / "dist", "--wheel")
    with zipfile.ZipFile(*(tmp_path / "dist").iterdir()) as archive:
        assert QUICKSTART in archive.namelist()
    text = (PROJECT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["1000:100"]
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["$PYTHON"] * 2, "one digest pins both"
    torch = re.search(r"^torch(\S+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)
    assert f'"torch{torch[1]}"' in text


@pytest.mark.soak
def test_a_small_environment_answers_texts(wheel, make_package, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    needed = PROJECT / "sentiflow/models/requirements-predict.txt"
    for what in (["--requirement", needed], ["--no-deps", wheel]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True, timeout=900)
    script = f"""
import sys, sentiflow
print(*sentiflow.load_model({make_package()!r}).predict(["good", None])["predicted_label"])
print(*(m for m in ("ray", "mlflow", "sklearn", "scipy", "matplotlib") if m in sys.modules))"""
    done = subprocess.run(
        [python, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    answers, heavy = done.stdout.split("\n")[:2]
    assert len(answers.split()) == 2, done.stderr
    assert not heavy
    folder = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "env")})
    sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    assert sum(sizes) < 1.3e9, "a CPU build of torch: docs/serving.md"


@pytest.mark.soak
@pytest.mark.parametrize("dependencies", ["installed", "newest"])
def test_the_wheel_runs_the_demo_in_a_fresh_environment(wheel, tmp_path, dependencies):
    """With the dependencies that are tested here, and with the newest ones that it allows."""
    venv.create(tmp_path / "env", with_pip=True)
    program = tmp_path / "env/bin"
    shared = site.getsitepackages([sys.prefix])[0]
    inner = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "env")})
    options = [wheel]
    if dependencies == "installed":
        Path(inner, "shared.pth").write_text(f"{shared}\n")  # not of sentiflow
        options = ["--no-deps", "--no-index", wheel]
    work = tmp_path / "work"
    work.mkdir()

    def run(*command: object) -> str:
        variables = {
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
            "PATH": f"{program}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "SHELL": "/bin/bash",
        }
        done = subprocess.run(
            list(map(str, command)),
            cwd=work, env=variables, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(program / "python", "-m", "pip", "install", *options)
    where = run(program / "python", "-c", "import sentiflow; print(sentiflow.__file__)")
    assert where.startswith(str(tmp_path / "env"))
    assert run("sentiflow", "--version").startswith("sentiflow ")
    shown = run(
        "bash", "-c", "sentiflow --show-completion; true"
    )  # typer asks which shell it is in
    assert "_sentiflow_completion" in shown
    assert "test accuracy" in run("sentiflow", "demo")
    figures = json.loads((work / "runs/quickstart/report/manifest.json").read_text())["figures"]
    assert figures["test"]["accuracy"] > 0.9
    assert {path.name for path in work.iterdir()} == {"mlflow.db", "mlruns", "runs"}
