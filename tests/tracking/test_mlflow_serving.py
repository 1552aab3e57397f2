"""MLflow itself answers with a registered model as the package does."""

# ruff: noqa: F401, F811 - fixtures of another file

import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import mlflow
import pyarrow as pa
import pytest
import uvicorn
from mlflow.pyfunc import scoring_server
from test_model_registry import laws, register, sqlite

from sentiflow.models.package import ModelPackage
from sentiflow.tracking import model_registry

TEXTS = ["good morning", "bad", "unheard of", ""]


def expected(package: str) -> list[dict[str, object]]:
    """Answer the texts without MLflow."""
    scores = ModelPackage.load(package).score(pa.array(TEXTS))
    positive = {} if scores.probability is None else {"probability": scores.probability.tolist()}
    columns = {
        "label": [scores.classes[label] for label in scores.prediction],
        "confidence": scores.confidence.tolist(),
        **positive,
        **{
            f"probability_{name}": scores.probabilities[:, code].tolist()
            for code, name in enumerate(scores.classes)
        },
        "num_tokens": scores.num_tokens.tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


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


@pytest.mark.parametrize("classes", [("bad", "good", "so-so"), ("negative", "positive", "none")])
def test_a_model_of_several_classes_answers_with_each_through_mlflow(sqlite, make_package, classes):
    package = make_package(classes=classes)
    version, _ = register(package, sqlite, name="classes")
    source = model_registry.resolve(str(version), tracking_uri=sqlite).source
    loaded = mlflow.pyfunc.load_model(source)
    answers = [answer.model_dump() for answer in loaded.predict(TEXTS)]
    assert answers == expected(package)
    assert ("probability" in answers[0]) == ("positive" in classes)
    (output,) = loaded.metadata.signature.outputs.to_dict()
    assert set(output["properties"]) == set(answers[0])
