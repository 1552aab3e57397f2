"""A sentence encoder that needs no weights: the sum of fixed random vectors of the words."""

import tempfile
from pathlib import Path

import numpy as np

from sentiflow.data.arrays import hash_strings

STOP = Path(tempfile.gettempdir(), "sentiflow-tiny-encoder.stop")
"""A text that cannot be encoded, if the file exists."""


class Hashes:
    def __init__(self, threads=1):
        self.given = []

    def encode(self, texts):
        assert not (STOP.exists() and STOP.read_text() in texts), "as if it was killed"
        self.given += texts
        words = [hash_strings(np.array(["", *text.lower().split()], object)) for text in texts]
        return np.stack(
            [sum(np.random.default_rng(each).normal(size=8) for each in row) for row in words]
        )
