"""Texts -> slices of texts with something in common, and the accuracy of a model on each."""

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
from sentiflow.models.tokenizer import Tokens, tokenize

MIN_ROWS = 30
"""Slices of fewer rows are listed last: their accuracy is too uncertain."""

MAX_VALUES = 20
"""Values of a column that are a slice each."""
OWN = "own column "
"""Precedes the name of a column of the user's own in a table of rows."""

_BEGIN, _END = r"(?:^|\s)", r"(?:$|[\s.,!?])"
_HAPPY = rf"{_BEGIN}(?:[:;=]['^]?[-o]?[)\]D]+|\([-:;=]|<3+|\^[_.-]?\^){_END}"
_SAD = rf"{_BEGIN}(?:[:;=]['^]?[-o]?[(\[/\\|]+|\)[-:;=]|</3+|[T;]_[T;]){_END}"
"""Emoticons between white space, so that no link, ratio or number is taken for one."""

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
        "(?i)w{4}|" + "|".join(f"{a}{{3}}" for a in string.ascii_lowercase if a != "w"),
    ),
    "happy emoticon": (":) and the like", _HAPPY),
    "sad emoticon": (":( and the like", _SAD),
    "shouting": ("three words or more in capitals", r"(?:\b[A-Z]{2,}\b\W+){2}\b[A-Z]{2,}\b"),
    "question": ("a question mark", r"\?"),
}
"""By name: what the texts contain, and the pattern (RE2) that finds it."""

_Ranges = tuple[tuple[str, str, float, float], ...]
"""Name and meaning of slices; a value is above the first number and at most the second."""
_LENGTHS: _Ranges = (
    *((f"{low} to {high} tokens", "", low - 1, high)
      for low, high in ((0, 4), (5, 9), (10, 14), (15, 19), (20, 29))),
    ("30 tokens or more", "", 29, math.inf),
)  # fmt: skip
_UNKNOWN: _Ranges = (
    ("no unknown token", "", -math.inf, 0),
    ("unknown tokens, up to a tenth", "", 0, 0.1),
    ("unknown tokens, a tenth to a quarter", "", 0.1, 0.25),
    ("unknown tokens, over a quarter", "", 0.25, 1),
)


@dataclass(frozen=True)
class SliceOfRows:
    """Texts that have something in common, out of N."""

    name: str
    about: str
    """What its texts have in common, where the name does not say it."""
    rows: np.ndarray
    """N booleans."""
    is_own: bool = False
    """Whether the user named it."""
    among: np.ndarray | None = None
    """N booleans, of a slice that a search has found: the rows that were not searched, without
    copies of a text. It is measured and compared among them. None: all rows."""

    @property
    def others(self) -> np.ndarray:
        """Say which rows it is compared with."""
        return ~self.rows if self.among is None else self.among & ~self.rows


@dataclass(frozen=True)
class SliceMetrics(Accuracy):
    """How a model does on the texts of one slice."""

    name: str
    about: str
    fraction: float
    """Share of all rows, or of those that were not searched."""
    difference: float | None
    """Accuracy of the slice minus that of all other rows; None if there are none."""
    positive_fraction: float | None
    """Share of the labels that are positive; None unless the classes are negative and positive."""
    mean_probability: float | None
    """Mean probability of positive; None likewise."""
    is_own: bool = False
    """Whether the user named it, by a pattern or a column."""
    p_adjusted: float | None = None
    """Of Fisher's exact test that the accuracy is that of all other rows, adjusted for all slices
    that are tested (Holm); of one that was found, that it is not lower, adjusted for all
    candidates. None for fewer than ``MIN_ROWS`` rows, or if there are no others."""
    is_found: bool = False
    """Whether a search has found it. Then all figures are of the half that was not searched."""
    f1_macro: float | None = None
    """Mean of the F1 of the classes that occur in its labels or predictions."""
    labelled_shares: Mapping[str, float] = field(default_factory=dict)
    """Share of each class in its labels; classes that do not occur are left out."""
    predicted_shares: Mapping[str, float] = field(default_factory=dict)
    """Share of each class in its predictions, likewise."""

    @property
    def widest_gap(self) -> tuple[str, float, float]:
        """Name the class whose shares of labels and of predictions differ most, with both."""
        both = {
            name: (self.labelled_shares.get(name, 0.0), self.predicted_shares.get(name, 0.0))
            for name in [*self.labelled_shares, *self.predicted_shares]
        }
        name = max(both, key=lambda name: abs(both[name][1] - both[name][0]))
        return name, *both[name]

    @property
    def title(self) -> str:
        """Name the group of slices that it is one of."""
        if self.is_own:
            return "Your own"
        return "Found by a search, figures of the tested half" if self.is_found else "Others"

    @property
    def is_worse(self) -> bool:
        """Say whether the accuracy is lower than that of all other rows, beyond chance."""
        sure = self.p_adjusted is not None and self.p_adjusted < paired.SURE
        return sure and self.difference is not None and self.difference < 0


