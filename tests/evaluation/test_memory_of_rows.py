"""A labelled row takes few bytes, so that hundreds of millions are evaluated in one process."""

import re
import subprocess
import sys

import pytest
from conftest import PROJECT

MAX_BYTES = 150
"""Bytes of memory that a labelled row may take. Measured: docs/scaling.md."""


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_labelled_row_takes_few_bytes():
    rows = ["400000", "1000000"]
    command = [
        sys.executable,
        PROJECT / "benchmarks/evaluate.py",
        "--repeats",
        "1",
        "--rows",
        *rows,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    (found,) = re.findall(r"(-?\d+) bytes a row from 400,000 to 1,000,000 rows", done.stdout)
    assert int(found) < MAX_BYTES
