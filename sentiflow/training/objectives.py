"""Batch -> loss of each row, in classification or in language modeling."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sentiflow.models.batching import Batch, copy_to
from sentiflow.models.networks import Network, TweetRNN
from sentiflow.models.vocabulary import PAD_ID
from sentiflow.training import soft_targets

VECTORS = "network.embedding.weight"
"""Name of the large table among the parameters; a batch uses few of its rows."""
VALIDATION_STEP = 1 << 48
"""The step whose negative words validation uses after each epoch. No training reaches it."""

STREAMS = 256
"""Streams of random numbers of a step: one for the dropout mask of each virtual shard, and the last
one for negative words."""
_COUNT_POWER = 0.75
"""Negative words are drawn by their count to this power."""
_MIN_EXPECTED = 1e-30
"""Keeps the logarithm of padding's expected number finite."""


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
    """The predicted class of each row, ``(B,)`` int64; None in language modeling."""


class ClassificationObjective(nn.Module):
    """The cross-entropy of a network's logits.

    In a batch with a teacher the target of a row is the teacher's probabilities, mixed with the
    one-hot label if the row has one. A prediction counts as correct if it is the class with the
    most weight in the target.
    """

    trained_parameters: tuple[str, ...] = ("",)
    """Prefixes of the names of the parameters that get a gradient: here of all names."""

    class_weights: torch.Tensor | None

    def __init__(
        self,
        network: Network,
        *,
        class_weights: np.ndarray | None = None,
        hard_weight: float = 0.0,
        neighbor_weight: float = 0.0,
    ) -> None:
        """Take the network to train.

        Args:
            network: The network.
            class_weights: Weight of each class's term in the loss for the gradient, (C,) float32.
                The reported loss has no weights.
            hard_weight: Weight of the label in the target; the teacher has the rest.
            neighbor_weight: Weight of the label that each neighboring class gets in the target for
                the gradient. The reported loss is of the label alone.
        """
        super().__init__()
        self.network = network
        self.hard_weight = hard_weight
        self.neighbor_weight = neighbor_weight
        weights = None if class_weights is None else torch.from_numpy(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def used_rows(self, batch: Batch, step: int) -> torch.Tensor:
        """List the word vectors that get a gradient; they may repeat."""
        return batch.token_ids.flatten()

    def forward(self, batch: Batch, dropout_mask: torch.Tensor | None, step: int) -> Losses:
        """Compute the loss of each row, and count the correct predictions."""
        logits = self.network(batch.token_ids, batch.lengths, dropout_mask).float()
        targets = self._compute_targets(batch, num_classes=logits.shape[1])
        trained_targets = targets
        if self.neighbor_weight:
            trained_targets = self._compute_targets(
                batch, num_classes=logits.shape[1], neighbor_weight=self.neighbor_weight
            )
        logs = logits.log_softmax(dim=1)
        predictions = logits.argmax(dim=1)
        losses = -(targets * logs).sum(dim=1)
        trained = losses
        if self.neighbor_weight or self.class_weights is not None:
            weights = 1 if self.class_weights is None else self.class_weights
            trained = -(trained_targets * weights * logs).sum(dim=1)
        return Losses(
            trained=trained,
            reported=losses.detach(),
            correct=(predictions == targets.argmax(dim=1)).sum(),
            predictions=predictions,
        )

    def _compute_targets(
        self, batch: Batch, *, num_classes: int, neighbor_weight: float = 0.0
    ) -> torch.Tensor:
        """Return the weight of each class that a row is to learn, ``(B, C)`` float32."""
        targets = nn.functional.one_hot(batch.labels.clamp(min=0), num_classes).float()
        if neighbor_weight:
            of_label = torch.from_numpy(soft_targets.make_matrix(num_classes, neighbor_weight))
            targets = targets @ of_label.to(targets.device)
        if batch.teacher is None:
            return targets
        is_labelled = (batch.labels >= 0).float()[:, None]
        share = self.hard_weight * is_labelled
        return (1 - share) * batch.teacher + share * targets


class _Negatives(NamedTuple):
    """The distinct negative words of a step."""

    words: torch.Tensor
    """Their ids, ascending, ``(K,)`` int64."""
    vectors: torch.Tensor
    """``(K, D)``."""
    bias: torch.Tensor
    """The bias of each word's logit, ``(K,)``."""


class LanguageModeling(nn.Module):
    """Next-word prediction by the recurrent layer, which pretrains it without labels.

    The forward direction predicts the next word, the backward direction the previous one; each
    has seen the words of one side only. The output layer shares the word vectors. The loss is a
    sampled softmax (Jean et al. 2015) against ``num_negatives`` words, the same for a whole step.
    They are drawn by their count to the power 0.75 (Mikolov et al. 2013).
    """

    trained_parameters: tuple[str, ...] = (
        VECTORS,
        "network.forward_layers.0.",
        "network.backward_layers.0.",
        "heads.",
        "bias",
    )

    def __init__(
        self, network: TweetRNN, *, counts: np.ndarray, num_negatives: int, seed: int
    ) -> None:
        """Add an output layer for each direction.

        Args:
            network: The network to train.
            counts: Count of each word in the train split, V numbers; padding's count is ignored.
                Unlabelled texts are not counted even where they are read, so that validation losses
                with and without such texts can be compared.
            num_negatives: Negative words of the sampled softmax.
            seed: Seed of the negatives.
        """
        super().__init__()
        self.network = network
        self.num_negatives = num_negatives
        self.seed = seed
        share = np.maximum(counts, 1).astype(np.float64) ** _COUNT_POWER
        share[PAD_ID] = 0
        share /= share.sum()
        self._ends = np.cumsum(share)
        expected = np.maximum(share * num_negatives, _MIN_EXPECTED)
        log_expected = torch.from_numpy(np.log(expected)).float()
        self.register_buffer("log_expected", log_expected, persistent=False)
        dim = network.embedding.embedding_dim
        self.heads = nn.ModuleList(nn.Linear(each.hidden_size, dim) for each in network.directions)
        self.bias = nn.Parameter(torch.zeros(len(counts)))

    def draw_negatives(self, step: int) -> torch.Tensor:
        """Draw the negative words of a step, the same in every worker."""
        stream = step * STREAMS + STREAMS - 1
        random = np.random.Generator(np.random.Philox(key=[self.seed, stream]))
        words = np.searchsorted(self._ends, random.random(self.num_negatives), side="right")
        return torch.from_numpy(np.minimum(words, len(self._ends) - 1))

    def used_rows(self, batch: Batch, step: int) -> torch.Tensor:
        """List the word vectors that get a gradient; they may repeat."""
        ids = batch.token_ids.flatten()
        return torch.cat([ids, copy_to(self.draw_negatives(step), ids.device)])

    def forward(self, batch: Batch, dropout_mask: torch.Tensor | None, step: int) -> Losses:
        """Compute each row's mean loss, and sum the rows' shares of correctly predicted words.

        Words and directions of a row have equal weight; a row of one word has loss 0. Padding is
        predicted, too, with weight 0: leaving it out would need the number of words, and so a wait
        for the GPU.
        """
        states = self.network.encode(batch.token_ids, batch.lengths, dropout_mask)
        size = self.heads[0].in_features
        words = batch.token_ids.T.contiguous()
        forward = (states[:-1, :, :size], words[1:])
        backward = (states[1:, :, size:], words[:-1])
        negatives = self._look_up(self.draw_negatives(step))
        num_next = batch.lengths - 1
        steps = torch.arange(len(words) - 1, device=words.device)
        has_next = steps[:, None] < num_next
        weights = has_next / (len(self.heads) * num_next.clamp(min=1)).float()
        losses = torch.zeros(len(batch.lengths), device=states.device)
        correct = torch.zeros((), device=states.device)
        # A network of one direction has one head, so the backward part is not used.
        for head, (state, targets) in zip(self.heads, (forward, backward), strict=False):
            queries = head(state).flatten(end_dim=1)
            loss, is_correct = self._predict(queries, targets.flatten(), negatives)
            losses = losses + (loss.view_as(weights) * weights).sum(dim=0)
            correct = correct + (is_correct.view_as(weights) * weights).sum()
        return Losses(trained=losses, reported=losses.detach(), correct=correct)

    def _look_up(self, drawn: torch.Tensor) -> _Negatives:
        """Look up the vectors of drawn words, and the bias of their logits.

        A word drawn c times counts c times, so log c is added to its logit.
        """
        distinct, counts = drawn.unique(return_counts=True)
        words = copy_to(distinct, self.bias.device)
        counts = copy_to(counts, self.bias.device)
        bias = (self.bias - self.log_expected)[words] + counts.log()
        return _Negatives(words=words, vectors=self.network.embedding(words), bias=bias)

    def _predict(
        self, queries: torch.Tensor, targets: torch.Tensor, negatives: _Negatives
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss of N target words, and whether each has the largest logit.

        A negative word that is the target is left out.

        Args:
            queries: ``(N, D)``, whose products with word vectors are logits.
            targets: ``(N,)`` int64.
            negatives: The negative words.
        """
        last = len(negatives.words) - 1
        place = torch.searchsorted(negatives.words, targets).clamp(max=last)
        is_equal = negatives.words[place] == targets
        logits = (queries * self.network.embedding(targets)).sum(dim=1)
        logits = logits + (self.bias - self.log_expected)[targets]
        with torch.autocast(queries.device.type, enabled=False):
            logits = logits.float()[:, None]
            negative = torch.addmm(negatives.bias, queries.float(), negatives.vectors.float().T)
            scores = torch.cat([logits, negative], dim=1)
            # If no negative equals the target, its logit is written to column 0, where it stands.
            column = torch.where(is_equal, place + 1, 0)[:, None]
            value = torch.where(is_equal[:, None], -torch.inf, logits)
            scores.scatter_(1, column, value)
            losses = nn.functional.cross_entropy(
                scores, torch.zeros_like(targets), reduction="none"
            )
        largest = scores[:, 1:].detach().amax(dim=1)
        is_correct = logits.squeeze(1) > largest
        return losses, is_correct.float()
