"""Labels of consecutive periods -> whether the share of a class has changed, at every look.

A corpus grows by a period a week, and somebody looks each week. A test of 5% at each look is wrong
in far more than 5% of years. Here the probability of any false claim is at most 5% for all looks
and all classes together, however long the looks go on. No state is kept between the looks: the
periods so far are looked at again, one after the other, each look with the periods up to it. If
labels were added to earlier periods, these are other looks than there were; then only the last
counts.

**Statistic.** The share of a period is estimated from its own labels, by the difference estimator
of ``metrics.shares``: mean label plus t times (mean probability of all rows minus mean probability
of the labelled rows). Errors of the model may change from period to period, because no period
borrows the error of another. A period without a label of its own says nothing. At look k, for each
period s before it, z is the difference between the mean share after s and the mean share up to s,
divided by its standard error. Means are weighted by labels. The variance of the rows after s is at
least the pooled variance of both sides, and likewise up to s.

**Boundary.** The largest |z| over s is compared with the boundary of the look.
``metrics.look_boundaries`` says which looks count, and how the boundaries are found.

A mean rating of ordered classes is tested in the same way, as the mean of values from 0 to 1.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.metrics import look_boundaries, sampling
from sentiflow.metrics.share_samples import measure_spread

_MIN_ERRORS = 3
"""On each side, the variance is at least the variance with this number of errors of predictions:
labels may show no error of an accurate model."""
_MIN_TUNED = 30
"""With fewer labels, a model takes the tuning of all models together."""


@dataclass(frozen=True)
class Change:
    """The share of a class before and after a period, with an interval that holds at every look."""

    is_beyond_chance: bool
    """Whether the share has changed beyond chance at every look."""
    claimed: int
    """Position of the look, a period, at which a change was first claimed, if it is one."""
    look: int
    """Position of the last look at which a change was beyond chance. The figures below are from it.
    If later looks count, the share may have changed back."""
    first: int
    """Position of the first period after the change, as well as the labels can tell."""
    before: float
    """Share in the periods before the change."""
    since: float
    """Share in the periods from the change up to ``look``."""
    low: float
    high: float
    """Bounds of ``since - before``: 95% intervals for all looks and changes together."""


@dataclass(frozen=True)
class Looks:
    """What all looks at K periods have found."""

    first: int | None
    """Position of the first look at which a change could be claimed; None if there is none."""
    last: int | None
    """Position of the last look at which a change could be claimed."""
    changes: dict[int, Change]
    """By position of the class: the changes that are beyond chance."""
    clearest: dict[int, Change]
    """By position of the class: at the last look, the difference that is the largest one by its
    standard error, also if it may be chance. Empty if there is no look."""


class _Sums(NamedTuple):
    """Sums of R groups of rows, in order of time, for V models and C classes."""

    of: dict[str, np.ndarray]
    """By name, ``(R, 1)`` or ``(R, C)``, see :func:`sampling.add_up`."""
    period: np.ndarray
    """``(R,)``, the number of the period of each group, ascending."""
    model: np.ndarray
    """``(R,)``, the number of the model of each group."""

    def up_to(self, period: int) -> "_Sums":
        """Return the groups of the periods up to one of them."""
        end = int(np.searchsorted(self.period, period, side="right"))
        of = {name: values[:end] for name, values in self.of.items()}
        return _Sums(of, self.period[:end], self.model[:end])

    def by_period(self, values: np.ndarray) -> np.ndarray:
        """Add up ``(R, ...)`` values by period."""
        return _add_up(values, self.period)


class _Spans(NamedTuple):
    """Sums over spans of consecutive periods: ``(S, 1)``, or ``(S, C)`` by class.

    n are the labels of a period, m the effective size of its sample, f the finite correction (the
    fraction of the population that is not in the sample), and a the fraction of its rows that the
    sample stands for.
    """

    labels: np.ndarray
    """Σ n."""
    share: np.ndarray
    """By class: Σ n share."""
    estimated: np.ndarray
    """Σ n² a² f / m: times the variance of a labelled row, the variance of the estimates."""
    drawn: np.ndarray
    """Σ n² / rows: times the variance of a row, the variance of the rows themselves."""
    rows: np.ndarray
    size: np.ndarray
    """Σ m."""
    num_rows: np.ndarray
    """Effective rows of the sample."""
    square: np.ndarray
    product: np.ndarray
    """By class: Σ m u² and Σ m u, where the mean of u = y - t p + t mean(p) is the share."""
    weight: np.ndarray
    label: np.ndarray
    label_square: np.ndarray
    """Σ w; and by class Σ w y and Σ w y²."""

    def minus(self, other: "_Spans") -> "_Spans":
        """Subtract the sums over the first part of each span."""
        return _Spans(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def at(self, periods: np.ndarray) -> "_Spans":
        """Choose spans."""
        return _Spans(*(values[periods] for values in self))

    @property
    def mean(self) -> np.ndarray:
        """The share, ``(S, C)``."""
        return np.asarray(self.share / self.labels)

    @property
    def spread(self) -> np.ndarray:
        """The variance of a label by that of a label of 0 or 1 with the same mean, ``(S, C)``."""
        return measure_spread({"w": self.weight, "wy": self.label, "wyy": self.label_square})

    @property
    def squares(self) -> np.ndarray:
        """Sum of squares of u around the share, ``(S, C)``."""
        around = self.square - 2 * self.mean * self.product + self.mean**2 * self.size
        return np.asarray(np.maximum(around, 0))

    @property
    def row_variance(self) -> np.ndarray:
        """Variance of the labels of rows, by Laplace's rule so that it is above 0, ``(S, C)``."""
        share = (self.mean * self.rows + 1) / (self.rows + 2)
        return np.asarray(self.spread * np.clip(share * (1 - share), 0, 0.25))


