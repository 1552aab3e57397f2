"""Texts -> slices of texts with something in common, and the accuracy of a model on each."""

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import hash_texts
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError
from sentiflow.metrics import paired
from sentiflow.metrics.intervals import Accuracy
from sentiflow.metrics.predicted import count_confusion, macro_f1
from sentiflow.models.tokenizer import tokenize
from sentiflow.models.tokens import Tokens

MIN_ROWS = 30
"""Slices of fewer rows are listed last: their accuracy is too uncertain."""
MAX_VALUES = 20
"""Maximum number of values of a column that get a slice of their own."""
OWN = "own column "
"""Prefix, in a table of rows, of the columns that slices are made of: the ones that the user names,
and others whose values are searched. So no name is also a column of the predictions."""

_BEGIN = r"(?:^|\s)"
_END = r"(?:$|[\s.,!?])"
_HAPPY = rf"{_BEGIN}(?:[:;=]['^]?[-o]?[)\]D]+|\([-:;=]|<3+|\^[_.-]?\^){_END}"
_SAD = rf"{_BEGIN}(?:[:;=]['^]?[-o]?[(\[/\\|]+|\)[-:;=]|</3+|[T;]_[T;]){_END}"
"""Emoticons after white space, and before white space or punctuation: otherwise parts of a link,
ratio or number would count."""

PATTERNS: dict[str, tuple[str, str]] = {
    "negation": (
        "not, no, never, cannot, n't and the like",
        r"(?i)\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|"
        r"(?:ca|wo|do|does|did|is|are|was|were|has|have|had|could|would|should|ai)n['\x{2019}]?t)\b",
    ),
    "mention": ("an @user", r"(?:^|[^\w])@\w"),
    "link": ("an address on the web", r"(?i)\b(?:https?://|www\.)\S"),
    "hashtag": ("a #topic", r"(?:^|\s)#\w"),
    "elongation": (
        "a letter three times or more, as in sooo",
        # RE2 has no back-references. www is a link, so w counts from four.
        "(?i)w{4}|" + "|".join(f"{a}{{3}}" for a in string.ascii_lowercase if a != "w"),
    ),
    "happy emoticon": (":) and the like", _HAPPY),
    "sad emoticon": (":( and the like", _SAD),
    "shouting": ("three words or more in capitals", r"(?:\b[A-Z]{2,}\b\W+){2}\b[A-Z]{2,}\b"),
    "question": ("a question mark", r"\?"),
}
"""What the texts of a slice contain, and the pattern (RE2) that finds it, by name of the slice."""


class _Range(NamedTuple):
    """A slice of the rows with a value above ``low`` and at most ``high``."""

    name: str
    low: float
    high: float


_LENGTHS = (
    _Range("0 to 4 tokens", -1, 4),
    _Range("5 to 9 tokens", 4, 9),
    _Range("10 to 14 tokens", 9, 14),
    _Range("15 to 19 tokens", 14, 19),
    _Range("20 to 29 tokens", 19, 29),
    _Range("30 tokens or more", 29, math.inf),
)
_UNKNOWN = (
    _Range("no unknown token", -math.inf, 0),
    _Range("unknown tokens, up to a tenth", 0, 0.1),
    _Range("unknown tokens, a tenth to a quarter", 0.1, 0.25),
    _Range("unknown tokens, over a quarter", 0.25, 1),
)
"""By the share of unknown tokens."""


@dataclass(frozen=True)
class SliceOfRows:
    """Texts that have something in common, out of N."""

    name: str
    about: str
    """What its texts have in common; empty if the name says it."""
    mask: np.ndarray
    """N booleans: the rows that are in the slice."""
    is_own: bool = False
    """Whether the user named it."""
    among: np.ndarray | None = None
    """N booleans: the rows of the slice and the rows that it is compared with; None: all rows. Only
    a slice found by a search has them: the rows that were not searched, without copies."""

    @property
    def is_found(self) -> bool:
        """Say whether a search has found it."""
        return self.among is not None

    @property
    def others(self) -> np.ndarray:
        """Return the rows that it is compared with, as N booleans."""
        if self.among is None:
            return ~self.mask
        return self.among & ~self.mask


