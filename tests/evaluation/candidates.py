"""Fixtures: an MLflow store, a settings file, and models that become candidates in the store."""

import contextlib
import functools
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from conftest import make_store
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from stages import publish

from sentiflow.config import settings
from sentiflow.config.class_names import SENTIMENT140
from sentiflow.data.output_spec import OutputSpec
from sentiflow.evaluation import promotion
from sentiflow.models.package import ModelPackage
from sentiflow.storage import parquet
from sentiflow.tracking import experiment_store, mlflow_store, model_registry, recording
from sentiflow.tracking.model_registry import CANDIDATE
from sentiflow.tracking.runs import FINGERPRINT_TAG

TEXTS = ["good morning", "bad day", "good", "bad", "morning", "day bad good", "day", "morning day"]
NEUTRAL = 2
UNLABELLED = None


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    uri = make_store(tmp_path_factory.mktemp("store"))
    experiment_store.open_store(uri, experiment="laws", required=True)
    return uri


@pytest.fixture(scope="module")
def good(make_package) -> str:
    return make_package(seed=1, left_out=["neutral"])


@pytest.fixture(scope="module")
def bad(make_package) -> str:
    """Save a package that gives the opposite answers."""
    return make_package(seed=1, sign=-1, left_out=["neutral"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, good) -> str:
    """Prepare rows of which the good package gets 7 of 8 right, and some that are not compared."""
    uri = str(tmp_path_factory.mktemp("prepared") / "prepared")
    labels = ModelPackage.load(good).score(pa.array(TEXTS)).prediction.tolist()
    labels[3] = 1 - labels[3]
    spec = OutputSpec("prepare", uri, {}, {}, owns=("tweets",))
    parts = [
        ("test/part-0", [*TEXTS[:5], "neither"], [*labels[:5], NEUTRAL]),
        ("test/part-1", [*TEXTS[5:], "unknown"], [*labels[5:], UNLABELLED]),
        ("test/part-2", ["nobody knows"], [UNLABELLED]),
        ("train/part-0", TEXTS, [1 - label for label in labels]),
    ]
    files = []
    for name, texts, numbers in parts:
        table = pa.table({"text": texts, "label": pa.array(numbers, pa.int8())})
        files += parquet.write_part(uri, f"tweets/split={name}.parquet", table)
    publish(spec, files=files, classes=list(SENTIMENT140))
    return uri


@pytest.fixture
def config(tmp_path, request, store, prepared, monkeypatch) -> Path:
    """Write a settings file with a model name of its own."""
    name = re.sub(r"[^\w.-]+", "-", request.node.name)[:60].strip("-")
    sections = {"prepare": {"csv": "x.csv"}, "train": {"prepared_uri": prepared}}
    sections |= {"output_uri": str(tmp_path / "run"), "tracking": {"uri": store}}
    monkeypatch.setattr(promotion, "MAX_P_VALUE", 0.1)  # 7 rows to 1 have a p-value of 0.07
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"name": name} | sections))
    return path


@pytest.fixture(scope="module")
def log(store) -> Callable[[str], ModelVersion]:
    """Log packages to the store, each once."""

    @functools.cache
    def run(package: str) -> ModelVersion:
        opened = experiment_store.open_store(store, experiment="laws", required=True)
        with recording.open_run(opened, "train", group="0123abcd", tags={}) as recorder:
            version = model_registry.register(
                package, name="logged", tracking_uri=store, run_id=recorder.run_id
            )
        return mlflow_store.make_client(store).get_model_version("logged", str(version.number))

    return run


@pytest.fixture
def register(config, store, log) -> Callable[[str], int]:
    """Register packages, each as the candidate; gives the number of the version."""
    name = settings.load(config).name
    client = mlflow_store.make_client(store)

    def run(package: str) -> int:
        logged = log(package)
        tags = {FINGERPRINT_TAG: logged.tags[FINGERPRINT_TAG]}
        known = model_registry.find(name, tags[FINGERPRINT_TAG], tracking_uri=store)
        if known is None:
            with contextlib.suppress(MlflowException):  # it is there
                client.create_registered_model(name)
            made = client.create_model_version(
                name, logged.source, run_id=logged.run_id, tags=tags, model_id=logged.model_id
            )
        number = known.number if known else int(made.version)
        client.set_registered_model_alias(name, CANDIDATE, str(number))
        return number

    return run


def aliases(config: Path) -> dict[str, int]:
    loaded = settings.load(config)
    return model_registry.read_aliases(loaded.name, tracking_uri=loaded.tracking.uri)
