"""Batch -> loss of each row, of classification or of language modeling."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sentiflow.models.batching import Batch, copy_to
from sentiflow.models.networks import Network, TweetRNN
from sentiflow.models.vocabulary import PAD_ID

VECTORS = "network.embedding.weight"
"""Name of the large table among the parameters; a batch uses few of its rows."""
VALIDATION_STEP = 1 << 48
"""The step whose negative words validation uses after each epoch. No training comes so far."""


@dataclass(frozen=True)
class Losses:
    """The losses of a batch of B rows."""

    trained: torch.Tensor
    """Loss of each row for the gradient, ``(B,)`` float32."""
    reported: torch.Tensor
    """Loss of each row for the metrics, ``(B,)`` float32, without gradient."""
    correct: torch.Tensor
    """Number of rows that are predicted correctly."""
    predictions: torch.Tensor | None = None
    """The class of each row, ``(B,)`` int64; None where there are no classes."""


class ClassificationObjective(nn.Module):
    """The cross-entropy of a network's logits.

    In a batch with a teacher the network learns the teacher's probabilities, mixed with 1 for the
    label, where there is one. A prediction counts as correct if it is the class with the most
    weight in the target.
    """

    trained_parameters = ("",)
    """With what the names of the parameters begin that get a gradient."""

    class_weights: torch.Tensor | None

    def __init__(
        self,
        network: Network,
        *,
        class_weights: np.ndarray | None = None,
        hard_weight: float = 0.0,
    ) -> None:
        """Take the network to train.

        Args:
            network: The network.
            class_weights: Weights of the rows of each class in the loss for the gradient, (C,)
                float32; of the terms of each class, where a teacher is learned. The reported loss
                has none.
            hard_weight: Weight of the label beside the teacher.
        """
        super().__init__()
        self.network, self.hard_weight = network, hard_weight
        weights = None if class_weights is None else torch.from_numpy(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def used_rows(self, batch: Batch, step: int) -> torch.Tensor:
        """List the word vectors that get a gradient; they may repeat."""
        return batch.token_ids.flatten()

    def forward(self, batch: Batch, dropout_mask: torch.Tensor | None, step: int) -> Losses:
        """Compute the loss of each row, and count the correct predictions."""
        logits = self.network(batch.token_ids, batch.lengths, dropout_mask).float()
        targets = nn.functional.one_hot(batch.labels.clamp(min=0), logits.shape[1]).float()
        if batch.teacher is not None:
            share = self.hard_weight * (batch.labels >= 0).float()[:, None]
            targets = (1 - share) * batch.teacher + share * targets
        logs, predictions = logits.log_softmax(dim=1), logits.argmax(dim=1)
        losses = trained = -(targets * logs).sum(dim=1)
        if self.class_weights is not None:
            trained = -(targets * self.class_weights * logs).sum(dim=1)
        correct = (predictions == targets.argmax(dim=1)).sum()
        return Losses(trained, losses.detach(), correct, predictions)


class LanguageModeling(nn.Module):
    """Next-word prediction by the first recurrent layer, which pretrains it without labels.

    The forward direction predicts the next word, the backward direction the previous one; each
    has seen the words of one side only. The output layer shares the word vectors. The loss is a
    sampled softmax (Jean et al. 2015) against ``num_negatives`` words, the same for a whole step.
    They are drawn by their count to the power 0.75 (Mikolov et al. 2013).
    """

    trained_parameters = (
        *(VECTORS, "network.forward_layers.0.", "network.backward_layers.0."),
        *("heads.", "bias"),
    )

    def __init__(
        self, network: TweetRNN, *, counts: np.ndarray, num_negatives: int, seed: int
    ) -> None:
        """Add an output layer for each direction.

        Args:
            network: The network to train.
            counts: Count of each word in the train split, V numbers; that of padding is ignored.
                They are those also where unlabelled texts are read: so validation losses with and
                without such texts can be compared.
            num_negatives: Negative words of the sampled softmax.
            seed: Seed of the negatives.
        """
        super().__init__()
        self.network, self.num_negatives, self.seed = network, num_negatives, seed
        share = np.maximum(counts, 1).astype(np.float64) ** 0.75
        share[PAD_ID] = 0
        share /= share.sum()
        self._ends = np.cumsum(share)
        expected = torch.from_numpy(np.log(np.maximum(share * num_negatives, 1e-30)))
        self.register_buffer("log_expected", expected.float(), persistent=False)
        directions = 2 if network.backward_layers else 1
        hidden_size = network.forward_layers[0].hidden_size
        dim = network.embedding.embedding_dim
        self.heads = nn.ModuleList(nn.Linear(hidden_size, dim) for _ in range(directions))
        self.bias = nn.Parameter(torch.zeros(len(counts)))

    def draw_negatives(self, step: int) -> torch.Tensor:
        """Draw the negative words of a step, the same in every worker."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, step * 256 + 255]))
        words = np.searchsorted(self._ends, random.random(self.num_negatives), side="right")
        return torch.from_numpy(np.minimum(words, len(self._ends) - 1))

    def used_rows(self, batch: Batch, step: int) -> torch.Tensor:
        """List the word vectors that get a gradient; they may repeat."""
        ids = batch.token_ids.flatten()
        return torch.cat([ids, copy_to(self.draw_negatives(step), ids.device)])

    def forward(self, batch: Batch, dropout_mask: torch.Tensor | None, step: int) -> Losses:
        """Compute each row's mean loss, and sum the rows' shares of correctly predicted words.

        Words and directions of a row have equal weight; a row of one word has loss 0. Padding is
        predicted, too, with weight 0: a GPU would be waited for to count the words.
        """
        states = self.network.encode(batch.token_ids, batch.lengths, dropout_mask)
        size, words = self.heads[0].in_features, batch.token_ids.T.contiguous()
        directions = [(states[:-1, :, :size], words[1:]), (states[1:, :, size:], words[:-1])]
        negatives = self._look_up(self.draw_negatives(step))
        num_next = batch.lengths - 1
        has_next = torch.arange(len(words) - 1, device=words.device)[:, None] < num_next
        weights = has_next / (len(self.heads) * num_next.clamp(min=1)).float()
        losses = torch.zeros(len(batch.lengths), device=states.device)
        correct = torch.zeros((), device=states.device)
        for head, (state, targets) in zip(self.heads, directions, strict=False):
            queries = head(state).flatten(end_dim=1)
            loss, is_correct = self._predict(queries, targets.flatten(), *negatives)
            losses = losses + (loss.view_as(weights) * weights).sum(dim=0)
            correct = correct + (is_correct.view_as(weights) * weights).sum()
        return Losses(losses, losses.detach(), correct)

    def _look_up(self, negatives: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the distinct negatives, their vectors, and the bias of their logits.

        A word drawn c times counts c times, so log c is added to its logit.
        """
        distinct = negatives.unique(return_counts=True)
        words, counts = (copy_to(tensor, self.bias.device) for tensor in distinct)
        bias = (self.bias - self.log_expected)[words] + counts.log()
        return words, self.network.embedding(words), bias

    def _predict(
        self,
        queries: torch.Tensor,
        targets: torch.Tensor,
        negatives: torch.Tensor,
        vectors: torch.Tensor,
        bias: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss of N target words, and whether each has the largest logit.

        A negative word that is the target is left out.
        """
        place = torch.searchsorted(negatives, targets).clamp(max=len(negatives) - 1)
        is_equal = negatives[place] == targets
        logits = (queries * self.network.embedding(targets)).sum(dim=1)
        logits = logits + (self.bias - self.log_expected)[targets]
        with torch.autocast(queries.device.type, enabled=False):
            logits = logits.float()[:, None]
            negative = torch.addmm(bias, queries.float(), vectors.float().T)
            scores = torch.cat([logits, negative], dim=1)
            # column 0 keeps the target's own logit where no negative equals it
            left_out = torch.where(is_equal, place + 1, 0)[:, None]
            scores.scatter_(1, left_out, torch.where(is_equal[:, None], -torch.inf, logits))
            losses = nn.functional.cross_entropy(
                scores, torch.zeros_like(targets), reduction="none"
            )
        return losses, (logits.squeeze(1) > scores[:, 1:].detach().amax(dim=1)).float()
