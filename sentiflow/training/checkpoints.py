"""Tensors and position of a training -> checkpoint files that survive a crash while writing.

A checkpoint is a directory ``step-<number>-<token>`` with the tensors and ``state.json``; no two
writes share a name. Each file appears whole, ``state.json`` last: a checkpoint without it is
skipped.
"""

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any, NamedTuple

import safetensors.torch
import torch

from sentiflow.data.manifest_types import FileEntry
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

TENSORS = "tensors.safetensors"
STATE = "state.json"

_FOLDER = re.compile("(?P<name>step-(?P<step>[0-9]+)-[0-9a-f]+)/")
"""Begins the path of a file of a checkpoint, relative to the directory of the checkpoints."""


@dataclass(frozen=True)
class Checkpoint:
    """A saved state of a training, from which it resumes."""

    step: int
    """Optimizer steps made."""
    tensors: dict[str, torch.Tensor]
    """On the CPU after :func:`load`."""
    state: dict[str, Any]
    """The rest, which is written as JSON: the ``phase``, the ``position`` in it (see
    :meth:`Trainer.position`), and the finished epochs: ``pretraining`` and ``history``, lists of
    :class:`reports.EpochResult` as dictionaries."""


class _Folder(NamedTuple):
    """The directory of a checkpoint."""

    name: str
    step: int
    is_complete: bool


def save(root: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint below the directory ``root``."""
    folder = join(root, f"step-{checkpoint.step:09d}-{secrets.token_hex(4)}")
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    filesystem.write_bytes(join(folder, TENSORS), safetensors.torch.save(tensors))
    filesystem.write_bytes(join(folder, STATE), json.dumps(checkpoint.state).encode())


def list_steps(root: str) -> list[int]:
    """List the steps of the complete checkpoints, in order."""
    return [folder.step for folder in _list_folders(root) if folder.is_complete]


def load(root: str, step: int) -> Checkpoint:
    """Read the complete checkpoint of a step, which must exist."""
    folders = _list_folders(root)
    names = [each.name for each in folders if each.step == step and each.is_complete]
    folder = join(root, names[-1])
    content = filesystem.read_bytes(join(folder, TENSORS))
    state = json.loads(filesystem.read_bytes(join(folder, STATE)))
    return Checkpoint(step=step, tensors=safetensors.torch.load(content), state=state)


def load_last(root: str) -> Checkpoint | None:
    """Read the latest complete checkpoint; None if there is none."""
    steps = list_steps(root)
    if not steps:
        return None
    return load(root, steps[-1])


def keep(root: str, *, last: int, best: int | None = None) -> None:
    """Keep some checkpoints, and delete all others, including incomplete ones.

    Args:
        root: Directory of the checkpoints.
        last: Number of the latest checkpoints to keep.
        best: Step of a further checkpoint to keep.
    """
    kept = {best, *list_steps(root)[-last:]}
    for folder in _list_folders(root):
        if not folder.is_complete or folder.step not in kept:
            filesystem.delete(join(root, folder.name))


def list_files(root: str, *, path: str) -> list[FileEntry]:
    """List the files of all checkpoints for a manifest.

    Args:
        root: Directory of the checkpoints.
        path: The same directory, relative to the directory of the manifest.
    """
    return [
        {"path": join(path, name), "rows": None, "bytes": size}
        for name, size in filesystem.sizes(root).items()
    ]


def find_below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Choose the tensors whose names begin with a prefix, and name them without it."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = tensor
    return found


def _list_folders(root: str) -> list[_Folder]:
    """List the checkpoint directories in the order of their steps."""
    paths = filesystem.sizes(root)
    folders = {}
    for path in sorted(paths):
        found = _FOLDER.match(path)
        if found is None:
            continue
        name = found["name"]
        is_complete = f"{name}/{STATE}" in paths
        folders[name] = _Folder(name=name, step=int(found["step"]), is_complete=is_complete)
    return list(folders.values())
