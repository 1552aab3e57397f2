"""Prepare, train and score on 1, 2 and 4 simulated nodes that have a fraction of a core each.

    python benchmarks/nodes.py [--nodes 1 2 4] [--cores-per-node 0.5] [--rows 1000000]

A node is a raylet of ``ray.cluster_utils.Cluster`` with its workers, in a cgroup whose quota is
``--cores-per-node``. The head offers no CPU; the head and the commands are outside the cgroups. The
nodes share the memory and the disk of this machine, so no network is measured. Training uses a
tenth of the rows. The stages are timed. The tables of all runs must be the same, row for row. Linux
only, as root.
"""

import os
import secrets
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

import measuring
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Table

GROUPS = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds that a quota refers to."""
MODEL = {"cell": "gru", "hidden_size": 64, "bidirectional": True, "pooling": "mean_max"}


class Results(NamedTuple):
    """Tables that a run has made, in the order of ``row_id``."""

    prepared: pa.Table
    scored: pa.Table


def limit(name: str, cores: float) -> Path:
    """Make a cgroup that limits its processes to ``cores``, with priority over other processes."""
    quota = round(cores * PERIOD)
    is_v2 = (GROUPS / "cgroup.controllers").exists()
    if is_v2:
        parent = GROUPS
        settings = {"cpu.max": f"{quota} {PERIOD}", "cpu.weight": "10000"}
        (GROUPS / "cgroup.subtree_control").write_text("+cpu")
    else:
        parent = (GROUPS / "cpu").resolve()
        settings = {
            "cpu.shares": "100000",
            "cpu.cfs_period_us": str(PERIOD),
            "cpu.cfs_quota_us": str(quota),
        }
    group = parent / name
    group.mkdir()
    for key, value in settings.items():
        (group / key).write_text(value)
    return group


@contextmanager
def cluster_of(num_nodes: int, *, cores: float, folder: Path) -> Iterator[str]:
    """Start a head without a CPU, and nodes with one CPU each in cgroups; yields its address."""
    from ray.cluster_utils import Cluster

    Path("/tmp/ray").mkdir(exist_ok=True)  # Ray writes the address of a cluster there
    groups = [limit(f"nodes-{os.getpid()}-{number}", cores) for number in range(num_nodes)]
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": True,
            "dashboard_port": 0,
            "temp_dir": str(folder),
        },
    )
    try:
        for group in groups:  # a node starts in the group of this process
            (group / "cgroup.procs").write_text(str(os.getpid()))
            try:
                cluster.add_node(num_cpus=1, wait=False)
            finally:
                (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        cluster.wait_for_nodes(timeout=120)
        yield cluster.address
    finally:
        cluster.shutdown()
        for group in groups:
            remove(group)


def remove(group: Path) -> None:
    """Remove a cgroup when its processes have ended; wait 30 seconds for them, at most."""
    deadline = time.monotonic() + 30
    while (group / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.1)
    group.rmdir()


def run(
    made: Path, csv: Path, rows_per_file: int, cores: float, results: list[Results], num_nodes: int
) -> measuring.Figures:
    """Run the stages on one cluster.

    Args:
        made: A finished run on fewer rows: its tables are trained on, and its model scores.
        csv: The corpus.
        rows_per_file: Rows in a file of the results.
        cores: Cores of a node.
        results: The list that the results are added to.
        num_nodes: Nodes of the cluster.
    """
    settings = {
        "prepare.csv": csv,
        "prepare.rows_per_file": rows_per_file,
        "train.prepared_uri": made / "prepared",
        "train.model": MODEL,
        "train.num_epochs": 1,
        "train.batching.global_batch_size": 2048,
        "train.num_workers": num_nodes,
        "score.rows_per_file": rows_per_file,
        "score.model_uri": made,
    }
    with tempfile.TemporaryDirectory(prefix="n") as name:  # paths of sockets must be short
        output = Path(name, "run")
        figures = {}
        with cluster_of(num_nodes, cores=cores, folder=Path(name, "ray")) as address:
            for stage in ("prepare", "score", "train"):
                record = measuring.run_job(stage, output, settings, RAY_ADDRESS=address)
                figures[f"{stage}, s"] = record["seconds"]
        figures["epoch, s"] = record["history"][0]["seconds"]
        prepared = read_table(output / "prepared/encoded")
        scored = read_table(output / "scored/predictions")
    results.append(Results(prepared=prepared, scored=scored))
    return figures


def read_table(folder: Path) -> pa.Table:
    """Read the files of a table, in the order of ``row_id``."""
    return pq.read_table(folder, partitioning=None).sort_by("row_id")


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Run all stages on each number of nodes in turn; then compare their tables."""
    try:
        limit(f"nodes-{os.getpid()}-test", 1).rmdir()
    except OSError as error:
        print(f"nodes are not measured, which needs Linux, root and cgroups: {error}")
        return
    small = measuring.make_csv(folder / "small.csv", options.rows // 10)
    settings = {"prepare.csv": small, "train.model": MODEL, "train.num_epochs": 1}
    for verb in ("prepare", "train"):
        measuring.run_job(verb, folder / "made", settings)
    csv = measuring.make_csv(folder / "tweets.csv", options.rows)
    results: list[Results] = []
    rows_per_file = max(1, options.rows // 16)
    run_on = partial(run, folder / "made", csv, rows_per_file, options.cores_per_node, results)
    runs = {f"{number} nodes": partial(run_on, number) for number in options.nodes}
    yield f"nodes of {options.cores_per_node:g} cores", runs
    same = all(each == results[0] for each in results)
    print(f"\nthe tables of all runs are {'the same' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, nodes=[1, 2, 4], cores_per_node=0.5, rows=1_000_000)
