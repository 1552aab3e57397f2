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
    model = package_files.to_input(uri, new_package().save(uri, lineage={}))
    prepared = {
        "stage": "prepare",
        "settings": {},
        "inputs": {"csv": CSV, **vectors},
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
    found = describe_origin(scored, ScoredCorpus(corpus, prepared), None, spec).lineage
    assert found == [
        ("input file", "/in/tweets.csv", "ab" * 8),
        *expected,
        ("prepared data", "/prepared", "93e9"),
        ("model", uri, model["fingerprint"]),
        ("predictions", "/s", "5c04"),
    ]
