"""Tensors and position of a training -> checkpoint files that survive a crash while writing.

A checkpoint is a directory ``step-<number>`` with the tensors and ``state.json``. ``state.json`` is
written last and holds the checksum of the tensors. A checkpoint without it, or with another
checksum, is skipped.
"""

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from typing import Any, TypedDict

import safetensors.torch
import torch

from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.training.results import Phase

TENSORS, STATE = "tensors.safetensors", "state.json"

log = logging.getLogger(__name__)


class TrainerPosition(TypedDict):
    """Where a phase of the training stands. Steps and epochs are counted in the phase."""

    step: int
    epoch: int
    step_in_epoch: int
    sums: dict[str, float]
    """The epoch's sums of the metrics, by the names of ``trainer._SUMS``."""


class CheckpointState(TypedDict):
    """The part of a checkpoint that is not tensors."""

    phase: Phase
    position: TrainerPosition
    pretraining: list[dict[str, Any]]
    """Finished epochs of pretraining, a :class:`results.EpochResult` each."""
    history: list[dict[str, Any]]
    """Finished epochs of training, likewise."""


@dataclass(frozen=True)
class Checkpoint:
    """A saved state of a training, from which it resumes."""

    step: int
    """Optimizer steps made."""
    tensors: dict[str, torch.Tensor]
    """On the CPU after :func:`load`."""
    state: CheckpointState


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
    """List the steps of the complete checkpoints, in order."""
    return [step for step, names in _find(root).items() if STATE in names]


def load(root: str, step: int) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ValueError: The checkpoint is damaged.
        FileNotFoundError: There is no such checkpoint.
    """
    folder = join(root, _name(step))
    record = json.loads(filesystem.read_bytes(join(folder, STATE)))
    content = filesystem.read_bytes(join(folder, TENSORS))
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise ValueError(f"{join(folder, TENSORS)} is not the file that was saved")
    return Checkpoint(step, safetensors.torch.load(content), record["state"])


def load_last(root: str) -> Checkpoint | None:
    """Read the latest checkpoint that is complete and undamaged; None if there is none."""
    for step in reversed(list_steps(root)):
        try:
            return load(root, step)
        except (ValueError, KeyError, FileNotFoundError) as error:
            log.warning("skipping a damaged checkpoint: %s", error)
    return None


def keep(root: str, *, last: int, best: int | None = None) -> None:
    """Delete all checkpoints but the last few and the best, and the remains of crashes."""
    kept = {*list_steps(root)[-last:], best}
    for step, names in _find(root).items():
        folder = join(root, _name(step))
        remains = [join(folder, name) for name in names - {TENSORS, STATE}]
        for uri in remains if step in kept else [folder]:
            filesystem.delete(uri)


def find_below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Choose the tensors whose names begin with a prefix, and name them without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _find(root: str) -> dict[int, set[str]]:
    """List the files of each checkpoint directory by step, complete or not."""
    found: dict[int, set[str]] = {}
    for path in filesystem.listing(root):
        match = re.fullmatch(r"step-([0-9]+)/([^/]+)", path)
        if match:
            found.setdefault(int(match[1]), set()).add(match[2])
    return dict(sorted(found.items()))
