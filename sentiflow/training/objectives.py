"""Batch -> loss of each row, of classification or of language modeling."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sentiflow.models import cpu
from sentiflow.models.batching import Batch, copy_to
from sentiflow.models.networks import Network, TweetRNN
from sentiflow.models.vocabulary import PAD_ID

VECTORS = "network.embedding.weight"
NGRAMS = "network.ngrams.weights.weight"
"""Names of the large tables among the parameters; a batch uses few of their rows."""
VALIDATION_STEP = 1 << 48
"""The step whose negative words validation uses after each epoch. No training comes so far."""
_ROWS = 256
"""Rows of logits that are computed at a time: they fit the processor's cache."""


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

    A network with a linear n-gram model has two component logits. Each component is trained with
    its own loss, and predictions use the sum. With the loss of the sum, the component that is
    easier to train would keep the other one from learning.

    In a batch with a teacher the network learns the teacher's probabilities, mixed with the label
    (:meth:`_targets`). The n-gram model learns the labels alone, and nothing of other rows. A
    prediction counts as correct if it is the class with the most weight in the target.
    """

    has_rate = True
    """Whether ``train.learning_rate`` is its own."""
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

    def used_rows(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """List the rows of each large table that get a gradient; rows may repeat."""
        used = {VECTORS: batch.token_ids.flatten()}
        if self.network.ngrams.max_n:
            used[NGRAMS] = self.network.ngrams.find(batch.token_ids).flatten()
        return used

    def forward(self, batch: Batch, dropout_mask: torch.Tensor | None, step: int) -> Losses:
        """Compute the loss of each row, and count the correct predictions."""
        components = self.network.component_logits(batch.token_ids, batch.lengths, dropout_mask)
        logits = [component.float() for component in components]
        total = sum(logits[1:], start=logits[0])
        if batch.teacher is not None:
            return self._learn_teacher(logits, total, batch.labels, batch.teacher)
        losses = [_cross_entropy(component, batch.labels) for component in logits]
        reported = losses[0] if len(logits) == 1 else _cross_entropy(total, batch.labels)
        trained, predictions = sum(losses[1:], start=losses[0]), total.argmax(dim=1)
        if self.class_weights is not None:
            trained = trained * self.class_weights[batch.labels]
        correct = (predictions == batch.labels).sum()
        return Losses(trained, reported.detach(), correct, predictions)

    def _learn_teacher(
        self,
        logits: list[torch.Tensor],
        total: torch.Tensor,
        labels: torch.Tensor,
        teacher: torch.Tensor,
    ) -> Losses:
        """Do as :meth:`forward` with the logits of a batch that has a teacher."""
        targets = self._targets(labels, teacher)
        weighted = targets if self.class_weights is None else targets * self.class_weights
        trained = _soft_cross_entropy(logits[0], weighted)
        for component in logits[1:]:
            losses = nn.functional.cross_entropy(
                component, labels, self.class_weights, ignore_index=-1, reduction="none"
            )
            trained = trained + losses
        reported, predictions = _soft_cross_entropy(total, targets), total.argmax(dim=1)
        correct = (predictions == targets.argmax(dim=1)).sum()
        return Losses(trained, reported.detach(), correct, predictions)

    def _targets(self, labels: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Mix the teacher's probabilities with 1 for the label, where there is one."""
        hard = nn.functional.one_hot(labels.clamp(min=0), teacher.shape[1]).float()
        share = self.hard_weight * (labels >= 0).float()[:, None]
        return (1 - share) * teacher + share * hard


def _soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1)


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