class _Comparison(NamedTuple):
    """The periods after S changes by those before, for C classes: ``(S, C)`` each."""

    before: np.ndarray
    since: np.ndarray
    error: np.ndarray
    """Standard error of the difference."""

    @property
    def z(self) -> np.ndarray:
        """The difference by its standard error."""
        return np.asarray((self.since - self.before) / self.error)


def find_changes(
    sums: pd.DataFrame,
    *,
    period: np.ndarray,
    model: np.ndarray,
    focus: int = 0,
    in_order: bool = True,
    part: np.ndarray | None = None,
) -> Looks:
    """Look at periods one after the other, as somebody does who looks after each of them.

    This repeats the looks that there were only if no labels were added to earlier periods since.
    Otherwise each run would look at the past anew, with other labels, and any of these looks may be
    beyond chance: then only the last look counts.

    Args:
        sums: Sums of R groups of rows for C classes, see :func:`sampling.add_up`.
        period: ``(R,)``, the number of the period of each group, from 0 to K - 1 in order of time.
        model: ``(R,)``, the number of the model that predicted each group, from 0.
        focus: Position of the class that gets most of the level.
        in_order: Whether the labels of a period were there before those of later periods.
        part: ``(C,)``, the part of the level that each class has. Default: by ``focus``.

    Example:
        10 weeks of 1,000 rows, of which 30 are labelled. 20% are positive, and 60% from the sixth
        week on. The model knows nothing.

        >>> from sentiflow.metrics import sampling
        >>> week = np.repeat(np.arange(10), 1000)
        >>> place = np.tile(np.arange(1000), 10)
        >>> positive = place < np.where(week < 5, 6, 18)
        >>> sums = sampling.add_up(
        ...     pd.DataFrame({"week": week}),
        ...     prediction=np.zeros(10_000, int),
        ...     probabilities=np.full((10_000, 2), 0.5),
        ...     label=np.where(place < 30, positive, -1),
        ...     weight=np.ones(10_000),
        ... )
        >>> looks = find_changes(sums, period=np.arange(10), model=np.zeros(10, int))
        >>> change = looks.changes[1]
        >>> change.claimed, change.first, round(change.before, 3), round(change.since, 3)
        (5, 5, 0.2, 0.6)
    """
    order = np.argsort(period, kind="stable")
    of = {name: values[order] for name, values in sampling.by_name(sums).items()}
    ordered = _Sums(of, period[order], model[order])
    ends, labels = look_boundaries.list_looks(_count_labels(ordered))
    boundaries = look_boundaries.find_boundaries(tuple(labels.tolist()))
    if part is None:
        part = look_boundaries.divide_level(of["wy"].shape[1], focus)
    raised = look_boundaries.raise_for_parts(boundaries, part)
    usable = np.flatnonzero(np.isfinite(boundaries))
    if not in_order:
        usable = usable[-1:]
    changes: dict[int, Change] = {}
    clearest: dict[int, Change] = {}
    for look in usable.tolist():
        num_before = look_boundaries.count_before(labels, look)
        until = ordered.up_to(int(ends[look]))
        clearest = _look(until, ends[:num_before], raised[look])
        for code, change in clearest.items():
            if not change.is_beyond_chance:
                continue
            if code in changes:
                change = replace(change, claimed=changes[code].claimed)
            changes[code] = change
    return Looks(
        first=int(ends[usable[0]]) if len(usable) else None,
        last=int(ends[usable[-1]]) if len(usable) else None,
        changes=changes,
        clearest=clearest,
    )


