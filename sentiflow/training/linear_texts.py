"""Virtual shards of train rows -> the texts and targets to which a worker fits linear models."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.training import soft_targets
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.virtual_shards import VirtualShards


class LinearTexts(NamedTuple):
    """N texts of a worker's train rows."""

    text: pa.Array
    label: np.ndarray
    """Labels of the model, -1 for an unlabelled text, int8."""
    teacher: np.ndarray | None
    """Probability of each class that the teachers give, (N, C) float32; None without teachers."""


def read(
    shards: VirtualShards, own: Iterable[int], *, num_taught_classes: int | None
) -> LinearTexts:
    """Read the texts of some shards.

    Args:
        shards: The shards of all train rows.
        own: Numbers of the shards to read.
        num_taught_classes: Number of classes if the rows have the answers of teachers, else None.
    """
    is_taught = num_taught_classes is not None
    columns = ["text", "label"]
    if is_taught:
        columns.append("teacher")
    labels = [np.zeros(0, np.int8)]
    answers = [np.zeros(0, np.float32)]
    texts: list[pa.Array] = []
    for shard in own:
        for table in shards.read(shard, range(shards.num_chunks), columns):
            labels.append(table["label"].to_numpy())
            texts += table["text"].chunks
            if is_taught:
                answers.append(table["teacher"].combine_chunks().flatten().to_numpy())
    teacher = None
    if num_taught_classes is not None:
        teacher = np.concatenate(answers).reshape(-1, num_taught_classes)
    return LinearTexts(
        text=pa.chunked_array(texts, pa.string()).combine_chunks(),
        label=np.concatenate(labels),
        teacher=teacher,
    )


def make_targets(
    texts: LinearTexts, classes: LearnedClasses, *, hard_weight: float, neighbor_weight: float = 0.0
) -> np.ndarray:
    """Compute the weight of each class in the loss of a text, ``(N, C)`` float32.

    Args:
        texts: The texts.
        classes: The C classes, and their weights.
        hard_weight: Weight of the label of a text that has an answer, too.
        neighbor_weight: Weight of the label that each neighboring class gets.
    """
    num_classes = len(classes.names)
    of_label = soft_targets.make_matrix(num_classes, neighbor_weight)
    # The label -1 of an unlabelled text is the last row, in which no class has a weight.
    targets = np.vstack([of_label, np.zeros_like(of_label[:1])])[texts.label]
    if texts.teacher is not None:
        is_labelled = (texts.label >= 0)[:, None]
        share = hard_weight * is_labelled
        targets = (share * targets + (1 - share) * texts.teacher).astype(np.float32)
    if classes.weights is not None:
        targets *= classes.weights
    return targets
