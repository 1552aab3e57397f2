"""A report lists the files and results that its predictions come from."""

import pytest
from conftest import new_package

from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.output_spec import OutputSpec
from sentiflow.evaluation.origin import describe_origin
from sentiflow.models import package_files

CSV = {"fingerprint": "c5f0", "files": [{"uri": "/in/tweets.csv", "tree_sha256": "ab" * 32}]}
FILE = {"fingerprint": "f11e", "files": [{"uri": "/in/vectors.txt", "tree_sha256": "cd" * 32}]}
PACKAGE = {"fingerprint": "9ac4", "uri": "/other/model"}


def describe(uri, inputs, trained=None):
    """Describe predictions by a new model in ``uri``, of data that were prepared from inputs."""
    model = package_files.to_input(uri, new_package().save(uri, lineage={}))
    prepared = {
        "stage": "prepare",
        "settings": {},
        "inputs": inputs,
        "counts": {"rows_read": 3, "accepted": 2, "rejected": 1},
    }
    corpus = {"uri": "/prepared", "fingerprint": "93e9"}
    scored = {
        "stage": "score",
        "settings": {},
        "inputs": {"model": model, "corpus": corpus},
        "counts": {"accepted": 2, "prior_only": 0},
        "versions": {},
    }
    spec = OutputSpec("evaluate", "/report", {}, {"scored": {"uri": "/s", "fingerprint": "5c04"}})
    return model, describe_origin(scored, ScoredCorpus(corpus, prepared), trained, spec)


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ({}, []),
        ({"vectors": FILE}, [("word vectors", "/in/vectors.txt", "cd" * 8)]),
        ({"vectors": PACKAGE}, [("word vectors", "/other/model", "9ac4")]),
    ],
)
def test_word_vectors_are_an_input_of_the_predictions(tmp_path, vectors, expected):
    uri = str(tmp_path / "model")
    model, found = describe(uri, {"csv": CSV, **vectors})
    assert found.lineage == [
        ("input file", "/in/tweets.csv", "ab" * 8),
        *expected,
        ("prepared data", "/prepared", "93e9"),
        ("model", uri, model["fingerprint"]),
        ("predictions", "/s", "5c04"),
    ]


@pytest.mark.parametrize(
    ("history", "expected"),
    [([], None), ([{"validation_accuracy": 0.75}], None), ([{"validation_accuracy": 0.5}], 0.75)],
)
def test_the_accuracy_of_the_model_is_told_where_its_network_has_another(
    tmp_path, history, expected
):
    metrics = {"validation/accuracy": 0.75}
    trained = {
        "stage": "train", "settings": {}, "history": history, "chosen_epoch": 1, "metrics": metrics,
    }  # fmt: skip
    _, found = describe(str(tmp_path / "model"), {"csv": CSV}, trained)
    assert found.model_accuracy == expected