def _look(sums: _Sums, ends: np.ndarray, boundaries: np.ndarray) -> dict[int, Change]:
    """Find the clearest difference of each class at a look, by position of the class.

    Args:
        sums: Sums of the periods up to the look.
        ends: ``(S,)``, the last period before each possible change.
        boundaries: ``(C,)``, the boundary of |z| for each class.
    """
    look = int(sums.period[-1])
    found = _compare(_measure_spans(sums), ends)
    clearest = {}
    for code, boundary in enumerate(boundaries.tolist()):
        clearest[code] = _describe(found, code, ends, look=look, boundary=boundary)
    return clearest


def _describe(
    found: _Comparison, code: int, ends: np.ndarray, *, look: int, boundary: float
) -> Change:
    """Describe the clearest difference of a class; a change is first claimed at this look.

    Args:
        found: Comparisons for S changes.
        code: Position of the class.
        ends: ``(S,)``, the last period before each change.
        look: Position of the look.
        boundary: The boundary of |z|.
    """
    size = np.abs(found.z[:, code])
    best = int(size.argmax())
    before = float(found.before[best, code])
    since = float(found.since[best, code])
    reach = boundary * float(found.error[best, code])
    return Change(
        is_beyond_chance=bool(size[best] > boundary),
        claimed=look,
        look=look,
        first=int(ends[best]) + 1,
        before=before,
        since=since,
        low=max(since - before - reach, -1.0),
        high=min(since - before + reach, 1.0),
    )


def _count_labels(sums: _Sums) -> np.ndarray:
    """Count the labels of each of K periods: as many as give the same variance without predictions.

    If every row has a label, these are the rows. A period whose sample is empty has none.
    """
    spans = _measure_spans(sums)
    return np.diff(spans.labels[:, 0], prepend=0.0)


