"""Shared by the tests: a quiet environment, one Ray, and one finished run of the pipeline."""

import fcntl
import functools
import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
import yaml

PROJECT = Path(__file__).parents[1]
REAL_DATA = PROJECT.parent / "shared" / "data"

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")
"""One thread for each process: two test processes with two threads each are several times slower
in small matrix products. Jobs choose their number of threads themselves."""

hypothesis.settings.register_profile("patient", deadline=None)  # the machine may be busy
hypothesis.settings.register_profile("same_examples", deadline=None, derandomize=True)
"""For ``make test``, which must give the same result for the same code; other test runs draw new
examples."""
hypothesis.settings.load_profile("patient")


LONGEST = [
    "test_job_client.py",  # it removes Ray's token; a Ray that runs then would end the process
    "test_several_nodes.py", "test_outage.py", "test_servers.py", "test_pipeline.py",
    "test_cluster_checks.py", "test_scored_averages.py", "test_score.py", "test_startup.py",
    "test_pages.py", "test_security.py", "test_sweep.py", "test_prepare.py", "test_ui.py",
    "test_refitted_run.py", "test_submit.py", "test_repeated_texts.py", "test_promotion.py",
    "test_champion_test.py", "test_resume.py", "test_trainer.py", "test_site.py",
]  # fmt: skip
"""The test files that run first: the longest ones.

The first file must run before any Ray is started in its process. The second file starts a cluster;
the two files after it start no Ray meanwhile.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that all test processes end at about the same time."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Use an empty cache instead of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache_home")
        patch.setenv("XDG_CACHE_HOME", str(path))
        yield path


@pytest.fixture(scope="session")
def glove() -> "WordVectors":  # noqa: F821
    """Load all vectors of the package."""
    from sentiflow.words import word_vectors

    return word_vectors.load("package:glove.6B.50d")


@pytest.fixture(scope="session")
def sample_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a synthetic corpus of 6,000 tweets."""
    from sentiflow.data import sample

    path = tmp_path_factory.mktemp("corpus") / "tweets.csv"
    path.write_bytes(b"".join(sample.generate(num_rows=6000, seed=1)))
    return path


@pytest.fixture(scope="session")
def resources() -> Iterator["cluster.Resources"]:  # noqa: F821
    """Start one local Ray for the whole session; all stages in this process use it."""
    from sentiflow.cluster import connection

    with connection.starting(verbose=False) as wait:
        yield wait()


@pytest.fixture(autouse=True)
def _levels() -> None:
    """Set the levels of logging to their values in a new process; earlier tests may change them."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("sentiflow").setLevel(logging.NOTSET)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Capture the messages to the user of a stage that runs in this process."""
    caplog.set_level("INFO", "sentiflow")
    return caplog


@functools.cache
def _empty_store() -> bytes:
    """Return the content of an empty SQLite store, which is made once for each MLflow version."""
    version = importlib.metadata.version("mlflow")
    cached = PROJECT / f"build/mlflow-{version}.db"
    if not cached.exists():
        from mlflow import MlflowClient

        cached.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
            MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
            Path(folder, "mlflow.db").replace(cached)
    return cached.read_bytes()


def make_store(folder: Path, name: str = "mlflow.db") -> str:
    """Put an MLflow store without runs into ``folder``, unless one is there; return its URI.

    The store is a copy of an empty store: MLflow needs seconds to make the tables of a new one.
    """
    path = folder / name
    if not path.exists():
        path.write_bytes(_empty_store())
    return f"sqlite:///{path}"


def messages(stderr: str) -> list[str]:
    """List the lines of a command without those that a busy machine adds: progress of a step."""
    progress = re.compile(r"[\d.,]+ (s|min|h) (so far|left)(, .*)?$")
    return [line for line in stderr.splitlines() if not progress.search(line)]


def without_token(path: object) -> str:
    """Remove key and token from the name of a part: equal runs have different tokens."""
    return re.sub(r"(part-\d+)-[0-9a-f]*-[0-9a-f]{8}", r"\1", str(path))


SMALL_MODEL = {"cell": "gru", "hidden_size": 32, "bidirectional": True, "pooling": "mean_max"}


def write_config(folder: Path, csv: Path, **sections: object) -> Path:
    """Write a settings file for a small, fast run below ``folder``."""
    config = {
        "name": "test",
        "output_uri": str(folder / "run"),
        "prepare": {"csv": str(csv), "rows_per_file": 2500, "vocabulary": {"min_count": 2}},
        "train": {
            "model": SMALL_MODEL,
            "batching": {"global_batch_size": 128},
            "num_epochs": 6,
            "learning_rate": 0.01,
        },
        "score": {"rows_per_file": 2500},
    }
    if "tracking" not in sections:
        config["tracking"] = {"uri": make_store(folder)}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config | sections))
    return path