@dataclass(frozen=True)
class SliceMetrics(Accuracy):
    """How a model does on the texts of one slice."""

    name: str
    about: str
    fraction: float
    """Share of all rows; for a slice found by a search, of the rows that were not searched."""
    difference: float | None
    """Accuracy of the slice minus the accuracy on all other rows; None if there are no others."""
    positive_fraction: float | None
    """Share of the labels that are positive; None unless the classes are negative and positive."""
    mean_probability: float | None
    """Mean probability of positive; None unless the classes are negative and positive."""
    is_own: bool = False
    """Whether the user named it, by a pattern or a column."""
    p_adjusted: float | None = None
    """p-value of Fisher's exact test against all other rows, two-sided, adjusted by Holm for all
    tested slices. For a slice found by a search: one-sided, adjusted for all candidates. None if it
    is not tested: fewer than ``MIN_ROWS`` rows, or no other rows."""
    is_found: bool = False
    """Whether a search has found it. Then all figures are of the half that was not searched."""
    f1_macro: float | None = None
    """Mean of the F1 of the classes that occur in its labels or predictions."""
    labelled_shares: Mapping[str, float] = field(default_factory=dict)
    """Share of each class in its labels; classes that do not occur are left out."""
    predicted_shares: Mapping[str, float] = field(default_factory=dict)
    """Share of each class in its predictions; classes that do not occur are left out."""

    @property
    def widest_gap(self) -> "ClassShares":
        """Find the class whose shares of labels and of predictions differ most."""
        shares = [
            ClassShares(
                name=name,
                labelled=self.labelled_shares.get(name, 0.0),
                predicted=self.predicted_shares.get(name, 0.0),
            )
            for name in [*self.labelled_shares, *self.predicted_shares]
        ]
        return max(shares, key=lambda each: abs(each.predicted - each.labelled))

    @property
    def group_title(self) -> str:
        """Return the title of the group that the report lists it in."""
        if self.is_own:
            return "Your own"
        if self.is_found:
            return "Found by a search, figures of the tested half"
        return "Others"

    @property
    def is_worse(self) -> bool:
        """Say whether the accuracy is lower than on all other rows, beyond chance."""
        if self.p_adjusted is None or self.difference is None:
            return False
        return self.p_adjusted < paired.SIGNIFICANCE and self.difference < 0


class ClassShares(NamedTuple):
    """The shares of a class in the labels and in the predictions of some rows."""

    name: str
    labelled: float
    predicted: float


def read_tokens(rows: pa.Table, settings: Mapping[str, Any]) -> Tokens | None:
    """Cut the texts of rows into the tokens that a model reads.

    Args:
        rows: With the column ``text`` if the texts are known.
        settings: Settings of the model package: ``tokenizer`` and ``max_length``.

    Returns:
        The tokens of each text; None without texts.
    """
    if "text" not in rows.column_names:
        return None
    text = rows["text"].combine_chunks()
    return tokenize(text, name=settings["tokenizer"]).cut(settings["max_length"])


def find(
    rows: pa.Table,
    tokens: Tokens | None,
    *,
    patterns: Mapping[str, str],
    columns: Sequence[str] = (),
) -> list[SliceOfRows]:
    """Find the slices of a table's rows; a row may be in many, and each slice has at least one.

    Args:
        rows: At least one row. Optional columns: ``text``, without which there are slices by column
            alone; ``num_tokens``, the number of tokens that the model knows.
        tokens: Result of :func:`read_tokens`.
        patterns: User-defined slices: a regular expression (RE2) by name. It replaces a slice of
            ``PATTERNS`` with the same name.
        columns: User-defined slices: columns, see :func:`by_columns`.
    """
    of_columns = by_columns(rows, columns, is_own=True)
    if tokens is None:
        return of_columns
    text = rows["text"].combine_chunks()
    lengths = np.diff(tokens.offsets)
    listed = of_columns + _by_range(lengths, _LENGTHS)
    user_defined = {name: (f"matches {regex}", regex) for name, regex in patterns.items()}
    for name, (about, regex) in (PATTERNS | user_defined).items():
        is_own = name in user_defined
        listed.append(SliceOfRows(name, about, matches(text, regex), is_own=is_own))
    if "num_tokens" in rows.column_names:
        known_fraction = rows["num_tokens"].to_numpy() / np.maximum(lengths, 1)
        unknown_fraction = np.where(known_fraction > 0, 1 - known_fraction, np.nan)
        listed += _by_range(unknown_fraction, _UNKNOWN)
        listed.append(
            SliceOfRows("no known token", "the prediction is the class prior", known_fraction == 0)
        )
    repeated = pd.Series(hash_texts(text)).duplicated(keep=False).to_numpy()
    listed.append(SliceOfRows("repeated", "the same text is on more than one row", repeated))
    return [item for item in listed if item.mask.any()]


