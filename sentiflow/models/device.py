"""Where a model computes if nobody chose a device."""

import os

_OF_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Files of the drivers of NVIDIA and AMD, and of the driver of WSL."""


def choose() -> str:
    """Choose ``cuda`` if PyTorch can use a GPU, else ``cpu``.

    PyTorch takes seconds to import. It is imported only on a machine that has the driver of a GPU.
    """
    if not any(os.path.exists(path) for path in _OF_GPUS):
        return "cpu"
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"