def find(
    rows: pa.Table,
    *,
    settings: Mapping[str, Any],
    patterns: Mapping[str, str],
    columns: Sequence[str] = (),
) -> tuple[list[SliceOfRows], Tokens | None]:
    """Find the slices of a table's rows; a row may be in many, and each slice has at least one.

    Args:
        rows: At least one, with ``num_tokens`` (known to the model), and ``text`` where it is
            known. Without texts there are slices by column alone.
        settings: Settings of the model package: ``tokenizer`` and ``max_length``.
        patterns: The user's own slices: a regular expression (RE2) by name. It replaces a slice of
            ``PATTERNS`` with the same name.
        columns: Columns of the user's own, in ``rows`` under ``OWN`` and their names: a slice for
            each value. Values of fewer than ``MIN_ROWS`` rows, and all but ``MAX_VALUES``, are one.

    Returns:
        The slices; the tokens of each text that the model reads, None without texts.
    """
    of_columns = by_columns(rows, columns)
    if "text" not in rows.column_names:
        return of_columns, None
    text = rows["text"].combine_chunks()
    tokens = tokenize(text, name=settings["tokenizer"]).cut(settings["max_length"])
    lengths = np.diff(tokens.offsets)
    users = {name: (f"matches {regex}", regex) for name, regex in patterns.items()}
    listed = of_columns + _by_range(lengths, _LENGTHS)
    listed += [
        SliceOfRows(name, about, matches(text, regex), name in users)
        for name, (about, regex) in (PATTERNS | users).items()
    ]
    if "num_tokens" in rows.column_names:
        known_fraction = rows["num_tokens"].to_numpy() / np.maximum(lengths, 1)
        listed += _by_range(np.where(known_fraction > 0, 1 - known_fraction, np.nan), _UNKNOWN)
        listed.append(
            SliceOfRows("no known token", "the prediction is the class prior", known_fraction == 0)
        )
    repeated = pd.Series(hash_texts(text)).duplicated(keep=False).to_numpy()
    listed.append(SliceOfRows("repeated", "the same text is on more than one row", repeated))
    return [item for item in listed if item.rows.any()], tokens


