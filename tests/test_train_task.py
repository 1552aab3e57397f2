import numpy as np
import pyarrow as pa
import torch

from sentiflow import train_task, vocabulary
from sentiflow.sections import TrainSettings


def test_known_words_start_from_their_vectors_and_padding_from_zero():
    matrix = np.full((4, 3), np.nan, np.float32)
    matrix[2] = [1, 2, 3]
    words = vocabulary.Vocabulary(
        pa.array(["<pad>", "<unk>", "good", "zzzz"]), pa.nulls(4, pa.int64()), matrix
    )
    weight = train_task.build(TrainSettings(), words).embedding.weight
    assert weight[2].tolist() == [1, 2, 3]
    assert weight[0].tolist() == [0, 0, 0]
    assert torch.isfinite(weight).all()
    assert weight[3].abs().sum() > 0
