"""A step that cannot be trusted ends the training, and names the settings to change."""
# ruff: noqa: F811 -- fixtures are imported

import pytest
import torch
import torch.distributed
from test_trainer import make_settings, make_trainer, train_all, uris  # noqa: F401

from sentiflow.errors import JobError, UserError


def test_a_gradient_that_is_not_finite_ends_the_training_before_a_checkpoint(uris):
    """The loss of its step is finite, and a checkpoint after it would be resumed for good."""
    trainer = make_trainer(uris)
    bias = trainer.objective.network.output.bias
    bias.register_hook(lambda gradient: gradient * (torch.nan if trainer.step == 1 else 1))
    steps = []
    with pytest.raises(JobError, match=r"the gradient of step 2 \(epoch 1\) is not finite; lower"):
        train_all(trainer, lambda: steps.append(trainer.step))
    assert steps == [1]
    assert not trainer.is_finite


@pytest.mark.parametrize("changes", [{}, {"pretrain": {"num_epochs": 1}}])
def test_a_loss_that_is_not_finite_names_the_settings(uris, changes):
    trainer = make_trainer(uris, make_settings(**changes))
    trainer.objective.network.embedding.weight.data[:] = torch.nan
    remedy = r"is not finite; lower train\.learning_rate or train\.clip_norm"
    with pytest.raises(JobError, match=rf"the loss of step 1 \(epoch 1\) {remedy}"):
        train_all(trainer)


def test_weights_spoilt_by_the_last_step_end_the_training_too(uris):
    trainer = make_trainer(uris)
    last = trainer.train.num_steps(0)

    def spoil():
        if trainer.step == last:
            trainer.objective.network.output.bias.data[:] = torch.nan

    with pytest.raises(JobError, match="the validation loss after epoch 1 is not finite; lower"):
        train_all(trainer, spoil)


def test_a_corpus_without_one_full_batch_is_refused(uris):
    batching = {"global_batch_size": 1000, "drop_last": True, "bucketing": "exact"}
    with pytest.raises(UserError, match="no full batch in the"):
        make_trainer(uris, make_settings(batching=batching))