class LanguageModeling(nn.Module):
    """Next-word prediction by the first recurrent layer, which pretrains it without labels.

    The forward direction predicts the next word, the backward direction the previous one; each
    has seen the words of one side only. The output layer shares the word vectors. The loss is a
    sampled softmax (Jean et al. 2015) against ``num_negatives`` words, the same for a whole step.
    They are drawn by their count to the power 0.75 (Mikolov et al. 2013).
    """

    has_rate = False
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

    def used_rows(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """List the rows of each large table that get a gradient; rows may repeat."""
        ids = batch.token_ids.flatten()
        return {VECTORS: torch.cat([ids, copy_to(self.draw_negatives(step), ids.device)])}

    def forward(self, batch: Batch, dropout_mask: torch.Tensor | None, step: int) -> Losses:
        """Compute each row's mean loss, and sum the rows' shares of correctly predicted words.

        Words and directions of a row have equal weight; a row of one word has loss 0.
        """
        states = self.network.encode_first_layer(batch.token_ids, batch.lengths, dropout_mask)
        size = self.heads[0].in_features
        negatives = self._look_up(self.draw_negatives(step))
        list_cells = _first_cells if states.device.type == "cpu" else _all_cells
        rows, steps, has_next = list_cells(batch.lengths - 1, len(states) - 1)
        previous, following = batch.token_ids[rows, steps], batch.token_ids[rows, steps + 1]
        directions = [
            (states[steps, rows, :size], following),
            (states[steps + 1, rows, size:], previous),
        ]
        losses = torch.zeros(len(batch.lengths), device=states.device)
        correct = torch.zeros(len(batch.lengths), device=states.device)
        weights = 1.0 / (len(self.heads) * (batch.lengths - 1).clamp(min=1)).float()
        shares = weights[rows] * has_next
        for head, (state, words) in zip(self.heads, directions, strict=False):
            loss, is_correct = self._predict(
                cpu.affine(state, head.weight, head.bias), words, *negatives
            )
            losses.index_add_(0, rows, loss * shares)
            correct.index_add_(0, rows, is_correct * shares)
        return Losses(losses, losses.detach(), correct.sum())

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
        """Compute the loss of N target words, and whether each has the largest logit."""
        equal = torch.searchsorted(negatives, targets).clamp(max=len(negatives) - 1)
        equal = torch.where(negatives[equal] == targets, equal, -1)
        logits = (queries * self.network.embedding(targets)).sum(dim=1)
        logits = logits + (self.bias - self.log_expected)[targets]
        with torch.autocast(queries.device.type, enabled=False):
            losses, margins = _SampledSoftmax.apply(
                queries.float(), logits.float(), vectors.float(), bias.float(), equal
            )
        return losses, (margins > 0).float()


class _SampledSoftmax(torch.autograd.Function):
    """Cross-entropy of a target's logit among K negatives, and its margin over the best of them.

    Shape: (N targets, K negatives, D dimensions)
        - queries: ``(N, D)`` float32, multiplied with the vectors of the negatives.
        - logits: ``(N,)`` float32, the logits of the targets.
        - vectors: ``(K, D)`` float32, the vectors of the negatives.
        - bias: ``(K,)`` float32, added to the logits of the negatives.
        - equal: ``(N,)`` int64, the negative that equals the target and is left out; or -1.
        - returns: ``(N,)`` losses; ``(N,)`` margins, without gradient.

    The ``(N, K)`` logits are computed in place, some rows at a time, while they are in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        logits: torch.Tensor,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        equal: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts, totals, tops = [], [], []
        for query, logit, same in _in_parts(queries, logits, equal):
            negative = cpu.multiply(query, vectors, bias)
            place = same.clamp(min=0)[:, None]
            kept = negative.gather(1, place).masked_fill_(same[:, None] >= 0, -torch.inf)
            negative.scatter_(1, place, kept)
            tops.append(negative.amax(dim=1))
            top = torch.maximum(tops[-1], logit)
            negative.sub_(top[:, None]).exp_()
            totals.append(negative.sum(dim=1).add_((logit - top).exp_()).log_().add_(top))
            parts.append(negative.mul_((top - totals[-1]).exp_()[:, None]))
        losses = torch.cat(totals) - logits
        margins = logits - torch.cat(tops)
        ctx.mark_non_differentiable(margins)
        ctx.save_for_backward(queries, vectors, losses, *parts)
        return losses, margins

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
        queries, vectors, losses, *parts = ctx.saved_tensors
        of_logits = gradient * ((-losses).exp() - 1)
        of_queries, transposed = [], vectors.T.contiguous()
        of_vectors, of_bias = torch.zeros_like(vectors), torch.zeros_like(vectors[:, 0])
        for share, (query, slope) in zip(parts, _in_parts(queries, gradient), strict=True):
            share.mul_(slope[:, None])
            of_queries.append(cpu.multiply(share, transposed))
            of_vectors.add_(cpu.multiply_sides(share, query))
            of_bias.add_(share.sum(dim=0))
        return torch.cat(of_queries), of_logits, of_vectors, of_bias, None


def _in_parts(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Cut tensors for the cache of a CPU; a GPU takes them whole."""
    size = _ROWS if tensors[0].device.type == "cpu" else max(1, len(tensors[0]))
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def _first_cells(
    lengths: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """List the first ``lengths`` cells of each row.

    Returns:
        The rows and the steps of N cells, and whether each is among the first ones.
    """
    is_first = torch.arange(width) < lengths[:, None]
    rows, steps = is_first.nonzero(as_tuple=True)
    return rows, steps, torch.ones_like(rows, dtype=torch.bool)


def _all_cells(
    lengths: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Do as :func:`_first_cells`, but list all cells: a GPU would be waited for to count some."""
    rows, steps = (torch.arange(size, device=lengths.device) for size in (len(lengths), width))
    is_first = steps < lengths[:, None]
    rows, steps = torch.cartesian_prod(rows, steps).unbind(dim=1)
    return rows, steps, is_first.flatten()
