"""Where a model computes by default; PyTorch is imported only where there may be a GPU."""

import builtins
import sys
from types import SimpleNamespace

import pytest

from sentiflow.models import device


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Make the file of a driver of a GPU."""
    path = tmp_path / "nvidiactl"
    path.touch()
    monkeypatch.setattr(device, "_OF_GPUS", (str(path),))


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(("is_available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_used_if_pytorch_can_use_it(monkeypatch, is_available, expected):
    cuda = SimpleNamespace(is_available=lambda: is_available)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert device.choose() == expected


@pytest.mark.usefixtures("driver")
def test_without_pytorch_it_is_the_cpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert device.choose() == "cpu"


def test_without_a_driver_pytorch_is_not_imported(monkeypatch):
    monkeypatch.setattr(device, "_OF_GPUS", ())
    imported = []
    original = builtins.__import__

    def record(name, *arguments):
        imported.append(name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", record)
    assert device.choose() == "cpu"
    assert "torch" not in imported
