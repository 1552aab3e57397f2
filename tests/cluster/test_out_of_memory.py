"""A worker that Ray's memory monitor ends is told in one line: where, how much, what to lower."""

import re
import subprocess
import sys

import pytest
from conftest import PROJECT

from sentiflow.cluster import memory

LINE = (
    r"the node \S+ ran out of memory \(\S+GB of \S+GB used\), so Ray ended a worker of this job: "
    r"set a smaller num_workers, rows_per_file or train.batching.global_batch_size; the same "
    r"command resumes"
)

RUN = """
import os, psutil, sys, time
used = psutil.virtual_memory()
threshold = (used.total - used.available + 1.2e9) / used.total
os.environ.update(RAY_memory_usage_threshold=f"{threshold:.3f}")
os.environ.update(RAY_memory_monitor_refresh_ms="100", RAY_task_oom_retries="0")
os.environ["RAY_AUTH_MODE"] = "disabled"
from sentiflow.cluster import connection, parts_on_ray
import numpy, ray
from sentiflow.errors import JobError
from sentiflow.training import workers

def grow(*_):
    arrays = []
    while True:
        arrays.append(numpy.ones(20_000_000))
        time.sleep(0.05)

ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
try:
    if sys.argv[1] == "parts":
        list(parts_on_ray.process({parts_on_ray.PartId(0): 0}, grow, notes_uri=sys.argv[2]))
    else:
        workers.train(grow, 0, num_workers=2, min_workers=2, cpus_per_worker=1, gpus_per_worker=0,
            resources=connection.count_resources(), storage_path=sys.argv[2], max_failures=0,
            max_wait_seconds=60, callback=print)
except JobError as error:
    print("END", error)
"""


def test_the_line_is_read_from_rays_message():
    text = (
        "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: "
        "10.0.0.7, ID: 8b32) was 4.38GB used / 23.54GB limit (0.186108)\nOOM kill reason: …"
    )
    assert re.fullmatch(LINE, memory.explain_out_of_memory(text))
    assert "10.0.0.7 ran out of memory (4.38GB of 23.54GB used)" in memory.explain_out_of_memory(
        text
    )
    assert memory.explain_out_of_memory("The worker died unexpectedly") == ""


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.parametrize("work", ["parts", "training"])
def test_rays_memory_monitor_ends_a_job_in_one_line(work, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, work, tmp_path],
        cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("END"))
    before = "a part" if work == "parts" else r"training worker \d"
    assert re.fullmatch(f"END {before} was lost: {LINE}", line), done.stderr[-3000:]
