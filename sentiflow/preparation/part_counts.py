"""Results of all parts -> the counts of a preparation, or an error if the corpus is unusable."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentiflow.config.class_names import MIN_CLASS_ROWS, UNLABELLED, set_apart
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.data import row_checks, times
from sentiflow.data.manifest_types import Counts, FileEntry
from sentiflow.data.merged_counts import merge_counts
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError, few, rows_are
from sentiflow.preparation.duplicates import IN_LATER_SPLIT

NUM_EXAMPLES = 3
"""Rejected rows that a message shows."""

PartJson = dict[str, Any]
"""Some fields of :class:`PartCounts` as JSON, as a completion marker keeps them."""
LabelCounts = dict[str, dict[str, int]]
"""Rows by split and label name; ``unlabelled`` counts rows without a label."""
ClassRows = dict[str, dict[str, int]]
"""Rows by class and split."""


@dataclass(frozen=True, kw_only=True)
class PartCounts:
    """Row counts of one map stage, for one part or added up over parts.

    The map stage that reads labelled rows sets the fields up to ``corrected``; the map stage that
    encodes them sets ``encoded`` and the fields after it. One map stage does both for unlabelled
    texts.
    """

    peak_memory_bytes: int
    """Peak memory of the process so far; over parts, the maximum."""
    files: list[FileEntry]
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that are left out, by reason, see ``steps.LEFT_OUT``."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Rejected rows by reason."""
    examples: list[str] = field(default_factory=list)
    """A few rejected rows as text, for error messages."""
    unknown_labels: dict[str, int] = field(default_factory=dict)
    """Rows rejected for an unknown label, by label; only the most frequent labels."""
    rejected_test: int = 0
    """Rejected rows of a given test split."""
    damaged: int = 0
    """Accepted rows whose text has U+FFFD, which stands for invalid bytes and for U+0000."""
    labels: LabelCounts = field(default_factory=dict)
    """Accepted rows by split and label."""
    times: dict[str, int] = field(default_factory=dict)
    """Accepted rows with a time, and how many are in the ``future`` or ``before_1990``; empty if no
    times are kept."""
    corrected: int = 0
    """Accepted rows with a label of ``prepare.corrections``."""
    encoded: int = 0
    """Rows that were encoded: unlabelled rows, or rows of a class that can be learned."""
    without_token: int = 0
    """Encoded rows without any token of the vocabulary."""
    cut: int = 0
    """Encoded rows with more units than ``prepare.max_length``."""
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    """By split: the number of ``tokens``, or of characters if the network reads them, and how many
    are ``unknown`` to the vocabulary."""

    @classmethod
    def of(cls, parts: Sequence[PartJson]) -> "PartCounts":
        """Add up the results of all parts in one map stage."""
        merged = merge_counts(parts)
        merged["peak_memory_bytes"] = max(part["peak_memory_bytes"] for part in parts)
        return cls(**merged)

    @property
    def accepted(self) -> int:
        """Accepted rows of all splits."""
        return sum(sum(counts.values()) for counts in self.labels.values())

    @property
    def labelled(self) -> int:
        """Accepted rows with a label."""
        unlabelled = sum(counts.get(UNLABELLED, 0) for counts in self.labels.values())
        return self.accepted - unlabelled

    @property
    def rejected(self) -> int:
        """Rejected rows."""
        return sum(self.reasons.values())


def check_labelled(
    read: PartCounts,
    *,
    settings: PrepareSettings,
    named: Sequence[str] | None,
    learnable: Sequence[str],
    fixed_splits: Sequence[str],
) -> list[str]:
    """Check how many labelled rows were rejected, and their classes; return notes for the user.

    Args:
        read: The counts of all parts.
        settings: The section ``prepare``.
        named: The classes that the settings name.
        learnable: The classes that a model can learn.
        fixed_splits: Splits whose rows are given.

    Raises:
        UserError: Too many rows are rejected, or the classes cannot be learned.
    """
    max_rejected = settings.max_rejected_fraction
    has_fixed_test = "test" in fixed_splits
    check_rejected(read, max_rejected_fraction=max_rejected)
    notes = []
    if read.unknown_labels:
        unknown = row_checks.list_unknown(read.unknown_labels)
        notes.append(f"rows are rejected for labels that format.labels does not name: {unknown}")
    notes += check_classes(
        read,
        learned=named or learnable,
        are_named=named is not None,
        has_fixed_test=has_fixed_test,
        empty=[name for name in SPLITS[1:] if not getattr(settings.split, f"{name}_fraction")],
    )
    if has_fixed_test:
        notes += check_test(read, max_rejected_fraction=max_rejected)
    notes += describe_times(read)
    num_leaking = read.left_out.get(IN_LATER_SPLIT, 0)
    if num_leaking:
        notes.append(f"{rows_are(num_leaking)} left out: {fixed_splits[-1]} rows have their text")
    return notes


