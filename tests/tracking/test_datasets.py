"""Datasets of a run say where its inputs are, how many rows they have, and of which classes."""

import json

import pytest

from sentiflow.tracking import datasets

FILES = [
    {"uri": f"s3://bucket/in/tweets-{n}.csv", "bytes": 10, "modified_ns": 1, "tree_sha256": "a"}
    for n in range(120)
]


def to_dataset(value, *, stage="train"):
    """Give the only dataset, and what it was read for."""
    (dataset,) = datasets.to_datasets({"corpus": value}, stage=stage)
    return dataset.dataset, dataset.tags[0].value


def test_a_directory_has_the_name_of_the_input():
    dataset, context = to_dataset({"uri": "/runs/prepared", "fingerprint": "c5f0"})
    assert (dataset.name, dataset.digest) == ("corpus", "c5f0")
    assert (dataset.source_type, context) == ("local", "training")
    assert json.loads(dataset.source) == {"uri": "/runs/prepared"}


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (FILES[:1], "tweets-0.csv"),
        (FILES[:3], "tweets-0.csv and 2 more"),
        ([FILES[0] | {"uri": "/in/a.zip::train/tweets.csv"}], "tweets.csv"),
    ],
)
def test_files_have_the_name_of_the_first(files, name):
    assert to_dataset({"fingerprint": "c5f0", "files": files})[0].name == name


def test_many_files_are_counted_and_not_all_named():
    dataset, context = to_dataset({"fingerprint": "c5" * 32, "files": FILES}, stage="score")
    assert len(dataset.digest) == 36
    assert (dataset.source_type, context) == ("s3", "scoring")
    assert len(json.loads(dataset.source)["uris"]) == 100
    assert json.loads(dataset.profile) == {"files": 120, "bytes": 1200}


PREPARED = {
    "stage": "prepare",
    "counts": {
        "accepted": 10,
        "labels": {
            "train": {"bad": 3, "good": 2, "unlabelled": 1},
            "test": {"bad": 1, "good": 3, "unlabelled": 0},
        },
    },
    "inputs": {"csv": {"fingerprint": "c5f0", "files": FILES[:2]}},
}
PROFILE = {
    "num_rows": 10,
    "rows_by_split": {"train": 6, "test": 4},
    "classes": {"bad": 0.4444, "good": 0.5556},
    "unlabelled": 1,
}


def test_prepared_data_have_rows_and_shares_of_the_classes():
    assert datasets.describe_rows(PREPARED) == PROFILE
    (dataset,) = datasets.to_datasets(
        {"prepared": {"uri": "/p", "fingerprint": "c5"}},
        stage="train",
        profiles={"prepared": PROFILE},
    )
    assert json.loads(dataset.dataset.profile) == PROFILE


def test_predictions_have_shares_of_the_predicted_classes():
    counts = {"accepted": 4, "predicted": {"bad": 1, "good": 3}}
    found = datasets.describe_rows({"stage": "score", "counts": counts})
    assert found == {"num_rows": 4, "predicted_classes": {"bad": 0.25, "good": 0.75}}


def test_files_have_the_rows_that_their_stage_has_counted():
    profiles = datasets.list_profiles(PREPARED, None)
    assert profiles == {"csv": PROFILE}
    (dataset,) = datasets.to_datasets(PREPARED["inputs"], stage="prepare", profiles=profiles)
    assert json.loads(dataset.dataset.profile) == PROFILE | {"files": 2, "bytes": 20}
    kept = {"profiles": {"scored": {"num_rows": 7}}}
    record = {"stage": "trends", "counts": {"rows": 7}, "inputs": {"scored": {"uri": "/s"}}}
    assert datasets.list_profiles(record, kept) == kept["profiles"]
