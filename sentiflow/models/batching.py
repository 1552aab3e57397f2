"""Encoded rows -> padded tensors."""

from dataclasses import dataclass

import numpy as np
import torch

from sentiflow.models.encoded_rows import EncodedRows
from sentiflow.models.vocabulary import PAD_ID


def copy_to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor from the host to a device; a GPU copies while the host goes on."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Batch:
    """Padded tweets.

    Shape: (B tweets, T tokens of the longest)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``; T is at least 1.
        - lengths: ``(B,)`` int64.
        - labels: ``(B,)`` int64, or ``(0,)``; -1 for a tweet without a label.
        - teacher: ``(B, C)`` float32, or None.
    """

    token_ids: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    teacher: torch.Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors to a device, see :func:`copy_to`."""
        return Batch(
            token_ids=copy_to(self.token_ids, device),
            lengths=copy_to(self.lengths, device),
            labels=copy_to(self.labels, device),
            teacher=None if self.teacher is None else copy_to(self.teacher, device),
        )


def collate(rows: EncodedRows, chosen: np.ndarray) -> Batch:
    """Pad the chosen rows to the length of the longest."""
    starts = rows.offsets[chosen]
    lengths = rows.offsets[chosen + 1] - starts
    width = max(1, int(lengths.max()))
    padded = np.full((len(chosen), width), PAD_ID, np.int64)
    is_token = np.arange(width) < lengths[:, None]
    ends = np.cumsum(lengths)
    tokens_before = ends - lengths  # the first token of each chosen row, among all chosen tokens
    positions = np.arange(ends[-1]) + np.repeat(starts - tokens_before, lengths)
    padded[is_token] = rows.token_ids[positions]
    labels = rows.labels
    if len(labels):
        labels = labels[chosen]
    return Batch(
        token_ids=torch.from_numpy(padded),
        lengths=torch.from_numpy(lengths),
        labels=torch.from_numpy(labels.astype(np.int64)),
        teacher=None if rows.teacher is None else torch.from_numpy(rows.teacher[chosen]),
    )