def check_rejected(
    counts: PartCounts, *, max_rejected_fraction: float, section: str = "format"
) -> None:
    """Refuse a corpus if too many rows were rejected, or too many labels are unknown.

    Args:
        counts: The counts of all parts.
        max_rejected_fraction: Share of the rows that may be rejected, and of the labels that may
            be unknown.
        section: The section with the format of the files, for messages.

    Raises:
        UserError: Too many rows are rejected, or none is accepted.
    """
    num_judged = counts.accepted + counts.rejected
    num_unknown = counts.reasons.get(row_checks.UNKNOWN_LABEL, 0)
    unknown_share = num_unknown / max(1, counts.labelled + num_unknown)
    if counts.accepted:
        rejected_share = counts.rejected / num_judged
        if max(rejected_share, unknown_share) <= max_rejected_fraction:
            return
        problem = "too many rows were rejected"
    else:
        problem = "no row was accepted"
    reasons = row_checks.list_reasons(counts.reasons) or "no rows"
    problem += f": {counts.rejected:,} of {num_judged:,} rejected ({reasons})"
    way_out = f"correct the CSV or the section {section}"
    if counts.unknown_labels:
        unknown = row_checks.list_unknown(counts.unknown_labels)
        problem += (
            f", {unknown_share:.1%} of the labels; labels that format.labels does not name: "
            f"{unknown}"
        )
        way_out = f"name them there, as a class or as unlabelled, {way_out}"
    examples = "".join(f"\n  {example}" for example in counts.examples[:NUM_EXAMPLES])
    raise UserError(problem, hint=f"{way_out}, or raise prepare.max_rejected_fraction{examples}")


def check_test(counts: PartCounts, *, max_rejected_fraction: float) -> list[str]:
    """Refuse given test rows if too many of them were rejected.

    Returns:
        Notes for the user.

    Raises:
        UserError: Too many test rows are rejected, or none is accepted.
    """
    rejected = counts.rejected_test
    accepted = sum(counts.labels["test"].values())
    judged = rejected + accepted
    if not accepted or rejected > max_rejected_fraction * judged:
        reasons = row_checks.list_reasons(counts.reasons) or "none"
        raise UserError(
            f"too many test rows were rejected: {rejected:,} of {judged:,} "
            f"(of all rows: {reasons})",
            hint="correct them, or raise prepare.max_rejected_fraction",
        )
    if not rejected:
        return []
    return [f"{rows_are(rejected, 'test ')} rejected and do not count"]


