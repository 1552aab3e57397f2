"""N-grams and labels of texts -> linear models, fitted until they have converged.

Every worker has its texts, and all have the same weights. Numbers that are summed over texts are
whole multiples of a small number, so sums are exact and do not depend on their order: any number of
workers takes the same steps.

N-grams that tell the classes apart are regularized a little less than others, as in Wang and
Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", ACL 2012.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from sentiflow.data.arrays import find_sorted
from sentiflow.models import linear, ngrams
from sentiflow.training import collectives

STRENGTHS = (1.0, 4.0, 16.0)
"""``C`` of the logistic regression: inverse strengths of the regularization to choose from."""
_MIN_COUNT = 2
"""An n-gram has a weight only if it occurs at least this often."""
_MAX_WEIGHTS = 1 << 24
"""Limit of the weights of all classes: 64 MB, and 25 times that while they are fitted. Beyond it
the rarer n-grams are left out."""
_TELLING_WEIGHT = 0.5
"""How much more an n-gram counts that tells the classes apart. With 1, models of many classes were
less accurate."""
_MAX_STEPS = 100
"""Limit of the steps of L-BFGS for one model."""
_HISTORY = 10
"""Steps from which L-BFGS estimates the curvature of the loss."""
_TOLERANCE = 5e-4
"""L-BFGS ends at a gradient whose largest part is below this times the root of the penalty."""
_SCALE_UNIT = 2.0**-16
"""Scales of texts are rounded to multiples of this number."""
_ERROR_UNIT = 2.0**-18
"""Errors and losses are rounded to multiples of this number: products of a scale and an error,
summed over 2**19 texts, fit into 53 bits."""
_TINY = np.finfo(float).tiny
"""Keeps divisions of empty sums finite."""


class _OwnCounts(NamedTuple):
    """The n-grams of a worker's texts."""

    hashes: np.ndarray
    """Ascending, int64."""
    counts: np.ndarray
    """How often each occurs, int64."""
    num_texts: int


class _Chosen(NamedTuple):
    """The A n-grams that have weights, the same for all workers."""

    hashes: np.ndarray
    """Ascending, int64."""
    idf: np.ndarray
    """Inverse document frequency of each, float32."""
    num_texts: int
    """Texts of all workers."""


@dataclass(frozen=True)
class _Texts:
    """N texts as factors of their features ``(texts @ words + further) * idf``.

    The features themselves, ``(N, A)``, are never computed.
    """

    texts: sparse.csr_array
    """``(N, W)``: how often each word is in a text, divided by the length of the text's vector."""
    words: sparse.csr_array
    """``(W, A)``: how often each n-gram is in a word."""
    further: sparse.csr_array
    """``(N, A)``: how often each n-gram of several words is in a text, divided as above."""
    targets: np.ndarray
    """``(N, C)``: the weight of each class in the loss of a text."""

    def compute_loss(self, weights: np.ndarray) -> np.ndarray:
        """Compute the summed loss of the texts and its gradient, as one array to add up.

        Args:
            weights: ``(A + 1, C - 1)``, the biases last; see :func:`_add_last`.

        Returns:
            The gradient, ``(A + 1) (C - 1)`` numbers in the order of the weights, then the loss.
        """
        of_ngrams = weights[:-1]
        biases = weights[-1]
        logits = self.texts @ (self.words @ of_ngrams) + self.further @ of_ngrams
        all_logits = torch.from_numpy(_add_last(logits + biases))
        logs = torch.log_softmax(all_logits, dim=1).numpy()
        total_targets = self.targets @ np.ones((logs.shape[1], 1))
        errors = np.exp(logs) * total_targets - self.targets
        errors = _round(errors[:, :-1], _ERROR_UNIT)
        losses = _round(np.einsum("nc,nc->n", self.targets, -logs), _ERROR_UNIT)
        gradient = self._sum_by_ngram(errors)
        return np.concatenate([gradient.ravel(), errors.sum(axis=0), [losses.sum()]])

    def count_classes(self) -> np.ndarray:
        """Sum the vectors of the texts of each class, without ``idf``: ``(A, C)``."""
        return self._sum_by_ngram(_round(self.targets, _ERROR_UNIT))

    def _sum_by_ngram(self, values: np.ndarray) -> np.ndarray:
        """Sum values of texts, ``(N, K)``, over the texts of each n-gram: ``(A, K)``."""
        return self.words.T @ (self.texts.T @ values) + self.further.T @ values


