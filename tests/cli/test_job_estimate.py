"""``submit --dry-run`` says what a job will take on its cluster, or why it cannot."""

import pytest
import yaml

from sentiflow.cli import job_estimate
from sentiflow.cluster import cluster_size, job_client
from sentiflow.cluster.resources import Resources
from sentiflow.config import settings
from sentiflow.data import sample
from sentiflow.errors import UserError


@pytest.fixture
def config(tmp_path):
    """Write the settings of a job with a corpus of 20,000 rows."""
    csv = tmp_path / "tweets.csv"
    csv.write_bytes(b"".join(sample.generate(num_rows=20_000, seed=1)))
    path = tmp_path / "job.yaml"
    settings = {
        "name": "job",
        "output_uri": str(tmp_path / "run"),
        "prepare": {"csv": str(csv)},
        "tracking": {"uri": "http://127.0.0.1:9"},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of some nodes; 0 cores: none has joined yet."""

    def make(num_nodes, node_cpus, num_gpus=0):
        resources = Resources(
            num_cpus=num_nodes * node_cpus, num_gpus=num_gpus, num_nodes=num_nodes,
            min_node_cpus=node_cpus, is_one_machine=False, may_grow=True,
        )  # fmt: skip
        monkeypatch.setattr(job_client, "connect", lambda url, verbose: None)
        monkeypatch.setattr(cluster_size, "count", lambda url: resources)

    return make


def describe(verb, config, *overrides):
    resolved = settings.load(config, overrides, command=verb, submitted=True)
    return job_estimate.describe(verb, resolved, "http://head:8265", verbose=False)


def test_the_stages_are_summed_up_with_the_cores_of_the_cluster(config, cluster):
    cluster(4, 16)
    line = describe("run", config)
    assert line.startswith("about ")
    assert " on 64 cores, " in line
    assert line.endswith(" core hours (prepare, train, score)")
    assert describe("prepare", config).endswith(" core hours (prepare)")


def test_without_cores_only_the_fewest_core_hours_are_known(config, cluster, monkeypatch):
    cluster(0, 0)
    line = describe("run", config)
    assert line.startswith("at least ")
    assert line.endswith(
        " core hours (prepare, train, score); http://head:8265 has no node with cores now"
    )
    assert " on " not in line.partition(";")[0]

    def refuse(url, verbose):
        raise UserError("no cluster answers at http://head:8265", hint="forward its port")

    monkeypatch.setattr(job_client, "connect", refuse)
    assert "; no cluster answers at http://head:8265: forward" in describe("run", config)


def test_what_cannot_be_estimated_is_said(config, cluster):
    cluster(1, 4, num_gpus=1)
    assert describe("evaluate", config) == "none for evaluate"
    assert describe("train", config) == "none: there is no rate for GPUs before a first run"
    line = describe("run", config, "prepare.csv=/data/elsewhere.csv")
    assert line.startswith("none: the data cannot be seen from here (no such file: ")