@pytest.fixture(scope="session")
def sentiflow() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user does, in another process."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "sentiflow", *map(str, arguments)]
        defaults = {"capture_output": True, "text": True, "timeout": 200, "cwd": PROJECT}
        return subprocess.run(program, **(defaults | options))

    return run


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory, sample_csv: Path, sentiflow: Callable[..., object]
) -> Path:
    """Run the whole pipeline once for all processes of pytest-xdist; tests must not change it.

    The folder has ``config.yaml``, ``run``, ``mlflow.db``, and the output of the command in
    ``stdout.txt`` and ``stderr.txt``.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the processes share this folder
    folder = base / "finished"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "stderr.txt").exists():
            shutil.rmtree(folder, ignore_errors=True)  # another process failed to make it
            folder.mkdir()
            result = sentiflow("run", write_config(folder, sample_csv))
            assert result.returncode == 0, result.stderr
            (folder / "stdout.txt").write_text(result.stdout)
            (folder / "stderr.txt").write_text(result.stderr)
    return folder


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Start an S3 endpoint with one bucket; the environment of this process names the endpoint."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="corpus")
        yield "s3://corpus"
    server.stop()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the project like a clone, and add 15 MB of files that work leaves in a clone."""
    folder = tmp_path_factory.mktemp("clone") / "sentiflow"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True)
    for name in listed.stdout.split("\0"):
        if name and (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)
    for name in (".git/objects/pack", ".venv/lib/blob", "runs/x/blob", "data/tweets.csv", ".env"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(3_000_000))
    return folder


def new_package(
    *,
    seed: int = 0,
    sign: int = 1,
    classes: tuple[str, ...] = ("negative", "positive"),
    words: tuple[str, ...] = ("good", "bad", "morning", "day"),
    left_out: Sequence[str] = (),
    class_values: tuple[float, ...] | None = None,
) -> "ModelPackage":  # noqa: F821
    """Make a small model package that was not trained; equal seeds give equal packages.

    With ``sign=-1`` its predictions are the opposite.
    """
    import pyarrow as pa
    import torch

    from sentiflow.config.train_sections import RnnSettings
    from sentiflow.models import networks, vocabulary
    from sentiflow.models.package import ModelPackage
    from sentiflow.models.package_settings import PackageSettings
    from sentiflow.models.tokenizer import TOKENIZERS

    torch.manual_seed(seed)
    counts = pa.table({"word": words, "count": range(len(words) + 5, 5, -1)})
    known = vocabulary.fit(counts, min_count=1, max_size=None)
    model = RnnSettings(hidden_size=6)
    network = networks.build(
        model, vocabulary_size=len(known), embedding_dim=5, num_classes=len(classes)
    )
    priors = (0.75, 0.25)
    if len(classes) != 2:
        priors = (1 / len(classes),) * len(classes)
    with torch.no_grad():
        for parameter in network.output.parameters():
            parameter *= sign
    settings = PackageSettings(
        model=model,
        left_out=left_out,
        vocabulary_size=len(known),
        embedding_dim=5,
        tokenizer="tweet",
        tokenizer_version=TOKENIZERS["tweet"][0],
        max_length=20,
        classes=classes,
        class_values=class_values,
        priors=priors,
    )
    return ModelPackage(network.eval(), known, settings)


def with_weights(package: "ModelPackage", **changes: object) -> "ModelPackage":  # noqa: F821
    """Replace weights of a package in numpy; ``output__bias`` stands for ``output.bias``."""
    arrays = dict(package.arrays) | {k.replace("__", "."): v for k, v in changes.items()}
    return replace(package, network=replace(package.network, arrays=arrays))


@pytest.fixture(scope="session")
def make_package(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Save a :func:`new_package` with the given arguments; return its directory."""

    def make(uri: str | None = None, **arguments: object) -> str:
        uri = uri or str(tmp_path_factory.mktemp("package"))
        new_package(**arguments).save(uri, lineage={})
        return uri

    return make


@pytest.fixture
def folder(tmp_path):
    """Return the directory to which the stage under test writes."""
    return tmp_path / "made"


@pytest.fixture
def spec(folder):
    """Make the spec of an output in ``folder``; arguments change its settings and inputs."""
    from sentiflow.data.output_spec import OutputSpec
    from sentiflow.data.own_files import PART

    def make(*, stage="prepare", seed=0, csv="c5f0", **settings):
        return OutputSpec(
            stage=stage,
            uri=str(folder),
            settings={"seed": seed, "split": {"kind": "hash"}, "names": ("a", "b")} | settings,
            inputs={"csv": {"fingerprint": csv, "uri": "/in/tweets.csv"}},
            owns=(f"tables/{PART}",),
        )

    return make
