"""MLflow itself answers with a registered model as the package does."""

# ruff: noqa: F401, F811 - fixtures of another file

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest
import uvicorn
from mlflow.pyfunc import scoring_server
from test_registry import laws, register, sqlite
from test_servers import wait_for_port

from sentiflow.models.package import ModelPackage
from sentiflow.tracking import registry

BIN = Path(sys.executable).parent
TEXTS = ["good morning", "bad", "unheard of", ""]


def expected(package: str) -> list[dict[str, object]]:
    """Answer the texts without MLflow."""
    scores = ModelPackage.load(package).score(pa.array(TEXTS))
    positive = {} if scores.probability is None else {"probability": scores.probability.tolist()}
    columns = {
        "label": [scores.classes[label] for label in scores.prediction],
        **positive,
        **{
            f"probability_{name}": scores.probabilities[:, code].tolist()
            for code, name in enumerate(scores.classes)
        },
        "num_tokens": scores.num_tokens.tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def predict_by_mlflow(python_bin: Path, model: str, folder: Path, **variables: str) -> object:
    (folder / "texts.json").write_text(json.dumps({"inputs": TEXTS}))
    command = [python_bin / "mlflow", "models", "predict", "--env-manager", "local"]
    command += ["-m", model, "-i", folder / "texts.json", "-o", folder / "answers.json"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, check=True, env=environment | variables, cwd=folder)
    return json.loads((folder / "answers.json").read_text())


@contextlib.contextmanager
def answering(model: str) -> Iterator[str]:
    """Let the web application of ``mlflow models serve`` answer in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = scoring_server.init(mlflow.pyfunc.load_model(model))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def ask(address: str, body: object) -> object:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_what_mlflow_serves_answers_as_the_package_does(laws):
    with answering(laws.resolve().source) as address:
        assert ask(address, {"inputs": TEXTS}) == {"predictions": expected(laws.package)}
        assert ask(address, {"inputs": []}) == {"predictions": []}
        with pytest.raises(urllib.error.HTTPError, match="400") as error:
            ask(address, {"inputs": [3]})
        assert "Expected type str, but got int" in json.load(error.value)["message"]


@pytest.fixture
def fresh_bin(laws, tmp_path) -> Iterator[Path]:
    """Make an environment of nothing but what the model requires."""
    root = Path(laws.resolve().source)
    venv.create(tmp_path / "fresh", with_pip=True)
    command = [tmp_path / "fresh/bin/pip", "install", "--quiet", "--no-compile"]
    subprocess.run([*command, "-r", root / "requirements.txt"], check=True)
    yield tmp_path / "fresh/bin"
    shutil.rmtree(tmp_path / "fresh")


@pytest.mark.soak
def test_an_environment_of_the_models_own_requirements_is_enough(laws, fresh_bin, tmp_path):
    root = Path(laws.resolve().source)
    listed = subprocess.run([fresh_bin / "pip", "list"], check=True, capture_output=True, text=True)
    assert not {"sentiflow", "ray"} & {line.split()[0] for line in listed.stdout.splitlines()}
    answers = predict_by_mlflow(fresh_bin, str(root), tmp_path)
    assert answers == {"predictions": expected(laws.package)}
    script = (
        f"from mlflow import pyfunc; pyfunc.load_model({str(root)!r}).predict(['good']); "
        "import sentiflow.models.package as p; print(p.__file__)"
    )
    command = [fresh_bin / "python", "-I", "-c", script]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert Path(ran.stdout.strip()) == root / "code/sentiflow/models/package.py"


@pytest.mark.parametrize("classes", [("bad", "good", "so-so"), ("negative", "positive", "none")])
def test_a_model_of_several_classes_answers_with_each_through_mlflow(sqlite, make_package, classes):
    package = make_package(classes=classes)
    version, _ = register(package, sqlite, name="classes")
    source = registry.resolve(str(version), tracking_uri=sqlite).source
    loaded = mlflow.pyfunc.load_model(source)
    answers = [answer.model_dump() for answer in loaded.predict(TEXTS)]
    assert answers == expected(package)
    assert ("probability" in answers[0]) == ("positive" in classes)
    (output,) = loaded.metadata.signature.outputs.to_dict()
    assert set(output["properties"]) == set(answers[0])