def fit(texts: ngrams.Ngrams, targets: np.ndarray) -> Iterator[tuple[float, linear.LinearModel]]:
    """Fit a model for each of ``STRENGTHS``, from the strongest regularization to the weakest.

    Minimizes the mean cross-entropy plus ``|w|^2 / (2 C N)``, as scikit-learn's logistic regression
    does, by L-BFGS (Liu and Nocedal 1989); each model starts from the one before. All workers call
    this together.

    Args:
        texts: N-grams of this worker's N texts.
        targets: ``(N, C)``: the weight of each class in the loss of a text.

    Yields:
        ``C`` of the regularization and the model; the same in all workers.
    """
    num_classes = targets.shape[1]
    chosen = _choose_ngrams(texts, num_classes)
    own = _to_matrices(texts, targets, chosen)
    counts = collectives.add_arrays(own.count_classes())
    # The last feature is the bias, which is always 1; the squares of the others add up to about 1.
    scale = np.append(chosen.idf * _weigh(counts), 1)[:, None]
    squares = np.square(scale[:-1, 0]) * counts.sum(axis=1)
    shares = squares / squares.sum().clip(min=_SCALE_UNIT)
    problem = _Problem(
        texts=own,
        scale=scale,
        squares=np.append(shares, 1)[:, None],
        num_texts=chosen.num_texts,
    )
    weights = np.zeros((len(scale), num_classes))
    for strength in STRENGTHS:
        weights = problem.minimize(weights, strength)
        model = linear.LinearModel(
            hashes=chosen.hashes,
            weights=weights[:-1].astype(np.float32),
            squares=chosen.idf**2,
            bias=weights[-1].astype(np.float32),
        )
        yield strength, model


def _choose_ngrams(texts: ngrams.Ngrams, num_classes: int) -> _Chosen:
    """Choose the n-grams that have weights, by their counts in the texts of all workers."""
    own_hashes, own_counts = ngrams.count(texts)
    num_own = len(texts.tokens.offsets) - 1
    gathered = collectives.gather(_OwnCounts(own_hashes, own_counts, num_own))
    hashes, counts = ngrams.add_counts(
        np.concatenate([each.hashes for each in gathered]),
        np.concatenate([each.counts for each in gathered]),
    )
    num_texts = sum(each.num_texts for each in gathered)
    min_count = _MIN_COUNT
    limit = _MAX_WEIGHTS // num_classes
    if len(counts) > limit:
        count_at_limit = np.partition(counts, -limit)[-limit]
        min_count = max(_MIN_COUNT, count_at_limit)
    is_chosen = counts >= min_count
    document_counts = np.minimum(counts[is_chosen], num_texts)
    idf = np.log((1 + num_texts) / (1 + document_counts)) + 1
    return _Chosen(hashes=hashes[is_chosen], idf=idf.astype(np.float32), num_texts=num_texts)


def _weigh(counts: np.ndarray) -> np.ndarray:
    """Weigh each n-gram by the largest log-count ratio of a class to all others.

    Args:
        counts: ``(A, C)``: how often each n-gram is in texts of each class.

    Returns:
        A numbers around 1.
    """
    smoothing = max(counts.sum() / max(counts.size, 1), _TINY)
    counts = counts + smoothing
    others = counts.sum(axis=1, keepdims=True) - counts
    share = counts / counts.sum(axis=0)
    share_of_others = others / others.sum(axis=0)
    largest = np.log(share / share_of_others).max(axis=1)
    mean_square = np.square(largest).sum() / max(len(largest), 1)
    root_mean_square = max(np.sqrt(mean_square), _TINY)
    return (1 + _TELLING_WEIGHT * largest / root_mean_square) / (1 + _TELLING_WEIGHT)


