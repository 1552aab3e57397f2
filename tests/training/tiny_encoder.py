"""A sentence encoder that needs no weights: the sum of fixed random vectors of the words."""

import numpy as np

from sentiflow.data.arrays import hash_strings


class Hashes:
    def __init__(self, threads=1):
        self.given = []

    def encode(self, texts):
        self.given += texts
        words = [hash_strings(np.array(["", *text.lower().split()], object)) for text in texts]
        return np.stack(
            [sum(np.random.default_rng(each).normal(size=8) for each in row) for row in words]
        )