def check_patterns(rows: pa.Table, patterns: Mapping[str, str]) -> None:
    """Check that each user-defined pattern matches a text.

    Args:
        rows: As for :func:`find`.
        patterns: A regular expression (RE2) by name.

    Raises:
        UserError: One matches no text, or there are no texts.
    """
    if not patterns:
        return
    if "text" not in rows.column_names:
        raise UserError(
            f"the slices {', '.join(patterns)} need the texts, and there are none",
            hint="score with score.keep_columns=[text]",
        )
    text = rows["text"].combine_chunks()
    empty = [name for name, regex in patterns.items() if not matches(text, regex).any()]
    if empty:
        unmatched = ", ".join(f"{name} ({patterns[name]})" for name in empty)
        raise UserError(
            f"no text is in the slice {unmatched}: {len(text):,} evaluated texts were searched",
            hint="correct the pattern or leave it out",
        )


def measure(
    slices: list[SliceOfRows],
    *,
    label: np.ndarray,
    probability: np.ndarray | None,
    prediction: np.ndarray,
    classes: Sequence[str] = BINARY,
) -> list[SliceMetrics]:
    """Measure a model in each slice: user-defined slices, slices found by a search, then others.

    The least accurate comes first, slices of few rows come last. A candidate of a search is kept
    only if it is worse than the rest beyond chance, and still is without the rows of the candidates
    kept before it.

    Args:
        slices: Slices of N rows.
        label: N labels.
        probability: Probability of positive; None unless the labels are negative (0) and positive.
        prediction: N predicted labels.
        classes: Their names.
    """
    right = prediction == label
    measured = [_measure(item, label, probability, prediction, classes) for item in slices]
    tested = _add_p_values(slices, measured, right)
    return sorted(_drop_redundant(slices, tested, right), key=_order)


def _add_p_values(
    slices: list[SliceOfRows], measured: list[SliceMetrics], right: np.ndarray
) -> list[SliceMetrics]:
    """Test the slices of enough rows, and add the adjusted p-values.

    Candidates of a search are adjusted for each other alone. They were chosen as worse, on other
    rows, so their test is one-sided.
    """
    with_p_values = list(measured)
    for is_found, alternative in ((True, "less"), (False, "two-sided")):
        tested = [
            number
            for number, each in enumerate(measured)
            if each.is_found == is_found
            and each.num_rows >= MIN_ROWS
            and each.difference is not None
        ]
        p_values = [
            _fisher(right, slices[number].mask, slices[number].others, alternative)
            for number in tested
        ]
        for number, p_adjusted in zip(tested, paired.adjust(p_values), strict=True):
            with_p_values[number] = replace(measured[number], p_adjusted=p_adjusted)
    return with_p_values


def _order(metrics: SliceMetrics) -> tuple[bool, bool, bool, float, str]:
    """Order slices as the report lists them."""
    is_small = metrics.num_rows < MIN_ROWS
    return not metrics.is_own, not metrics.is_found, is_small, metrics.accuracy, metrics.name


def _drop_redundant(
    slices: list[SliceOfRows], measured: list[SliceMetrics], right: np.ndarray
) -> list[SliceMetrics]:
    """Leave out candidates that are not worse, or not worse without the rows of earlier ones."""
    kept = []
    explained = np.zeros(len(right), bool)
    for item, metrics in zip(slices, measured, strict=True):
        if metrics.is_found:
            mask = item.mask & ~explained
            others = item.others & ~explained
            if not metrics.is_worse or _fisher(right, mask, others, "less") >= paired.SIGNIFICANCE:
                continue
            explained |= item.mask
        kept.append(metrics)
    return kept


