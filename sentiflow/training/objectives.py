"""Batch -> loss of each of its rows: of labelling it, or of foretelling its words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sentiflow.models import cpu
from sentiflow.models.batching import Batch
from sentiflow.models.networks import Network, TweetRNN
from sentiflow.models.vocabulary import PAD_ID

VECTORS = "network.embedding.weight"
NGRAMS = "network.ngrams.weights.weight"
"""The large tables among the parameters, of which a batch uses few rows."""
_ROWS = 256


@dataclass(frozen=True)
class Losses:
    """What a batch of B rows comes to."""

    trained: torch.Tensor
    """Of each row, ``(B,)`` float32: what the gradient is of."""
    shown: torch.Tensor
    """Likewise: what is reported."""
    correct: torch.Tensor
    """Number of rows whose answer is right."""


class ClassificationObjective(nn.Module):
    """The cross-entropy of a network's answers.

    Where it has a linear model beside it, each is trained on its own answers, and asked together:
    the loss of the sum would let the easier of the two do the other's work.
    """

    def __init__(self, network: Network) -> None:
        """Train a network."""
        super().__init__()
        self.network = network

    def trains(self, name: str) -> bool:
        """Say whether a parameter gets a gradient."""
        return True

    def used_rows(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """Name, of each large table, the rows that get a gradient, some of them several times."""
        used = {VECTORS: batch.token_ids.flatten()}
        if self.network.ngrams.max_n:
            used[NGRAMS] = self.network.ngrams.find(batch.token_ids).flatten()
        return used

    def forward(self, batch: Batch, noise: torch.Tensor | None, step: int) -> Losses:
        """Compute the loss of each row, and how many answers are correct."""
        parts = self.network.answer_apart(batch.token_ids, batch.lengths, noise)
        logits = [part.float() for part in parts if part is not None]
        answer = sum(logits[1:], start=logits[0])
        losses = [_cross_entropy(part, batch.labels) for part in logits]
        shown = losses[0] if len(logits) == 1 else _cross_entropy(answer, batch.labels)
        return Losses(
            trained=sum(losses[1:], start=losses[0]),
            shown=shown.detach(),
            correct=(answer.argmax(dim=1) == batch.labels).sum(),
        )


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


class LanguageModeling(nn.Module):
    """How badly the states foretell the next word, and those of the other direction the last one.

    A language model of the first recurrent layer, which in either direction knows only the words
    on one side; what it learns of the corpus without labels, the labelling begins with. The output
    layer uses the word vectors. A word is told from ``num_negatives`` others, which are drawn by
    their count to the power 0.75 and the same for a whole step (sampled softmax, Jean et al.
    2015; the power is that of Mikolov et al. 2013).
    """

    def __init__(
        self, network: TweetRNN, *, counts: np.ndarray, num_negatives: int, seed: int
    ) -> None:
        """Add an output layer for each direction.

        Args:
            network: To be trained.
            counts: Of each word in the train split, V numbers; padding's does not count.
            num_negatives: Words that stand against the right one.
            seed: Of the negatives.
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

    def trains(self, name: str) -> bool:
        """Say whether a parameter gets a gradient: the first layer's, the vectors, and our own."""
        firsts = (VECTORS, "network.forward_layers.0.", "network.backward_layers.0.")
        return name.startswith(firsts) or not name.startswith("network.")

    def draw_negatives(self, step: int) -> torch.Tensor:
        """Draw the words of a step, the same in every worker."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, step * 256 + 255]))
        places = np.searchsorted(self._ends, random.random(self.num_negatives), side="right")
        return torch.from_numpy(np.minimum(places, len(self._ends) - 1))

    def used_rows(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """Name, of each large table, the rows that get a gradient, some of them several times."""
        ids = batch.token_ids.flatten()
        return {VECTORS: torch.cat([ids, self.draw_negatives(step).to(ids.device)])}

    def forward(self, batch: Batch, noise: torch.Tensor | None, step: int) -> Losses:
        """Compute each row's mean loss, and the rows' shares of words told right.

        Words and directions of a row have equal weight; a row of one word has loss 0.
        """
        states = self.network.read_first(batch.token_ids, batch.lengths, noise)
        size = self.heads[0].in_features
        negatives = self._weigh(self.draw_negatives(step).to(states.device))
        rows, steps = _positions(batch.lengths - 1, len(states))
        before, after = batch.token_ids[rows, steps], batch.token_ids[rows, steps + 1]
        sides = [(states[steps, rows, :size], after), (states[steps + 1, rows, size:], before)]
        losses = torch.zeros(len(batch.lengths), device=states.device)
        right = torch.zeros(len(batch.lengths), device=states.device)
        weights = 1.0 / (len(self.heads) * (batch.lengths - 1).clamp(min=1)).float()
        for head, (known, words) in zip(self.heads, sides, strict=False):
            loss, correct = self._tell(cpu.linear(head, known), words, *negatives)
            losses.index_add_(0, rows, loss * weights[rows])
            right.index_add_(0, rows, correct * weights[rows])
        return Losses(losses, losses.detach(), right.sum())

    def _weigh(self, negatives: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Give the different words among the negatives, their vectors, and what to add to each.

        A word drawn c times counts c times: log c is added to its score.
        """
        words, counts = negatives.unique(return_counts=True)
        added = (self.bias - self.log_expected)[words] + counts.log()
        return words, self.network.embedding(words), added

    def _tell(
        self,
        guess: torch.Tensor,
        words: torch.Tensor,
        negatives: torch.Tensor,
        vectors: torch.Tensor,
        added: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tell each of N words from the negatives; the loss of each, and whether it was right."""
        place = torch.searchsorted(negatives, words).clamp(max=len(negatives) - 1)
        place = torch.where(negatives[place] == words, place, -1)
        right = (guess * self.network.embedding(words)).sum(dim=1)
        right = right + (self.bias - self.log_expected)[words]
        with torch.autocast(guess.device.type, enabled=False):
            losses, leads = _TellApart.apply(
                guess.float(), right.float(), vectors.float(), added.float(), place
            )
        return losses, (leads > 0).float()


class _TellApart(torch.autograd.Function):
    """Cross-entropy of a right answer's score among K wrong ones, and by how much it leads.

    Shape: (N answers, K wrong ones, D dimensions)
        - guess: ``(N, D)`` float32, multiplied with the vectors of the wrong ones.
        - right: ``(N,)`` float32, the score of the right one.
        - vectors: ``(K, D)`` float32.
        - added: ``(K,)`` float32, to the scores of the wrong ones.
        - equal: ``(N,)`` int64, which of the wrong ones is the right one, so does not count; or -1.
        - returns: ``(N,)`` losses; ``(N,)`` leads over the best wrong score, without gradient.

    The ``(N, K)`` scores are computed in place, some rows at a time, while they are in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        guess: torch.Tensor,
        right: torch.Tensor,
        vectors: torch.Tensor,
        added: torch.Tensor,
        equal: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts, totals, tops = [], [], []
        for known, score, same in _in_parts(guess, right, equal):
            wrong = cpu.multiply(known, vectors, added)
            rows = (same >= 0).nonzero().squeeze(1)
            wrong[rows, same[rows]] = -torch.inf
            tops.append(wrong.amax(dim=1))
            top = torch.maximum(tops[-1], score)
            wrong.sub_(top[:, None]).exp_()
            totals.append(wrong.sum(dim=1).add_((score - top).exp_()).log_().add_(top))
            parts.append(wrong.mul_((top - totals[-1]).exp_()[:, None]))
        losses = torch.cat(totals) - right
        leads = right - torch.cat(tops)
        ctx.mark_non_differentiable(leads)
        ctx.save_for_backward(guess, vectors, losses, *parts)
        return losses, leads

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
        guess, vectors, losses, *parts = ctx.saved_tensors
        of_right = gradient * ((-losses).exp() - 1)
        of_guess, transposed = [], vectors.T.contiguous()
        of_vectors, of_added = torch.zeros_like(vectors), torch.zeros_like(vectors[:, 0])
        for share, (known, slope) in zip(parts, _in_parts(guess, gradient), strict=True):
            share.mul_(slope[:, None])
            of_guess.append(cpu.multiply(share, transposed))
            of_vectors.add_(cpu.multiply_sides(share, known))
            of_added.add_(share.sum(dim=0))
        return torch.cat(of_guess), of_right, of_vectors, of_added, None


def _in_parts(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    return zip(*(tensor.split(_ROWS) for tensor in tensors), strict=True)


def _positions(lengths: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Number the rows and steps of the first ``lengths`` cells of each row."""
    steps = torch.arange(width, device=lengths.device)
    rows, places = (steps < lengths[:, None]).nonzero(as_tuple=True)
    return rows, places
