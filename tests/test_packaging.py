"""The wheel, the sdist and the image: what they hold and say, and that they work elsewhere."""

import ast
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

import pyarrow as pa
import pytest
from conftest import PROJECT

from sentiflow.models.package import ModelPackage

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


def block_of_serving(language: str) -> str:
    """Return the only block in a language that docs/serving.md has."""
    page = (PROJECT / "docs/serving.md").read_text()
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return block


class Image:
    """What the Dockerfile of docs/serving.md makes, in a folder in place of an image."""

    def __init__(self, root: Path) -> None:
        """Make a new environment, and a folder for the files that the Dockerfile copies."""
        self.root = root
        self.context = root / "context"
        self.context.mkdir()
        self.command: list[str] = []
        venv.create(root / "usr", with_pip=True)

    def run(self, *command: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as in the image: nothing of this environment is there."""
        variables = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        variables["PATH"] = f"{self.root}/usr/bin:/usr/bin:/bin"
        return subprocess.run(
            list(map(str, command)), cwd=self.root, env=variables, input=stdin,
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip

    def build(self, dockerfile: str) -> None:
        """Do the steps of a Dockerfile one by one."""
        for line in dockerfile.replace("\\\n", " ").splitlines():
            step, _, rest = line.partition(" ")
            if step == "COPY":
                *patterns, target = rest.split()
                for source in [path for each in patterns for path in self.context.glob(each)]:
                    if source.is_dir():
                        shutil.copytree(source, f"{self.root}{target}")
                    else:
                        Path(f"{self.root}{target}").mkdir(exist_ok=True)
                        shutil.copy(source, f"{self.root}{target}")
            elif step == "RUN":
                done = self.run("bash", "-c", rest.replace(" /", f" {self.root}/"))
                assert done.returncode == 0, done.stdout + done.stderr
            elif step == "ENTRYPOINT":
                self.command = [re.sub("^/", f"{self.root}/", word) for word in json.loads(rest)]
            else:
                assert step in ("FROM", "USER"), line

    @property
    def megabytes(self) -> float:
        """The size of the installed packages."""
        folder = sysconfig.get_path("purelib", vars={"base": str(self.root / "usr")})
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


@pytest.fixture(scope="module")
def small_image(built, make_package, tmp_path_factory) -> Image:
    image = Image(tmp_path_factory.mktemp("image"))
    (wheel,) = built.glob("*.whl")
    for path in (wheel, PROJECT / "sentiflow/models/requirements-predict.txt"):
        shutil.copy(path, image.context)
    make_package(str(image.context / "model"))
    image.build(block_of_serving("dockerfile"))
    return image


@pytest.mark.soak
def test_the_small_image_answers_lines_without_heavy_packages(small_image):
    print(f"installed packages: {small_image.megabytes:,.0f} MB")
    assert small_image.megabytes < 275, "docs/serving.md says 248"
    heavy = "torch pandas ray mlflow scipy sklearn matplotlib psutil"
    script = f"import importlib.util as i; print(*filter(i.find_spec, {heavy.split()!r}))"
    assert small_image.run("python", "-c", script).stdout.split() == []
    texts = ["good day", "bad bad day", "", "unheard of"]
    done = small_image.run(*small_image.command, stdin="\n".join(texts))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    scores = ModelPackage.load(str(small_image.context / "model")).score(pa.array(texts))
    for line, text, positive in zip(
        done.stdout.splitlines(), texts, scores.probabilities[:, 1], strict=True
    ):
        label, probability, written = line.split("\t")
        assert label == scores.classes[int(positive >= 0.5)]
        assert float(probability) == pytest.approx(positive, abs=1e-4)
        assert written == text


@pytest.mark.soak
def test_duckdb_calls_a_model_of_the_small_installation(small_image):
    install = small_image.run("python", "-m", "pip", "install", "--quiet", "duckdb")
    if install.returncode:
        pytest.skip(f"duckdb cannot be installed: {install.stderr.splitlines()[-1]}")
    done = small_image.run("python", "-c", block_of_serving("python"))
    assert done.returncode == 0, done.stderr
    (sad, _), (_, love), (_, nothing) = ast.literal_eval(done.stdout)
    assert sad == "so sad"
    assert 0 < love < 1
    assert nothing is None


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
