import numpy as np
import torch

from sentiflow.training import dropout_masks


def draw(shape, **changes):
    options = {"dropout": np.full(50, 0.3, np.float32), "seed": 3, "step": 7, "first_shard": 0}
    return dropout_masks.draw(shape, **(options | changes))


def test_the_masks_of_a_shard_are_the_same_in_any_worker():
    whole = draw([4, 0, 3, 5])
    apart = [draw([4, 0]), draw([3], first_shard=2), draw([5], first_shard=3)]
    assert torch.equal(whole, torch.cat(apart))


def test_features_are_dropped_at_their_rate_and_the_mean_stays():
    mask = draw([2000, 2000])
    assert set(mask.unique().tolist()) == {0.0, float(1 / (1 - np.float32(0.3)))}
    assert abs((mask == 0).float().mean() - 0.3) < 0.005


def test_seed_step_and_shard_each_give_other_masks():
    masks = [draw([9]), draw([9], seed=4), draw([9], step=8), draw([9], first_shard=1)]
    assert len({mask.numpy().tobytes() for mask in masks}) == 4


def test_each_feature_has_its_own_dropout():
    mask = draw([4000], dropout=np.array([0.0, 0.5, 0.9], np.float32))
    np.testing.assert_allclose((mask == 0).float().mean(dim=0), [0, 0.5, 0.9], atol=0.02)
    np.testing.assert_allclose(mask.mean(dim=0), 1, atol=0.2)


def test_no_row_needs_no_mask():
    assert draw([]).shape == (0, 50)
