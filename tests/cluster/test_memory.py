"""Freed memory is kept for the next array, of PyTorch or of Arrow."""

import resource
import subprocess
import sys

PROGRAM = """
import resource, sys
import numpy as np, pyarrow as pa, torch
from sentiflow.cluster import memory

import pyarrow.compute

memory.keep_freed()

def count_faults(work, *arguments):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        work(*arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def make(num_numbers):
    torch.zeros(num_numbers).add_(1)

for num_bytes in map(int, sys.argv[1:]):
    ones = pa.array(np.ones(num_bytes // 8))
    for work in ((make, num_bytes // 4), (pa.compute.add, ones, 1)):
        count_faults(*work)
        print(num_bytes, count_faults(*work))
"""


def test_freed_memory_is_kept_for_the_next_array():
    command = [sys.executable, "-c", PROGRAM, str(8 << 20), str(100 << 20)]
    kept = subprocess.run(command, capture_output=True, check=True, text=True)
    found = [tuple(map(int, line.split())) for line in kept.stdout.splitlines()]
    assert len(found) == 4
    for num_bytes, faults in found:
        assert faults < 20 * num_bytes / resource.getpagesize() / 4
