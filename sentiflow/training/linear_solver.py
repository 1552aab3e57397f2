"""N-grams and labels of texts -> linear models, fitted until they have converged.

Every worker has its texts, and all have the same weights. What is summed over texts are whole
multiples of a small number, so sums are exact and do not depend on their order: any number of
workers takes the same steps.

N-grams that tell the classes apart are regularized less than others, as in Wang and Manning,
"Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", ACL 2012, but mildly.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from sentiflow.data.arrays import find_sorted
from sentiflow.models import linear, ngrams
from sentiflow.training import collectives

STRENGTHS = (1.0, 4.0, 16.0)
"""``C`` of the logistic regression: inverse strengths of the regularization to choose from."""
_MIN_COUNT = 2
"""How often an n-gram occurs at least."""
_MAX_WEIGHTS = 1 << 24
"""Of the most frequent n-grams together: 64 MB, and 25 times that while they are fitted."""
_TELLING_WEIGHT = 0.5
"""How much more an n-gram counts that tells the classes apart; 1 costs where classes are many."""
_MAX_STEPS, _HISTORY = 100, 10
_TOLERANCE = 5e-4
"""Of the gradient's largest part, in units of the square root of the regularization."""
_SCALE_UNIT, _ERROR_UNIT = 2.0**-16, 2.0**-18
"""Scales of texts and errors are rounded to multiples: sums over 2**19 texts fit into 53 bits."""


@dataclass(frozen=True)
class _Texts:
    """N texts as factors of their features: ``(texts @ words + further) * idf`` is never made."""

    texts: sparse.csr_array
    """``(N, W)``: how often each word is in a text, divided by the length of the text's vector."""
    words: sparse.csr_array
    """``(W, A)``: how often each n-gram is in a word."""
    further: sparse.csr_array
    """``(N, A)``: n-grams of several words, divided likewise."""
    targets: np.ndarray

    def loss(self, weights: np.ndarray) -> np.ndarray:
        """Compute the gradient of the sum of the losses, row by row, and then this sum.

        Args:
            weights: ``(A + 1, C - 1)``, the biases last; see :func:`_add_last`.
        """
        logits = self.texts @ (self.words @ weights[:-1]) + self.further @ weights[:-1]
        logs = torch.log_softmax(torch.from_numpy(_add_last(logits + weights[-1])), dim=1).numpy()
        errors = np.exp(logs) * (self.targets @ np.ones((logs.shape[1], 1))) - self.targets
        errors = _round(errors[:, :-1], _ERROR_UNIT)
        losses = _round(np.einsum("nc,nc->n", self.targets, -logs), _ERROR_UNIT)
        gradient = self.words.T @ (self.texts.T @ errors) + self.further.T @ errors
        return np.concatenate([gradient.ravel(), errors.sum(axis=0), [losses.sum()]])

    def count_classes(self) -> np.ndarray:
        """Count the n-grams of each class, ``(A, C)``: their shares of the texts' vectors."""
        targets = _round(self.targets, _ERROR_UNIT)
        return self.words.T @ (self.texts.T @ targets) + self.further.T @ targets


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
    hashes, idf, num_rows = _choose_ngrams(texts, num_classes)
    own = _to_matrices(texts, targets, hashes, idf)
    counts = collectives.add_arrays(own.count_classes())
    # the squares of a text's vector add up to 1, about; the bias is a feature that is always 1
    scale = np.append(idf * _weigh(counts), 1)[:, None]
    squares = np.square(scale[:-1, 0]) * counts.sum(axis=1)
    squares = np.append(squares / squares.sum().clip(min=_SCALE_UNIT), 1)[:, None]
    weights = np.zeros((len(scale), num_classes))
    for strength in STRENGTHS:
        weights = _minimize(weights, own, scale, squares, num_rows, strength)
        yield strength, linear.LinearModel(
            torch.from_numpy(hashes), torch.from_numpy(weights[:-1].astype(np.float32)),
            torch.from_numpy(idf**2), torch.from_numpy(weights[-1].astype(np.float32)),
        )  # fmt: skip