def choose_classes(
    labels: Sequence[Mapping[str, int]], *, corrected: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Take the written labels of all parts as the names of the classes, for ``labels: auto``.

    Args:
        labels: The rows of each part by label.
        corrected: Rows by corrected label, which may be written in another case.

    Raises:
        UserError: There are too few or too many classes, or a label is not a valid name.
    """
    counts = Counter(merge_counts(labels))
    written = {name.casefold(): name for name in counts}
    for name, num_rows in (corrected or {}).items():
        class_name = written.setdefault(name.casefold(), name)
        counts[class_name] += num_rows
    return row_checks.choose_classes(counts)


def check_classes(
    counts: PartCounts,
    *,
    learned: Sequence[str],
    are_named: bool = False,
    has_fixed_test: bool = False,
    empty: Sequence[str] = (),
) -> list[str]:
    """Refuse a corpus that cannot be trained on.

    Args:
        counts: The counts of all parts.
        learned: Classes that a model should learn. It does not learn a class without rows.
        are_named: Whether the settings name these classes. If not, a class of fewer than
            ``MIN_CLASS_ROWS`` rows is left out.
        has_fixed_test: Whether the test rows are given; if so, they do not count.
        empty: Splits whose fraction in the settings is 0.

    Returns:
        Notes for the user.

    Raises:
        UserError: Fewer than two classes can be learned, a named class has too few rows, or the
            train split has no row of a class.
    """
    splits = SPLITS[:2] if has_fixed_test else SPLITS
    rows: ClassRows = {}
    for name in learned:
        rows[name] = {split: counts.labels[split].get(name, 0) for split in splits}
    totals = {name: sum(by_split.values()) for name, by_split in rows.items()}
    missing = [set_apart(name) for name in rows if not totals[name]]
    present = [name for name in rows if totals[name]]
    if len(present) < 2:
        problem = f"none of the {counts.accepted:,} accepted rows is {' or '.join(few(missing))}"
        hint = "a classifier needs two classes or more; is the CSV cut short"
        if has_fixed_test:
            hint += ", or are all its texts also in prepare.test"
        raise UserError(problem, hint=f"{hint}?")
    rare = [name for name in present if totals[name] < MIN_CLASS_ROWS]
    shown = ", ".join(few([f"{set_apart(name)} ({totals[name]})" for name in rare]))
    if rare and (are_named or len(present) - len(rare) < 2):
        raise UserError(
            f"a class needs {MIN_CLASS_ROWS} rows or more, and {len(rare)} of {len(rows)} have "
            f"fewer: {shown}",
            hint="add rows, or leave them out: name the others in train.classes",
        )
    notes = []
    if missing:
        listed = " or ".join(few(missing))
        notes.append(f"no row to learn is {listed}, so a model does not learn it")
    if rare:
        notes.append(
            f"classes of fewer than {MIN_CLASS_ROWS} rows are not learned, and their rows count as "
            f"mistakes: {shown}"
        )
    enough = {name: rows[name] for name in present if name not in rare}
    return notes + _check_splits(enough, empty)


def _check_splits(rows: ClassRows, empty: Sequence[str]) -> list[str]:
    """Check that the train split has rows of all classes; note classes missing in other splits.

    Args:
        rows: The rows of the classes to learn.
        empty: Splits whose fraction in the settings is 0; they may lack all classes.

    Returns:
        Notes for the user.

    Raises:
        UserError: The train split has no row of a class.
    """
    lacking: dict[str, list[str]] = {}
    for name, by_split in rows.items():
        for split, num_rows in by_split.items():
            if not num_rows:
                lacking.setdefault(split, []).append(name)
    if "train" in lacking:
        name = lacking["train"][0]
        listed = ", ".join(f"{num_rows:,} {split}" for split, num_rows in rows[name].items())
        raise UserError(
            f"the train split has no {set_apart(name)} row ({listed})",
            hint="use more rows, another prepare.split.kind, or leave it out: name the others in "
            "train.classes",
        )
    notes = []
    for split in SPLITS:
        names = lacking.get(split, [])
        is_expected = split in empty and len(names) == len(rows)
        if names and not is_expected:
            shown = [set_apart(name) for name in names]
            notes.append(f"the {split} split has no row of {', '.join(few(shown))}")
    return notes


def count_rows(counts: PartCounts, num_rows: int) -> Counts:
    """Count accepted, rejected and left-out rows for the manifest.

    Args:
        counts: The counts of all parts.
        num_rows: Rows of the input.
    """
    left_out = sum(counts.left_out.values())
    assert num_rows == counts.accepted + counts.rejected + left_out, "each row is counted once"
    rows: Counts = {
        "rows_read": num_rows,
        "accepted": counts.accepted,
        "damaged": counts.damaged,
        "rejected": counts.rejected,
        "left_out": left_out,
        "left_out_by_reason": counts.left_out,
        "rejected_by_reason": counts.reasons,
    }
    if counts.times:
        rows["times"] = counts.times
    return rows


def describe_times(counts: PartCounts) -> list[str]:
    """Say how many times are in the future or before 1990.

    Returns:
        Notes for the user; none if there are no such times.
    """
    if not counts.times:
        return []
    unusual = times.UnusualTimes(counts.times["future"], counts.times["before_1990"])
    text = unusual.describe(counts.times["rows"])
    return [f"{text}: is format.time_format right?"] if text else []


def count_encoded(read: PartCounts, encoded: PartCounts, num_labels: int) -> Counts:
    """Count rows by label, encoded rows, and corrected rows for the manifest.

    Args:
        read: The counts of reading all parts.
        encoded: The counts of encoding all parts.
        num_labels: Number of corrected labels; 0: there are no corrections.
    """
    counts: Counts = {
        "labels": read.labels,
        "encoded": encoded.encoded,
        "encoded_without_token": encoded.without_token,
        "encoded_cut": encoded.cut,
    }
    if num_labels:
        counts["corrections"] = {"labels": num_labels, "rows": read.corrected}
    return counts


def describe_tokens(counts: PartCounts) -> dict[str, Counts]:
    """Count the tokens, and the unknown tokens, of each split."""
    return {
        split: {
            "tokens": tokens["tokens"],
            "unknown": tokens["unknown"],
            "unknown_fraction": round(tokens["unknown"] / max(1, tokens["tokens"]), 5),
        }
        for split, tokens in counts.tokens.items()
    }
