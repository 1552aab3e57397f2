"""Tensors + position of a training -> files that a crash while writing cannot spoil.

A checkpoint is a directory ``step-<number>`` with the tensors, and ``state.json``, which is written
last and holds the checksum of the tensors. One without it, or of another checksum, is passed over.
"""

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch

from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

FOLDER = "checkpoints"
TENSORS, STATE = "tensors.safetensors", "state.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from."""

    step: int
    """Optimizer steps made."""
    tensors: dict[str, torch.Tensor]
    """On the CPU."""
    state: dict[str, Any]
    """What else there is to know, in what JSON can hold."""


def save(root: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint below the directory ``root``."""
    folder = join(root, _name(checkpoint.step))
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    )
    filesystem.write_bytes(join(folder, TENSORS), content)
    state = {"sha256": hashlib.sha256(content).hexdigest(), "state": checkpoint.state}
    filesystem.write_bytes(join(folder, STATE), json.dumps(state).encode())


def list_steps(root: str) -> list[int]:
    """List the steps of the checkpoints that were written to their end, in order."""
    return [step for step, names in _find(root).items() if STATE in names]


def load(root: str, step: int) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ValueError: It is damaged.
        FileNotFoundError: There is none.
    """
    folder = join(root, _name(step))
    record = json.loads(filesystem.read_bytes(join(folder, STATE)))
    content = filesystem.read_bytes(join(folder, TENSORS))
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise ValueError(f"{join(folder, TENSORS)} is not the file that was saved")
    return Checkpoint(step, safetensors.torch.load(content), record["state"])


def load_last(root: str) -> Checkpoint | None:
    """Read the latest checkpoint that is whole; None if there is none."""
    for step in reversed(list_steps(root)):
        try:
            return load(root, step)
        except (ValueError, KeyError, FileNotFoundError) as error:
            log.warning("a damaged checkpoint is passed over: %s", error)
    return None


def keep(root: str, *, last: int, best: int | None = None) -> None:
    """Delete all checkpoints but the last few and the best, and what a crash has left."""
    whole = list_steps(root)
    kept = {*whole[-last:], best}
    for step, names in _find(root).items():
        folder = join(root, _name(step))
        if step not in kept:
            if STATE in names:
                filesystem.delete(join(folder, STATE))
            filesystem.delete(folder)
        else:
            for name in names - {TENSORS, STATE}:
                filesystem.delete(join(folder, name))


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _find(root: str) -> dict[int, set[str]]:
    """Find the directories of checkpoints, whole or not, by step, with the files in them."""
    found: dict[int, set[str]] = {}
    for path in filesystem.listing(root):
        match = re.fullmatch(r"step-([0-9]+)/([^/]+)", path)
        if match:
            found.setdefault(int(match[1]), set()).add(match[2])
    return dict(sorted(found.items()))
