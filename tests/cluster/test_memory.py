"""Freed memory is kept for the next array, of PyTorch or of Arrow."""

import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np, pyarrow as pa, torch
from sentiflow.cluster import memory

kind, num_bytes, keeps = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "keeps"
if keeps:
    memory.keep_freed()

def work():
    if kind == "torch":
        torch.zeros(num_bytes // 4).add_(1)
    else:
        pa.compute.add(ones, 1)

import pyarrow.compute
ones = pa.array(np.ones(num_bytes // 8))

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

count_faults()
print(count_faults())
"""


@pytest.mark.parametrize("kind", ["torch", "arrow"])
@pytest.mark.parametrize("num_bytes", [8 << 20, 100 << 20])
def test_freed_memory_is_kept_for_the_next_array(kind, num_bytes):
    command = [sys.executable, "-c", PROGRAM, kind, str(num_bytes)]
    kept = subprocess.run([*command, "keeps"], capture_output=True, check=True, text=True)
    assert int(kept.stdout) < 20 * num_bytes / resource.getpagesize() / 4