@np.errstate(invalid="ignore", divide="ignore")
def _measure_spans(sums: _Sums) -> _Spans:
    """Measure the spans from the first period to each of K periods."""
    of = sums.of
    tuning = _tune(sums)[sums.model]
    add = sums.by_period
    w = add(of["w"])
    ww = add(of["ww"])
    rows = add(of["rows"])
    population = add(of["population"])
    size = np.where(w > 0, w**2 / ww, 0)
    num_rows = np.where(w > 0, w**2 / add(of["square"]), 0)
    finite_correction = np.maximum(1 - num_rows / population, 0)

    # e = y - t p, and u = e + t mean(p).
    shift = np.nan_to_num(add(tuning * of["p"]) / population)
    of_sample = np.nan_to_num(add(of["wy"] - tuning * of["wp"]) / w)
    wwe = add(of["wwy"] - tuning * of["wwp"])
    wwee = add(of["wwyy"] - 2 * tuning * of["wwyp"] + tuning**2 * of["wwpp"])
    factor = np.where(w > 0, size / ww, 0)
    square = factor * (wwee + 2 * shift * wwe + shift**2 * ww)
    product = factor * (wwe + shift * ww)

    fraction = population / rows
    share = add(of["counted"]) / rows + fraction * (of_sample + shift)
    per_label = np.where(population > 0, fraction**2 * finite_correction / size, 0)
    is_known = (w > 0) | (population == 0)
    n = np.where(is_known, 1 / (per_label + 1 / rows), 0)
    per_period = _Spans(
        labels=n,
        share=n * share,
        estimated=np.where(is_known, n**2 * per_label, 0),
        drawn=n**2 / rows,
        rows=np.where(is_known, rows, 0),
        size=size,
        num_rows=num_rows,
        square=square,
        product=product,
        weight=w,
        label=add(of["wy"]),
        label_square=add(of.get("wyy", of["wy"])),
    )
    return _Spans(*(values.cumsum(axis=0) for values in per_period))


@np.errstate(invalid="ignore", divide="ignore")
def _tune(sums: _Sums) -> np.ndarray:
    """Find the tuning t of each of V models, ``(V, 1)``, as in ``metrics.shares``.

    Any fixed t gives shares without bias. A model with few labels takes the t of all models.
    """
    every = np.zeros_like(sums.model)
    of_all = _tune_groups(sums.of, every)
    of_each = _tune_groups(sums.of, sums.model)
    num_labelled = _add_up(sums.of["clusters"], sums.model)
    return np.where(num_labelled >= _MIN_TUNED, of_each, of_all)


def _tune_groups(of: dict[str, np.ndarray], group: np.ndarray) -> np.ndarray:
    """Find the tuning of each group of rows, ``(groups, 1)``."""
    w = _add_up(of["w"], group)
    total = _add_up(of["population"], group)
    y = _add_up(of["wy"], group) / w
    p = _add_up(of["wp"], group) / w
    covariance = (_add_up(of["wyp"], group) / w - y * p).sum(axis=1, keepdims=True)
    mean = _add_up(of["p"], group) / total
    spread = (_add_up(of["pp"], group) / total - mean**2).sum(axis=1, keepdims=True)
    return np.nan_to_num(np.clip(covariance / spread, 0, 1))


def _add_up(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Add up ``(R, C)`` values by group: ``(groups, C)``."""
    found = np.zeros((int(group.max()) + 1, values.shape[1]))
    np.add.at(found, group, values)
    return found


@np.errstate(invalid="ignore", divide="ignore")
def _compare(spans: _Spans, ends: np.ndarray) -> _Comparison:
    """Compare the periods after each of S changes with those before it.

    Args:
        spans: Spans from the first period to each period; the last one is the look.
        ends: ``(S,)``, the last period before each change.
    """
    before = spans.at(ends)
    since = spans.at(np.full(len(ends), -1)).minus(before)
    freedom = before.size + since.size - 3
    pooled = (before.squares + since.squares) / np.maximum(freedom, 1)
    of_all = spans.at(np.array([-1]))
    variance = _vary(before, pooled, of_all) + _vary(since, pooled, of_all)
    return _Comparison(before.mean, since.mean, np.sqrt(variance))


def _vary(spans: _Spans, pooled: np.ndarray, of_all: _Spans) -> np.ndarray:
    """Return the variance of the shares of some spans, rather too large than too small.

    A span that lacks a rare class by chance would have a small variance. So the variances of a
    labelled row and of a row are at least ``pooled`` and that of ``of_all``, those of both sides.
    """
    own = spans.squares / np.maximum(spans.size - 2, 1)
    least = _MIN_ERRORS * of_all.spread * spans.size / np.maximum(spans.num_rows, 1) ** 2
    per_label = np.maximum(np.maximum(own, pooled), least)
    per_row = np.maximum(spans.row_variance, of_all.row_variance)
    return np.asarray((per_label * spans.estimated + per_row * spans.drawn) / spans.labels**2)
