"""Rows that depend on each other -> the factor by which they widen the variance of a metric.

Intervals and tests are made for independent rows. The texts of one author are alike, and the models
of the folds of a cross-validation share most of their train rows. A metric is a sum of effects, one
of each row (``intervals``). The groups of this module compare the variance of this sum with its
variance if the rows were independent: the *factor*. A share of N rows then counts as a share of
N / factor rows.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Protocol

import numpy as np

from sentiflow.metrics.row_ranges import row_ranges

Z = NormalDist().inv_cdf(0.975)
"""Half the width of a 95% interval of a normal value, in standard errors."""

MIN_AUTHORS = 10
"""Minimum number of effective authors for an interval."""
MIN_EVENNESS = 0.4
"""Minimum number of effective authors as a share of all authors, for an interval; unless
there are ``ENOUGH_AUTHORS``."""
ENOUGH_AUTHORS = 300
"""From this number of effective authors on, there is always an interval."""


class RowGroups(Protocol):
    """Groups of N rows that depend on each other."""

    @property
    def no_interval(self) -> str:
        """Say why the rows give no interval; empty if they give one."""

    def take(self, rows: np.ndarray) -> "RowGroups":
        """Return the groups of some rows, given as positions or booleans."""

    def factor(self, effects: np.ndarray) -> float:
        """Return the factor by which the groups widen a variance, given the effect of each row."""


@dataclass(frozen=True)
class AuthorGroups:
    """The authors of N rows; all rows of an author are there, or none.

    Example:
        One author has most of the rows: the authors count as one.

        >>> pairs = AuthorGroups(np.repeat(np.arange(20), 2))
        >>> pairs.num_effective, pairs.no_interval
        (20.0, '')
        >>> AuthorGroups(np.repeat(np.arange(30), [300] + [1] * 29)).no_interval
        'the texts are of 30 authors, so unequal in size that they count as 1'
    """

    author: np.ndarray
    """Hashes or numbers of the authors, N."""
    num_numbers: int | None = None
    """If given, the authors are numbered from 0, below this number; some may have no row."""

    @property
    def _numbered(self) -> "AuthorGroups":
        """Number the authors from 0, in 4 bytes a row."""
        # Kept, this object would hold itself: only the garbage collector would free its arrays.
        return self if self.num_numbers is not None else self._renumbered

    @cached_property
    def _renumbered(self) -> "AuthorGroups":
        """Number authors that are hashes."""
        number, num_authors = number_authors(self.author)
        return AuthorGroups(number, num_authors)

    @cached_property
    def _all_sizes(self) -> np.ndarray:
        """Count the rows of each number of an author; 0 for an author without a row."""
        return self._add(None)

    def _add(self, values: np.ndarray | None) -> np.ndarray:
        """Add up a value of each row, or 1, by number of the author."""
        numbered = self._numbered
        num_numbers = numbered.num_numbers or 0
        if values is None:
            sums = np.zeros(num_numbers, np.int32)
        else:
            sums = np.zeros(num_numbers, np.float64)
        for rows in row_ranges(len(numbered.author)):
            added = np.int32(1) if values is None else values[rows]
            np.add.at(sums, numbered.author[rows], added)
        return sums

    @property
    def sizes(self) -> np.ndarray:
        """Count the rows of each author."""
        sizes = self._all_sizes
        return sizes[sizes > 0]

    @property
    def num_effective(self) -> float:
        """Return the number of authors of equal size that would vary as much.

        (Σ m)² / Σ m², with m the rows of an author (L. Kish, Survey Sampling, 1965).
        """
        return _count_effective(self.sizes.astype(np.float64))

    @property
    def no_interval(self) -> str:
        """Say why the rows give no interval; empty if they give one.

        With few or very unequal authors, the authors with the most texts may be missing in the
        rows, and no variance in the rows shows it.
        """
        num_authors = len(self.sizes)
        effective = self.num_effective
        min_even = min(MIN_EVENNESS * num_authors, ENOUGH_AUTHORS)
        if effective >= max(MIN_AUTHORS, min_even):
            return ""
        if num_authors < MIN_AUTHORS:
            return f"the texts are of fewer than {MIN_AUTHORS} authors: {num_authors}"
        return (
            f"the texts are of {num_authors:,} authors, so unequal in size that they count as "
            f"{effective:,.0f}"
        )

    def take(self, rows: np.ndarray) -> "AuthorGroups":
        """Return the authors of some rows, given as positions or booleans."""
        numbered = self._numbered
        return AuthorGroups(numbered.author[rows], numbered.num_numbers)

    def factor(self, effects: np.ndarray) -> float:
        """Return the factor by which authors widen a variance; 1 if each has one row.

        The design effect: the variance of a sum over authors, by linearization (W. G. Cochran,
        Sampling Techniques, 1977, section 11.8), over its variance if rows were independent, at
        least 1. It is multiplied by the square of Student's t over the normal quantile, as by E. L.
        Korn and B. I. Graubard (Survey Methodology 24, 1998).

        The degrees of freedom of the variance are (Σ v)² / Σ v² - 1, with v the part of an author
        in the variance (F. E. Satterthwaite, Biometrics Bulletin 2, 1946). They are computed twice,
        and the larger number is used:

        - v is the square of the author's number of rows.
        - v is the square of the author's effect, but then at most the effective authors - 1. Where
          effects are rare, such as mistakes, this gives fewer.

        If all effects are 0, the rows of an author count as one row.

        Args:
            effects: What each of N rows adds to the metric; they add up to about 0.

        Example:
            The texts of an author are right or wrong together: twice the variance, and t.

            >>> of_authors = np.repeat(np.tile([0.5, -0.5], 500), 2)
            >>> round(AuthorGroups(np.repeat(np.arange(1000), 2)).factor(of_authors), 3)
            2.006
            >>> AuthorGroups(np.arange(2000)).factor(of_authors)
            1.0
        """
        from scipy.special import stdtrit

        has_rows = self._all_sizes > 0
        num_authors = int(has_rows.sum())
        num_rows = len(effects)
        if num_authors == num_rows:
            return 1.0
        # There may be nearly as many authors as rows, so arrays of authors are made one at a time.
        num_effective = self.num_effective
        squares_of_sizes = self._all_sizes[has_rows].astype(np.float64)
        squares_of_sizes *= squares_of_sizes
        num_independent = _count_effective(squares_of_sizes)
        del squares_of_sizes
        squares_of_rows = float(np.dot(effects, effects))
        design_effect = num_rows / num_effective
        if squares_of_rows and num_authors > 1:
            squares_of_authors = self._add(effects)[has_rows]
            squares_of_authors *= squares_of_authors
            by_author = num_authors / (num_authors - 1) * squares_of_authors.sum()
            by_row = num_rows / (num_rows - 1) * squares_of_rows
            design_effect = max(1.0, by_author / by_row)
            by_effects = min(_count_effective(squares_of_authors), num_effective)
            num_independent = max(num_independent, by_effects)
        freedom = max(num_independent - 1, 1)
        return float(design_effect * (stdtrit(freedom, 0.975) / Z) ** 2)


def number_authors(author: np.ndarray) -> tuple[np.ndarray, int]:
    """Number authors from 0, in the order of their hashes.

    Returns:
        The number of the author of each row, int32; and how many authors there are.

    Example:
        >>> number, num_authors = number_authors(np.array([70, 50, 70]))
        >>> number.tolist(), num_authors
        ([1, 0, 1], 2)
    """
    known = np.unique(author)
    number = np.empty(len(author), np.int32)
    for rows in row_ranges(len(number)):
        number[rows] = np.searchsorted(known, author[rows])
    return number, len(known)


def _count_effective(parts: np.ndarray) -> float:
    """Return (Σ v)² / Σ v²: the number of equal parts whose sum varies as much; 0 if all are 0."""
    sum_of_squares = float((parts**2).sum())
    if not sum_of_squares:
        return 0.0
    return float(parts.sum() ** 2 / sum_of_squares)


@dataclass(frozen=True)
class FoldGroups:
    """The folds of N rows, each answered by a model that was trained on the other folds."""

    fold: np.ndarray
    """Number of the fold of each row, N."""

    @property
    def no_interval(self) -> str:
        """Say why the rows give no interval; empty if they give one."""
        return "" if len(np.unique(self.fold)) > 1 else "all rows are of one fold"

    def take(self, rows: np.ndarray) -> "FoldGroups":
        """Return the folds of some rows, given as positions or booleans."""
        return FoldGroups(self.fold[rows])

    def factor(self, effects: np.ndarray) -> float:
        """Return the factor by which shared train rows widen a variance.

        C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine Learning 52
        (2003): with s² the variance between the means of k folds, the mean of all folds has the
        variance (1/k + n_test / n_train) s², not s² / k. As k values are few, s² is at least the
        variance of a mean of n_test independent rows. With equal folds the factor is therefore at
        least 1 + k / (k - 1).

        Args:
            effects: What each of N rows adds to the metric; they add up to about 0.

        Example:
            Folds do not differ more than their rows: 1 + 5 / 4.

            >>> FoldGroups(np.repeat(np.arange(5), 40)).factor(np.tile([0.5, -0.5], 100))
            2.25
        """
        _, place, sizes = np.unique(self.fold, return_inverse=True, return_counts=True)
        num_folds = len(sizes)
        num_rows = len(effects)
        if num_folds < 2:
            return math.inf
        num_test = num_rows / num_folds
        correction = 1 + num_folds * num_test / (num_rows - num_test)
        between_folds = float((np.bincount(place, effects) / sizes).var(ddof=1))
        if_independent = float(effects.var(ddof=1)) / num_test
        if not if_independent:
            return correction
        return correction * max(1.0, between_folds / if_independent)
