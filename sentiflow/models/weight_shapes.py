"""Weights + the shapes that are expected -> an error that names the first one that does not fit."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""Shapes of weights by their names in a package."""


def check(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> None:
    """Raise ``ValueError`` unless the weights have these names and shapes."""
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f'Missing key "{name}"')
        if arrays[name].shape != shape:
            raise ValueError(f"size mismatch for {name}: {arrays[name].shape}, expected {shape}")
    for name in arrays:
        if name not in shapes:
            raise ValueError(f'Unexpected key "{name}"')