def _fisher(right: np.ndarray, mask: np.ndarray, others: np.ndarray, alternative: str) -> float:
    """Return the p-value of Fisher's exact test that two masks are right equally often."""
    from scipy.stats import fisher_exact

    table = [[int((right & each).sum()), int((~right & each).sum())] for each in (mask, others)]
    return float(fisher_exact(table, alternative).pvalue)


def _measure(
    item: SliceOfRows,
    label: np.ndarray,
    probability: np.ndarray | None,
    prediction: np.ndarray,
    classes: Sequence[str],
) -> SliceMetrics:
    mask = item.mask
    num_rows = int(mask.sum())
    num_others = int(item.others.sum())
    right = prediction == label
    difference = positive_fraction = mean_probability = None
    if num_others:
        difference = float(right[mask].mean() - right[item.others].mean())
    if probability is not None:
        positive_fraction = float(label[mask].mean())
        mean_probability = float(probability[mask].mean())
    confusion = count_confusion(label[mask], prediction[mask], num_labels=len(classes))
    return SliceMetrics.of(
        int(right[mask].sum()),
        num_rows,
        name=item.name,
        about=item.about,
        fraction=num_rows / (num_rows + num_others),
        difference=difference,
        positive_fraction=positive_fraction,
        mean_probability=mean_probability,
        is_own=item.is_own,
        is_found=item.is_found,
        f1_macro=macro_f1(confusion),
        labelled_shares=_share(classes, confusion.sum(axis=1)),
        predicted_shares=_share(classes, confusion.sum(axis=0)),
    )


def _share(classes: Sequence[str], counts: np.ndarray) -> dict[str, float]:
    """Divide the counts of the classes that occur by the number of rows."""
    num_rows = int(counts.sum())
    return {
        name: count / num_rows
        for name, count in zip(classes, counts.tolist(), strict=True)
        if count
    }


def by_columns(rows: pa.Table, columns: Sequence[str], *, is_own: bool) -> list[SliceOfRows]:
    """Find the rows of each value of columns, the most frequent value first.

    Values of fewer than ``MIN_ROWS`` rows, and values after the first ``MAX_VALUES``, are one
    slice, *other*.

    Args:
        rows: With the columns, whose names begin with ``OWN``.
        columns: Their names, without ``OWN``.
        is_own: Whether the user named the columns.
    """
    slices = []
    for name in columns:
        values = pc.fill_null(rows[OWN + name].cast(pa.string()), "(empty)").to_pandas()
        counts = values.value_counts()
        most_frequent = counts.iloc[:MAX_VALUES]
        frequent = most_frequent.index[most_frequent >= MIN_ROWS]
        for value in frequent:
            is_value = (values == value).to_numpy()
            slices.append(SliceOfRows(f"{name}: {value}", "", is_value, is_own=is_own))
        num_rare = len(counts) - len(frequent)
        if num_rare:
            about = f"{num_rare:,} values of fewer rows"
            is_rare = ~values.isin(frequent).to_numpy()
            slices.append(SliceOfRows(f"{name}: other", about, is_rare, is_own=is_own))
    return slices


def has_categories(kind: pa.DataType) -> bool:
    """Say whether a column of this type may have categories: strings, numbers or booleans."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = kind in (pa.string(), pa.large_string(), pa.string_view())
    return is_text or (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind))


def _by_range(values: np.ndarray, ranges: Sequence[_Range]) -> list[SliceOfRows]:
    """Find the rows whose value is in each range; NaN is in none."""
    return [
        SliceOfRows(each.name, "", (values > each.low) & (values <= each.high)) for each in ranges
    ]


def matches(text: pa.Array, regex: str) -> np.ndarray:
    """Say in which texts a regular expression (RE2) finds something."""
    return pc.match_substring_regex(text, regex).to_numpy(zero_copy_only=False).astype(bool)
