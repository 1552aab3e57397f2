"""A driver whose only part ends when a file appears: waiting_part.py FOLDER MAX_FAILURES."""

import functools
import sys
import time
from pathlib import Path

from sentiflow.cluster import connection, parts_on_ray

# isort: split
import ray


def wait_until_released(part, part_id, *, folder):
    """Say on which node the part runs, and do not end before a file appears."""
    node = ray.get_runtime_context().get_node_id()
    (folder / f"{time.time_ns()}-{node}").touch()
    while not (folder / "released").exists():
        time.sleep(0.05)
    return "done"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    parts_on_ray._MAX_FAILURES = int(sys.argv[2])
    work = functools.partial(wait_until_released, folder=folder)
    with connection.starting(verbose=False) as wait_for_ray:
        wait_for_ray()
        parts = {parts_on_ray.PartId(0): "x"}
        (done,) = parts_on_ray.process(parts, work, notes_uri=str(folder / "losses"))
        print(done.result)