def _choose_ngrams(texts: ngrams.Ngrams, num_classes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Choose the n-grams of all workers; return their hashes, their idf, and how many texts."""
    gathered = collectives.gather((*ngrams.count(texts), len(texts.tokens.offsets) - 1))
    hashes, counts = ngrams.add_counts(*(np.concatenate([e[n] for e in gathered]) for n in (0, 1)))
    num_rows, limit = sum(each[2] for each in gathered), _MAX_WEIGHTS // num_classes
    least = np.partition(counts, -limit)[-limit] if len(counts) > limit else 0
    chosen = counts >= max(_MIN_COUNT, least)
    idf = np.log((1 + num_rows) / (1 + np.minimum(counts[chosen], num_rows))) + 1
    return hashes[chosen], idf.astype(np.float32), num_rows


def _weigh(counts: np.ndarray) -> np.ndarray:
    """Weigh each n-gram by the largest log-count ratio of a class to all others; some 1."""
    counts = counts + max(counts.sum() / max(counts.size, 1), np.finfo(float).tiny)
    others = counts.sum(axis=1, keepdims=True) - counts
    largest = np.log(counts / counts.sum(axis=0) / (others / others.sum(axis=0))).max(axis=1)
    typical = max(np.sqrt(np.square(largest).sum() / max(len(largest), 1)), np.finfo(float).tiny)
    return (1 + _TELLING_WEIGHT * largest / typical) / (1 + _TELLING_WEIGHT)


def _to_matrices(
    texts: ngrams.Ngrams, targets: np.ndarray, hashes: np.ndarray, idf: np.ndarray
) -> _Texts:
    tokens, squares = texts.tokens, np.square(idf.astype(np.float64))
    words = _find(texts.of_words, texts.word_offsets, hashes)
    further = _find(texts.of_texts, texts.text_offsets, hashes)
    counts = sparse.csr_array(
        (np.ones(len(tokens.ids)), tokens.ids, tokens.offsets),
        shape=(len(tokens.offsets) - 1, len(tokens.words)),
    )
    length = np.sqrt(counts @ (words @ squares) + further @ squares).clip(min=_SCALE_UNIT)
    scale = sparse.diags_array(_round(1 / length, _SCALE_UNIT))
    return _Texts((scale @ counts).tocsr(), words, (scale @ further).tocsr(), targets)


def _find(of_rows: np.ndarray, offsets: np.ndarray, hashes: np.ndarray) -> sparse.csr_array:
    """Count the n-grams of each row in the columns of ``hashes``."""
    is_known, places = find_sorted(hashes, of_rows)
    offsets = np.append(0, np.cumsum(is_known))[offsets]
    return sparse.csr_array(
        (np.ones(offsets[-1]), places[is_known], offsets), shape=(len(offsets) - 1, len(hashes))
    )


def _add_last(values: np.ndarray) -> np.ndarray:
    """Add the last class: weights, errors and gradients of all add up to 0, from 0 weights on."""
    return np.column_stack([values, -values.sum(axis=1)])


def _round(values: np.ndarray, unit: float) -> np.ndarray:
    """Round to whole multiples of a power of two."""
    return np.rint(values / unit) * unit


def _minimize(
    weights: np.ndarray,
    texts: _Texts,
    scale: np.ndarray,
    squares: np.ndarray,
    num_rows: int,
    strength: float,
) -> np.ndarray:
    """Change weights, ``(A + 1, C)``, to those of the least loss of all workers.

    L-BFGS sees them in units along which the loss bends alike, about: by ``squares``, the mean
    square of each feature, and the regularization. It then takes fewer steps.

    Returns:
        The weights; those before stay.
    """
    num_classes, penalty = weights.shape[1], 1 / (strength * num_rows)
    bends = 1 + squares * (num_classes - 1) / num_classes**2 / penalty
    scale, penalties = scale / np.sqrt(bends), penalty / bends
    penalties[-1] = 0
    values = torch.from_numpy((weights / scale).astype(np.float32).ravel()).requires_grad_()
    solver = torch.optim.LBFGS(
        [values], max_iter=_MAX_STEPS, history_size=_HISTORY, line_search_fn="strong_wolfe",
        tolerance_grad=_TOLERANCE * penalty**0.5, tolerance_change=_TOLERANCE * penalty**0.5 / 100,
    )  # fmt: skip

    def evaluate() -> torch.Tensor:
        rows = values.detach().numpy().reshape(-1, num_classes)
        sums = collectives.add_arrays(texts.loss(rows[:, :-1] * scale)) / num_rows
        pulls = penalties * rows
        gradient = _add_last(sums[:-1].reshape(-1, num_classes - 1)) * scale + pulls
        values.grad = torch.from_numpy(gradient.astype(np.float32).ravel())
        return torch.tensor(sums[-1] + np.vdot(pulls, rows) / 2, dtype=torch.float64)

    solver.step(evaluate)
    return scale * values.detach().numpy().reshape(-1, num_classes)