def check_patterns(rows: pa.Table, patterns: Mapping[str, str]) -> None:
    """Check that each pattern of the user's own matches a text.

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
    if empty := [name for name, regex in patterns.items() if not matches(text, regex).any()]:
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
    """Measure a model in each slice: the user's own, those found, then others.

    The least accurate is first, those of few rows are last. A candidate of a search is left out
    unless it is worse than the rest beyond chance, also where no candidate before it has its rows.

    Args:
        slices: Slices of N rows.
        label: N labels.
        probability: Probability of positive; None unless the labels are negative (0) and positive.
        prediction: N predicted labels.
        classes: Their names.
    """
    right = prediction == label
    measured = [_measure(item, label, probability, prediction, classes) for item in slices]
    # Candidates of a search are adjusted for each other alone. They were chosen as worse, on other
    # rows, so their test is one-sided.
    for is_found, kind in ((True, "less"), (False, "two-sided")):
        tested = [
            number
            for number, each in enumerate(measured)
            if each.is_found == is_found
            and each.num_rows >= MIN_ROWS
            and each.difference is not None
        ]
        p_values = [_fisher(right, slices[k].rows, slices[k].others, kind) for k in tested]
        for number, p_adjusted in zip(tested, paired.adjust(p_values), strict=True):
            measured[number] = replace(measured[number], p_adjusted=p_adjusted)
    return sorted(
        _drop_echoes(slices, measured, right),
        key=lambda s: (not s.is_own, not s.is_found, s.num_rows < MIN_ROWS, s.accuracy, s.name),
    )


def _drop_echoes(
    slices: list[SliceOfRows], measured: list[SliceMetrics], right: np.ndarray
) -> list[SliceMetrics]:
    """Leave out candidates that are not worse, or only where they share rows with a clearer one."""
    kept, told = [], np.zeros(len(right), bool)
    for item, metrics in zip(slices, measured, strict=True):
        if metrics.is_found:
            rows, others = item.rows & ~told, item.others & ~told
            if not metrics.is_worse or _fisher(right, rows, others, "less") >= paired.SURE:
                continue
            told |= item.rows
        kept.append(metrics)
    return kept


def _fisher(right: np.ndarray, rows: np.ndarray, others: np.ndarray, kind: str) -> float:
    """Test whether predictions are right as often on rows as on others."""
    from scipy.stats import fisher_exact

    table = [[int((right & each).sum()), int((~right & each).sum())] for each in (rows, others)]
    return float(fisher_exact(table, kind).pvalue)


def _measure(
    item: SliceOfRows,
    label: np.ndarray,
    probability: np.ndarray | None,
    prediction: np.ndarray,
    classes: Sequence[str],
) -> SliceMetrics:
    rows, num_rows, num_others = item.rows, int(item.rows.sum()), int(item.others.sum())
    right = prediction == label
    gap = float(right[rows].mean() - right[item.others].mean()) if num_others else None
    counts = count_confusion(label[rows], prediction[rows], num_labels=len(classes))
    labelled, predicted = (
        {n: c / num_rows for n, c in zip(classes, each.tolist(), strict=True) if c}
        for each in (counts.sum(axis=1), counts.sum(axis=0))
    )
    return SliceMetrics.of(
        int(right[rows].sum()),
        num_rows,
        name=item.name,
        about=item.about,
        fraction=num_rows / (num_rows + num_others),
        difference=gap,
        positive_fraction=None if probability is None else float(label[rows].mean()),
        mean_probability=None if probability is None else float(probability[rows].mean()),
        is_own=item.is_own,
        is_found=item.among is not None,
        f1_macro=macro_f1(counts),
        labelled_shares=labelled,
        predicted_shares=predicted,
    )


def by_columns(rows: pa.Table, columns: Sequence[str]) -> list[SliceOfRows]:
    """Find the rows of each value of columns, which stand under ``OWN`` and their names.

    The most frequent value comes first; rare values are one slice.
    """
    slices = []
    for name in columns:
        written = pc.fill_null(rows[OWN + name].cast(pa.string()), "(empty)").to_pandas()
        counts = written.value_counts()
        frequent = counts.index[:MAX_VALUES][(counts >= MIN_ROWS)[:MAX_VALUES]]
        slices += [
            SliceOfRows(f"{name}: {value}", "", (written == value).to_numpy(), is_own=True)
            for value in frequent
        ]
        if num_values := len(counts) - len(frequent):
            about = f"{num_values:,} values of fewer rows"
            is_rare = ~written.isin(frequent).to_numpy()
            slices.append(SliceOfRows(f"{name}: other", about, is_rare, is_own=True))
    return slices


def has_categories(kind: pa.DataType) -> bool:
    """Say whether a column of this type may have categories: strings, numbers or booleans."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = kind in (pa.string(), pa.large_string(), pa.string_view())
    return is_text or (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind))


def _by_range(values: np.ndarray, ranges: _Ranges) -> list[SliceOfRows]:
    """Find the rows whose value is in each range; NaN is in none."""
    return [
        SliceOfRows(name, about, (values > low) & (values <= high))
        for name, about, low, high in ranges
    ]


def matches(text: pa.Array, regex: str) -> np.ndarray:
    """Say which texts a regular expression (RE2) finds something in."""
    return pc.match_substring_regex(text, regex).to_numpy(zero_copy_only=False).astype(bool)
