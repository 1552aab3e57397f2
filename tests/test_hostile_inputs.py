"""A manifest from a stranger names hosts: no byte is sent to them, and the answer comes anyway."""
# ruff: noqa: F811 -- fixtures are imported

import time

import pytest
from hostile_run import (  # noqa: F401
    MODEL,
    OTHER,
    RUN,
    box,
    put,
    received,
)
from listening_host import host  # noqa: F401
from test_cli import invoke
from test_hostile_packages import check_ended_well

from sentiflow.scoring import score_inputs
from sentiflow.storage.uris import shares_store
from sentiflow.tracking import model_sources

OPTIONS = "scheme=http&endpoint_override={host}&region=us-east-1"
URIS = {
    "options": f"s3://b?{OPTIONS}#",
    "options and a key": f"s3://b?{OPTIONS}/run/trained",
    "user and options": f"s3://AKIA:secret@b?{OPTIONS}#",
    "capitals": f"S3://b?{OPTIONS}#",
    "percent": f"s3://b%3F{OPTIONS}#",
    "fragment": f"s3://b#?{OPTIONS}",
    "user": "s3://AKIA:secret@other/run",
    "another bucket": "s3://other/run/trained",
    "host as bucket": "s3://{host}/run/trained",
    "two slashes": "s3:////{host}/run",
    "upwards": "s3://other/../b/run",
    "google": f"gs://b?{OPTIONS}#",
    "google, anonymous": f"gs://anonymous@b?{OPTIONS}#",
    "google, other name": f"gcs://b?{OPTIONS}#",
    "azure": "abfs://account:a2V5@{host}/container?enable_tls=false",
    "azure, container": "abfss://container@{host}/run",
    "hadoop": "hdfs://{host}/run",
    "hadoop, user": "hdfs://me@{host}/run?replication=1",
    "hadoop, view": "viewfs://{host}/run",
    "web": "http://{host}/run",
    "web, encrypted": "https://{host}/run",
    "fsspec, web": "fsspec+http://{host}/run",
    "fsspec, ftp": "fsspec+ftp://{host}/run",
    "fsspec, hadoop": "fsspec+webhdfs://{host}/run",
    "fsspec, chain": "fsspec+simplecache::http://{host}/run",
    "hub": "hf://datasets/a/b",
    "ftp": "ftp://{host}/run",
    "MLflow": "mlflow-artifacts://{host}/run",
    "file of a host": "file://{host}/run",
    "disk of a host": "/net/{host}/run",
    "share of a host": "//{host}/run",
}
PLACES = {
    "training of a package": ("inputs.training.uri", MODEL, "card {run}"),
    "training of predictions": ("inputs.model.training.uri", "scored", "compare {run} {other}"),
    "corpus of predictions": ("inputs.corpus.uri", "scored", "compare {other} {run}"),
    "data of a training": ("inputs.prepared.uri", "trained", "compare {run} {other}"),
}
EVERY = 4
"""Only each fourth case is in the fast tests."""


def list_cases():
    number = 0
    for place, (key, at, command) in PLACES.items():
        for name, uri in URIS.items():
            marks = [pytest.mark.soak] if number % EVERY else []
            yield pytest.param(key, at, command, uri, id=f"{place}-{name}", marks=marks)
            number += 1


def carry_out(command, box):
    names = {"run": box / RUN, "other": box / OTHER, "box": box.root}
    return invoke(*command.format(**names).split())


@pytest.mark.parametrize(("key", "at", "command", "uri"), [*list_cases()])
def test_no_byte_leaves_for_another_host(box, host, key, at, command, uri):
    put(key, uri.format(host=host.address), at)(box, box / RUN)
    before = box.look()
    began = time.monotonic()
    result = carry_out(command, box)
    assert not host.arrived
    assert time.monotonic() - began < 20
    check_ended_well(result, "works")
    assert box.look() == before


