"""Jobs on simulated nodes: processes on this machine that share a fraction of a core each.

A node is a raylet of ``ray.cluster_utils.Cluster`` with its workers, in a cgroup whose quota is
``cores_per_node``; so 1, 2 and 4 nodes of half a core have 0.5, 1 and 2 cores to compute with,
whatever they believe to have. The head, which has no core to give, and the commands stand outside.
What this cannot show is a network: the nodes share the machine's memory and its disk.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scaling

GROUPS = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds over which a quota is counted."""
WEIGHT = 10_000
"""Where others want the cores too, a node gets its quota first; 1,024 is usual in cgroup v1, 100 in
v2."""
STAGES = {"prepare": "prepared", "score": "scored", "train": "trained"}
ROWS_PER_FILE = 62_500


class Limit:
    """A cgroup that gives its processes a share of a core, and counts what they use."""

    def __init__(self, name: str, cores: float) -> None:
        """Make the group.

        Raises:
            SystemExit: This process may not, or the machine has no such groups.
        """
        self.is_v2 = (GROUPS / "cgroup.controllers").exists()
        roots = [GROUPS] if self.is_v2 else [GROUPS / "cpu", GROUPS / "cpuacct"]
        self.places = list(dict.fromkeys((root / name) for root in map(Path.resolve, roots)))
        quota = round(cores * PERIOD)
        try:
            if self.is_v2:
                (GROUPS / "cgroup.subtree_control").write_text("+cpu")
            for place in self.places:
                place.mkdir(exist_ok=True)
            if self.is_v2:
                (self.places[0] / "cpu.max").write_text(f"{quota} {PERIOD}")
                (self.places[0] / "cpu.weight").write_text(str(WEIGHT))
            else:
                (self.places[0] / "cpu.shares").write_text(str(10 * WEIGHT))
                (self.places[0] / "cpu.cfs_period_us").write_text(str(PERIOD))
                (self.places[0] / "cpu.cfs_quota_us").write_text(str(quota))
        except OSError as error:
            raise SystemExit(
                f"scaling: cannot confine a node to {cores} cores: {error}; simulated nodes need "
                "Linux, root, and a cgroup with the cpu controller to write to"
            ) from error

    @property
    def seconds(self) -> float:
        """CPU seconds that its processes have used."""
        if self.is_v2:
            lines = (self.places[0] / "cpu.stat").read_text().splitlines()
            return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6
        return int((self.places[-1] / "cpuacct.usage").read_text()) / 1e9

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Have this process, and so what it starts, in the group for the block."""
        homes = [self._home(place) for place in self.places]
        for place in self.places:
            (place / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            for home in homes:
                (home / "cgroup.procs").write_text(str(os.getpid()))

    def _home(self, place: Path) -> Path:
        """Find where in the tree of a group this process is now."""
        root, names = place.parent, [""] if self.is_v2 else place.parent.name.split(",")
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if set(controllers.split(",")) & set(names):
                return root / path.lstrip("/")
        return root

    def remove(self) -> None:
        """Take the group away, once its processes have ended."""
        deadline = time.monotonic() + 30
        for place in self.places:
            while (place / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
                time.sleep(0.1)
            place.rmdir()


@contextmanager
def cluster_of(num_nodes: int, *, cores: float, folder: Path) -> Iterator[tuple[str, list[Limit]]]:
    """Start a head without cores and confined nodes with one each; yields its address."""
    from ray.cluster_utils import Cluster

    names = ["head", *map(str, range(num_nodes))]
    sizes = [1.0, *[cores] * num_nodes]
    limits = [
        Limit(f"scaling-{os.getpid()}-{name}", size)
        for name, size in zip(names, sizes, strict=True)
    ]
    options = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": 0}
    head, *others = limits
    try:
        with head.joined():
            args = options | {"temp_dir": str(folder)}
            cluster = Cluster(initialize_head=True, head_node_args=args)
            try:
                for limit in others:
                    with limit.joined():
                        cluster.add_node(num_cpus=1, wait=False)
                cluster.wait_for_nodes(timeout=120)
                yield cluster.address, others
            finally:
                cluster.shutdown()
    finally:
        for limit in limits:
            limit.remove()


def hash_rows(folder: Path, columns: Sequence[str]) -> str:
    """Hash what stands in the rows of a table, in the order of their numbers."""
    table = pq.read_table(folder, columns=list(columns), partitioning=None).sort_by("row_id")
    digest = hashlib.sha256()
    for name in columns:
        column = table[name].combine_chunks()
        if pa.types.is_list(column.type):
            digest.update(pc.list_value_length(column).to_numpy().tobytes())
            column = column.flatten()
        digest.update(pc.fill_null(column, -1).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()[:16]


def run_once(folder: Path, made: Path, csv: Path, num_nodes: int, cores: float) -> dict:
    """Do the stages on one cluster; returns the seconds of each, and hashes of what came out.

    Args:
        folder: To be made, for the run.
        made: A finished run on fewer rows: training takes its prepared data, scoring its model.
        csv: What is prepared and scored.
        num_nodes: As many parts are worked on at a time, and as many workers train.
        cores: What a node may use of the machine.
    """
    folder.mkdir()
    own = Path(f"/tmp/sc{os.getpid()}")
    settings = scaling.settings_of(
        str(folder), str(csv), ROWS_PER_FILE, num_workers=num_nodes,
        batching={"global_batch_size": scaling.LARGE_BATCH}, prepared_uri=f"{made}/run/prepared",
    )  # fmt: skip
    settings["score"]["model_uri"] = f"{made}/run/trained/model"
    (folder / "config.yaml").write_text(json.dumps(settings))
    found: dict[str, Any] = {"nodes": num_nodes, "stages": {}}
    with cluster_of(num_nodes, cores=cores, folder=own) as (address, limits):
        for stage, place in STAGES.items():
            used = sum(limit.seconds for limit in limits)
            command = scaling.run_command(stage, folder / "config.yaml", RAY_ADDRESS=address)
            record = json.loads((folder / f"run/{place}/manifest.json").read_text())
            found["stages"][stage] = {
                "command": command,
                "stage": record["seconds"],
                "node_cpu": sum(limit.seconds for limit in limits) - used,
            }
    found["epoch"], found["loss"] = (record["history"][0][k] for k in ("seconds", "train_loss"))
    encoded = hash_rows(folder / "run/prepared/encoded", ("row_id", "token_ids"))
    scored = hash_rows(folder / "run/scored/predictions", ("row_id", "label", "probability"))
    shutil.rmtree(folder)
    shutil.rmtree(own, ignore_errors=True)
    return found | {"encoded": encoded, "scored": scored, "load": os.getloadavg()[0]}


def measure(
    folder: Path, numbers: Sequence[int], *, cores_per_node: float, num_rows: int, repeats: int
) -> dict:
    """Do the jobs on each number of nodes in turn; of the repeats, the fastest counts."""
    small = scaling.make_sample(folder / "small.csv", num_rows // 10)
    scaling.run_stages(folder / "made", small, ROWS_PER_FILE)
    csv = scaling.make_sample(folder / "tweets.csv", num_rows)
    runs: dict[int, list[dict]] = {number: [] for number in numbers}
    for repeat in range(repeats):
        for number in numbers:
            own = folder / f"nodes-{number}-{repeat}"
            runs[number].append(run_once(own, folder / "made", csv, number, cores_per_node))
            print(json.dumps(runs[number][-1]), file=sys.stderr)
    every = [run for found in runs.values() for run in found]
    return {
        "rows": num_rows,
        "rows_trained": num_rows // 10,
        "rows_per_file": ROWS_PER_FILE,
        "cores_per_node": cores_per_node,
        "repeats": repeats,
        "tables_are_equal": len({(run["encoded"], run["scored"]) for run in every}) == 1,
        "losses": sorted({run["loss"] for run in every}),
        "seconds": {str(number): summarize(found) for number, found in runs.items()},
    }


def summarize(runs: list[dict]) -> dict[str, dict[str, float]]:
    """Take the fastest of the repeats, and say how far they are apart."""
    found = {
        stage: {
            "best": min(run["stages"][stage]["stage"] for run in runs),
            "worst": max(run["stages"][stage]["stage"] for run in runs),
            "command": min(run["stages"][stage]["command"] for run in runs),
            "node_cpu": min(run["stages"][stage]["node_cpu"] for run in runs),
        }
        for stage in STAGES
    }
    epochs = [run["epoch"] for run in runs]
    return found | {"epoch": {"best": min(epochs), "worst": max(epochs)}}
