"""A dropout mask follows from seed, step and shard alone."""

import numpy as np
import torch

from sentiflow.training.dropout_masks import draw_dropout_mask


def draw(shape, **changes):
    options = {"dropout": np.full(50, 0.3, np.float32), "seed": 3, "step": 7, "first_shard": 0}
    return draw_dropout_mask(shape, **(options | changes))


def test_the_masks_of_a_shard_are_the_same_in_any_worker():
    whole = draw([4, 0, 3, 5])
    apart = [draw([4, 0]), draw([3], first_shard=2), draw([5], first_shard=3)]
    assert torch.equal(whole, torch.cat(apart))


def test_each_feature_has_its_own_dropout():
    mask = draw([2000, 2000], dropout=np.array([0.0, 0.5, 0.9], np.float32))
    np.testing.assert_allclose((mask == 0).float().mean(dim=0), [0, 0.5, 0.9], atol=0.02)
    np.testing.assert_allclose(mask.mean(dim=0), 1, atol=0.2)
