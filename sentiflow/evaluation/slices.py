"""Texts -> slices of texts with something in common, and the accuracy of a model on each."""

import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.text_hash import hash_strings, normalize_text
from sentiflow.metrics.classification import wilson_interval
from sentiflow.models.tokenizer import tokenize

MIN_ROWS = 30
"""Slices of fewer rows are listed last: their accuracy is too uncertain."""

_BEGIN, _END = r"(?:^|\s)", r"(?:$|[\s.,!?])"
HAPPY = rf"{_BEGIN}(?:[:;=]['^]?[-o]?[)\]D]+|\([-:;=]|<3+|\^[_.-]?\^){_END}"
SAD = rf"{_BEGIN}(?:[:;=]['^]?[-o]?[(\[/\\|]+|\)[-:;=]|</3+|[T;]_[T;]){_END}"
"""Emoticons between white space, so that no link, ratio or number is taken for one."""

_LINK = r"(?i)\b(?:https?://|www\.)\S"
PATTERNS: dict[str, tuple[str, str]] = {
    "negation": (
        "not, no, never, cannot, n't and the like",
        r"(?i)\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|"
        r"(?:ca|wo|do|does|did|is|are|was|were|has|have|had|could|would|should|ai)n['\x{2019}]?t)\b",
    ),
    "mention": ("an @user", r"(?:^|[^\w])@\w"),
    "link": ("an address on the web", _LINK),
    "hashtag": ("a #topic", r"(?:^|\s)#\w"),
    "elongation": (
        "a letter three times or more, as in sooo",
        "(?i)w{4}|" + "|".join(f"{a}{{3}}" for a in string.ascii_lowercase if a != "w"),
    ),
    "happy emoticon": (":) and the like", HAPPY),
    "sad emoticon": (":( and the like", SAD),
    "shouting": ("three words or more in capitals", r"(?:\b[A-Z]{2,}\b\W+){2}\b[A-Z]{2,}\b"),
    "question": ("a question mark", r"\?"),
}
"""By name: what the texts contain, and the pattern (RE2) that finds it."""

_LENGTHS = ((0, 4), (5, 9), (10, 14), (15, 19), (20, 29), (30, math.inf))
_UNKNOWN = (
    ("no unknown token", 0.0, 0.0),
    ("unknown tokens, up to a tenth", 0.0, 0.1),
    ("unknown tokens, a tenth to a quarter", 0.1, 0.25),
    ("unknown tokens, over a quarter", 0.25, 1.0),
)
"""Name; the share of a text's tokens is above the first number and at most the second."""
_HOURS = (("night", 0, 6), ("morning", 6, 12), ("afternoon", 12, 18), ("evening", 18, 24))


@dataclass(frozen=True)
class Slice:
    """Texts that have something in common, out of N."""

    name: str
    about: str
    """What its texts have in common, where the name does not say it."""
    rows: np.ndarray
    """N booleans."""


@dataclass(frozen=True)
class SliceMetrics:
    """How a model does on the texts of one slice."""

    name: str
    about: str
    num_rows: int
    fraction: float
    """Share of all rows."""
    accuracy: float
    low: float
    """Lower end of the 95 % Wilson interval of the accuracy."""
    high: float
    difference: float | None
    """Accuracy of the slice minus that of all other rows; None if there are none."""
    positive_fraction: float
    """Share of the labels that are positive."""
    mean_probability: float
    """Mean probability of positive."""


@dataclass(frozen=True)
class LengthCount:
    """Texts of one length."""

    tokens: int
    num_rows: int
    num_right: int