def test_the_host_would_notice(host):
    """The cases above mean something: a location that the user names is asked for."""
    result = invoke("card", "s3://bucket/run")
    assert result.exit_code == 2, result.output
    assert any(b"AKIAREADER" in request for request in host.arrived)


@pytest.mark.parametrize("uri", URIS.values(), ids=URIS)
def test_drift_sends_no_byte_to_another_host(box, host, uri):
    put("inputs.training.uri", uri.format(host=host.address))(box, box / RUN / MODEL)
    model = model_sources.describe(str(box / RUN / MODEL), tracking=None)
    learned = score_inputs.find_learned_files({"fingerprint": "c0", "files": []}, model)
    assert not host.arrived
    assert learned.names == []
    assert "the manifest that names it is in another store" in learned.unknown
    assert "\n" not in learned.unknown


@pytest.mark.parametrize("name", ["options", "another bucket", "web", "fsspec, web"])
def test_a_refit_asks_no_teacher_that_only_a_manifest_names(box, host, name):
    uri = URIS[name].format(host=host.address)
    settings = {"model": {"hidden_size": 6}, "distill": {"teachers": [uri]}}
    put("settings", settings, "trained")(box, box / RUN)
    command = "train {box}/shared/config.yaml --dry-run train.refit.of={run}"
    result = carry_out(command, box)
    assert not host.arrived
    check_ended_well(result, "refused")
    assert "names teachers in its settings" in result.stderr


@pytest.mark.parametrize("name", ["options", "another bucket", "web", "fsspec, web"])
def test_a_refit_reads_no_data_in_another_store(box, host, name):
    put("settings", {"model": {"hidden_size": 6}}, "trained")(box, box / RUN)
    put("inputs.prepared.uri", URIS[name].format(host=host.address), "trained")(box, box / RUN)
    command = "train {box}/shared/config.yaml --dry-run train.refit.of={run}"
    result = carry_out(f"{command} train.prepared_uri={box / 'out/none'}", box)
    assert not host.arrived
    check_ended_well(result, "refused")
    assert "train.prepared_uri: no prepared data are in" in result.stderr


EVALUATED = {
    "training": ("inputs.model.training.uri", "scored"),
    "model": ("inputs.model.uri", "scored"),
    "corpus": ("inputs.corpus.uri", "scored"),
    "data": ("inputs.prepared.uri", "trained"),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", ["options", "another bucket", "web", "fsspec, web"])
@pytest.mark.parametrize("place", EVALUATED)
def test_an_evaluation_sends_no_byte_to_another_host(box, host, place, name):
    key, at = EVALUATED[place]
    put(key, URIS[name].format(host=host.address), at)(box, box / RUN)
    command = "evaluate {box}/shared/config.yaml evaluate.scored_uri={run}/scored"
    result = carry_out(command, box)
    assert not host.arrived
    check_ended_well(result, "works")


PREFIX = "an input counts as gone: cannot open "
REASON = "/manifest.json: the manifest that names it is in another store"


@pytest.mark.parametrize("place", ["training of a package", "corpus of predictions"])
def test_a_line_says_what_is_not_read(box, host, place):
    key, at, command = PLACES[place]
    uri = f"s3://theirs/{key}"
    put(key, uri, at)(box, box / RUN)
    result = carry_out(command, box)
    lines = [line for line in result.stderr.splitlines() if uri in line]
    assert lines == [PREFIX + uri + REASON]


def test_the_training_of_a_package_is_read_on_the_same_machine(box):
    command = "card {run} --overwrite"
    carry_out(command, box)
    known = (box / "out/model_card.md").read_text()
    put("inputs.training.uri", "/elsewhere", MODEL)(box, box / RUN)
    check_ended_well(carry_out(command, box), "works")
    unknown = (box / "out/model_card.md").read_text()
    assert "rows were read" in known
    assert "rows were read" not in unknown


@pytest.mark.parametrize("uri", ["relative/run", "", ".", "/tmp/../etc", "file:///tmp/run"])
def test_a_location_on_this_machine_is_absolute(uri):
    assert not shares_store(uri, "/home/me/run/model")