def _to_matrices(texts: ngrams.Ngrams, targets: np.ndarray, chosen: _Chosen) -> _Texts:
    """Count the chosen n-grams of this worker's texts; each text's vector has length 1."""
    tokens = texts.tokens
    words = _count_ngrams(texts.of_words, texts.word_offsets, chosen.hashes)
    further = _count_ngrams(texts.of_texts, texts.text_offsets, chosen.hashes)
    counts = sparse.csr_array(
        (np.ones(len(tokens.ids)), tokens.ids, tokens.offsets),
        shape=(len(tokens.offsets) - 1, len(tokens.words)),
    )
    squares = np.square(chosen.idf.astype(np.float64))
    length = np.sqrt(counts @ (words @ squares) + further @ squares).clip(min=_SCALE_UNIT)
    scale = sparse.diags_array(_round(1 / length, _SCALE_UNIT))
    return _Texts(
        texts=(scale @ counts).tocsr(),
        words=words,
        further=(scale @ further).tocsr(),
        targets=targets,
    )


def _count_ngrams(of_rows: np.ndarray, offsets: np.ndarray, hashes: np.ndarray) -> sparse.csr_array:
    """Count the chosen n-grams of rows.

    Args:
        of_rows: Hashes of the n-grams of all R rows, one row after the other.
        offsets: Where each row begins in them, and the end of the last one, R + 1 numbers.
        hashes: The A chosen n-grams.

    Returns:
        ``(R, A)``: how often each chosen n-gram is in each row.
    """
    is_known, places = find_sorted(hashes, of_rows)
    known_offsets = np.append(0, np.cumsum(is_known))[offsets]
    ones = np.ones(known_offsets[-1])
    return sparse.csr_array(
        (ones, places[is_known], known_offsets), shape=(len(offsets) - 1, len(hashes))
    )


def _add_last(values: np.ndarray) -> np.ndarray:
    """Add the column of the last class.

    Weights, errors and gradients add up to 0 over all classes, so the last class follows from the
    others. The first weights are 0, and no step changes this sum.
    """
    return np.column_stack([values, -values.sum(axis=1)])


def _round(values: np.ndarray, unit: float) -> np.ndarray:
    """Round to whole multiples of a power of two."""
    return np.rint(values / unit) * unit


@dataclass(frozen=True)
class _Problem:
    """Minimizes the loss of the texts of all workers."""

    texts: _Texts
    """Texts of this worker."""
    scale: np.ndarray
    """``(A + 1, 1)``: what each feature is multiplied by; the bias is the last feature."""
    squares: np.ndarray
    """``(A + 1, 1)``: estimate of the mean square of each feature over the texts."""
    num_texts: int
    """Texts of all workers."""

    def minimize(self, weights: np.ndarray, strength: float) -> np.ndarray:
        """Find the weights, ``(A + 1, C)``, of the least loss.

        L-BFGS gets preconditioned weights: in their units the loss has about the same curvature
        along each weight, so it takes fewer steps. The curvature, in multiples of the penalty's, is
        estimated from ``squares``.

        Args:
            weights: The weights to start from, which are not changed.
            strength: ``C`` of the regularization.
        """
        num_classes = weights.shape[1]
        penalty = 1 / (strength * self.num_texts)
        curvature = 1 + self.squares * (num_classes - 1) / num_classes**2 / penalty
        scale = self.scale / np.sqrt(curvature)
        penalties = penalty / curvature
        penalties[-1] = 0  # the bias is not regularized
        start = (weights / scale).astype(np.float32)
        values = torch.from_numpy(start.ravel()).requires_grad_()
        tolerance = _TOLERANCE * penalty**0.5
        solver = torch.optim.LBFGS(
            [values],
            max_iter=_MAX_STEPS,
            history_size=_HISTORY,
            line_search_fn="strong_wolfe",
            tolerance_grad=tolerance,
            tolerance_change=tolerance / 100,
        )

        def evaluate() -> torch.Tensor:
            rows = values.detach().numpy().reshape(-1, num_classes)
            own_sums = self.texts.compute_loss(rows[:, :-1] * scale)
            means = collectives.add_arrays(own_sums) / self.num_texts
            of_penalty = penalties * rows
            of_loss = _add_last(means[:-1].reshape(-1, num_classes - 1))
            gradient = of_loss * scale + of_penalty
            values.grad = torch.from_numpy(gradient.astype(np.float32).ravel())
            loss = means[-1] + np.vdot(of_penalty, rows) / 2
            return torch.tensor(loss, dtype=torch.float64)

        solver.step(evaluate)
        return scale * values.detach().numpy().reshape(-1, num_classes)