def find(
    rows: pa.Table,
    *,
    settings: Mapping[str, Any],
    patterns: Mapping[str, str],
    by_unknown: bool = True,
) -> tuple[list[Slice], np.ndarray]:
    """Find the slices of a table's rows; a row may be in many, and each slice has at least one.

    Args:
        rows: At least one, with ``num_tokens`` (known to the model), and ``text`` and ``time``
            where they are known. Without texts there are no slices.
        settings: Settings of the model package: ``tokenizer`` and ``max_length``.
        patterns: The user's own slices: a regular expression (RE2) by name. It replaces a slice of
            ``PATTERNS`` with the same name.
        by_unknown: Whether there are slices by unknown tokens.

    Returns:
        The slices; the number of tokens of each text that the model reads, known or unknown to it.
    """
    if "text" not in rows.column_names:
        return [], np.empty(0, np.int64)
    text = rows["text"].combine_chunks()
    tokens = tokenize(text, name=settings["tokenizer"])
    lengths = np.minimum(np.diff(tokens.offsets), settings["max_length"])
    own = {name: (f"matches {regex}", regex) for name, regex in patterns.items()}
    found = _by_length(lengths)
    for name, (about, regex) in (PATTERNS | own).items():
        found.append(Slice(name, about, matches(text, regex)))
    if by_unknown:
        found += _by_unknown(lengths, rows["num_tokens"].to_numpy())
    found.append(Slice("repeated", "the same text is on more than one row", _repeats(text)))
    if "time" in rows.column_names:
        found += _by_hour(rows["time"].combine_chunks())
    return [item for item in found if item.rows.any()], lengths


def measure(
    slices: list[Slice], *, label: np.ndarray, probability: np.ndarray, prediction: np.ndarray
) -> list[SliceMetrics]:
    """Measure a model in each slice, the least accurate first; those of few rows stand last.

    Args:
        slices: Slices of N rows.
        label: N labels, 0 or 1.
        probability: Probability of positive.
        prediction: N predicted labels.
    """
    right = prediction == label
    found = [_measure(item, right, label, probability) for item in slices]
    return sorted(found, key=lambda s: (s.num_rows < MIN_ROWS, s.accuracy, s.name))


def by_length(lengths: np.ndarray, right: np.ndarray) -> list[LengthCount]:
    """Count texts, and those that are right, for each length that occurs, in rising order."""
    num_rows = np.bincount(lengths)
    num_right = np.bincount(lengths, right)
    return [
        LengthCount(k, int(num_rows[k]), int(num_right[k]))
        for k in np.flatnonzero(num_rows).tolist()
    ]


def _measure(
    item: Slice, right: np.ndarray, label: np.ndarray, probability: np.ndarray
) -> SliceMetrics:
    rows, num_rows = item.rows, int(item.rows.sum())
    low, high = wilson_interval(int(right[rows].sum()), num_rows)
    accuracy = float(right[rows].mean())
    return SliceMetrics(
        name=item.name,
        about=item.about,
        num_rows=num_rows,
        fraction=num_rows / len(rows),
        accuracy=accuracy,
        low=low,
        high=high,
        difference=accuracy - float(right[~rows].mean()) if num_rows < len(rows) else None,
        positive_fraction=float(label[rows].mean()),
        mean_probability=float(probability[rows].mean()),
    )


def _by_length(lengths: np.ndarray) -> list[Slice]:
    return [
        Slice(
            f"{low} to {high} tokens" if high < math.inf else f"{low} tokens or more",
            "",
            (lengths >= low) & (lengths <= high),
        )
        for low, high in _LENGTHS
    ]


def _by_unknown(lengths: np.ndarray, num_tokens: np.ndarray) -> list[Slice]:
    unknown = 1 - num_tokens / np.maximum(lengths, 1)
    none_known = num_tokens == 0
    found = [
        Slice(name, "", (unknown <= high) & ((unknown > low) | (high == 0)) & ~none_known)
        for name, low, high in _UNKNOWN
    ]
    return [*found, Slice("no known token", "the prediction is the class prior", none_known)]


def _by_hour(time: pa.Array) -> list[Slice]:
    hour = pc.fill_null(pc.hour(time), -1).to_numpy(zero_copy_only=False)
    return [
        Slice(
            name, f"written from {first:02d}:00 to {last:02d}:00", (hour >= first) & (hour < last)
        )
        for name, first, last in _HOURS
    ]


def _repeats(text: pa.Array) -> np.ndarray:
    """Find texts that occur more than once, whatever their case and white space."""
    hashes = hash_strings(normalize_text(text))
    _, member, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return counts[member] > 1


def matches(text: pa.Array, regex: str) -> np.ndarray:
    """Say which texts a regular expression (RE2) finds something in."""
    return pc.match_substring_regex(text, regex).to_numpy(zero_copy_only=False).astype(bool)
