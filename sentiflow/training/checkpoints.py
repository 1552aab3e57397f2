"""Tensors and position of a training -> checkpoint files that survive a crash while writing.

A checkpoint is a directory ``step-<number>-<token>`` with the tensors and ``state.json``; no two
writes share a name. Each file appears whole, ``state.json`` last: a checkpoint without it is
skipped.
"""

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch

from sentiflow.data.manifest_types import FileEntry
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A saved state of a training, from which it resumes."""

    step: int
    """Optimizer steps made."""
    tensors: dict[str, torch.Tensor]
    """On the CPU after :func:`load`."""
    state: dict[str, Any]
    """What is not tensors, for JSON: the ``phase``; the ``position`` in it, that of
    :meth:`Trainer.position`; and the finished epochs of ``pretraining`` and of training, the
    ``history``, a :class:`results.EpochResult` each."""


def save(root: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint below the directory ``root``."""
    folder = join(root, f"step-{checkpoint.step:09d}-{secrets.token_hex(4)}")
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    )
    filesystem.write_bytes(join(folder, TENSORS), content)
    filesystem.write_bytes(join(folder, STATE), json.dumps(checkpoint.state).encode())


def list_steps(root: str) -> list[int]:
    """List the steps of the complete checkpoints, in order."""
    return [step for step, is_complete in _find(root).values() if is_complete]


def load(root: str, step: int) -> Checkpoint:
    """Read the complete checkpoint of a step, which there must be."""
    folders = {state: folder for folder, state in _find(root).items()}
    folder = join(root, folders[step, True])
    content = filesystem.read_bytes(join(folder, TENSORS))
    state = json.loads(filesystem.read_bytes(join(folder, STATE)))
    return Checkpoint(step, safetensors.torch.load(content), state)


def load_last(root: str) -> Checkpoint | None:
    """Read the latest checkpoint that is complete; None if there is none."""
    steps = list_steps(root)
    return load(root, steps[-1]) if steps else None


def keep(root: str, *, last: int, best: int | None = None) -> None:
    """Delete all checkpoints but the last few and the best, and the remains of crashes."""
    kept = {(step, True) for step in (*list_steps(root)[-last:], best)}
    for folder, state in _find(root).items():
        if state not in kept:
            filesystem.delete(join(root, folder))


def list_files(root: str, *, path: str) -> list[FileEntry]:
    """List all checkpoints for a manifest, whose directory has them below ``path``."""
    return [
        {"path": join(path, name), "rows": None, "bytes": size}
        for name, size in filesystem.sizes(root).items()
    ]


def find_below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Choose the tensors whose names begin with a prefix, and name them without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _find(root: str) -> dict[str, tuple[int, bool]]:
    """List the checkpoint directories in the order of their steps: the step, and if complete."""
    paths = filesystem.sizes(root)
    found = [re.match(r"(step-([0-9]+)-[0-9a-f]+)/", path) for path in sorted(paths)]
    return {each[1]: (int(each[2]), f"{each[1]}/{STATE}" in paths) for each in found if each}
